"""The contact sheet: a block for a seed, a row for a trajectory, a cell for a waypoint; as HTML, and as one PNG."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from reds_core.reports.summary import Summary
from reds_core.runs.manifest import Manifest, damaged, read_manifests
from reds_core.runs.verify import samples
from reds_core.storage.folder import hash_of

MOST_SEEDS = 24
LARGEST = 192  # pixels, of an image in a report
MIME = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
SHORT = {"not_finite": "not finite", "seed_label": "seed's label", "step_underflow": "no step"}


@dataclass(frozen=True)
class SeedBlock:
    """A seed's row of the table, its candidates' rows, and the images of its samples by key: (extension, bytes)."""

    own: pd.Series
    rows: pd.DataFrame
    files: dict[str, tuple[str, bytes]]


def blocks(s: Summary, most: int) -> Iterator[SeedBlock]:
    """At most `most` seeds, spread evenly over the run's finished shards; one shard is in memory at a time."""
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
        with _whole_tar(s, manifest) as tar:
            for key, members in samples(tar):
                group = key.partition("-")[0]
                if group in groups:
                    image = next(e for e in members if e in MIME)
                    files[group][key] = _shown(image, members[image])
        for group in sorted(groups):
            rows = table[table.key.str.startswith(group)]
            yield SeedBlock(rows[rows.role == "seed"].iloc[0], rows[rows.role == "variant"], files[group])


def _shown(extension: str, content: bytes) -> tuple[str, bytes]:
    """An image as people are shown it: itself, or a smaller one, for a report holds hundreds."""
    image = Image.open(io.BytesIO(content))
    if max(image.size) <= LARGEST:
        return extension, content
    image.thumbnail((LARGEST, LARGEST))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return "jpg", file.getvalue()


@contextlib.contextmanager
def _whole_tar(s: Summary, manifest: Manifest) -> Iterator[Path]:
    """A shard's tar. Raises ShardDamaged if it is not that of its manifest."""
    with contextlib.ExitStack() as stack:
        try:
            tar = stack.enter_context(s.origin.fetched(f"{manifest.stem}.tar"))
            whole = hash_of(tar) == manifest.sha256
        except FileNotFoundError:
            whole = False
        if not whole:
            raise damaged(s.origin, manifest.index)
        yield tar


def html(s: Summary) -> str:
    """The contact sheet of at most 24 seeds."""
    parts = []
    width = 0
    for block in blocks(s, MOST_SEEDS):
        if block.files and not width:
            width = Image.open(io.BytesIO(next(iter(block.files.values()))[1])).width
        parts.append(_block(block))
    return f'<div class="seeds{" small" if width < 128 else ""}">{"".join(parts)}</div>' if parts else "<p>No seeds yet.</p>"


def _block(block: SeedBlock) -> str:
    own = block.own
    accepted = int(block.rows.accepted.sum())
    picture = _picture(block, own.key, f"seed {own.seed}") if own.accepted else f"<i>{escape(short(own.reason))}</i>"
    label = escape(own.label_name or "no label")
    head = (
        f"<header>{picture}<div><b>{label}</b><span>seed {own.seed}: {accepted} of {len(block.rows)} accepted</span></div></header>"
    )
    rows = []
    for (direction, sign), candidates in block.rows.groupby(["direction", "sign"], sort=False):
        plus = "+" if int(str(sign)) > 0 else "&minus;"
        cells = []
        for c in candidates.itertuples():
            title = f"waypoint {c.waypoint}: " + (short(str(c.reason)) or "accepted") + _figures(c)
            cells.append(
                _picture(block, str(c.key), title)
                if c.accepted
                else f'<i title="{escape(title)}">{escape(short(str(c.reason)))}</i>'
            )
        rows.append(f'<div class="row"><span>d{direction} {plus}</span>{"".join(cells)}</div>')
    return f'<section class="seed">{head}{"".join(rows) if own.accepted else ""}</section>'


def _picture(block: SeedBlock, key: str, title: str) -> str:
    extension, content = block.files[key]
    data = base64.b64encode(content).decode()
    return f'<img loading="lazy" src="data:{MIME[extension]};base64,{data}" alt="{escape(title)}" title="{escape(title)}">'


def _figures(row: object) -> str:
    values = {k: v for k, v in row._asdict().items() if k.startswith(("drift_", "effect_")) and v == v}  # type: ignore[attr-defined]
    return "".join(f", {k.replace('_', ' ', 1)} {v:.3f}" for k, v in values.items())


def short(reason: str) -> str:
    """A reason in a word or two, to fit a cell."""
    kind, _, name = reason.partition(":")
    if name:
        return f"{name} {'moved' if kind == 'held' else 'same'}"
    return SHORT.get(reason, reason)


def png(s: Summary, seeds: int = 8, cells: int = 8) -> bytes:
    """One picture: a row for a seed, its own image first, then accepted variants that are spread over its trajectories."""
    full: list[SeedBlock] = []
    others: list[SeedBlock] = []
    for block in (b for b in blocks(s, 4 * seeds) if b.own.accepted):
        (full if len(block.files) > cells else others).append(block)
        if len(full) == seeds:
            break
    rows = full or others[:seeds]
    sizes = [Image.open(io.BytesIO(f[1])).size for b in rows for f in list(b.files.values())[:1]]
    side = max((max(s) for s in sizes), default=32)
    scale = max(1, 64 // side)
    cell, gap, label, head = side * scale, 6, 92, 22
    sheet = Image.new("RGB", (label + (cells + 1) * (cell + gap) + 14, head + len(rows) * (cell + gap) + gap), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    draw.text((label, 5), "seed", fill="#5b6675", font=font)
    draw.text((label + cell + gap + 8, 5), "verified variants", fill="#5b6675", font=font)
    for r, block in enumerate(rows):
        y = head + r * (cell + gap)
        draw.text((6, y + cell // 2 - 7), str(block.own.label_name or block.own.key)[:14], fill="#1c2430", font=font)
        keys = [block.own.key, *_spread(block, cells)]
        for i, key in enumerate(keys):
            picture = Image.open(io.BytesIO(block.files[key][1])).convert("RGB")
            picture = picture.resize((cell, cell), Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
            sheet.paste(picture, (label + i * (cell + gap) + (8 if i else 0), y))
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def _spread(block: SeedBlock, count: int) -> list[str]:
    """Accepted variants of largest waypoint first, one a trajectory, then the next ones."""
    accepted = block.rows[block.rows.accepted].copy()
    accepted["turn"] = accepted.sort_values("waypoint", ascending=False).groupby(["direction", "sign"]).cumcount()
    chosen = accepted.sort_values(["turn", "direction", "sign"], ascending=[True, True, False]).key.head(count)
    return [str(k) for k in chosen]
