"""Groups -> splits: no group is cut, and every class is shared out as it was asked for, as near as whole groups allow.

The groups of a class stand in an order given by a hash of their names, and each split takes the next ones, until it has its share;
the smallest split first, and the largest the rest. So a night that adds groups moves only those near a border. There, one group
may be added, or exchanged for a later one, if that comes nearer to the share of this class and of all classes so far. A split gets
at least one group of every class of which half a group or more is due to it, and the largest split one of every class: what is
not trained on need not be tested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reds_core.exports.choose import place_of


@dataclass(frozen=True)
class Split:
    """`of` names the split of every group; `short` counts the groups of the labels that are not in every split."""

    of: dict[str, str]
    short: dict[int, int]


def split(rows: pd.DataFrame, shares: Mapping[str, float]) -> Split:
    """Shares the groups of the chosen rows out, for each label; a group of several labels counts as its most frequent one's.

    Args:
        rows: with `group` and `label`.
        shares: of the samples, by split; they sum to 1.
    """
    counts = rows.groupby(["group", "label"]).size().reset_index(name="count")
    counts = counts.sort_values(["group", "count", "label"], ascending=[True, False, True])
    labels = counts.drop_duplicates("group").set_index("group").label
    sizes = rows.groupby("group").size()
    owed = dict.fromkeys(shares, 0.0)  # how many samples more than asked for each split has of all labels so far
    order = sorted(reversed([*shares]), key=lambda name: shares[name])
    found: dict[str, str] = {}
    short: dict[int, int] = {}
    for label in sorted(set(labels)):
        groups = sorted(labels.index[labels == label], key=lambda name: place_of(name, "split"))
        count, total = len(groups), int(sizes[groups].sum())
        least = _least(count, shares)
        for at, name in enumerate(order, 1):
            left, target = sizes[groups].tolist(), shares[name] * total
            most = len(left) - sum(least[later] for later in order[at:])
            taken = _taken(left, target, owed[name], least[name], most) if at < len(order) else range(len(left))
            owed[name] += sum(left[i] for i in taken) - target
            found |= {groups[i]: name for i in taken}
            groups = [group for i, group in enumerate(groups) if i not in set(taken)]
            if not taken:
                short[int(label)] = count
    return Split(found, short)


def _least(groups: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Returns how many of a class's groups each split has at least: 0 or 1, the largest first as far as they go."""
    least = dict.fromkeys(shares, 0)
    for place, name in enumerate(sorted(shares, key=lambda name: -shares[name])):  # of equal ones, the first named
        if place < groups and (place == 0 or shares[name] * groups > 0.5 - 1e-9):
            least[name] = 1
    return least


def _taken(sizes: Sequence[int], target: float, owed: float, least: int, most: int) -> Sequence[int]:
    """Returns which groups a split takes: the first ones, and one more or another one if their sum then comes nearer.

    Args:
        sizes: of the groups that are left, in samples, in their order.
        target: how many samples the split should have of them.
        owed: how many it has too many of other labels.
        least, most: how many groups it may take.
    """
    ends = np.cumsum(sizes)
    count = min(max(int(np.searchsorted(ends, target + 1e-9, side="right")), least), most)
    start = int(ends[count - 1]) if count else 0
    # Of groups of one size, that nearest to the border: it would be the first to move anyway.
    inside = {size: i for i, size in enumerate(sizes[:count])}
    outside = {size: i for i, size in reversed([*enumerate(sizes)][count:])}
    changes: list[tuple[int, int, int]] = [(0, -1, -1)]  # samples more, the group that goes, the one that comes
    changes += [(size, -1, i) for size, i in outside.items() if count < most]
    changes += [(size - less, gone, i) for size, i in outside.items() for less, gone in inside.items()]
    misses = [start + more - target for more, _, _ in changes]
    # Of its own label, a split never misses more than a group.
    bound = max(max(sizes, default=0), min(abs(miss) for miss in misses) + 1e-9)
    allowed = [i for i, miss in enumerate(misses) if abs(miss) < bound]
    _, gone, new = changes[min(allowed, key=lambda i: (round(abs(owed + misses[i]) + abs(misses[i]), 6), i))]
    return [i for i in range(count) if i != gone] + ([new] if new >= 0 else [])
