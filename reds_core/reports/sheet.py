"""The contact sheet: a card for each seed, with a row for each trajectory and a cell for each waypoint. A smaller one is a PNG.

Of seeds alone it is a grid.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from reds_core.reports.summary import Summary
from reds_core.runs.manifest import read_manifests
from reds_core.runs.samples import MEDIA_TYPES, intact_tar, read_samples
from reds_core.spec.fields import Spec

MOST_SEEDS, MOST_ALONE = 24, 96
LARGEST = 192  # pixels, the longer side of an image in a report
SMALL = 128  # pixels; a narrower image is enlarged without smoothing
MINUS = "\N{MINUS SIGN}"
SHORT = {"not_finite": "not finite", "seed_label": "seed's label", "step_underflow": "no step"}


@dataclass(frozen=True)
class SeedBlock:
    """What a run's folder has about a seed."""

    own: pd.Series  # the seed's row of the table
    source: pd.Series | None  # that of the user's own image, of which the seed is a reconstruction
    rows: pd.DataFrame  # its candidates' rows
    files: dict[str, tuple[str, bytes]]  # its samples' images, as extension and content, by key


def blocks(s: Summary, most: int) -> Iterator[SeedBlock]:
    """Yields at most `most` seeds, spread evenly over the run's finished shards, with one shard in memory at a time."""
    finished = list(read_manifests(s.folder))
    total = sum(m.seeds for m in finished)
    chosen = {int((i + 0.5) * total / min(most, total)) for i in range(min(most, total))} if total else set()
    passed = 0
    for manifest in finished:
        mine = [i - passed for i in sorted(chosen) if passed <= i < passed + manifest.seeds]
        passed += manifest.seeds
        if not mine:
            continue
        table = pd.read_parquet(s.folder.path / f"{manifest.stem}.parquet")
        groups = {f"s{manifest.first_seed + i:08d}" for i in mine}
        files: dict[str, dict[str, tuple[str, bytes]]] = {g: {} for g in groups}
        with intact_tar(s.home, manifest) as tar:
            for key, members in read_samples(tar):
                group = key.partition("-")[0]
                if group in groups:
                    image = next(e for e in members if e in MEDIA_TYPES)
                    files[group][key] = _shown(image, members[image])
        for group in sorted(groups):
            rows = table[table.key.str.startswith(group)]
            sources = rows[rows.role == "source"]
            source = sources.iloc[0] if len(sources) else None
            yield SeedBlock(rows[rows.role == "seed"].iloc[0], source, rows[rows.role == "variant"], files[group])


def _shown(extension: str, content: bytes) -> tuple[str, bytes]:
    """Returns an image as a report shows it: as it is, or smaller if it is large, since a report holds hundreds."""
    image = Image.open(io.BytesIO(content))
    if max(image.size) <= LARGEST:
        return extension, content
    image.thumbnail((LARGEST, LARGEST))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return "jpg", file.getvalue()


@dataclass(frozen=True)
class Cell:
    """A candidate on the sheet."""

    title: str
    reason: str  # in a word or two; "" if it was accepted
    data_url: str  # its image as a data URL; "" if it was rejected


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


def most_seeds(spec: Spec) -> int:
    """Returns how many seeds a contact sheet shows at most."""
    return MOST_SEEDS if spec.walks else MOST_ALONE


def contact_sheet(s: Summary) -> ContactSheet:
    """Returns the contact sheet of a run."""
    cards, width = [], 0
    for block in blocks(s, most_seeds(s.spec)):
        if block.files and not width:
            width = Image.open(io.BytesIO(next(iter(block.files.values()))[1])).width
        cards.append(_card(block, s.spec.decisions))
    return ContactSheet(cards, s.spec.trajectory.waypoints, width < SMALL, s.spec.walks)


def _card(block: SeedBlock, decisions: Collection[str]) -> SeedCard:
    own, rows = block.own, []
    if own.accepted:
        for (direction, sign), candidates in block.rows.groupby(["direction", "sign"], sort=False):
            name = f"d{direction} {'+' if int(str(sign)) > 0 else MINUS}"
            rows.append(Row(name, [_cell(block, row, decisions) for row in candidates.to_dict("records")]))
    title, source, name = f"seed {own.seed}", None, f"seed {own.seed}"
    if block.source is not None:
        name = str(block.source.source)
        title = f"reconstruction, {own.fit:.3f} spreads from the image"
        photo = _data_url(block, block.source.key) if block.source.accepted else ""
        source = Cell(f"the image {name}", short(own.reason, decisions), photo)
    cell = Cell(title, short(own.reason, decisions), _data_url(block, own.key) if own.accepted else "")
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
    return Cell(title, reason, _data_url(block, row["key"]) if row["accepted"] else "")


def _data_url(block: SeedBlock, key: str) -> str:
    extension, content = block.files[key]
    return f"data:{MEDIA_TYPES[extension]};base64,{base64.b64encode(content).decode()}"


def short(reason: str, decisions: Collection[str]) -> str:
    """Returns a reason in a word or two, to fit a cell; `decisions` are the held attributes of which only the decision is held."""
    kind, _, name = reason.partition(":")
    if name:
        return f"{name} {'same' if kind == 'varied' else 'doubtful' if name in decisions else 'moved'}"
    return SHORT.get(reason, reason)


def png(s: Summary, seeds: int = 8, cells: int = 8) -> bytes:
    """Returns one picture: a row for each seed, its own image first, then accepted variants spread over its trajectories.

    The user's own images come before their reconstructions. Seeds alone fill a grid of as many rows and cells.
    """
    if not s.spec.walks:
        return _grid(s, seeds, cells)
    rows = _fullest(s, seeds, cells)
    sizes = [Image.open(io.BytesIO(f[1])).size for b in rows for f in list(b.files.values())[:1]]
    side = max((max(s) for s in sizes), default=32)
    scale = max(1, 64 // side)
    cell, gap, label, head = side * scale, 6, 92, 22
    own = 2 if any(b.source is not None for b in rows) else 1  # images before the variants
    picture = Image.new("RGB", (label + (cells + own) * (cell + gap) + 14, head + len(rows) * (cell + gap) + gap), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    titles = ["image", "rebuilt"] if own == 2 else ["seed"]
    for i, title in enumerate([*titles, "verified variants"]):
        draw.text((label + i * (cell + gap) + (8 if i == own else 0), 5), title, fill="#5b6675", font=font)
    for r, block in enumerate(rows):
        y = head + r * (cell + gap)
        draw.text((6, y + cell // 2 - 7), str(block.own.label_name or block.own.key)[:14], fill="#1c2430", font=font)
        first = [block.own.key] if block.source is None else [block.source.key, block.own.key]
        for i, key in enumerate([*first, *_farthest_first(block, cells)]):
            image = Image.open(io.BytesIO(block.files[key][1])).convert("RGB")
            image = image.resize((cell, cell), Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
            picture.paste(image, (label + i * (cell + gap) + (8 if i >= own else 0), y))
    return _as_png(picture)


def _as_png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def _grid(s: Summary, rows: int, cells: int) -> bytes:
    """Returns one picture of accepted seeds, spread over the run, each above its label; own images stand beside theirs."""
    own = 2 if s.spec.seeds.images else 1
    shown = [b for b in blocks(s, rows * cells // own) if b.own.accepted]
    images = [(b, [Image.open(io.BytesIO(b.files[key][1])).convert("RGB") for key in sorted(b.files, reverse=True)]) for b in shown]
    side = max((max(i.size) for _, found in images for i in found), default=32)
    scale = max(1, 64 // side)
    cell, gap, line = side * scale, 6, 16
    across = min(cells // own, max(1, len(shown)))
    width, height = across * (own * cell + gap) + gap, -(-len(shown) // across) * (cell + line + gap) + gap
    picture = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    for at, (block, found) in enumerate(images):
        x, y = gap + at % across * (own * cell + gap), gap + at // across * (cell + line + gap)
        for i, image in enumerate(found):
            fitted = image.resize((cell, cell), Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
            picture.paste(fitted, (x + i * cell, y))
        draw.text((x, y + cell + 1), str(block.own.label_name or block.own.key)[: 2 * own * cell // 11], fill="#1c2430", font=font)
    return _as_png(picture)


def _fullest(s: Summary, seeds: int, cells: int) -> list[SeedBlock]:
    """Returns seeds with enough accepted variants to fill a row; any others only if none has."""
    full: list[SeedBlock] = []
    others: list[SeedBlock] = []
    for block in (b for b in blocks(s, 4 * seeds) if b.own.accepted):
        (full if len(block.files) > cells else others).append(block)
        if len(full) == seeds:
            break
    return full or others[:seeds]


def _farthest_first(block: SeedBlock, count: int) -> list[str]:
    """Returns the keys of `count` accepted variants: the farthest of each trajectory first, then the second farthest, and so on."""
    accepted = block.rows[block.rows.accepted].copy()
    accepted["turn"] = accepted.sort_values("waypoint", ascending=False).groupby(["direction", "sign"]).cumcount()
    chosen = accepted.sort_values(["turn", "direction", "sign"], ascending=[True, True, False]).key.head(count)
    return [str(k) for k in chosen]
