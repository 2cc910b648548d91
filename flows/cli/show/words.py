"""Numbers of things, in words."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """Returns "1 shard" or "2 shards"; `many` is the plural if it is not `one` and an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"
