"""A session: networks loaded and measured once, and then any number of seeds or images, in a notebook or a training script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from reds_core.directions.precision import float32_as
from reds_core.errors import ModelError
from reds_core.jobs.images import file_of
from reds_core.jobs.job import Job, Work, in_memory
from reds_core.jobs.prepare import prepare, reconstructing
from reds_core.spec.fields import Spec
from reds_core.types import Candidate, PassCounter, Passes
from reds_core.variants.own_images import origins_from
from reds_core.variants.photos import photos
from reds_core.variants.run_seeds import run_origins, run_seeds


class Session:
    """A spec's networks on a device, measured once.

    Args:
        spec: what to make; its `seeds.first` and `seeds.count` are not used.
        device: "auto", "cpu", "cuda" or "cuda:1".
        batch: images per evaluation; chosen by image size if None.
        allow_code: whether code that the spec names may run.

    Raises:
        UserError: a file or network cannot be used.
    """

    def __init__(self, spec: Spec, device: str = "auto", batch: int | None = None, allow_code: bool = False) -> None:
        self._job = prepare(spec, device, batch, allow_code)
        self._for_images: Job | None = None
        self.passes = self._job.passes_once  # all that were spent so far

    def augment(self, seeds: Sequence[int]) -> Iterator[Candidate]:
        """Yields variants and rejects of seeds, as `reds_core.augment` does; of own images, if the spec has them, by number."""
        for at in range(0, len(seeds), self._job.spec.shards.seeds):
            part = seeds[at : at + self._job.spec.shards.seeds]
            (found, passes), self._job = in_memory(self._job, lambda job, part=part: run_seeds(job, part))  # type: ignore[misc]
            yield from self._counted(found, passes)

    def augment_images(self, images: Float[Tensor, "n c h w"], labels: Sequence[int]) -> Iterator[Candidate]:
        """Yields, for each image, itself, its reconstruction, and the variants and rejects of that.

        Args:
            images: in [0, 1], in the generator's shape.
            labels: of each image, counted as the label, the judge and a conditional generator count classes.

        Raises:
            ModelError: the images or labels do not fit, or the generator has no derivatives.
        """
        shape = self._job.networks.image_shape
        if tuple(images.shape[1:]) != shape or len(images) != len(labels):
            made = ", ".join(map(str, shape))
            raise ModelError(
                f"images of {tuple(images.shape)} with {len(labels)} labels do not fit; the generator makes (n, {made})"
            )
        if not bool(((images >= 0) & (images <= 1)).all()):
            raise ModelError("images must be numbers from 0 to 1")
        if self._for_images is None:
            given = self._job.spec.model_copy(update={"label": "given"})
            self._for_images = reconstructing(self._job.with_spec(given))
            self.passes += Passes(self._for_images.passes_once.forward - self._job.passes_once.forward)
        known = len(self._for_images.networks.generator.class_names)
        if known and not all(0 <= label < known for label in labels):
            raise ModelError(f"a label is not one of the generator's {known} classes")
        for at in range(0, len(images), self._job.spec.shards.seeds):
            rows = range(at, min(at + self._job.spec.shards.seeds, len(images)))
            (found, passes), self._for_images = in_memory(
                self._for_images,
                lambda job, rows=rows: _of_images(job, images, labels, rows),  # type: ignore[misc]
            )
            yield from self._counted(found, passes)

    def _counted(self, found: list[Candidate], passes: Passes) -> Iterator[Candidate]:
        self.passes += passes
        shards = self._job.spec.shards
        for c in found:
            yield replace(c, image=file_of(c, shards.image, shards.quality)) if c.accepted else c


@float32_as("ieee")
def _of_images(
    job: Job, images: Float[Tensor, "n c h w"], labels: Sequence[int], rows: Sequence[int]
) -> tuple[list[Candidate], Passes]:
    """Returns the candidates of some of the images, and their passes."""
    names = [f"image {row}" for row in rows]
    own = [int(labels[row]) for row in rows]
    conditions = torch.tensor(own if job.networks.generator.class_names else [0] * len(own), device=job.device)
    work = Work(job, PassCounter())
    stored = photos(job, names, images[list(rows)].to(job.device).float(), own, conditions)
    return run_origins(work, origins_from(work, list(rows), stored))
