"""What an image network expects to see, declared in the spec: the preprocessing in front of every network.

In this order: channels, input_size, input_range, mean, std. What goes in is float32 (n, c, h, w) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.features.filters import to_gray
from reds_core.models import AnyNetwork, Timm, TorchVision
from reds_core.models.answers import single
from reds_core.models.config import Access, Config, Count, Number
from reds_core.models.layout import BestLayout
from reds_core.models.zoo import TrainingImages
from reds_core.types import Images

ImageNetwork = Callable[[Images], Tensor]

IMAGENET = "mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]"


class Preprocessing(Config):
    """The images that a network was trained on: as the generator makes them, in [0, 1], unless these fields say otherwise."""

    channels: Literal[1, 3] | None = Field(
        None, description="The channels that the network takes: 3 repeats gray, 1 is brightness; the generator's own if absent."
    )
    input_range: tuple[Number, Number] = Field(
        (0.0, 1.0), description="What pixel values 0 and 1 become, before mean and std are applied."
    )
    input_size: tuple[Annotated[Count, Field(ge=1)], Annotated[Count, Field(ge=1)]] | None = Field(
        None, description="[height, width] in pixels to resize to; the generator's own size if absent."
    )
    mean: tuple[Number, ...] | None = Field(
        None, description="Subtracted from each channel, after input_range: one number per channel, or one for all; 0 if absent."
    )
    std: tuple[Annotated[Number, Field(gt=0)], ...] | None = Field(
        None, description="Each channel is divided by it, after mean: one number per channel, or one for all; 1 if absent."
    )

    def input_mistakes(self, model: AnyNetwork) -> list[str]:
        """Returns what is wrong with these fields together, for a model."""
        low, high = self.input_range
        found = [] if low < high else [f"input_range {[low, high]} is empty; it is what 0 and 1 become, in this order"]
        given = {name: len(v) for name, v in (("mean", self.mean), ("std", self.std)) if v is not None}
        if len(set(given.values())) > 1:
            found.append(f"mean has {given['mean']} numbers and std {given['std']}; both need one for every channel")
        elif self.channels and not set(given.values()) <= {1, self.channels}:
            found.append(f"{' and '.join(given)} must have {self.channels} numbers, one per channel; see channels")
        if isinstance(model, Timm | TorchVision) and len(given) < 2:
            found.append(
                f"a {model.kind} network needs the mean and std that it was trained with; ImageNet's are {IMAGENET}; use "
                "mean: [0], std: [1] if it was trained on images in input_range as they are"
            )
        return found

    def input_doubts(self, model: AnyNetwork) -> list[str]:
        """Returns where these fields are right only for other weights than the ones that the model's library publishes."""
        if not isinstance(model, Timm | TorchVision):
            return []
        try:
            published = model.trained_on()
        except ModelError:  # no such library or architecture, which loading will say
            return []
        if published is None:
            return []
        differs = []
        if not self._normalises_as(published):
            differs.append(f"mean: {list(published.mean)}, std: {list(published.std)} and input_range: [0, 1]")
        if self.input_size != published.size:
            differs.append(f"input_size: {list(published.size)}")
        if not differs:
            return []
        return [f"the published weights of {model.architecture} were trained with {' and '.join(differs)}, unlike here"]

    def _normalises_as(self, published: TrainingImages) -> bool:
        """Returns whether 0 and 1 become the same numbers, to a thousandth of their distance."""
        low, high = self.input_range
        mean, std = torch.tensor(self.mean or (0.0,)), torch.tensor(self.std or (1.0,))
        if not {len(mean), len(std)} <= {1, len(published.mean)}:
            return False
        right = torch.stack([(v - torch.tensor(published.mean)) / torch.tensor(published.std) for v in (0, 1)])
        ours = torch.stack([((v - mean) / std).expand(right.shape[1]) for v in (low, high)])
        return bool(((ours - right).abs() <= 1e-3 * (right[1] - right[0])).all())

    def load_model(self, model: AnyNetwork, access: Access, layer: str = "forward") -> ImageNetwork:
        """Returns the model with its preprocessing in front: images in [0, 1] -> the output of its method `layer`.

        Raises:
            ModelError: the model cannot be loaded or has no such method.
        """
        network = model.load(access)
        if not hasattr(network, layer):
            raise ModelError(f"{model.title()} has no `{layer}`, which this feature reads; choose another network")
        call = BestLayout(network, access.device) if layer == "forward" else getattr(network, layer)

        def preprocessed(images: Images) -> Tensor:
            out = _called(call, self.prepared(images), model.title())
            if not isinstance(out, Tensor) or out.ndim < 2 or len(out) != len(images):
                seen = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
                raise ModelError(f"{model.title()} returns {seen} for {len(images)} images; a tensor (n, ...) is needed")
            return single(out, model.title())

        return preprocessed

    def prepared(self, images: Images) -> Float[Tensor, "n _c _h _w"]:
        """Returns what the network sees of images in [0, 1]."""
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

    model: AnyNetwork = Field(description="The network.")

    def mistakes(self) -> list[str]:
        return self.input_mistakes(self.model)

    def doubts(self) -> list[str]:
        return self.input_doubts(self.model)

    def load_network(self, access: Access, layer: str = "forward") -> ImageNetwork:
        """Returns the network with its preprocessing in front. Arguments and errors as for `load_model`."""
        return self.load_model(self.model, access, layer)


def with_channels(images: Images, channels: int | None) -> Float[Tensor, "n _c h w"]:
    """Returns images with 1 channel, their brightness, or 3, which repeats gray. Returns them as they are if `channels` is None."""
    if channels is None or images.shape[1] == channels:
        return images
    return to_gray(images) if channels == 1 else to_gray(images).expand(-1, channels, -1, -1)


def _per_channel(name: str, values: tuple[float, ...], images: Images) -> Float[Tensor, "_c 1 1"]:
    c = images.shape[1]
    # Broadcasting would silently turn gray images and a mean of three into three channels.
    if len(values) not in (1, c):
        raise ModelError(f"{name} has {len(values)} numbers, but the images have {_count(c)}; {_remedy(len(values))}")
    return _column(values, images.device)


@cache
def _column(values: tuple[float, ...], device: torch.device) -> Float[Tensor, "_c 1 1"]:
    return torch.tensor(values, device=device)[:, None, None]


def _called(call: ImageNetwork, x: Images, title: str) -> Any:
    """Returns the network's output. Raises ModelError if it takes another number of channels."""
    try:
        return call(x)
    except torch.OutOfMemoryError:
        raise
    # A user's network may raise anything at all for channels that it does not expect.
    except Exception as error:
        other, one = 3 if x.shape[1] == 1 else 1, x.detach()[:1]
        if _takes(call, one) or not _takes(call, with_channels(one, other)):
            raise
        raise ModelError(f"{title} takes {_count(other)}, but the images have {x.shape[1]}; {_remedy(other)}") from error


def _takes(call: ImageNetwork, x: Images) -> bool:
    try:
        with torch.no_grad():
            call(x)
    except Exception:  # whatever it is, the network does not take these channels
        return False
    return True


def _count(channels: int) -> str:
    return f"{channels} channel{'' if channels == 1 else 's'}"


def _remedy(channels: int) -> str:
    what = {1: "set channels: 1, which makes them gray", 3: "set channels: 3, which repeats gray"}
    return what.get(channels, "give one number per channel")
