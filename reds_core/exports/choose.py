"""Which samples to take where a class or a seed may give only so many: those that look most different.

Within a group (a seed, and what was made of it) the order is farthest-point: from the seed's own image on, always the sample whose
nearest chosen one is farthest away, by small versions of the stored images. Within a class it is round-robin over the seeds: the
first of every seed, then the second of every seed. The seeds of each run come in an order given by a hash of their names, those of
several runs in turn. Nothing depends on the order in which runs are named, and ties go to the first key.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
from jaxtyping import Int32

from reds_core.exports.small import SmallImages


def place_of(name: str, purpose: str) -> str:
    """Returns what names are sorted by to get an order that is fixed, but has nothing to do with the names."""
    return hashlib.sha256(f"{purpose}:{name}".encode()).hexdigest()


def farthest(images: Int32[np.ndarray, "n p"], start: Int32[np.ndarray, " p"] | None, most: int) -> list[int]:
    """Returns up to `most` rows, each the one whose nearest earlier one is farthest; ties go to the first.

    Args:
        images: the rows.
        start: what the first of them is far from; None: the first row itself comes first.
        most: how many.
    """
    order: list[int] = [] if start is not None else [0]
    nearest = _distances(images, images[0] if start is None else start)
    nearest[order] = -1
    while len(order) < min(most, len(images)):
        order.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, _distances(images, images[order[-1]]))
        nearest[order] = -1
    return order


def _distances(images: Int32[np.ndarray, "n p"], one: Int32[np.ndarray, " p"]) -> np.ndarray:
    """Returns squared distances, exact: equal images tie on every machine."""
    found: np.ndarray = np.square(images - one, dtype=np.int64).sum(1)
    return found


def ranked(rows: pd.DataFrame, images: SmallImages, per_seed: int | None) -> pd.DataFrame:
    """Returns the rows that are wanted with their `rank` in their group, and of each group the first `per_seed` (None: all).

    Args:
        rows: the index, by key. `wanted` tells which may be taken; the others only tell where a seed starts. `small` is a row's
            place among the images.
        images: small versions of them.
        per_seed: the most rows of a group.
    """
    ranks = np.full(len(rows), -1)
    for at in rows.groupby("group", sort=False).indices.values():
        _rank(rows, np.sort(at), images, per_seed, ranks)
    return rows.assign(rank=ranks)[ranks >= 0]


def round_robin(rows: pd.DataFrame, per_class: int) -> pd.DataFrame:
    """Returns the first `per_class` rows of every label, the groups in turn, in the order of `rows`.

    Args:
        rows: from `ranked`; `place` is that of a row's run.
        per_class: the most rows of a label.
    """
    return pd.concat([_in_turn(part).head(per_class) for _, part in rows.groupby("label")])[rows.columns].sort_index()


def _rank(rows: pd.DataFrame, at: np.ndarray, images: SmallImages, per_seed: int | None, ranks: np.ndarray) -> None:
    """Sets the ranks of the rows of one group, at these positions, which are taken."""
    wanted, is_seed = rows.wanted.to_numpy()[at], (rows.role == "seed").to_numpy()[at]
    open_ = at[wanted]
    if not len(open_):
        return
    anchor = at[is_seed][:1]
    # A seed's own image that is wanted is the first; one that is not only says where to start.
    if len(anchor) and anchor[0] in open_:
        open_ = np.concatenate([anchor, open_[open_ != anchor[0]]])
        anchor = anchor[:0]
    places = rows.small.to_numpy()
    start = images.rows(places[anchor])[0] if len(anchor) else None
    order = farthest(images.rows(places[open_]), start, len(open_) if per_seed is None else per_seed)
    ranks[open_[order]] = np.arange(len(order))


def _in_turn(part: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of a label in the order in which they are taken."""
    turn = part.sort_values("rank", kind="stable").groupby("group", sort=False).cumcount()
    homes = part.groupby("group", sort=False).place.min().rename_axis("group").reset_index()
    homes["hash"] = [place_of(group, "choose") for group in homes.group]
    homes = homes.sort_values(["place", "hash"])
    homes["position"] = homes.groupby("place").cumcount()
    homes = homes.sort_values(["position", "place"])
    order = dict(zip(homes.group, range(len(homes)), strict=True))
    return part.assign(turn=turn, order=part.group.map(order)).sort_values(["turn", "order"])
