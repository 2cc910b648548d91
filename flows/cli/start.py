"""`reds init`: a spec to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    dest: Annotated[
        Path, typer.Argument(metavar="DEST", help="The spec to write, or a folder for its spec.yaml.", show_default=False)
    ],
    generator: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A generator: TorchScript, exported, or imported.", show_default="a shipped one"),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Labelled images of yours to start from: a folder, table or tars.", show_default="seeds"),
    ] = None,
    classifier: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A classifier whose decision is held.", show_default="a shipped one")
    ] = None,
) -> None:
    """Write a commented spec to start from, of shipped networks or of your own files, which are looked at and tried."""
    from reds_core.errors import OutputError
    from reds_core.spec.load import load_spec
    from reds_core.spec.starter import starter
    from reds_core.storage.disk import writing

    file = dest / "spec.yaml" if dest.is_dir() else dest
    if file.exists():
        raise OutputError(f"{file} exists already; choose another name, or remove it")
    text = starter(file, generator, images, classifier)
    with writing(file.parent, "choose another folder", parameter=""):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    load_spec(file)
    print(f"{file}: try it with `reds check {file}`")
