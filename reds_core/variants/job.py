"""A spec with its networks loaded and its spreads measured, and what every room asks of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from reds_core.directions import fitted as straight
from reds_core.directions.cloud import Cloud
from reds_core.directions.jacobian import Mode
from reds_core.errors import ModelError
from reds_core.generators import Walkable
from reds_core.spec.fields import Spec
from reds_core.types import Feature, Images, Passes

Network = Callable[[Images], Tensor]
T = TypeVar("T")

UNASKED = ("rand", *straight.METHODS)  # ways to choose directions that look at no Gram


@dataclass(frozen=True)
class Job:
    """A spec with its networks loaded and its spreads measured: all that `run_seeds` needs."""

    spec: Spec
    device: torch.device
    batch: int
    generator: Walkable
    features: Mapping[str, Feature]  # of the attributes that are held, varied or the label
    judge: Network | None
    classes: Sequence[int]
    label_names: Sequence[str]
    image_shape: tuple[int, int, int]
    latent_spread: float
    spreads: Mapping[str, float]
    noise: Mapping[str, float]  # of held attributes: how much two measurements of one image differ at most, in spreads
    mode: Mode
    smooth: bool  # whether the features have derivatives at all
    reverse: bool  # whether vector-Jacobian products may be used
    cloud: Cloud  # how sampled latents lie
    fixed: Tensor | None  # (d, m), the directions of a straight-line method
    tangent: Tensor | None  # (1, d, k), the basis that corrected trajectories move in; None: one for each seed
    walk: Job | None = None  # the same for a generator of smaller images, if trajectories are walked by those
    passes_once: Passes = field(default_factory=Passes)

    @property
    def units(self) -> dict[str, str]:
        """The unit of every attribute's spread."""
        return {name: f.unit for name, f in self.features.items()}


def in_memory(job: Job, call: Callable[[Job], T]) -> tuple[T, Job]:
    """A call on a job; where the device's memory does not suffice, again with half the batch. Also returns the job that did.

    Raises:
        ModelError: even one image at a time is too much.
    """
    while True:
        try:
            return call(job), job
        except torch.OutOfMemoryError as error:
            if job.batch == 1:
                raise ModelError(
                    f"the memory of {job.device} does not suffice for one image at a time; take a smaller network or another device"
                ) from error
        # Out of the handler, whose traceback holds on to the tensors of the attempt.
        torch.cuda.empty_cache()
        job = _halved(job)


def _halved(job: Job) -> Job:
    return replace(job, batch=max(1, job.batch // 2), walk=job.walk and _halved(job.walk))


def role_names(spec: Spec) -> tuple[list[str], list[str]]:
    """The held and the varied attributes that `directions_by` asks about."""
    by = spec.trajectory.directions_by
    held = [] if by in ("maxc", *UNASKED) else list(spec.held)
    varied = [] if by in ("minf", *UNASKED) else list(spec.varied)
    return held, varied


def features_of(job: Job, images: Images, finite: Tensor, bound: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    """Every attribute's features of images as stored, {name: (n, p)}; rows of images that are not `finite` (n,) are NaN."""
    found = {}
    with torch.no_grad():
        for name, feature in job.features.items():
            kept = bound[name]
            parts = []
            for at in range(0, len(images), job.batch):
                rows = slice(at, at + job.batch)
                parts.append(feature(images[rows], None if kept is None else kept[rows]))
            found[name] = torch.cat(parts).masked_fill(~finite[:, None], float("nan"))
    return found


def feature_of(job: Job, name: str, images: Images, bound: Tensor | None) -> Tensor:
    """One attribute's features (n, p) of images that are numbers throughout."""
    one = replace(job, features={name: job.features[name]})
    return features_of(one, images, torch.ones(len(images), dtype=torch.bool, device=images.device), {name: bound})[name]
