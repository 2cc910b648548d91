"""`reds import`, `reds kinds` and `reds schema`: the networks of a spec, and what one may say of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def import_(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A published checkpoint: .pkl, .pt, .pth or .bin.", show_default=False)
    ],
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="The .safetensors file to write.", show_default=False)],
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A BigGAN's settings: its JSON, or state_dict.pth.", show_default=False)
    ] = None,
) -> None:
    """Convert a published checkpoint, without running anything in it.

    Reads StyleGAN (1, 2, 3 and XL), R3GAN, Projected GAN, BigGAN, DCGAN, PGAN.
    docs/checkpoints.md lists the formats, and has a way round for all others.
    Writes DEST and, beside it, its architecture as .json.
    The last line that it prints is the generator for a spec.
    """
    from flows.cli.progress import Steps
    from flows.cli.show.imported import show_import
    from reds_core.models.imported import import_checkpoint

    with Steps(sys.stderr) as progress:
        progress.say(f"reading {source.name}")
        found = import_checkpoint(source, dest, config)
    show_import(found, dest)


def kinds(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A kind, or a part of a spec such as seeds, to see its fields.")
    ] = None,
) -> None:
    """Show the kinds of generators, networks, features and methods, and the parts of a spec; with NAME, the fields of one."""
    from flows.cli.show.kinds import show_kind, show_kinds

    show_kind(name) if name else show_kinds()


def schema() -> None:
    """Print the spec's JSON Schema, for editors and validators."""
    import json

    from reds_core.spec.fields import Spec

    print(json.dumps(Spec.model_json_schema(), indent=2))
