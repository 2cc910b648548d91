"""`reds run` and `reds deploy`: shards now, or by a schedule."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from typing import Annotated, Any
from uuid import UUID

import typer

from flows import prefect_env, signals
from flows.cli.options import AllowCode, Batch, Device, Grow, LeastAccepted, Out, Overrides, Replace, SpecPath, Until, Workers, Yes
from flows.engines import EngineName
from reds_core.errors import RedsError, UserError
from reds_core.words import counted

MOST_CLASSES = 20  # in a line
TELLING = 3.0  # seconds for a server to hear that a run has ended


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
    yes: Yes = False,
    grow: Grow = False,
    until: Until = None,
    least_accepted: LeastAccepted = 0.0,
) -> None:
    """Make the shards of SPEC that are not finished yet.

    Stop it at any time and run it again: finished shards are kept, and the outcome is the same. The last line names the folder.
    """
    from flows.cli.checks import check_removal, checked
    from flows.cli.progress import Progress
    from flows.engines.registry import check_asked
    from flows.parameters import placed, wanted_until
    from reds_core.runs.plan import plan, shard_range
    from reds_core.runs.run_folder import run_folder
    from reds_core.runs.totals import in_words
    from reds_core.storage.places import folder_at

    progress = Progress(sys.stderr)
    leaving = Leaving(progress)
    with signals.left_by(leaving):
        server = leaving.server = prefect_env.set_environment()
        wanted_until(until, grow, shards)
        loaded = checked(spec, set_ or [], allow_code)
        shard_range(shards, len(plan(loaded)))
        check_asked(engine, device, workers, batch)
        placed(out, engine).check_place()
        if fresh:
            check_removal(run_folder(loaded, folder_at(out)), yes)
        with progress:
            progress.say("starting Prefect" + (f" with the API at {server}" if server else "'s embedded API"))
            prefect_env.connect(server)
            from flows.augment import augment
            from flows.shards import heard_by

            with heard_by(progress.hear), heard_by(leaving.hear), prefect_env.answering():
                result = augment(
                    spec=str(spec), out=out, engine=engine, workers=workers, device=device, batch=batch, shards=shards,
                    overrides=set_ or [], allow_code=allow_code, fresh=fresh,
                    least_accepted=least_accepted, grow=grow, until=until,
                )  # fmt: skip
    what = "candidate" if loaded.walks else "image" if loaded.seeds.images else "seed"
    if "classes" in result:
        print(_classes(result["classes"]))
    print(_last_line(result, what))
    if not result["accepted"]:
        raise NothingAcceptedError(
            f"accepted none of {counted(result['candidates'], what)}: {in_words(result['rejected'])}. "
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
    replace: Replace = False,
) -> None:
    """Register SPEC as a scheduled run with the Prefect server at PREFECT_API_URL.

    Workers pick its runs up: prefect worker start --pool NAME. With --grow every run makes new seeds; without, a finished one is
    done in seconds.
    """
    server = prefect_env.set_environment()
    if not server:
        raise UserError("a schedule needs a server: start one with `prefect server start`, and set PREFECT_API_URL to its address")
    from flows.cli.checks import checked
    from flows.deploy import cron as schedule
    from flows.deploy import deploy as register
    from flows.engines.registry import check_asked
    from flows.parameters import placed, wanted_until
    from reds_core.spec.load import absolute
    from reds_core.storage.places import folder_at

    if parents and not split:
        raise UserError("--parents is a pool for runs that wait for child runs, but there are none; add --split N")
    wanted_until(until, grow, None)
    loaded = checked(spec, set_ or [], allow_code)
    check_asked(engine, device, workers, batch)
    placed(out, engine).check_place()
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
    prefect_env.connect(server)
    name = register(loaded.name, pool, parents or pool, schedule(cron, timezone), concurrency, notify, parameters, replace)
    print(f"{name}: {cron} {timezone}, at most {concurrency} at once, by workers of the pool {parents or pool}")
    if split:
        print(f"make-shards/{loaded.name}: its child runs, {counted(split, 'shard')} each, by workers of the pool {pool}")
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
    rest = " and more of the others" if len(names) > MOST_CLASSES else ""
    return f"accepted of {counted(len(counts), 'class', 'classes')}: {shown}{rest}"


def _last_line(result: dict[str, Any], what: str) -> str:
    """Returns the run's folder and totals. `what` its candidates are, in the singular."""
    share = result["accepted"] / result["candidates"] if result["candidates"] else 0
    made = f"{result['now']} made now" if result["now"] else "nothing was left to do"
    return (
        f"{result['folder']}: {counted(result['shards'], 'shard')} ({made}), {counted(result['samples'], 'sample')}, "
        f"{result['accepted']:,} accepted of {counted(result['candidates'], what)} ({share:.0%}), {result['bytes'] / 1e6:.1f} MB"
    )


class Leaving:
    """How a run is left at Ctrl-C, SIGTERM or SIGHUP: at once.

    At any instant a shard is complete or not there, so that nothing is lost but the shards in hand.
    """

    def __init__(self, progress: Any) -> None:
        self.progress, self.server, self.run = progress, "", ""

    def hear(self, event: str, figures: dict[str, Any]) -> None:
        """Notes the flow run's id, by which the server knows it."""
        if event == "run":
            self.run = figures["id"]

    def __call__(self, number: int) -> None:
        with contextlib.suppress(Exception):  # whatever a terminal does, the program ends
            self.progress.stop()
            kept = f"{self.progress.finished()} Run the same command again to continue"
            print(f"\nreds: {_words(number)}; {kept}", file=sys.stderr, flush=True)
        if self.server and self.run:
            # Nobody else would tell the server, and the run would seem to go on for ever.
            telling = threading.Thread(target=_tell, args=(self.run, number), daemon=True)
            telling.start()
            telling.join(TELLING)
        signals.leave_at_once()


def _words(number: int) -> str:
    """Returns what a signal did to the run."""
    return "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"


def _tell(run: str, number: int) -> None:
    """Tells the server that a flow run has ended."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelled, Crashed

    state: Any = (Cancelled if number == signal.SIGINT else Crashed)(message=_words(number))
    with contextlib.suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(run), state, force=True)
