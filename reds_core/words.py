"""Counts and lists of names, in words."""

from __future__ import annotations

import re
from collections.abc import Sequence


def counted(number: int, one: str, many: str = "") -> str:
    """Returns "1 shard" or "2,000 shards"; `many` is the plural if it is not `one` and an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def some(names: Sequence[str], most: int = 10) -> str:
    """Returns names with commas between them, of many the first and how many more there are: "a, b and 3 more"."""
    shown = ", ".join(name or '""' for name in names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown or "none"


def in_order(name: str) -> tuple[str | int, ...]:
    """Returns a key that sorts names as people do: "c2" before "c10"."""
    parts = re.split(r"([0-9]+)", name)
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts))
