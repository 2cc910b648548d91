"""What would be written: the samples of the runs, joined, chosen and split; how many of each class; and what is lacking."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from reds_core.errors import ModelError, OutputError, UserError
from reds_core.exports.choose import ranked, round_robin
from reds_core.exports.inputs import Index, Run, indexed
from reds_core.exports.request import Request
from reds_core.exports.small import SmallImages
from reds_core.exports.split import split
from reds_core.runs.manifest import Manifest
from reds_core.storage.disk import scratch
from reds_core.types import Tell


@dataclass(frozen=True)
class Lack:
    """A class of which there are fewer samples than wanted, and what it would take.

    Attributes:
        name: of the label.
        found, wanted: samples.
        each: how many samples of this class a seed has given so far, in the run that gives most of them.
        seeds: how many more of that run's seeds it would take; 0 if no seed has given any.
        run: that run.
    """

    name: str
    found: int
    wanted: int
    each: float
    seeds: int
    run: Run


@dataclass(frozen=True)
class Plan:
    """What would be written.

    Attributes:
        request: what was asked.
        index: where the samples lie.
        rows: the chosen ones, by key, with their `split`.
        names: of the labels, by label; that of -1 is "".
        counts: samples by label: columns `available`, `chosen`, and one for each split.
        lacks: classes that `per_class` cannot fill.
        short: how many groups the labels have that are not in every split.
        twice: how many samples were left out since another of their group has the same image.
    """

    request: Request
    index: Index
    rows: pd.DataFrame
    names: Mapping[int, str]
    counts: pd.DataFrame
    lacks: Sequence[Lack]
    short: Mapping[int, int]
    twice: int


@contextlib.contextmanager
def planned(runs: Sequence[Run], request: Request, tell: Tell) -> Iterator[Plan]:
    """Gives the plan of an export. Its tars can be read in the block.

    Raises:
        ShardDamaged: a shard differs from its manifest.
        OutputError: the runs do not go together. UserError: no sample is of the roles that are wanted.
    """
    _check_images(runs, request)
    with scratch() as room, contextlib.closing(SmallImages(room / "small")) as images:
        is_limited = request.per_class is not None or request.per_seed is not None
        with indexed(runs, images if is_limited else None, tell) as index:
            yield _plan(index, request, images)


def _plan(index: Index, request: Request, images: SmallImages) -> Plan:
    names = _label_names(index)
    rows, twice = _joined(index, request)
    is_limited = request.per_class is not None or request.per_seed is not None
    left = ranked(rows, images, request.per_seed) if is_limited else rows[rows.wanted]
    if left.empty:
        raise UserError(f"the runs hold no sample of the role {' or '.join(request.roles)}", parameter="roles")
    taken = left if request.per_class is None else round_robin(left, request.per_class)
    parts = split(taken, request.splits)
    taken = taken.assign(split=taken.group.map(parts.of))
    lacks = [] if request.per_class is None else _lacks(index.runs, left, request.per_class, names)
    counts = _counts(rows[rows.wanted], taken, request)
    return Plan(request, index, taken, names, counts, lacks, parts.short, twice)


def _check_images(runs: Sequence[Run], request: Request) -> None:
    """Raises OutputError if the tars would hold images of several kinds: loaders ask for files of one name."""
    kinds = sorted({run.spec.shards.image for run in runs})
    if request.format == "webdataset" and len(kinds) > 1:
        raise OutputError(
            f"the runs' images are {' and '.join(kinds)} files, and a loader of tars asks for one kind; export them apart, or as "
            "an image folder",
            parameter="format",
        )


def _label_names(index: Index) -> dict[int, str]:
    """Returns the name of every label. Raises OutputError if two runs number their labels differently."""
    names: dict[int, str] = {}
    homes: dict[int, Run] = {}
    for place, run in enumerate(index.runs):
        found = index.rows[index.rows.run == place].drop_duplicates("label")
        own = _declared(run) | dict(zip(found.label.tolist(), found.label_name.tolist(), strict=True))
        if names and own and (-1 in names) != (-1 in own):
            raise OutputError(f"{run.folder} and {homes[min(names)].folder}: one has labels, the other has none; export them apart")
        labels = {name: label for label, name in names.items()}
        for label, name in own.items():
            other = label if names.get(label, name) != name else labels.get(name, label)
            if names.get(label, name) != name or other != label:
                raise OutputError(
                    f"{run.folder}: label {label} is {name!r}, but label {other} is {names[other]!r} in {homes[other].folder}; the "
                    "runs of a training set must number their labels alike, so export these apart"
                )
        names |= own
        homes |= {label: run for label in own if label not in homes}
    return {label: names[label] for label in sorted(names)}


def _declared(run: Run) -> dict[int, str]:
    """Returns the names of all labels of a run, if its spec says them."""
    names: tuple[str, ...] = ()
    if run.spec.label == "condition":
        with contextlib.suppress(ModelError):  # a run can be exported where its generator's file is not
            names = run.spec.generator.declared_classes()
    else:
        names = getattr(run.spec.attributes.get(run.spec.label), "class_names", tuple)()
    return dict(enumerate(names)) if len(set(names)) == len(names) else {}


def _joined(index: Index, request: Request) -> tuple[pd.DataFrame, int]:
    """Returns the index, with which samples are `wanted`, and how many images were left out because their group has them twice."""
    place = {digest: at for at, digest in enumerate(sorted(index.rows.digest.unique()))}
    rows = index.rows.assign(wanted=index.rows.role.isin(list(request.roles)), place=index.rows.digest.map(place))
    twice = rows.wanted & rows[rows.wanted].duplicated(["group", "sha256"]).reindex(rows.index, fill_value=False)
    return rows[~twice].reset_index(drop=True), int(twice.sum())


def _lacks(runs: Sequence[Run], rows: pd.DataFrame, per_class: int, names: Mapping[int, str]) -> list[Lack]:
    """Returns the classes that have fewer rows than wanted, by label."""
    found = []
    homes = {run.digest: run for run in runs}
    seeds = {digest: sum({m.index: m.seeds for m in _manifests(runs, digest)}.values()) for digest in homes}
    given = rows.groupby(["label", "digest"]).size()
    have = rows.groupby("label").size()
    # A run that was told to make some classes owes nobody the others.
    owed = {label for run in runs if run.spec.seeds.classes is None for label in _declared(run)}
    for label in names:
        count = int(have.get(label, 0))
        if count >= per_class or (not count and label not in owed):
            continue
        each = {digest: given.get((label, digest), 0) / seeds[digest] for digest in homes}
        best = max(each, key=lambda digest: each[digest])
        more = math.ceil((per_class - count) / each[best]) if each[best] else 0
        found.append(Lack(names[label], count, per_class, float(each[best]), more, homes[best]))
    return found


def _manifests(runs: Sequence[Run], digest: str) -> Iterator[Manifest]:
    """Yields those of a run, which may lie in several folders."""
    for run in runs:
        if run.digest == digest:
            yield from run.manifests


def _counts(available: pd.DataFrame, taken: pd.DataFrame, request: Request) -> pd.DataFrame:
    table = pd.DataFrame({"available": available.groupby("label").size(), "chosen": taken.groupby("label").size()})
    for name in request.splits:
        table[name] = taken[taken.split == name].groupby("label").size()
    return table.fillna(0).astype(int)
