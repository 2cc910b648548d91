"""Networks as features, and the two ways to read them.

classifier   raw class scores. Not probabilities: a softmax saturates, and a held class would look still while its score falls
embedding    the network's output (a shipped network's last hidden layer), of unit length if `normalize`
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.features.input import ImageNetwork, NetworkInput
from reds_core.models import Builtin
from reds_core.models.config import Access, ClassName
from reds_core.models.shipped.builtin import class_names
from reds_core.types import Feature, Features, Images


class Classifier(NetworkInput):
    """The raw class scores of an image network. Its decision can be the label, and be held alone."""

    kind: Literal["classifier"]
    names: tuple[ClassName, ...] | None = Field(
        None, description="Class names, in the order of the scores; a shipped network's own, or numbers, if absent."
    )

    def class_names(self) -> tuple[str, ...]:
        """Returns the names in the spec, else a shipped network's own, else none."""
        if self.names is not None:
            return self.names
        return class_names(self.model.name) if isinstance(self.model, Builtin) else ()

    def load(self, access: Access, shape: tuple[int, int, int]) -> Feature:
        """Returns the feature, for images of any shape that the network takes."""
        return _NetworkFeature(self.load_network(access), self.class_names(), "class scores (L2)", scores=True)


class Embedding(NetworkInput):
    """The vector that an image network makes of an image: an identity, a style, a look."""

    kind: Literal["embedding"]
    normalize: bool = Field(False, description="Scale every vector to length 1, so that only its direction counts.")

    def load(self, access: Access, shape: tuple[int, int, int]) -> Feature:
        """Returns the feature, for images of any shape that the network takes."""
        network = self.load_network(access, "embed" if isinstance(self.model, Builtin) else "forward")
        if not self.normalize:
            return _NetworkFeature(network, (), "embedding (L2)")
        return _NetworkFeature(lambda x: F.normalize(network(x).flatten(1), dim=1), (), "unit embedding (L2, 0 to 2)")


class _NetworkFeature:
    def __init__(self, network: ImageNetwork, names: tuple[str, ...], unit: str, scores: bool = False) -> None:
        self.network, self.names, self.unit, self.scores = network, names, unit, scores

    def bind(self, images: Images) -> None:
        return None

    def __call__(self, images: Images, bound: Tensor | None) -> Features:
        out = self.network(images)
        if self.scores and (out.ndim != 2 or out.shape[1] < 2):
            raise ModelError(f"a classifier must return (n, classes) scores for at least two classes; got {tuple(out.shape)}")
        if self.names and self.scores and len(self.names) != out.shape[1]:
            raise ModelError(f"there are {len(self.names)} class names, but the network returns {out.shape[1]} scores")
        return out.flatten(1)
