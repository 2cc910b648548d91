"""The words of the method as types. Axes: n images or points, d latent size, p feature size, c h w channels and pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float, Float64, Int
from torch import Tensor

Latents = Float[Tensor, "n d"]
Images = Float[Tensor, "n c h w"]  # in [0, 1]
Features = Float[Tensor, "n _p"]  # attributes in one call may differ in size
Labels = Int[Tensor, " n"]
Jacobian = Float[Tensor, "_p d"]
Grams = Float64[Tensor, "n d d"]

Owner = tuple[int, int, int]  # whose a trajectory is: the seed's row, the direction, the sign
Reason = str  # "" for an accepted candidate, else a reason of the contract, such as "held:class" or "judge"


class Feature(Protocol):
    """What measures an attribute: images -> vectors.

    Some attributes are defined by a seed's own image, such as the pixels of an object found in it. `bind` is given the
    seeds' images, (n, c, h, w), once, and returns what the feature has to remember of each, (n, ...), or None. Calls then
    get the rows of it that belong to the images measured.
    """

    names: tuple[str, ...]  # class names of a classifier, else empty
    unit: str  # the unit of a distance between two of its vectors, for people

    def bind(self, images: Images) -> Tensor | None: ...

    def __call__(self, images: Images, bound: Tensor | None) -> Features: ...


@dataclass
class Passes:
    """Work, counted per image: evaluations of the generator, Jacobian-vector and vector-Jacobian products."""

    forward: int = 0
    forward_mode: int = 0
    reverse: int = 0

    @property
    def equivalents(self) -> int:
        """Forward passes that would cost the same: a product of either mode counts two."""
        return self.forward + 2 * self.forward_mode + 2 * self.reverse

    def as_dict(self) -> dict[str, int]:
        return {"forward": self.forward, "forward_mode": self.forward_mode, "reverse": self.reverse}


@dataclass(frozen=True)
class Candidate:
    """One image that was tried: a seed's own (role "seed") or a waypoint of a trajectory (role "variant").

    `label` and `condition` are -1 where there is none. Drifts and effects are in spreads, NaN where nothing could be
    measured. `latent` is the (d,) float32 point, empty if it was never reached. An accepted one has its `pixels`, (h, w, c), and
    `image`, the encoded file, once it is made (`reds_core.variants.images.file_of`).
    """

    key: str
    role: Literal["seed", "variant"]
    seed: int
    direction: int
    sign: int
    waypoint: int
    reason: Reason
    label: int
    label_name: str
    condition: int
    drifts: dict[str, float]
    effects: dict[str, float]
    judge_label: int
    judge_confidence: float
    judge_agrees: bool
    pixels: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0), np.uint8))
    image: bytes = b""
    latent: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    @property
    def accepted(self) -> bool:
        return self.reason == ""


def key_of(seed: int, direction: int = -1, sign: int = 0, waypoint: int = 0) -> str:
    """A sample's key: s00000123 for a seed's own image, s00000123-d02p-w03 for a variant."""
    if direction < 0:
        return f"s{seed:08d}"
    return f"s{seed:08d}-d{direction:02d}{'p' if sign > 0 else 'n'}-w{waypoint:02d}"


def name_of(label: int, names: Sequence[str]) -> str:
    """A label's name, its number where it has no name, and nothing for no label."""
    if label < 0:
        return ""
    return names[label] if label < len(names) else str(label)
