"""Networks as features: what they expect to see (`NetworkInput`), and the two ways to read them.

classifier   raw class scores. Scores, not probabilities: a softmax saturates, and a held class would look still
             while its score falls.
embedding    the network's output (a shipped network's last hidden layer), of unit length if `normalize`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.models import AnyNetwork, Builtin
from reds_core.models.builtin import class_names
from reds_core.models.config import Access, Config, Count, Number
from reds_core.models.layout import BestLayout
from reds_core.types import Feature, Images

Network = Callable[[Images], Tensor]


class NetworkInput(Config):
    """An image network and the images it was trained on: float32 (n, c, h, w) in [0, 1] unless said otherwise."""

    model: AnyNetwork
    input_range: tuple[Number, Number] = Field((0.0, 1.0), description="What 0 and 1 become, before mean and std.")
    input_size: tuple[Annotated[Count, Field(ge=1)], Annotated[Count, Field(ge=1)]] | None = Field(
        None, description="[height, width] to resize to; the generator's own size if absent."
    )
    mean: tuple[Number, ...] | None = Field(None, description="Subtracted per channel, after input_range.")
    std: tuple[Annotated[Number, Field(gt=0)], ...] | None = Field(None, description="Divided by per channel.")

    def load_network(self, access: Access, layer: str = "forward") -> Network:
        """The network with its preprocessing in front: images in [0, 1] -> its output. `layer` names its method."""
        model = self.model.load(access)
        call: Network = BestLayout(model, access.device) if layer == "forward" else getattr(model, layer)
        low, high = self.input_range
        mean, std = (self._channels(v, access) for v in (self.mean, self.std))

        def network(images: Images) -> Tensor:
            x = images
            if self.input_size and tuple(x.shape[2:]) != self.input_size:
                x = F.interpolate(x, self.input_size, mode="bilinear", align_corners=False, antialias=True)
            if (low, high) != (0.0, 1.0):
                x = x * (high - low) + low
            if mean is not None:
                x = x - mean
            if std is not None:
                x = x / std
            out = call(x)
            if not isinstance(out, Tensor) or out.ndim < 2 or len(out) != len(images):
                seen = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
                raise ModelError(f"{self.model.title()} gives {seen} for {len(images)} images; a tensor (n, ...) is needed")
            return out

        return network

    @staticmethod
    def _channels(values: tuple[float, ...] | None, access: Access) -> Tensor | None:
        return None if values is None else torch.tensor(values, device=access.device)[:, None, None]


class Classifier(NetworkInput):
    """Class scores of an image network. Its decision can also be the label."""

    kind: Literal["classifier"]
    names: tuple[str, ...] | None = Field(None, description="Class names, in the order of the scores.")

    def class_names(self) -> tuple[str, ...]:
        """The names given, a shipped network's own, or none."""
        if self.names is not None:
            return self.names
        return class_names(self.model.name) if isinstance(self.model, Builtin) else ()

    def load(self, access: Access, shape: tuple[int, int, int]) -> Feature:
        return _NetworkFeature(self.load_network(access), self.class_names(), "class scores (L2)", scores=True)


class Embedding(NetworkInput):
    """The vector that an image network makes of an image: an identity, a style, a look."""

    kind: Literal["embedding"]
    normalize: bool = Field(False, description="Scale every vector to length 1 (cosine geometry).")

    def load(self, access: Access, shape: tuple[int, int, int]) -> Feature:
        network = self.load_network(access, "embed" if isinstance(self.model, Builtin) else "forward")
        if not self.normalize:
            return _NetworkFeature(network, (), "embedding (L2)")
        return _NetworkFeature(lambda x: F.normalize(network(x).flatten(1), dim=1), (), "unit embedding (L2, 0 to 2)")


class _NetworkFeature:
    def __init__(self, network: Network, names: tuple[str, ...], unit: str, scores: bool = False) -> None:
        self.network, self.names, self.unit, self.scores = network, names, unit, scores

    def bind(self, images: Images) -> Tensor | None:
        return None

    def __call__(self, images: Images, bound: Tensor | None) -> Tensor:
        out = self.network(images)
        if self.scores and (out.ndim != 2 or out.shape[1] < 2):
            raise ModelError(f"a classifier must give (n, classes) scores, at least two classes; got {tuple(out.shape)}")
        if self.names and self.scores and len(self.names) != out.shape[1]:
            raise ModelError(f"{len(self.names)} class names were given, but the network has {out.shape[1]} scores")
        return out.flatten(1)
