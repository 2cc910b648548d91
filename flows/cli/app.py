"""`reds`, the program: every verb parses, calls, and prints. What takes long to import is imported by the verb that needs it."""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from flows.cli.evaluate import evaluate
from flows.cli.export import ExportCommand, export
from flows.cli.folders import list_, report, verify
from flows.cli.networks import import_, kinds, schema
from flows.cli.options import option_of
from flows.cli.runs import deploy, run
from flows.cli.start import init
from flows.cli.studies import check, compare
from flows.process import return_memory
from flows.signals import leave_at_once, watched
from reds_core.errors import RedsError, UserError
from reds_core.version import __version__

VERBS: dict[str, Callable[..., None]] = {
    "init": init,
    "run": run,
    "check": check,
    "compare": compare,
    "evaluate": evaluate,
    "deploy": deploy,
    "verify": verify,
    "report": report,
    "export": export,
    "list": list_,
    "import": import_,
    "kinds": kinds,
    "schema": schema,
}
COMMANDS: dict[str, type[TyperCommand]] = {"export": ExportCommand}  # verbs whose arguments are read in another way

app = typer.Typer(
    name="reds",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Expand a labelled image data set with a pretrained generator: variants that keep what must hold, each one checked, "
    "as WebDataset shards.\n\n"
    "Start with [bold]reds init SPEC[/bold], then [bold]reds check SPEC[/bold] and [bold]reds run SPEC[/bold]. "
    "Specs to start from are in augment_specs/.",
    epilog="Exit codes: 0 done; 1 a run failed, accepted nothing or could not fill its classes, or verify found damage; 2 the "
    "input is wrong; 130 interrupted.",
)


def in_its_own_words(verb: Callable[..., None]) -> Callable[..., None]:
    """Returns a verb whose errors name only options that it has: not every verb calls the folder that it writes to `--out`."""
    options_ = inspect.signature(verb).parameters

    @functools.wraps(verb)
    def call(*arguments: Any, **options: Any) -> None:
        try:
            verb(*arguments, **options)
        except RedsError as error:
            if error.parameter == "out" and "out" not in options_:
                error.parameter = "to" if "to" in options_ else ""
            raise

    return call


def _not_ended_by_code(verb: Callable[..., None]) -> Callable[..., None]:
    """Returns a verb that code of the user's cannot end by sys.exit(): not even with 0, as if all were well."""

    @functools.wraps(verb)
    def call(*arguments: Any, **options: Any) -> None:
        try:
            verb(*arguments, **options)
        except SystemExit as error:
            raise UserError(
                f"code that the input names called sys.exit({error.code!r}); it must raise an error, or return"
            ) from error

    return call


def _reflowed(verb: Callable[..., None]) -> str:
    """Returns a verb's help, each paragraph as one line: a terminal breaks it where it must."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.getdoc(verb).split("\n\n"))  # type: ignore[union-attr]


for name, verb in VERBS.items():
    app.command(name, cls=COMMANDS.get(name), help=_reflowed(verb))(_not_ended_by_code(in_its_own_words(verb)))


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"reds {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Takes the options that come before a verb."""


def main() -> None:
    """Runs the program and exits with the contract's code. A user's mistake is a message, anything else a traceback."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this program, who wants to hear nothing
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    return_memory()
    with watched(), _exit_codes():
        app(standalone_mode=True)


@contextlib.contextmanager
def _exit_codes() -> Iterator[None]:
    try:
        yield
    except RedsError as error:
        cure = f" ({option_of(error.parameter)})" if error.parameter else ""
        print(f"reds: {error}{cure}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UserError) else 1)
    except KeyboardInterrupt:
        print("reds: interrupted", file=sys.stderr, flush=True)
        leave_at_once()
    except BrokenPipeError:
        _mute()
        sys.exit(1)
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename:
            raise
        _mute()
        print("reds: the disk is full that the output goes to", file=sys.stderr)
        sys.exit(1)


def _mute() -> None:
    """Sends what is left in the buffer of the standard output nowhere, or the exit would fail on it once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
