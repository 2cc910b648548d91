"""What `reds import` made."""

from __future__ import annotations

from pathlib import Path

from reds_core.models.imported import Description
from reds_core.models.published import StyleGan1, StyleGan2, StyleGan3
from reds_core.words import counted


def show_import(found: Description, path: Path) -> None:
    """Prints what `reds import` made, and how a spec names it."""
    a, origin = found.architecture, found.provenance
    classes = f", {counted(a.classes, 'class', 'classes')}" if a.classes else ""
    space = f"w of {a.w_dim} dimensions" if isinstance(a, StyleGan1 | StyleGan2 | StyleGan3) else f"z of {a.z_dim} dimensions"
    height, width = a.size if isinstance(a, StyleGan2) else (a.resolution, a.resolution)
    print(f"{origin.file}: {origin.format}, {a.colours}x{height}x{width} images, space {space}{classes}")
    for note in origin.notes:
        print(f"note: {note}")
    print(f"licence: {origin.licence}")
    print(f"{path} and {path.with_suffix('.json').name}")
    print(f"generator: {{kind: {a.kind}, path: {path}}}")
