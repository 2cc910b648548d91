"""`reds run` and `reds deploy`: shards now, or by a schedule."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import Annotated, Any

import typer

from flows import prefect_env
from flows.cli.options import AllowCode, Batch, Device, Grow, LeastAccepted, Out, Overrides, SpecPath, Until, Workers
from flows.engines import EngineName
from flows.process import child_processes
from reds_core.errors import RedsError, UserError

MOST_CLASSES = 20  # in a line


def run(
    spec: SpecPath,
    out: Out = "outputs",
    engine: Annotated[
        EngineName, typer.Option(help="In this process, one process per device, or on a Ray cluster ($RAY_ADDRESS).")
    ] = "local",
    workers: Workers = None,
    device: Device = "auto",
    batch: Batch = None,
    shards: Annotated[str | None, typer.Option(metavar="A:B", help="Only shards A <= k < B.", show_default="all")] = None,
    set_: Overrides = None,
    allow_code: AllowCode = False,
    fresh: Annotated[bool, typer.Option("--fresh", metavar="", help="Remove what an earlier run of this spec made.")] = False,
    grow: Grow = False,
    until: Until = None,
    least_accepted: LeastAccepted = 0.0,
) -> None:
    """Make the shards of SPEC that are not finished yet.

    Stop it at any time and run it again: finished shards are kept, and the outcome is the same. The last line names the folder.
    """
    from flows.cli.checks import checked
    from flows.cli.progress import Progress
    from flows.parameters import wanted_until
    from reds_core.runs.plan import plan, shard_range
    from reds_core.runs.totals import in_words

    embedded = prefect_env.set_environment()
    progress = Progress(sys.stderr)
    signal.signal(signal.SIGINT, lambda *_: _interrupted(progress))
    wanted_until(until, grow, shards)
    loaded = checked(spec, set_ or [], allow_code)
    shard_range(shards, len(plan(loaded)))
    with progress:
        progress.say("starting Prefect" + ("'s embedded API" if embedded else f" with the API at {os.environ['PREFECT_API_URL']}"))
        with prefect_env.first_start() if embedded else contextlib.nullcontext():
            if embedded:
                prefect_env.stop_api_with_this_process()
            prefect_env.connect()
            from flows.augment import augment
            from flows.shards import heard_by
        with heard_by(progress.hear):
            result = augment(
                spec=str(spec), out=out, engine=engine, workers=workers, device=device, batch=batch, shards=shards,
                overrides=set_ or [], allow_code=allow_code, fresh=fresh,
                least_accepted=least_accepted, grow=grow, until=until,
            )  # fmt: skip
    what = "candidates" if loaded.walks else "images" if loaded.seeds.images else "seeds"
    if "classes" in result:
        print(_classes(result["classes"]))
    print(_last_line(result, what))
    if not result["accepted"]:
        raise NothingAcceptedError(
            f"accepted none of {result['candidates']} {what}: {in_words(result['rejected'])}. "
            "`reds check` shows what was measured and what to change"
        )


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
    workers: Workers = None,
    device: Device = "auto",
    batch: Batch = None,
    set_: Overrides = None,
    allow_code: AllowCode = False,
    grow: Grow = False,
    until: Until = None,
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
            metavar="TYPE/NAME", help="A notification block of the server that is told of failed runs.", show_default="nobody"
        ),
    ] = None,
) -> None:
    """Register SPEC as a scheduled run with the Prefect server at PREFECT_API_URL.

    Workers pick its runs up: prefect worker start --pool NAME. With --grow every run makes new seeds; without, a finished one is
    done in seconds.
    """
    if prefect_env.set_environment():
        raise UserError("a schedule needs a server: start one with `prefect server start`, and set PREFECT_API_URL to its address")
    from flows.cli.checks import checked
    from flows.deploy import cron as schedule
    from flows.deploy import deploy as register
    from flows.parameters import wanted_until
    from reds_core.spec.load import absolute
    from reds_core.storage.places import folder_at

    if parents and not split:
        raise UserError("--parents is a pool for runs that wait for child runs, but there are none; add --split N")
    wanted_until(until, grow, None)
    loaded = checked(spec, set_ or [], allow_code)
    parameters = {
        "spec": str(spec.absolute()),
        "out": folder_at(out).absolute(),
        "engine": engine,
        "workers": workers,
        "device": device,
        "batch": batch,
        "overrides": [absolute(text) for text in set_ or []],
        "allow_code": allow_code,
        "grow": grow,
        "least_accepted": least_accepted,
        "split": split,
        "until": until,
    }
    prefect_env.connect()
    name = register(loaded.name, pool, parents or pool, schedule(cron, timezone), concurrency, notify, parameters)
    print(f"{name}: {cron} {timezone}, at most {concurrency} at once, by workers of the pool {parents or pool}")
    if split:
        print(f"make-shards/{loaded.name}: its child runs, {split} shards each, by workers of the pool {pool}")
    if split and parents in (None, pool):
        print(
            "reds: warning: a worker with --limit 1 would wait for its own child runs; give parents another pool", file=sys.stderr
        )


class NothingAcceptedError(RedsError):
    """A run that accepted nothing."""


def _classes(counts: dict[str, int]) -> str:
    """Returns how many accepted samples the classes have, of many classes the fewest."""
    names = sorted(counts, key=lambda name: counts[name])
    shown = ", ".join(f"{name or 'no label'} {counts[name]:,}" for name in names[:MOST_CLASSES])
    return f"accepted of {len(counts)} classes: {shown}" + (" and more of the others" if len(names) > MOST_CLASSES else "")


def _last_line(result: dict[str, Any], what: str) -> str:
    """Returns the run's folder and totals. `what` its candidates are, in the plural."""
    share = result["accepted"] / result["candidates"] if result["candidates"] else 0
    made = f"{result['now']} made now" if result["now"] else "nothing was left to do"
    return (
        f"{result['folder']}: {result['shards']} shards ({made}), {result['samples']} samples, "
        f"{result['accepted']} accepted of {result['candidates']} {what} ({share:.0%}), {result['bytes'] / 1e6:.1f} MB"
    )


def _interrupted(progress: Any) -> None:
    """Handles Ctrl-C. At any instant a shard is complete or not there, so leaving at once loses nothing but the shard in hand."""
    with contextlib.suppress(Exception):
        progress.stop()
    print(f"\nreds: interrupted; {progress.finished()} Run the same command again to continue", file=sys.stderr, flush=True)
    from reds_core.storage.disk import remove_scratch

    for child in child_processes():
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
    remove_scratch()
    # Threads that compute cannot be stopped, and exit handlers would wait for them.
    os._exit(130)
