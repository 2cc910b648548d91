"""Which seeds each shard of a run holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from reds_core.errors import SpecError
from reds_core.spec.fields import Spec

MOST_SHARDS = 1_000_000  # that a run makes; each one is a task, and four files in one folder


@dataclass(frozen=True)
class Plan(Sequence[range]):
    """The seeds of every shard, computed when they are asked for: a spec may ask for two billion seeds.

    Attributes:
        seeds: of the run.
        size: seeds of a shard; only the last may have fewer.
    """

    seeds: range
    size: int

    def __len__(self) -> int:
        return -(-len(self.seeds) // self.size)

    @overload
    def __getitem__(self, index: int) -> range: ...
    @overload
    def __getitem__(self, index: slice) -> list[range]: ...
    def __getitem__(self, index: int | slice) -> range | list[range]:
        if isinstance(index, slice):
            return [self[k] for k in range(len(self))[index]]
        at = range(len(self))[index] * self.size
        return self.seeds[at : at + self.size]


def plan(spec: Spec) -> Plan:
    """Returns the seeds of every shard: shard k always holds the same ones, and only the last may be short."""
    return Plan(range(spec.seeds.first, spec.seeds.first + spec.seeds.number), spec.shards.seeds)


def shard_range(text: str | None, count: int) -> range:
    """Returns the shards A <= k < B that "A:B" selects of `count`; either end may be left out, and None selects all.

    Raises:
        SpecError: the text has another form, or selects no shard, or more than a run can make.
    """
    chosen = range(count) if text is None else _chosen(text, count)
    if len(chosen) > MOST_SHARDS:
        cure = "lower seeds.count, raise shards.seeds, or make a part of them, such as 0:1000"
        raise SpecError("shards", [f"a run makes at most {MOST_SHARDS:,} shards, not {len(chosen):,}; {cure}"], parameter="shards")
    return chosen


def _chosen(text: str, count: int) -> range:
    match = re.fullmatch(r"(\d*):(\d*)", text.strip())
    if not match:
        raise SpecError("shards", [f"{text!r} is not of the form A:B"], parameter="shards")
    first, end = int(match[1] or 0), int(match[2] or count)
    if first >= end or first >= count:
        raise SpecError("shards", [f"{text!r} selects no shard; the spec has {count}: 0:{count}"], parameter="shards")
    return range(first, min(end, count))


def counting(spec: Spec, count: int) -> Spec:
    """Returns the spec with so many seeds."""
    return spec.model_copy(update={"seeds": spec.seeds.model_copy(update={"count": count})})
