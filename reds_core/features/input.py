"""What an image network expects to see, declared in the spec: the preprocessing in front of every network of a user's.

In this order: channels, input_size, input_range, mean, std. What goes in is float32 (n, c, h, w) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.features.filters import to_gray
from reds_core.models import AnyNetwork, Timm, TorchVision
from reds_core.models.config import Access, Config, Count, Number
from reds_core.models.layout import BestLayout
from reds_core.models.zoo import Published
from reds_core.types import Images

Network = Callable[[Images], Tensor]

IMAGENET = "mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]"


class Preprocessing(Config):
    """The images that a network was trained on: as the generator gives them, in [0, 1], unless said otherwise."""

    channels: Literal[1, 3] | None = Field(
        None, description="Channels to make of the generator's: 3 repeats gray, 1 is brightness; its own if absent."
    )
    input_range: tuple[Number, Number] = Field((0.0, 1.0), description="What 0 and 1 become, before mean and std.")
    input_size: tuple[Annotated[Count, Field(ge=1)], Annotated[Count, Field(ge=1)]] | None = Field(
        None, description="[height, width] to resize to; the generator's own size if absent."
    )
    mean: tuple[Number, ...] | None = Field(None, description="Subtracted per channel, after input_range.")
    std: tuple[Annotated[Number, Field(gt=0)], ...] | None = Field(None, description="Divided by per channel.")

    def input_mistakes(self, model: AnyNetwork) -> list[str]:
        """What a field's own type cannot see."""
        low, high = self.input_range
        found = [] if low < high else [f"input_range {[low, high]} is empty: it is what 0 and 1 become, in this order"]
        given = {name: len(v) for name, v in (("mean", self.mean), ("std", self.std)) if v is not None}
        if len(set(given.values())) > 1:
            found.append(f"mean has {given['mean']} numbers and std {given['std']}; give one each for every channel")
        elif self.channels and not set(given.values()) <= {1, self.channels}:
            found.append(f"{' and '.join(given)} must have {self.channels} numbers, one a channel; see channels")
        if isinstance(model, Timm | TorchVision) and len(given) < 2:
            found.append(
                f"a {model.kind} network needs mean and std, as it was trained; ImageNet's are {IMAGENET}; mean: [0], std: [1] if "
                "it was trained on images in input_range as they are"
            )
        return found

    def input_doubts(self, model: AnyNetwork) -> list[str]:
        """Where the spec differs from what a library says of an architecture's published weights: right only for others."""
        if not isinstance(model, Timm | TorchVision):
            return []
        try:
            published = model.trained_on()
        except ModelError:  # no such library or architecture: loading says so
            return []
        if published is None:
            return []
        said = []
        if not self._normalises_as(published):
            said.append(f"mean: {list(published.mean)}, std: {list(published.std)} and input_range: [0, 1]")
        if self.input_size != published.size:
            said.append(f"input_size: {list(published.size)}")
        if not said:
            return []
        return [f"the published weights of {model.architecture} were trained with {' and '.join(said)}, unlike here"]

    def _normalises_as(self, published: Published) -> bool:
        """Whether 0 and 1 become the same numbers, to a thousandth of their distance."""
        low, high = self.input_range
        mean, std = torch.tensor(self.mean or (0.0,)), torch.tensor(self.std or (1.0,))
        if not {len(mean), len(std)} <= {1, len(published.mean)}:
            return False
        right = torch.stack([(v - torch.tensor(published.mean)) / torch.tensor(published.std) for v in (0, 1)])
        ours = torch.stack([((v - mean) / std).expand(right.shape[1]) for v in (low, high)])
        return bool(((ours - right).abs() <= 1e-3 * (right[1] - right[0])).all())

    def load_model(self, model: AnyNetwork, access: Access, layer: str = "forward") -> Network:
        """The model with its preprocessing in front: images in [0, 1] -> its output. `layer` names its method."""
        network = model.load(access)
        if not hasattr(network, layer):
            raise ModelError(f"{model.title()} has no `{layer}`, which this feature reads; choose another network")
        call = BestLayout(network, access.device) if layer == "forward" else getattr(network, layer)

        def preprocessed(images: Images) -> Tensor:
            out = _called(call, self.prepared(images), model.title())
            if not isinstance(out, Tensor) or out.ndim < 2 or len(out) != len(images):
                seen = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
                raise ModelError(f"{model.title()} gives {seen} for {len(images)} images; a tensor (n, ...) is needed")
            return out

        return preprocessed

    def prepared(self, images: Images) -> Tensor:
        """Images in [0, 1] -> what the network sees."""
        x = with_channels(images, self.channels)
        if self.input_size and tuple(x.shape[2:]) != self.input_size:
            x = F.interpolate(x, self.input_size, mode="bilinear", align_corners=False, antialias=True)
        low, high = self.input_range
        if (low, high) != (0.0, 1.0):
            x = x * (high - low) + low
        if self.mean is not None:
            x = x - _per_channel("mean", self.mean, x)
        if self.std is not None:
            x = x / _per_channel("std", self.std, x)
        return x


class NetworkInput(Preprocessing):
    """An image network and the images it was trained on."""

    model: AnyNetwork

    def mistakes(self) -> list[str]:
        return self.input_mistakes(self.model)

    def doubts(self) -> list[str]:
        return self.input_doubts(self.model)

    def load_network(self, access: Access, layer: str = "forward") -> Network:
        """The network with its preprocessing in front: images in [0, 1] -> its output. `layer` names its method."""
        return self.load_model(self.model, access, layer)


def with_channels(images: Images, channels: int | None) -> Images:
    """Images of 1 or 3 channels: gray repeated, colours to brightness; as they are if None."""
    if channels is None or images.shape[1] == channels:
        return images
    return to_gray(images) if channels == 1 else to_gray(images).expand(-1, channels, -1, -1)


def _per_channel(name: str, values: tuple[float, ...], images: Images) -> Tensor:
    c = images.shape[1]
    # By itself a mean of three would make three channels of gray: right or wrong, nobody would have asked for it.
    if len(values) not in (1, c):
        raise ModelError(f"{name} has {len(values)} numbers, and the images have {_count(c)}; {_remedy(len(values))}")
    return _column(values, images.device)


@cache
def _column(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device)[:, None, None]


def _called(call: Network, x: Tensor, title: str) -> Any:
    """The network's output; a ModelError if it takes another number of channels."""
    try:
        return call(x)
    except torch.OutOfMemoryError:
        raise
    # Somebody else's network may raise anything at all for channels that it does not expect.
    except Exception as error:
        other, one = 3 if x.shape[1] == 1 else 1, x.detach()[:1]
        if _takes(call, one) or not _takes(call, with_channels(one, other)):
            raise
        raise ModelError(f"{title} takes {_count(other)}, and the images have {x.shape[1]}; {_remedy(other)}") from error


def _takes(call: Network, x: Tensor) -> bool:
    try:
        with torch.no_grad():
            call(x)
    except Exception:  # then channels are not what is wrong
        return False
    return True


def _count(channels: int) -> str:
    return f"{channels} channel{'' if channels == 1 else 's'}"


def _remedy(channels: int) -> str:
    what = {1: "channels: 1 makes brightness of them", 3: "channels: 3 repeats gray"}
    return what.get(channels, "give one for each channel")
