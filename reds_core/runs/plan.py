"""Which seeds each shard of a run holds."""

from __future__ import annotations

import re

from reds_core.errors import SpecError
from reds_core.spec.fields import Spec


def plan(spec: Spec) -> list[range]:
    """Returns the seeds of every shard: shard k always holds the same ones, and only the last may be short."""
    first, end, size = spec.seeds.first, spec.seeds.first + spec.seeds.number, spec.shards.seeds
    return [range(at, min(at + size, end)) for at in range(first, end, size)]


def shard_range(text: str | None, count: int) -> range:
    """Returns the shards A <= k < B that "A:B" selects of `count`; either end may be left out, and None selects all.

    Raises:
        SpecError: the text has another form, or selects no shard.
    """
    if text is None:
        return range(count)
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
