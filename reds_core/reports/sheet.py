"""The contact sheet: a card for each seed, with a row for each trajectory and a cell for each waypoint; of seeds alone, a grid.

`templates/sheet.html.j2` draws it, and `templates/sheet.js` enlarges a cell beside its seed. Rejects are shown too, marked.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from reds_core.jobs.thumbnails import most_seeds
from reds_core.reports.blocks import SeedBlock, blocks
from reds_core.reports.summary import Summary

SMALL = 128  # pixels; a narrower image is enlarged without smoothing
MINUS = "\N{MINUS SIGN}"
SHORT = {"not_finite": "not finite", "seed_label": "seed's label", "step_underflow": "no step"}


@dataclass(frozen=True)
class Cell:
    """A candidate on the sheet."""

    title: str
    reason: str  # in a word or two; "" if it was accepted
    data_url: str  # its thumbnail as a data URL; "" if there is none


@dataclass(frozen=True)
class Row:
    """A trajectory on the sheet."""

    name: str
    cells: list[Cell]


@dataclass(frozen=True)
class SeedCard:
    """A seed on the sheet."""

    seed: int
    label: str
    own: Cell
    source: Cell | None  # the user's own image
    name: str  # of the seed, or of the user's image
    accepted: int
    tried: int
    rows: list[Row]
    dropped: bool  # rejected itself, with all of its candidates: it has no rows


@dataclass(frozen=True)
class ContactSheet:
    """What `templates/sheet.html.j2` draws."""

    seeds: list[SeedCard]
    waypoints: int
    small: bool  # whether images are enlarged without smoothing
    walks: bool  # whether seeds have trajectories at all
    sources: bool  # whether each begins with the user's own image and its reconstruction


def contact_sheet(s: Summary) -> ContactSheet:
    """Returns the contact sheet of a run."""
    cards, width = [], 0
    for block in blocks(s, most_seeds(s.spec)):
        if block.files and not width:
            width = Image.open(io.BytesIO(next(iter(block.files.values())))).width
        cards.append(_card(block, s.spec.decisions))
    sources = s.spec.seeds.images is not None and not s.spec.seeds.fit.residual
    return ContactSheet(cards, s.spec.trajectory.waypoints, width < SMALL, s.spec.walks, sources)


def _card(block: SeedBlock, decisions: Collection[str]) -> SeedCard:
    own, rows = block.own, []
    if own.accepted:
        for (direction, sign), candidates in block.rows.groupby(["direction", "sign"], sort=False):
            name = f"d{direction} {'+' if int(str(sign)) > 0 else MINUS}"
            rows.append(Row(name, [_cell(block, row, decisions) for row in candidates.to_dict("records")]))
    name = str(own.get("source", "")) or f"seed {own.seed}"
    title, source = name, None
    if block.source is not None:
        title = f"reconstruction, {own.fit:.3f} spreads from the image"
        source = Cell(f"the image {name}", short(block.source.reason, decisions), _data_url(block, block.source.key))
    reason = short(own.reason, decisions)
    cell = Cell(f"{title}: {reason}" if reason else title, reason, _data_url(block, own.key))
    accepted = int(block.rows.accepted.sum())
    return SeedCard(own.seed, own.label_name, cell, source, name, accepted, len(block.rows), rows, dropped=not own.accepted)


def _cell(block: SeedBlock, row: Mapping[Hashable, Any], decisions: Collection[str]) -> Cell:
    reason, figures = short(row["reason"], decisions), ""
    for column, value in row.items():
        what, _, name = str(column).partition("_")
        if what not in ("drift", "effect") or math.isnan(value):
            continue
        if what == "drift" and name in decisions:
            figures += f", {name} lost {value:.3f} in probability (at most {row[f'tolerance_{name}']:.3f})"
        else:
            figures += f", {what} {name} {value:.3f}"
    title = f"waypoint {row['waypoint']}: {reason or 'accepted'}{figures}"
    return Cell(title, reason, _data_url(block, row["key"]))


def _data_url(block: SeedBlock, key: str) -> str:
    content = block.files.get(key)
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}" if content else ""


def short(reason: str, decisions: Collection[str]) -> str:
    """Returns a reason in a word or two, to fit a cell; `decisions` are the held attributes of which only the decision is held."""
    kind, _, name = reason.partition(":")
    if name:
        return f"{name} {'same' if kind == 'varied' else 'doubtful' if name in decisions else 'moved'}"
    return SHORT.get(reason, reason)
