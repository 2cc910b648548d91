"""Architectures that a library knows by name, with weights from a file of the user's: nothing is downloaded.

The library builds the network and the state dict fills it: every tensor of both fits, or an error names what does not. The number
of classes is the file's own where the two differ in nothing else.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from torch import Tensor, nn

from reds_core.errors import ModelError
from reds_core.models.config import Access, File, FromFile, check_file, frozen
from reds_core.models.states import fill, read_state_dict

Build = Callable[[Mapping[str, Any]], nn.Module]  # options -> the architecture with random weights
Plain = str | bool | int | float | None
ELSEWHERE = (
    "pretrained",
    "weights",
    "weights_backbone",
    "checkpoint_path",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "cache_dir",
)


@dataclass(frozen=True)
class TrainingImages:
    """The images that an architecture's published weights were trained on: (h, w) in pixels; mean and std per channel of [0, 1]."""

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def _from_path_alone(options: dict[str, Any]) -> dict[str, Any]:
    taken = ", ".join(name for name in options if name in ELSEWHERE)
    if taken:
        raise ValueError(f"{taken}: would take weights from elsewhere; set path to the file that holds them")
    return options


class Architecture(FromFile):
    """A network that a library knows by name, with weights from a file."""

    architecture: str = Field(description="The architecture's name in the library, such as resnet18.")
    path: File = Field(description="A state dict for it, .safetensors or written by torch.save.")
    options: Annotated[dict[str, Plain | list[Plain]], AfterValidator(_from_path_alone)] = Field(
        default_factory=dict, description="Arguments for building it; num_classes is taken from the file if absent."
    )

    def load_from(self, build: Build, title: str, access: Access) -> nn.Module:
        """Returns the network that `build` makes, with the file's weights. Raises ModelError if they do not fit."""
        check_file(self.path, self.sha256)
        state = read_state_dict(self.path)
        network = self._built(build, self.options, title)
        if "num_classes" not in self.options and (classes := classes_in(state, network.state_dict())):
            network = self._built(build, {**self.options, "num_classes": classes}, title)
        if self.options.get("num_classes") == 0:
            # A classifier's weights as an embedding: the last layer is left out on purpose.
            whole = self._built(build, {k: v for k, v in self.options.items() if k != "num_classes"}, title)
            head = whole.state_dict().keys() - network.state_dict().keys()
            state = {k: v for k, v in state.items() if k not in head}
        fill(network, state, self.path, title)
        return frozen(network, access.device)

    def _built(self, build: Build, options: Mapping[str, Any], title: str) -> nn.Module:
        try:
            return build(options)
        # The name was found, so whatever the library raises is about the options.
        except Exception as error:
            raise ModelError(f"{title} cannot be built with {dict(options)}: {type(error).__name__}: {error}") from error

    def _check_name(self, known: Sequence[str], library: str) -> None:
        if self.architecture not in known:
            close = difflib.get_close_matches(self.architecture, known, 5)
            raise ModelError(
                f"{library} has no architecture named {self.architecture!r}"
                + (f"; the closest names are {', '.join(close)}" if close else "")
            )


class Timm(Architecture):
    """An architecture of the timm library (pip install timm), with weights from a file."""

    kind: Literal["timm"]

    def title(self) -> str:
        return f"timm's {self.architecture} of {self.path.name}"

    def load(self, access: Access) -> nn.Module:
        timm = self._library()
        return self.load_from(
            lambda options: timm.create_model(self.architecture, pretrained=False, **options), self.title(), access
        )

    def trained_on(self) -> TrainingImages | None:
        """Returns what timm says about the architecture's published weights, or None."""
        found = self._library().get_pretrained_cfg(self.architecture)
        if found is None or not found.mean:
            return None
        return TrainingImages(tuple(found.input_size[1:]), tuple(found.mean), tuple(found.std))

    def _library(self) -> ModuleType:
        timm = library("timm")
        # "resnet18.a1_in1k": the architecture, then which of its published weights.
        self._check_name([*timm.list_models(), *timm.list_pretrained()], "timm")
        return timm


class TorchVision(Architecture):
    """An architecture of the torchvision library (pip install torchvision), with weights from a file."""

    kind: Literal["torchvision"]

    def title(self) -> str:
        return f"torchvision's {self.architecture} of {self.path.name}"

    def load(self, access: Access) -> nn.Module:
        models = self._library()
        # Segmentation networks fetch their backbone's weights unless told not to.
        names = inspect.signature(models.get_model_builder(self.architecture)).parameters
        none = {name: None for name in ("weights", "weights_backbone") if name in names}
        network = self.load_from(lambda options: models.get_model(self.architecture, **none, **options), self.title(), access)
        return _Out(network)

    def trained_on(self) -> TrainingImages | None:
        """Returns what torchvision says about the architecture's published weights, or None."""
        known = list(self._library().get_model_weights(self.architecture))
        seen: Any = known[0].transforms() if known else None
        if not hasattr(seen, "mean"):
            return None
        (size,) = getattr(seen, "crop_size", None) or seen.resize_size
        return TrainingImages((size, size), tuple(seen.mean), tuple(seen.std))

    def _library(self) -> ModuleType:
        models: ModuleType = library("torchvision").models
        self._check_name(models.list_models(), "torchvision")
        return models


class _Out(nn.Module):
    """Returns the scores of torchvision's segmentation networks, which return a dict with the scores under `out`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        found = self.network(x)
        return found.get("out", found) if isinstance(found, dict) else found


def library(name: str) -> ModuleType:
    """Imports an optional library. Raises ModelError that says how to get it, or why it cannot be used."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise ModelError(f"{name} is installed, but needs {error.name}; pip install {error.name}") from error
        raise ModelError(f"the library {name} is not installed; pip install {name}") from error
    # A torchvision built for another version of torch raises a RuntimeError.
    except Exception as error:
        raise ModelError(
            f"the library {name} is installed, but cannot be imported: {type(error).__name__}: {error}; torch and torchvision must "
            "be built for each other"
        ) from error


def classes_in(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> int | None:
    """Returns how many classes a file's last layer has, if it differs from the network as built in nothing else; otherwise None."""
    pairs = {(own[k].shape, v.shape) for k, v in state.items() if k in own and own[k].shape != v.shape}
    counts = {(a[0], b[0]) for a, b in pairs if len(a) and len(b) and a[1:] == b[1:]}
    return next(iter(counts))[1] if len(counts) == 1 and all(len(a) and a[1:] == b[1:] for a, b in pairs) else None
