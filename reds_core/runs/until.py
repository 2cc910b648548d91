"""How many seeds a run makes until every class has enough accepted samples.

Seeds are made in steps of whole shards. The first step is what would do if all were accepted; each later one is what the class that
is furthest behind would take at its share so far, and at most GROWTH times what there is. A step follows from the shards before it
alone: a run that was killed, or has other workers, takes the same steps and makes the same shards.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from reds_core.errors import UserError
from reds_core.features import Classifier
from reds_core.generators.latent import FIRST_REFERENCE_SEED
from reds_core.jobs.seeds import classes_of
from reds_core.runs.manifest import names_of
from reds_core.runs.totals import in_words
from reds_core.sources import sources_of
from reds_core.sources.labels import plain
from reds_core.spec.fields import Spec
from reds_core.storage.folder import Folder

GROWTH = 3  # a step, in seeds that there are: few seeds say little about a rare class
PATIENCE = 20  # seeds for each class before one that has given nothing is given up
LEAST_PATIENCE, MOST_UNSEEN = 100, 1000  # seeds: at least; and until a class that no seed has shown is taken for one of no seed
MOST_TIMES = 20  # the limit if none is given, in seeds that would do if all classes were equally frequent
MOST_NAMED = 10  # classes in a message


@dataclass(frozen=True)
class Until:
    """What was asked for: accepted samples of each class, and the most seeds, None for a limit by what was accepted."""

    per_class: int
    seeds: int | None = None


def until_of(text: str) -> Until:
    """Returns what "per_class=500,seeds=5000" asks for; `seeds` may be left out.

    Raises:
        UserError: the text has another form.
    """
    found: dict[str, int] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(per_class|seeds)\s*=\s*([0-9]*[1-9][0-9]*)\s*", part)
        if not match or match[1] in found:
            raise _refused(f"{text!r} is not of the form per_class=N or per_class=N,seeds=M, with numbers from 1 on")
        found[match[1]] = int(match[2])
    if "per_class" not in found:
        raise _refused(f"{text!r} does not say how many samples of each class are wanted: per_class=N")
    return Until(**found)


def _refused(what: str) -> UserError:
    return UserError(what, parameter="until")


@dataclass
class Tally:
    """What some shards hold: their seeds; and by class what was accepted, which classes were seen, and why others were rejected."""

    seeds: int = 0
    accepted: Counter[str] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)
    rejected: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, folder: Folder, spec: Spec, shards: Sequence[int]) -> None:
        """Adds finished shards of a run's folder, by their tables."""
        for index in shards:
            with folder.fetched(names_of(index)["parquet"]) as path:
                rows = pd.read_parquet(path, columns=["role", "accepted", "reason", "label_name"])
            own, rows = rows[rows.role == "seed"], rows[rows.role == spec.candidate_role]
            self.seeds += len(own)
            self.seen |= set(own.label_name)
            self.accepted.update(rows.label_name[rows.accepted].tolist())
            for name, reasons in rows[~rows.accepted].groupby("label_name").reason:
                self.rejected[str(name)].update(reasons.tolist())


@dataclass(frozen=True)
class Quota:
    """What it takes to stop.

    Attributes:
        until: what was asked for.
        spec: of the run.
        declared: the classes that are to be filled, as far as the spec says; none if it does not.
        certain: whether all of those are expected; else those that no seed shows in MOST_UNSEEN seeds are not.
        most: the most samples that a seed can give.
        images: how many images there are, if the run starts from the user's own.
    """

    until: Until
    spec: Spec
    declared: tuple[str, ...]
    certain: bool
    most: int
    images: int | None

    @property
    def first(self) -> int:
        """The seeds of the first step."""
        each = math.ceil(self.until.per_class / self.most)
        return self._whole(each * (len(self.declared) if self.certain else 1), self._limit(Tally()))

    def counts(self, t: Tally) -> dict[str, int]:
        """Returns how much was accepted of every class that is to be filled."""
        if self.certain or (self.declared and t.seeds < self._patience):
            spelt = {plain(name): name for name in t.seen} if self.images is not None else {}
            # The label of own images may be written otherwise than the classes that their samples are labelled with.
            return {name: t.accepted[name] for name in (spelt.get(plain(name), name) for name in self.declared)}
        return {name: t.accepted[name] for name in (self.declared or sorted(t.seen)) if name in t.seen}

    def short(self, t: Tally) -> dict[str, int]:
        """Returns the same of those that have not enough."""
        return {name: count for name, count in self.counts(t).items() if count < self.until.per_class}

    def next(self, t: Tally) -> int:
        """Returns how many seeds there should be after another step; as many as there are if no step should follow."""
        waited_for = [count for count in self.short(t).values() if count or not self._gives_up(t)]
        if not waited_for:
            return t.seeds
        needed = max(math.ceil((self.until.per_class - n) * t.seeds / n) if n else t.seeds for n in waited_for)
        return max(t.seeds, self._whole(t.seeds + min(needed, GROWTH * t.seeds), self._limit(t)))

    def failure(self, t: Tally) -> str:
        """Returns which classes are short and why, and what to do; "" if all are filled."""
        short, counts = self.short(t), self.counts(t)
        if not short:
            return ""
        named = sorted(short, key=lambda name: short[name])
        which = "; ".join(f"{name or 'no label'} {short[name]:,}{_why(t, name)}" for name in named[:MOST_NAMED])
        rest = f"; and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
        made = f"{t.seeds:,} {'images' if self.images is not None else 'seeds'}"
        return (
            f"{len(short)} of {len(counts)} classes have fewer than {self.until.per_class:,} after {made}: {which}{rest}. "
            f"{self._cure(t, short)}"
        )

    def _cure(self, t: Tally, short: dict[str, int]) -> str:
        if self.images is not None and t.seeds >= self.images:
            return "There are no more images: give more of these classes, or walk further from each"
        likely = [t.seeds * self.until.per_class / n for n in short.values() if n]
        if self.until.seeds is not None:
            return f"That was the limit, seeds={self.until.seeds}" + (
                f"; about {math.ceil(max(likely)):,} would do, at the shares so far" if len(likely) == len(short) else ""
            )
        longer = f"per_class={self.until.per_class},seeds=M tries on, up to M seeds"
        if 0 in short.values():
            return f"A class that has given nothing in {t.seeds:,} seeds is not waited for; {longer}"
        return f"That is {MOST_TIMES} times what equally frequent classes would take; {longer}"

    @property
    def _patience(self) -> int:
        seeds = max(LEAST_PATIENCE, PATIENCE * len(self.declared))
        return seeds if self.certain else min(seeds, MOST_UNSEEN)

    def _gives_up(self, t: Tally) -> bool:
        """Returns whether a class that has given nothing by now is not waited for."""
        return self.until.seeds is None and self.images is None and t.seeds >= self._patience

    def _limit(self, t: Tally) -> int:
        """Returns the most seeds that there may be, by what was accepted of those so far."""
        most = FIRST_REFERENCE_SEED - self.spec.seeds.first
        if self.images is not None:
            most = self.images
        if self.until.seeds is not None or self.images is not None:
            return min(most, self.until.seeds or most)
        accepted = sum(self.counts(t).values())
        if not accepted:
            return most
        equal = self.until.per_class * len(self.counts(t)) * t.seeds / accepted
        return min(most, max(self._patience, self._whole(math.ceil(MOST_TIMES * equal), most)))

    def _whole(self, seeds: int, limit: int) -> int:
        """Returns at least so many seeds, in whole shards, unless the limit is below that."""
        size = self.spec.shards.seeds
        return min(max(1, math.ceil(seeds / size)) * size, limit)


def quota_of(spec: Spec, until: Until) -> Quota:
    """Returns what it takes to stop a run. Raises ModelError if the user's images or the generator's file cannot be read."""
    most = min(spec.most_variants, spec.keep or spec.most_variants) if spec.walks else 1
    images = None
    label = spec.attributes.get(spec.label)
    names = label.class_names() if isinstance(label, Classifier) else ()
    if spec.seeds.images is not None:
        sources = sources_of(spec.seeds.images, spec.seeds.classes)
        images = len(sources.images) - spec.seeds.first
        own = sources.images[spec.seeds.first :]
        classes = tuple(sorted({s.label for s in own})) if spec.label == "given" else names
        certain = spec.label == "given"
    else:
        made = spec.generator.declared_classes()
        chosen = tuple(made[c] for c in dict.fromkeys(classes_of(spec.seeds, made)))
        certain = bool(chosen) and (spec.label == "condition" or set(chosen) <= set(names))
        classes = chosen if certain else names
    if spec.label == "none":
        classes, certain = ("",), True
    return Quota(until, spec, classes, certain, most, images)


def _why(t: Tally, name: str) -> str:
    """Returns why candidates of a class were rejected, the most frequent reasons."""
    reasons = t.rejected.get(name)
    return f" (rejected: {in_words(dict(reasons.most_common(2)))})" if reasons else "" if name in t.seen else " (no seed has it)"
