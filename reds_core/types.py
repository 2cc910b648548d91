"""The words of the method as types.

Axes: n images or points, t trajectories, j waypoints, d latent size, k tangent coordinates, p feature size, m columns or residuals,
c h w channels and pixels. An axis whose name starts with an underscore may differ between the items of a list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int, Shaped, UInt8
from torch import Tensor

Latents = Float[Tensor, "n d"]
Images = Float[Tensor, "n c h w"]  # in [0, 1]
Levels = UInt8[Tensor, "n c h w"]  # the same, rounded to bytes
Features = Float[Tensor, "n _p"]
Labels = Int[Tensor, " n"]
Rows = Int[Tensor, " n"]  # which seed or trajectory each of n points belongs to
Flags = Bool[Tensor, " n"]
Bound = Shaped[Tensor, "n ..."]  # what a feature remembers of the seeds' images
Jacobians = Float[Tensor, "n _p d"]
Grams = Float64[Tensor, "n d d"]
Columns = Float64[Tensor, "n d _m"]  # directions at n points, best first
Directions = Float64[Tensor, "d m"]  # the same at one point, or fitted for all
Counts = Int[Tensor, " n"]  # how many of the columns at each point are directions

Owner = tuple[int, int, int]  # whose a trajectory is: the seed's row, the direction, the sign
Reason = str  # "" for an accepted candidate, else one of REASONS; "held" and "varied" name the attribute, as in "held:class"

# Why a candidate was rejected -> what that says of it.
REASONS = {
    "held": "drifted further from its seed than the tolerance allows",
    "varied": "changed less than the smallest effect wanted",
    "judge": "the independent judge sees a label other than the seed's",
    "seed_label": "the judge contradicts the label of the seed itself, so nothing of that seed is used",
    "duplicate": "nearly the same as an earlier variant of its seed, or nearer to the others than those that are kept",
    "not_finite": "an image or a feature was not a finite number there",
    "turned": "the held attributes left the trajectory nowhere to go",
    "step_underflow": "no step was small enough to hold what must hold",
    "fit": "the image could not be reconstructed: too far from it, or what is held could not be met",
    "implausible": "further out than where the generator was trained",
}


Tell = Callable[[str, int, int], None]  # hears what goes on: of what, how many are done, of how many


def untold(what: str, done: int, total: int) -> None:
    """Hears what goes on, and does nothing."""


@runtime_checkable
class Feature(Protocol):
    """What measures an attribute: images -> vectors.

    Some attributes are defined by a seed's own image, such as the pixels of an object found in it. `bind` is given the seeds'
    images once and returns what the feature has to remember of each, or None. Calls then get the rows of it that belong to the
    images measured.
    """

    names: tuple[str, ...]  # class names of a classifier, else empty
    unit: str  # the unit of a distance between two of its vectors, for people

    def bind(self, images: Images) -> Bound | None: ...

    def __call__(self, images: Images, bound: Bound | None) -> Features: ...


@dataclass(frozen=True)
class Passes:
    """Work, counted per image: evaluations of the generator, Jacobian-vector products and vector-Jacobian products."""

    forward: int = 0
    forward_mode: int = 0
    reverse: int = 0

    @property
    def equivalents(self) -> int:
        """The forward passes that would cost the same: a product of either mode counts as two."""
        return self.forward + 2 * self.forward_mode + 2 * self.reverse

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.forward + other.forward, self.forward_mode + other.forward_mode, self.reverse + other.reverse)

    def as_dict(self) -> dict[str, int]:
        return {"forward": self.forward, "forward_mode": self.forward_mode, "reverse": self.reverse}


@dataclass
class PassCounter:
    """Counts the passes of whoever evaluates the generator."""

    total: Passes = Passes()

    def add(self, *, forward: int = 0, forward_mode: int = 0, reverse: int = 0) -> None:
        self.total += Passes(forward, forward_mode, reverse)


@dataclass(frozen=True)
class Candidate:
    """One image that was tried: a seed's own (role "seed"), a waypoint of a trajectory ("variant"), or the user's ("source").

    `label` and `condition` are -1 where there is none. Drifts and effects are in spreads, NaN where nothing could be measured; the
    drift of a decision is the probability that its label lost, and its tolerance the most that it may lose.
    `latent` is empty if the point was never reached. An accepted candidate has its `pixels`, and `image`, the encoded file, once it
    is made (`reds_core.jobs.images.file_of`). A rejected one has `small`, the pixels of a thumbnail, if a report may show it.
    """

    key: str
    role: Literal["source", "seed", "variant"]
    seed: int
    direction: int
    sign: int
    waypoint: int
    reason: Reason
    label: int
    label_name: str
    condition: int
    drifts: dict[str, float]
    tolerances: dict[str, float]
    effects: dict[str, float]
    judge_label: int
    judge_confidence: float
    judge_agrees: bool
    pixels: UInt8[np.ndarray, "h w c"] = field(default_factory=lambda: np.zeros((0, 0, 0), np.uint8))
    image: bytes = b""
    small: UInt8[np.ndarray, "small_h small_w small_c"] = field(default_factory=lambda: np.zeros((0, 0, 0), np.uint8))
    source: str = ""  # the name of the user's image that it comes from
    fit: float = 0.0  # the distance of that image's reconstruction, in spreads of all pixels
    latent: Float32[np.ndarray, " d"] = field(default_factory=lambda: np.zeros(0, np.float32))

    @property
    def accepted(self) -> bool:
        return self.reason == ""


def key_of(seed: int, direction: int = -1, sign: int = 0, waypoint: int = 0) -> str:
    """Returns a sample's key: s00000123 for a seed's own image, s00000123-d02p-w03 for a variant."""
    if direction < 0:
        return f"s{seed:08d}"
    return f"s{seed:08d}-d{direction:02d}{'p' if sign > 0 else 'n'}-w{waypoint:02d}"


def name_of(label: int, names: Sequence[str]) -> str:
    """Returns a label's name, its number if it has no name, and "" for no label."""
    if label < 0:
        return ""
    return names[label] if label < len(names) else str(label)
