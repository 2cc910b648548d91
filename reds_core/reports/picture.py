"""The contact sheet as one small picture, for where a page is too much: accepted candidates of a few seeds."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw, ImageFont

from reds_core.reports.blocks import SeedBlock, blocks
from reds_core.reports.summary import Summary

CELL = 56  # pixels, the side of an image
GAP, LABEL, HEAD, LINE = 6, 92, 22, 16
MOST_BYTES, QUALITIES = 48_000, (80, 50, 20)  # what hardly compresses gets a lower quality
INK, SOFT = "#1c2430", "#5b6675"


def picture(s: Summary, seeds: int = 8, cells: int = 8) -> bytes:
    """Returns one WebP picture of some kilobytes: a row for each seed, its own image first, then accepted variants spread over its
    trajectories.

    The user's own images come before their reconstructions. Seeds alone fill a grid of as many rows and cells.
    """
    if not s.spec.walks:
        return _grid(s, seeds, cells)
    rows = _fullest(s, seeds, cells)
    own = 2 if any(b.source is not None for b in rows) else 1  # images before the variants
    sheet = Image.new("RGB", (LABEL + (cells + own) * (CELL + GAP) + 14, HEAD + len(rows) * (CELL + GAP) + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    titles = ["image", "rebuilt"] if own == 2 else ["seed"]
    for i, title in enumerate([*titles, "verified variants"]):
        draw.text((LABEL + i * (CELL + GAP) + (8 if i == own else 0), 5), title, fill=SOFT, font=font)
    for r, block in enumerate(rows):
        y = HEAD + r * (CELL + GAP)
        draw.text((6, y + CELL // 2 - 7), str(block.own.label_name or block.own.key)[:14], fill=INK, font=font)
        first = [block.own.key] if block.source is None else [block.source.key, block.own.key]
        for i, key in enumerate([*first, *_farthest_first(block, cells)]):
            sheet.paste(_fitted(block.files[key]), (LABEL + i * (CELL + GAP) + (8 if i >= own else 0), y))
    return _as_webp(sheet)


def _grid(s: Summary, rows: int, cells: int) -> bytes:
    """Returns one picture of accepted seeds, spread over the run, each above its label; own images stand beside theirs."""
    own = 2 if s.spec.seeds.images and not s.spec.seeds.fit.residual else 1
    shown = [b for b in blocks(s, rows * cells // own) if b.own.accepted]
    across = min(cells // own, max(1, len(shown)))
    size = across * (own * CELL + GAP) + GAP, -(-len(shown) // across) * (CELL + LINE + GAP) + GAP
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for at, block in enumerate(shown):
        x, y = GAP + at % across * (own * CELL + GAP), GAP + at // across * (CELL + LINE + GAP)
        keys = [row.key for row in (block.source, block.own) if row is not None and row.accepted]
        for i, key in enumerate(keys):
            sheet.paste(_fitted(block.files[key]), (x + i * CELL, y))
        draw.text((x, y + CELL + 1), str(block.own.label_name or block.own.key)[: 2 * own * CELL // 11], fill=INK, font=font)
    return _as_webp(sheet)


def _fitted(file: bytes) -> Image.Image:
    """Returns a thumbnail in a cell's size; a smaller one is enlarged by a whole factor, without smoothing."""
    image = Image.open(io.BytesIO(file)).convert("RGB")
    scale = CELL // max(image.size)
    if not scale:
        image.thumbnail((CELL, CELL))
        return image
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def _as_webp(sheet: Image.Image) -> bytes:
    content = b""
    for quality in QUALITIES:
        file = io.BytesIO()
        sheet.save(file, "WEBP", quality=quality)
        content = file.getvalue()
        if len(content) <= MOST_BYTES:
            break
    return content


def _fullest(s: Summary, seeds: int, cells: int) -> list[SeedBlock]:
    """Returns seeds with enough accepted variants to fill a row; any others only if none has."""
    full: list[SeedBlock] = []
    others: list[SeedBlock] = []
    for block in (b for b in blocks(s, 4 * seeds) if b.own.accepted):
        (full if block.rows.accepted.sum() >= cells else others).append(block)
        if len(full) == seeds:
            break
    return full or others[:seeds]


def _farthest_first(block: SeedBlock, count: int) -> list[str]:
    """Returns the keys of `count` accepted variants: the farthest of each trajectory first, then the second farthest, and so on."""
    accepted = block.rows[block.rows.accepted].copy()
    accepted["turn"] = accepted.sort_values("waypoint", ascending=False).groupby(["direction", "sign"]).cumcount()
    chosen = accepted.sort_values(["turn", "direction", "sign"], ascending=[True, True, False]).key.head(count)
    return [str(k) for k in chosen]
