"""`reds`, the program. Every verb parses, calls, and prints; what takes long to import is imported by the verb that needs it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from flows import prefect_env as home
from flows.cli.options import AllowCode, Batch, Device, Grow, LeastAccepted, Out, Overrides, RunFolder, SpecPath
from flows.engines import EngineName
from reds_core.errors import RedsError, UserError

app = typer.Typer(
    name="reds",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Expand a labelled image data set with a pretrained generator: variants that keep what must hold, each one checked, "
    "as WebDataset shards.\n\nStart with [bold]reds check SPEC[/bold], then [bold]reds run SPEC[/bold]. "
    "Specs to start from are in augment_specs/.",
    epilog="Exit codes: 0 done; 1 a run failed, accepted nothing, or verify found damage; 2 the input is wrong; 130 interrupted.",
)


@app.command()
def run(
    spec: SpecPath,
    out: Out = "outputs",
    engine: Annotated[
        EngineName, typer.Option(help="In this process, one process per device, or on a Ray cluster ($RAY_ADDRESS).")
    ] = "local",
    workers: Annotated[int | None, typer.Option(metavar="N", help="Processes.", show_default="one per device or core")] = None,
    device: Device = "auto",
    batch: Batch = None,
    shards: Annotated[str | None, typer.Option(metavar="A:B", help="Only shards A <= k < B.", show_default="all")] = None,
    set_: Overrides = None,
    allow_code: AllowCode = False,
    fresh: Annotated[bool, typer.Option("--fresh", metavar="", help="Remove what an earlier run of this spec made.")] = False,
    grow: Grow = False,
    least_accepted: LeastAccepted = 0.0,
) -> None:
    """Make the shards of SPEC that are not finished yet.

    Stop it at any time and run it again: finished shards are kept, and the outcome is the same. The last line names the folder.
    """
    from flows.cli.checks import checked
    from flows.cli.progress import Progress
    from reds_core.runs.plan import plan, shard_range
    from reds_core.runs.totals import in_words

    embedded = home.settle()
    progress = Progress(sys.stderr)
    signal.signal(signal.SIGINT, lambda *_: _interrupted(progress))
    shard_range(shards, len(plan(checked(spec, set_ or [], allow_code))))
    with progress:
        progress.say("starting Prefect" + ("'s embedded API" if embedded else f" with the API at {os.environ['PREFECT_API_URL']}"))
        with home.first_start() if embedded else contextlib.nullcontext():
            if embedded:
                home.tie_to_this_process()
            home.reach()
            from flows.augment import augment
            from flows.shards import listen
        listen(progress.hear)
        result = augment(
            spec=str(spec), out=out, engine=engine, workers=workers, device=device, batch=batch, shards=shards,
            overrides=set_ or [], allow_code=allow_code, fresh=fresh,
            least_accepted=least_accepted, grow=grow,
        )  # fmt: skip
    print(_summary(result))
    if not result["accepted"]:
        raise _NothingAcceptedError(
            f"accepted nothing of {result['candidates']} candidates: {in_words(result['rejected'])}. `reds check` suggests tolerances"
        )


@app.command()
def check(
    spec: SpecPath,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="How many seeds to try.")] = 4,
    device: Device = "auto",
    batch: Batch = None,
    set_: Overrides = None,
    allow_code: AllowCode = False,
) -> None:
    """Try SPEC on a few seeds: is it right, what would it accept, what would it cost? Writes nothing."""
    from flows.cli.checks import checked_all
    from flows.cli.tables import show_forecast
    from reds_core.runs.plan import plan
    from reds_core.studies.forecast import forecast
    from reds_core.variants.prepare import prepare

    loaded = checked_all(spec, set_ or [], allow_code)
    job = prepare(loaded, device, batch, allow_code)
    first = loaded.seeds.first
    show_forecast(job, forecast(job, range(first, first + min(seeds, loaded.seeds.count))), len(plan(loaded)))


@app.command()
def compare(
    spec: SpecPath,
    methods: Annotated[
        str | None, typer.Option(metavar="A,B", help="Methods; the first is what the others are compared with.", show_default="all")
    ] = None,
    out: Out = "outputs",
    device: Device = "auto",
    batch: Batch = None,
    set_: Overrides = None,
    allow_code: AllowCode = False,
) -> None:
    """Compare methods on the seeds of SPEC, at equal effect: drift, flipped labels, cost.

    They are corrected, local, linear, maxc, rand, pca, sefa and interfacegan.
    Writes compare.csv, compare.png and compare.md to DIR/NAME/compare; and truth.csv for the builtin rooms, whose true factors are known.
    """
    from flows.cli.checks import checked
    from reds_core.storage.places import folder_at
    from reds_core.studies.compare import METHODS
    from reds_core.studies.compare import compare as run_comparison
    from reds_core.studies.comparison_report import write_comparison

    loaded = checked(spec, set_ or [], allow_code)
    folder = folder_at(out) / loaded.name / "compare"
    names = [name.strip() for name in (",".join(METHODS) if methods is None else methods).split(",") if name.strip()]
    found = run_comparison(loaded, names, device, batch, allow_code, lambda line: print(line, file=sys.stderr))
    with folder.new_files() as here:
        print(write_comparison(found, here).read_text(encoding="utf-8"))
    print(f"{folder}: compare.csv, compare.png, compare.md")


@app.command()
def deploy(
    spec: SpecPath,
    pool: Annotated[
        str, typer.Option(metavar="NAME", help="A work pool of type process, whose workers make shards.", show_default=False)
    ],
    cron: Annotated[str, typer.Option(metavar="CRON", help='When, such as "0 2 * * *".', show_default=False)],
    timezone: Annotated[str, typer.Option(metavar="ZONE", help="Of the schedule.")] = "UTC",
    concurrency: Annotated[int, typer.Option(metavar="N", min=1, help="Runs at once; the others wait.")] = 1,
    out: Out = "outputs",
    engine: Annotated[
        EngineName, typer.Option(help="In the worker's process, one process per device, or on a Ray cluster.")
    ] = "local",
    workers: Annotated[int | None, typer.Option(metavar="N", help="Processes.", show_default="one per device or core")] = None,
    device: Device = "auto",
    batch: Batch = None,
    set_: Overrides = None,
    allow_code: AllowCode = False,
    grow: Grow = False,
    least_accepted: LeastAccepted = 0.2,
    split: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Share a run: a child run for every N shards, for any worker.",
            show_default="one worker makes all",
        ),
    ] = None,
    parents: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The pool for runs that only wait for their child runs.", show_default="that of --pool"),
    ] = None,
    notify: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE/NAME", help="A notification block of the server that hears of runs that failed.", show_default="nobody"
        ),
    ] = None,
) -> None:
    """Register SPEC as a scheduled run with the Prefect server at PREFECT_API_URL.

    Workers pick its runs up: prefect worker start --pool NAME. With --grow every run makes new seeds; without, a finished one is done in seconds.
    """
    if home.settle():
        raise UserError("a schedule needs a server: start one with `prefect server start`, and set PREFECT_API_URL to its address")
    from flows.cli.checks import checked
    from flows.deploy import cron as schedule
    from flows.deploy import deploy as register
    from reds_core.spec.load import absolute
    from reds_core.storage.places import folder_at

    if parents and not split:
        raise UserError("--parents is a pool for runs that wait for their child runs; --split N makes some")
    loaded = checked(spec, set_ or [], allow_code)
    parameters = {
        "spec": str(spec.absolute()), "out": folder_at(out).absolute(), "engine": engine, "workers": workers, "device": device, "batch": batch,
        "overrides": [absolute(text) for text in set_ or []], "allow_code": allow_code, "grow": grow, "least_accepted": least_accepted, "split": split,
    }  # fmt: skip
    home.reach()
    name = register(loaded.name, pool, parents or pool, schedule(cron, timezone), concurrency, notify, parameters)
    print(f"{name}: {cron} {timezone}, at most {concurrency} at once, by workers of the pool {parents or pool}")
    if split:
        print(f"make-shards/{loaded.name}: its child runs, {split} shards each, by workers of the pool {pool}")
    if split and parents in (None, pool):
        print(
            "reds: warning: a worker with --limit 1 would wait for its own child runs; give parents another pool", file=sys.stderr
        )


@app.command()
def verify(folder: RunFolder) -> None:
    """Hash and decode every shard of a run, and name each damaged or missing one."""
    from flows.cli.checks import existing
    from reds_core.runs.manifest import cure, read_manifests
    from reds_core.runs.totals import totals
    from reds_core.runs.verify import verify_run
    from reds_core.storage.places import near

    place = existing(folder)
    found = verify_run(place)
    problems = [p for shard in found.values() for p in shard]
    for problem in problems:
        print(problem)
    with near(place, ".json") as here:
        summed = totals(read_manifests(here))
    if problems:
        bad = sum(bool(p) for p in found.values())
        print(f"{folder}: {bad} of {len(found)} shards damaged or missing; for each, {cure(place)}")
        raise typer.Exit(1)
    print(f"{folder}: {len(found)} shards whole, {summed.samples} samples, {summed.accepted} variants")


@app.command()
def report(folder: RunFolder) -> None:
    """Rebuild report.html and the dataset card of a finished or partial run."""
    from flows.cli.checks import existing
    from reds_core.reports.page import write_report

    print(write_report(existing(folder)))


@app.command("list")
def list_(out: Annotated[str, typer.Argument(metavar="[DIR]", help="The folder of all runs, or its URL.")] = "outputs") -> None:
    """The runs under a folder, newest first, with their state and totals."""
    from flows.cli.checks import existing
    from flows.cli.tables import show_runs
    from reds_core.runs.totals import runs

    show_runs(runs(existing(out)), out)


@app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A published checkpoint: .pkl, .pt or .pth.", show_default=False)
    ],
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="The .safetensors file to write.", show_default=False)],
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="BigGAN-PyTorch's configuration, a JSON.", show_default=False)
    ] = None,
) -> None:
    """Convert a published checkpoint, without running anything in it.

    Reads network pickles of stylegan2-ada-pytorch and stylegan3, rosinality's stylegan2-pytorch, and BigGAN-PyTorch.
    Writes DEST and, beside it, its architecture as .json. The last line is the generator for a spec.
    """
    from flows.cli.tables import show_import
    from reds_core.models.imported import import_checkpoint

    show_import(import_checkpoint(source, dest, config), dest)


@app.command()
def kinds(name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A kind, to see its fields.")] = None) -> None:
    """The kinds of generators, networks, features and methods; with NAME, the fields of one."""
    from flows.cli.tables import show_kind, show_kinds

    show_kind(name) if name else show_kinds()


@app.command()
def schema() -> None:
    """The spec's JSON Schema, for editors and validators."""
    import json

    from reds_core.spec.fields import Spec

    print(json.dumps(Spec.model_json_schema(), indent=2))


def main() -> None:
    """Runs the program and exits with the contract's code. A user's mistake is a message, anything else a traceback."""
    # Read when torch is imported. Threads that spin while they wait cost a tenth less on an idle machine, and eight times more beside
    # another busy program, which is where a nightly job lives.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    home.return_memory()
    with _exit_codes():
        app(standalone_mode=True)


class _NothingAcceptedError(RedsError):
    """A run that made nothing."""


@contextlib.contextmanager
def _exit_codes() -> Iterator[None]:
    try:
        yield
    except RedsError as error:
        print(f"reds: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UserError) else 1)
    except KeyboardInterrupt:
        print("reds: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _summary(result: dict[str, Any]) -> str:
    share = result["accepted"] / result["candidates"] if result["candidates"] else 0
    made = f"{result['now']} made now" if result["now"] else "nothing was left to do"
    return (
        f"{result['folder']}: {result['shards']} shards ({made}), {result['samples']} samples, "
        f"{result['accepted']} accepted of {result['candidates']} candidates ({share:.0%}), {result['bytes'] / 1e6:.1f} MB"
    )


def _interrupted(progress: Any) -> None:
    """Ctrl-C. Shards are whole or not there at any instant, so leaving at once loses nothing but the shard in hand."""
    with contextlib.suppress(Exception):
        progress.stop()
    print(f"\nreds: interrupted; {progress.finished()} Run the same command again to continue", file=sys.stderr, flush=True)
    from flows.prefect_env import children
    from reds_core.storage.disk import leave

    for child in children():
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
    leave()
    # Threads that compute cannot be stopped, and exit handlers would wait for them.
    os._exit(130)
