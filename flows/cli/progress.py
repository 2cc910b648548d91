"""What a person sees of a run or an export while it goes on: a progress bar on a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from flows.cli.show.words import counted


class Progress:
    """Shows the flow's events. A context manager around the run."""

    def __init__(self, stream: TextIO) -> None:
        self.console = Console(file=stream, highlight=False, soft_wrap=True)
        self.bar = Bar(
            TextColumn("[progress.description]{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("shards"),
            TextColumn("{task.fields[note]}"), TimeRemainingColumn(), TextColumn("left"),
            console=self.console, transient=True, disable=not self.console.is_terminal,
        )  # fmt: skip
        self.task = self.bar.add_task("starting", total=None, note="")
        self.todo = self.done = self.accepted = self.candidates = 0

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.bar.stop()

    def say(self, text: str) -> None:
        """Shows what is going on before there are shards to count."""
        self.bar.update(self.task, description=text)
        if not self.console.is_terminal:
            self.console.print(text)

    def hear(self, event: str, figures: dict[str, Any]) -> None:
        """Shows an event of flows.shards."""
        if event == "start":
            todo, finished = figures["todo"], figures["planned"] - figures["todo"]
            self.todo += todo
            self.bar.update(self.task, total=self.todo, completed=self.done)
            before = f", {finished} finished before" if finished else ""
            self.say(f"{figures['folder']}: {counted(todo, 'shard')} to make{before}")
        elif event == "step":
            short = figures["short"]
            worst = min(short, key=lambda name: short[name])
            self.console.print(
                f"{figures['seeds']:,} seeds: {len(short)} classes have fewer than {figures['per_class']:,}, "
                f"{worst or 'no label'} {short[worst]:,}; {figures['more']:,} more seeds",
                markup=False,
            )
        elif event == "retry":
            self.console.print(f"reds: {figures['error']}; trying again", markup=False)
        elif event == "shard":
            manifest = figures["manifest"]
            self.done += 1
            self.accepted += manifest.accepted
            self.candidates += manifest.accepted + sum(manifest.rejected.values())
            note = f"{self.accepted} accepted of {self.candidates} ({self.accepted / max(1, self.candidates):.0%})"
            self.bar.update(self.task, completed=self.done, note=note)
            if not self.console.is_terminal:
                self.console.print(f"shard {manifest.index:05d} ({self.done}/{self.todo}): {note}, {manifest.seconds:.1f} s")

    def finished(self) -> str:
        """Returns how far the run got, for a person who stopped it."""
        if not self.done:
            return "no shard was finished."
        return f"{self.done} of {counted(self.todo, 'shard')} {'was' if self.done == 1 else 'were'} finished and kept."


class Steps:
    """Shows how far something with a number of steps is. A context manager around it.

    Args:
        what: the steps are, in the plural.
        stream: that it is shown on.
    """

    def __init__(self, what: str, stream: TextIO) -> None:
        self.console = Console(file=stream, highlight=False, soft_wrap=True)
        self.bar = Bar(
            BarColumn(24), MofNCompleteColumn(), TextColumn(what), TimeRemainingColumn(), TextColumn("left"),
            TextColumn("[progress.description]{task.description}", markup=False), console=self.console, transient=True,
            disable=not self.console.is_terminal,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=None)

    def __enter__(self) -> Steps:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def say(self, text: str) -> None:
        """Shows what is going on now."""
        self.bar.update(self.task, description=text)

    def begin(self, total: int, done: int) -> None:
        """Shows how many steps there are, and how many were finished before."""
        self.bar.update(self.task, total=total, completed=done)
        if done and not self.console.is_terminal:
            self.console.print(f"{done} of {total} were finished before")

    def advance(self, text: str) -> None:
        """Shows that one more step is finished."""
        self.bar.advance(self.task)
        if not self.console.is_terminal:
            self.console.print(text)


@contextlib.contextmanager
def steps(stream: TextIO) -> Iterator[Callable[[str, int, int], None]]:
    """Gives a function that shows how many of what are done, of how many; off a terminal it says so once all of them are."""
    console = Console(file=stream, highlight=False, soft_wrap=True)
    bar = Bar(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("left"),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    tasks: dict[str, Any] = {}

    def tell(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done)
        if done == total and not console.is_terminal:
            console.print(f"{what}: {total:,}")

    with bar:
        yield tell
