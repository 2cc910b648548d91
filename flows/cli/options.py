"""Options that several verbs of `reds` take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="The spec, a YAML file.", show_default=False)]
RunFolder = Annotated[
    str, typer.Argument(metavar="DIR", help="A run's folder, outputs/NAME/DIGEST, or its URL.", show_default=False)
]


def _place(place: str) -> str:
    """Returns the name of a folder. Raises OutputError if there can be none of this name, before anything slow starts."""
    from reds_core.storage.places import folder_at

    folder_at(place)
    return place


Out = Annotated[
    str,
    typer.Option("--out", metavar="DIR", help="The folder of all runs, or a URL such as s3://bucket/runs.", callback=_place),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, or one GPU such as cuda:1.", metavar="NAME")]
Workers = Annotated[int | None, typer.Option(metavar="N", help="Worker processes.", show_default="one per device or core")]
Batch = Annotated[int | None, typer.Option(help="Images per evaluation.", metavar="N", show_default="by image size")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change the spec; may be repeated.", show_default=False)
]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", metavar="", help="Let factories, callables and foreign pickles that the spec names run.")
]
Grow = Annotated[
    bool,
    typer.Option("--grow", metavar="", help="Make the next seeds.count seeds once all before are finished: new data every time."),
]
LeastAccepted = Annotated[
    float,
    typer.Option(
        metavar="SHARE", min=0, max=1, help="Fail if a smaller share of the candidates, or of what `keep` keeps, is accepted."
    ),
]

Until = Annotated[
    str | None,
    typer.Option(
        "--until",
        metavar="per_class=N[,seeds=M]",
        help="Make seeds until every class has N accepted variants, whatever seeds.count is; at most M seeds.",
        show_default=False,
    ),
]

Yes = Annotated[bool, typer.Option("--yes", metavar="", help="Remove what --fresh removes without a question.")]
Replace = Annotated[
    bool, typer.Option("--replace", metavar="", help="Replace the deployment of another spec that has the same name.")
]

# The options that cure an error, by the parameter that the error names (`reds_core.errors`).
OF_PARAMETER = {"overrides": "--set"}


def option_of(parameter: str) -> str:
    """Returns the option for a parameter of the library."""
    return OF_PARAMETER.get(parameter, f"--{parameter.replace('_', '-')}")
