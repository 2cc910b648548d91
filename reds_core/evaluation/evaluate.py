"""`reds evaluate`: does a run help? One classifier is trained on few real images, with and without extra ones, in paired repeats.

    for each number of real images a class, and each repeat:
        draw that many real images a class, the same for all arms
        for each arm: train from the same initial weights for the same number of steps; test on real images

Extra images that come from the user's own (a run with `seeds.images`) are used in the repeats that draw those images, and in no
others: they stand for what few images can be made into, not for more of them. Only if none of those images is among the training
images, all are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from reds_core.errors import ModelError, OutputError
from reds_core.evaluation.arms import ARMS, Pool, lacking
from reds_core.evaluation.classic import ALL, classic
from reds_core.evaluation.labelled import (
    Labelled,
    classes_of,
    empty,
    groups_of,
    hashes_as_stored,
    label_names_of,
    listed,
    read_data,
    shape_of,
)
from reds_core.evaluation.leaks import check_apart, warnings_of
from reds_core.evaluation.networks import Build, builder
from reds_core.evaluation.training import BATCH, predicted, scores, trained
from reds_core.jobs.prepare import pick_device
from reds_core.models.config import Access
from reds_core.runs.manifest import read_manifests
from reds_core.runs.run_folder import spec_in
from reds_core.spec.fields import Spec
from reds_core.storage.folder import Folder
from reds_core.storage.places import on_disk

VARIANTS = ("variants", "sampled")  # what there is as much of as there are accepted variants

Row = dict[str, Any]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What is asked.

    Args:
        arms: names in `ARMS`; None: all that the run has.
        per_class: numbers of real training images in each class.
        repeats: draws of real images.
        steps: of the optimiser, in every training.
        model: the classifier (`reds_core.evaluation.networks.builder`).
        group: the test table's column that tells groups.
        classic: kinds of classic augmentation.
    """

    arms: Sequence[str] | None
    per_class: Sequence[int]
    repeats: int
    steps: int
    model: str
    group: str | None
    classic: Sequence[str]


@dataclass(frozen=True)
class Evaluation:
    """An evaluation, ready to begin: data in memory, a run, and what is asked of them."""

    settings: Settings
    arms: Sequence[str]
    classes: Sequence[str]
    spec: Spec
    train: Labelled
    test: Labelled
    pool: Pool
    build: Build
    device: torch.device
    warnings: Sequence[str]
    row_of_origin: dict[str, int]  # the training image that is the user's image of this name

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What two evaluations must share for their rows to stand in one table."""
        s = self.settings
        return {
            "run": [self.pool.manifests[0].digest, *(m.sha256 for m in self.pool.manifests)], "train": self.train.identity,
            "test": self.test.identity, "model": s.model, "steps": s.steps, "group": s.group, "classic": sorted(s.classic),
        }  # fmt: skip

    @cached_property
    def todo(self) -> list[tuple[int, int, str]]:
        """Images a class, repeat and arm of every training, in the order in which partial results are worth most."""
        s = self.settings
        return [(n, repeat, arm) for repeat in range(s.repeats) for n in s.per_class for arm in self.arms]

    def rows(self, finished: Sequence[tuple[int, int, str]], say: Say) -> Iterator[Row]:
        """Yields a row for each training that is not finished yet."""
        test = self.test.to(self.device)
        done = set(finished)
        for n, repeat, arm in self.todo:
            if (n, repeat, arm) not in done:
                yield self._row(n, repeat, arm, test, say)

    def drawn(self, per_class: int, repeat: int) -> list[int]:
        """Returns the rows of the real images of a repeat. Fewer a class are the first of more."""
        draw = np.random.RandomState(repeat)
        orders = [draw.permutation(rows) for rows in self.train.rows_by_class(len(self.classes))]
        return [int(row) for order in orders for row in order[:per_class]]

    def takes_all(self, per_class: int) -> bool:
        """Returns whether so many images of each class are all there are, so that every repeat has the same ones."""
        return all(len(rows) == per_class for rows in self.train.rows_by_class(len(self.classes)))

    def extra(self, arm: str, drawn: Sequence[int]) -> Labelled | None:
        """Returns an arm's extra images in a repeat that draws these real ones; None for an arm without extra images."""
        name = ARMS[arm].extra
        if not name:
            return None
        if name == "sampled" and self.spec.trajectory.directions:
            variants = self.extra("variants", drawn)
            return self.pool.get("sampled").part(range(len(variants or ())))
        pool = self.pool.get(name)
        if not self.row_of_origin:
            return pool
        kept = set(drawn)
        return pool.part([row for row, origin in enumerate(pool.origins) if self.row_of_origin.get(origin) in kept])

    def _row(self, per_class: int, repeat: int, arm: str, test: Labelled, say: Say) -> Row:
        drawn = self.drawn(per_class, repeat)
        extra = self.extra(arm, drawn)
        if extra is not None and not len(extra):
            raise ModelError(
                f"{arm}: the run has no such images of the classes {', '.join(self.classes[:5])}; leave the arm out",
                parameter="arms",
            )
        say(f"{arm}, {per_class} a class, repeat {repeat + 1}")
        real = self.train.part(drawn).to(self.device)
        augment = classic(self.pool.shape, self.settings.classic) if ARMS[arm].classic else None
        made = trained(self.build, real, extra and extra.to(self.device), augment, self.settings.steps, repeat)
        found = scores(predicted(made.network, test), self.test, len(self.classes))
        seen = self.settings.steps * BATCH
        return {
            "arm": arm, "per_class": per_class, "repeat": repeat, "images_real": len(real), "images_extra": len(extra or ()),
            "steps": self.settings.steps, "accuracy": found.accuracy, "macro_f1": found.macro_f1, "worst_group": found.worst_group,
            "seconds": round(made.seconds, 2), "images_per_second": round(seen / max(1e-9, made.seconds)),
        }  # fmt: skip


def evaluation(
    run: Folder, train: str, test: str, settings: Settings, device: str, batch: int | None, allow_code: bool, say: Say
) -> Evaluation:
    """Reads and checks everything that an evaluation needs.

    Args:
        run: a run's folder, finished or not.
        train, test: the user's labelled images: folders, tables or tars.
        settings: what is asked.
        device: that networks run on.
        batch: images per evaluation of the generator; None: by their size.
        allow_code: whether code of the user's that the spec or the model names may run.
        say: is told what is going on.

    Raises:
        OutputError: the folder is no run, or has no finished shard.
        ModelError: data, labels, or networks do not fit together; the message names both sides.
    """
    with on_disk(run, "spec.yaml") as here:
        spec = spec_in(run, here)
    manifests = list(read_manifests(run))
    if not manifests:
        raise OutputError(f"{run}: has no finished shard; run its spec first")
    arms = _arms(settings.arms, spec)
    if spec.trajectory.directions and not any(m.accepted for m in manifests) and any(ARMS[a].extra in VARIANTS for a in arms):
        raise OutputError(f"{run}: the run accepted no variants, so there is nothing to evaluate")
    strange = [kind for kind in settings.classic if kind not in ALL]
    if strange:
        raise ModelError(f"there is no classic augmentation {', '.join(strange)}; there are {', '.join(ALL)}", parameter="classic")
    say("reading the images")
    files = listed(train, "train"), listed(test, "test")
    names = label_names_of(run, manifests)
    classes = classes_of(names, files[0].labels, files[1].labels)
    shape = shape_of(run, manifests)
    resize = spec.seeds.resize
    real = read_data(files[0], classes, shape, resize, [""] * len(files[0].images))
    tested = read_data(files[1], classes, shape, resize, groups_of(test, files[1], settings.group))
    _check_enough(real, classes, settings.per_class)
    access = Access(pick_device(device), allow_code)
    pool = Pool(run, spec, manifests, classes, shape, access, batch, say)
    own = pool.read("source") if spec.seeds.images is not None else empty(shape)
    image = spec.shards.image if len(own) else "png"  # of nobody's images, nothing need be encoded
    stored = [hashes_as_stored(images, image, spec.shards.quality) for images in (real, tested)]
    check_apart((files[0], real), (files[1], tested), own, stored[1])
    rows = dict(zip(stored[0], range(len(real)), strict=True))
    found = {origin: rows[h] for origin, h in zip(own.origins, own.hashes, strict=True) if h in rows}
    warnings = warnings_of(spec)
    if len(own) > len(found):
        which = f"{len(own) - len(found)} of the {len(own)} images that the run started from are not among the training images"
        warnings.append(
            f"{which}; what was made of them is left out."
            if found
            else f"{which}: its arms know more real images than the others, and are used whole in every repeat."
        )
    build = builder(settings.model, shape, len(classes), access)
    return Evaluation(settings, arms, classes, spec, real, tested, pool, build, access.device, warnings, found)


def _arms(asked: Sequence[str] | None, spec: Spec) -> list[str]:
    """Returns the names of the arms to train. Raises ModelError if one is unknown, or the run has no images for it."""
    without = lacking(spec)
    if asked is None:
        return [name for name, arm in ARMS.items() if arm.extra not in without]
    unknown = [name for name in asked if name not in ARMS]
    if unknown or not asked:
        raise ModelError(f"there is no arm {', '.join(unknown) or 'named'}; there are {', '.join(ARMS)}", parameter="arms")
    for name in asked:
        if ARMS[name].extra in without:
            raise ModelError(f"{name}: {without[ARMS[name].extra]}; leave the arm out", parameter="arms")
    return [name for name in ARMS if name in asked]


def _check_enough(real: Labelled, classes: Sequence[str], per_class: Sequence[int]) -> None:
    counts = [len(rows) for rows in real.rows_by_class(len(classes))]
    least = min(range(len(classes)), key=lambda c: counts[c])
    if max(per_class) > counts[least]:
        raise ModelError(
            f"{max(per_class)} real images a class are asked for; {classes[least]} has {counts[least]}", parameter="per_class"
        )
