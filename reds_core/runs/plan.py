"""TODO."""

from __future__ import annotations

import re

from reds_core.errors import SpecError
from reds_core.spec.fields import Spec


def plan(spec: Spec) -> list[range]:
    """The seeds of every shard of a run: shard k always holds the same ones; the last may be short."""
    first, end, size = spec.seeds.first, spec.seeds.first + spec.seeds.count, spec.shards.seeds
    return [range(at, min(at + size, end)) for at in range(first, end, size)]


def shard_range(text: str | None, count: int) -> range:
    """ "A:B" -> the shards A <= k < B of `count`; either end may be left out."""
    if text is None:
        return range(count)
    match = re.fullmatch(r"(\d*):(\d*)", text.strip())
    if not match:
        raise SpecError("--shards", [f"{text!r} is not of the form A:B"])
    first, end = int(match[1] or 0), int(match[2] or count)
    if first >= end or first >= count:
        raise SpecError("--shards", [f"{text!r} names no shard; the spec has {count}: 0:{count}"])
    return range(first, min(end, count))
