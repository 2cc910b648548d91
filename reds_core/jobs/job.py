"""What a run computes with.

networks   what a spec loads
job        networks, and what is measured with them once, before the first seed
work       a job on one shard, with every pass counted
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from reds_core.directions.cloud import Basis, Cloud
from reds_core.directions.evaluator import Evaluator, Measure
from reds_core.directions.jacobian import Mode
from reds_core.errors import ModelError
from reds_core.generators import Walkable
from reds_core.inversion.library import Library
from reds_core.jobs.images import as_stored
from reds_core.models.answers import too_large
from reds_core.sources import Sources
from reds_core.spec.fields import Spec
from reds_core.types import Bound, Directions, Feature, Features, Flags, Images, Labels, Latents, PassCounter, Passes, Rows

Network = Callable[[Images], Features]
Render = Callable[[Latents, Rows], Images]  # latents, and the row of the seed that each belongs to; not rounded


@dataclass(frozen=True)
class Networks:
    """A spec with its networks loaded on a device, and how its generator's latents lie."""

    spec: Spec
    device: torch.device
    batch: int  # images per evaluation
    generator: Walkable
    features: Mapping[str, Feature]  # of the attributes that are held, varied or the label
    judge: Network | None
    classes: Sequence[int]
    label_names: Sequence[str]
    image_shape: tuple[int, int, int]
    cloud: Cloud

    def knows_labels(self, name: str, scores: int) -> bool:
        """Returns whether a classifier with so many scores decides among the classes that are the label."""
        names = tuple(self.features[name].names)
        same = scores == len(self.label_names) and names in ((), tuple(self.label_names))
        return name == self.spec.label or (self.spec.label != "none" and same)

    def halved(self) -> Networks:
        """Returns the same with half the batch."""
        batch = max(1, self.batch // 2)
        return replace(self, batch=batch, generator=self.generator.in_batches(batch))


@dataclass(frozen=True)
class Derivatives:
    """How derivatives of a job's features are taken."""

    modes: Mapping[str, Mode]  # by attribute
    smooth: bool  # whether the features have derivatives at all
    reverse: bool  # whether vector-Jacobian products may be used

    def by_products(self, name: str) -> bool:
        """Returns whether the rows of an attribute's Jacobian are measured one by one, by products."""
        return self.reverse and self.modes.get(name) == "reverse"

    @property
    def in_words(self) -> str:
        """The modes, as in "reverse (class), differences (look)"; one alone if it serves all."""
        by_mode: dict[str, list[str]] = {}
        for name, mode in self.modes.items():
            by_mode.setdefault(mode, []).append(name)
        if len(by_mode) < 2:
            return next(iter(by_mode), "differences")
        return ", ".join(f"{mode} ({', '.join(names)})" for mode, names in by_mode.items())


@dataclass(frozen=True)
class Own:
    """The user's own images, and what reconstructing them needs."""

    sources: Sources
    labels: Mapping[str, int]  # by the labels' names
    conditions: Mapping[str, int]  # the generator's classes, likewise; zeros without classes
    library: Library  # where reconstructions start
    pixel_spread: float


@dataclass(frozen=True)
class Job:
    """Networks, and what was measured with them on reference seeds: all that any number of shards needs."""

    networks: Networks
    latent_spread: float
    spreads: Mapping[str, float]  # in each attribute's own units
    noise: Mapping[str, float]  # of held attributes: how much two measurements of one image differ at most, in spreads
    derivatives: Derivatives
    fixed: Directions | None  # fitted once for all seeds; None: chosen for each
    tangent: Basis | None  # what corrected trajectories move in; None: a basis for each seed
    passes_once: Passes
    own: Own | None = None  # if trajectories start from the user's images
    coarse: Job | None = None  # the same for a generator of smaller images, if trajectories follow those

    @property
    def spec(self) -> Spec:
        return self.networks.spec

    @property
    def device(self) -> torch.device:
        return self.networks.device

    @property
    def batch(self) -> int:
        return self.networks.batch

    @property
    def own_images(self) -> Own:
        """What reconstructing the user's images needs. Raises ValueError if this job starts from sampled seeds alone."""
        if self.own is None:
            raise ValueError("this job has no images of the user's")
        return self.own

    @property
    def units(self) -> dict[str, str]:
        """The unit of every attribute's spread."""
        units = {name: f.unit for name, f in self.networks.features.items()}
        return units | dict.fromkeys(self.spec.decisions, "probability of the label")

    @property
    def step(self) -> float:
        """The distance between waypoints, in latent units."""
        return self.spec.trajectory.step * self.latent_spread

    def with_spec(self, spec: Spec) -> Job:
        """Returns the same job for a spec that names the same networks and attributes, but may follow trajectories differently."""
        coarse = self.coarse and self.coarse.with_spec(spec.model_copy(update={"judge": None}))
        return replace(self, networks=replace(self.networks, spec=spec), coarse=coarse)

    def halved(self) -> Job:
        """Returns the same with half the batch."""
        return replace(self, networks=self.networks.halved(), coarse=self.coarse and self.coarse.halved())


class Rendered(NamedTuple):
    """Images as stored, their encoded files (empty if the format is lossless), and which are finite throughout."""

    images: Images
    encoded: list[bytes]
    finite: Flags


@dataclass(frozen=True)
class Work:
    """A job at work on one shard."""

    job: Job
    counter: PassCounter

    def coarse(self) -> Work | None:
        """Returns the work on smaller images, counted with this, if trajectories follow those."""
        return None if self.job.coarse is None else Work(self.job.coarse, self.counter)

    def evaluator(self, measure: Measure) -> Evaluator:
        """Returns what measures points, counted."""
        return Evaluator(measure, self.job.batch, self.counter)

    def render(self, latents: Latents, conditions: Labels, residuals: Images | None = None) -> Rendered:
        """Returns the images of latents, with what is added to them if there is any, as stored, counted."""
        self.counter.add(forward=len(latents))
        return rendered(self.job.networks, latents, conditions, residuals)


T = TypeVar("T")
Batched = TypeVar("Batched", Networks, Job)


def in_memory(batched: Batched, call: Callable[[Batched], T]) -> tuple[T, Batched]:
    """Calls with networks or a job, and again with half the batch if the device runs out of memory. Also returns what fitted in it.

    Raises:
        ModelError: even one image at a time is too much.
    """
    while True:
        try:
            return call(batched), batched
        except torch.OutOfMemoryError as error:
            if batched.batch == 1:
                raise ModelError(too_large(batched.device)) from error
        # Outside the handler, whose traceback holds on to the tensors of the attempt.
        torch.cuda.empty_cache()
        batched = batched.halved()


def rendered(networks: Networks, latents: Latents, conditions: Labels, residuals: Images | None = None) -> Rendered:
    """Returns the images of latents, with what is added to them if there is any, as stored, a batch at a time."""
    shards, batch = networks.spec.shards, networks.batch
    images, encoded, finite = [], [], []
    with torch.no_grad():
        for rows in torch.arange(len(latents), device=latents.device).split(batch):
            raw = networks.generator.images(latents[rows], conditions[rows])
            if residuals is not None:
                raw = with_residuals(raw, residuals[rows])
            finite.append(torch.isfinite(raw).flatten(1).all(1))
            stored, files = as_stored(torch.nan_to_num(raw), shards.image, shards.quality)
            images.append(stored)
            encoded += files or [b""] * len(rows)
    return Rendered(torch.cat(images), encoded, torch.cat(finite))


def unrounded(networks: Networks, latents: Latents, conditions: Labels) -> Images:
    """Returns the images of latents as the generator makes them, a batch at a time."""
    rows = torch.arange(len(latents), device=latents.device).split(networks.batch)
    with torch.no_grad():
        return torch.cat([networks.generator.images(latents[part], conditions[part]) for part in rows])


def with_residuals(images: Images, residuals: Images) -> Images:
    """Returns a generator's images with what is added to them, in [0, 1]."""
    return (images + residuals).clamp(0, 1)


def measure_of(networks: Networks, names: Sequence[str], render: Render, bound: Mapping[str, Bound | None]) -> Measure:
    """Returns what measures the named features of latents, differentiable and not rounded.

    A point's row is that of its seed, for `render` and in what the features remember of the seeds.
    """

    def measure(points: Latents, rows: Rows) -> list[Features]:
        return features_at(networks, names, render(points, rows), bound, rows)

    return measure


def features_at(
    networks: Networks, names: Sequence[str], images: Images, bound: Mapping[str, Bound | None], rows: Rows
) -> list[Features]:
    """Returns the named features of images that belong to the seeds in `rows`."""
    kept = {name: bound[name] for name in names}
    return [networks.features[name](images, None if b is None else b[rows]) for name, b in kept.items()]


def bound_to(networks: Networks, name: str, images: Images) -> Bound | None:
    """Returns what one attribute's feature remembers of seeds' images, a batch at a time."""
    parts = [networks.features[name].bind(x) for x in images.split(networks.batch)]
    return None if parts[0] is None else torch.cat([p for p in parts if p is not None])


def all_bound(networks: Networks, images: Images) -> dict[str, Bound | None]:
    """Returns the same of every attribute."""
    return {name: bound_to(networks, name, images) for name in networks.features}


def judged_by(judge: Network, images: Images, batch: int) -> Features:
    """Returns a judge's scores of images, a batch at a time."""
    with torch.no_grad():
        return torch.cat([judge(x) for x in images.split(batch)])


def features_of(networks: Networks, images: Images, finite: Flags, bound: Mapping[str, Bound | None]) -> dict[str, Features]:
    """Returns every attribute's features of images as stored; those of images that are not `finite` are NaN."""
    return {
        name: feature_of(networks, name, images, bound[name]).masked_fill(~finite[:, None], float("nan"))
        for name in networks.features
    }


def feature_of(networks: Networks, name: str, images: Images, bound: Bound | None) -> Float[Tensor, "n p"]:
    """Returns one attribute's features of images, a batch at a time."""
    parts = []
    with torch.no_grad():
        for at in range(0, len(images), networks.batch):
            rows = slice(at, at + networks.batch)
            parts.append(networks.features[name](images[rows], None if bound is None else bound[rows]))
    return torch.cat(parts)
