"""What a person sees while something goes on: a progress bar on a terminal, lines elsewhere.

A bar, its count, the time taken and the time left stand first; the rest of the line is for words, which are cut short rather
than push them out.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TaskID, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column
from rich.text import Text

from reds_core.words import counted

BAR = 16  # columns


class _Shown:
    """A bar on a terminal, or lines elsewhere. A context manager."""

    def __init__(self, stream: TextIO) -> None:
        self.console = Console(file=stream, highlight=False)
        self.bar = Bar(
            TextColumn("{task.description}", markup=False), BarColumn(BAR), _Counted(), _Time(),
            TextColumn("{task.fields[note]}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            console=self.console, transient=True, expand=True, disable=not self.console.is_terminal,
        )  # fmt: skip

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.bar.stop()

    def step(self, task: TaskID, done: int, **changes: Any) -> None:
        """Shows that so many steps of a task are done."""
        known = self.bar.tasks[self.bar.task_ids.index(task)]
        if done != known.completed:
            changes["stepped"] = known.elapsed or 0.0
        self.bar.update(task, completed=done, **changes)

    def print(self, text: str) -> None:
        """Prints a line that stays, above the bar."""
        self.console.print(text, markup=False, soft_wrap=True)

    def off_terminal(self, text: str) -> None:
        """Prints a line where there is no bar to say it."""
        if not self.console.is_terminal:
            self.print(text)


class Progress(_Shown):
    """Shows the flow's events. A context manager around the run."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.task = self.bar.add_task("", total=None, note="starting", first=0, stepped=0.0)
        self.todo = self.done = self.accepted = self.candidates = 0

    def say(self, text: str) -> None:
        """Shows what is going on before there are shards to count."""
        self.bar.update(self.task, note=text)
        self.off_terminal(text)

    def hear(self, event: str, figures: dict[str, Any]) -> None:
        """Shows an event of flows.shards."""
        if event == "start":
            todo, finished = figures["todo"], figures["planned"] - figures["todo"]
            self.todo += todo
            self.bar.update(self.task, description="shards", total=self.todo, completed=self.done)
            before = f", {finished:,} finished before" if finished else ""
            self.say(f"{figures['folder']}: {counted(todo, 'shard')} to make{before}")
        elif event == "step":
            short = figures["short"]
            worst = min(short, key=lambda name: short[name])
            few = counted(len(short), "class has", "classes have")
            self.print(
                f"{counted(figures['seeds'], 'seed')}: {few} fewer than {figures['per_class']:,}, "
                f"{worst or 'no label'} {short[worst]:,}; {counted(figures['more'], 'more seed')}"
            )
        elif event == "retry":
            self.print(f"reds: {figures['error']}; trying again")
        elif event == "shard":
            manifest = figures["manifest"]
            self.done += 1
            self.accepted += manifest.accepted
            self.candidates += manifest.accepted + sum(manifest.rejected.values())
            note = f"{self.accepted:,} accepted of {self.candidates:,} ({self.accepted / max(1, self.candidates):.0%})"
            self.step(self.task, self.done, note=note)
            self.off_terminal(f"shard {manifest.index:05d} ({self.done}/{self.todo}): so far {note}, {manifest.seconds:.1f} s")

    def finished(self) -> str:
        """Returns how far the run got, for a person who stopped it."""
        if not self.done:
            return "no shard was finished."
        return f"{self.done} of {counted(self.todo, 'shard')} {'was' if self.done == 1 else 'were'} finished and kept."


class Steps(_Shown):
    """Shows how far something with steps is: a bar for each kind of them, one after another. A context manager around it."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.tasks: dict[str, TaskID] = {}
        self.task: TaskID | None = None

    def say(self, text: str) -> None:
        """Shows what is going on now."""
        if self.task is None:
            self.task = self.bar.add_task("", total=None, note=text)
        self.bar.update(self.task, note=text)

    def at(self, what: str, done: int, total: int) -> None:
        """Shows that so many of what are done, of how many."""
        if what not in self.tasks:
            if self.task is not None and self.task not in self.tasks.values():
                self.bar.remove_task(self.task)  # it was without steps
            self.tasks[what] = self.bar.add_task(what, total=total, completed=done, note="", first=done, stepped=0.0)
        self.task = self.tasks[what]
        self.step(self.task, done, total=total)

    def tell(self, what: str, done: int, total: int) -> None:
        """Does the same; off a terminal it says so once all of them are done."""
        self.at(what, done, total)
        if done == total:
            self.off_terminal(f"{what}: {total:,}")


class _Counted(MofNCompleteColumn):
    """How many of how many; nothing where there is nothing to count."""

    def render(self, task: Any) -> Any:
        return "" if task.total is None else super().render(task)


class _Time(ProgressColumn):
    """The time that it has taken and, once a step is done, the time that is left."""

    def render(self, task: Any) -> Text:
        taken = task.finished_time if task.finished else task.elapsed
        shown = Text(_clock(taken or 0), style="progress.elapsed")
        done = 0 if task.total is None else task.completed - task.fields["first"]  # some may have been finished before
        if task.finished or not done:
            return shown
        return shown.append(f", {_clock(_left(taken, task.fields['stepped'], done, task.total - task.completed))} left")


def _left(taken: float, stepped: float, done: float, todo: float) -> float:
    """Returns the seconds left after `taken`, if the last of the steps done was finished at `stepped`; they fall between steps.

    A step in hand that takes longer than those before is what those to come are measured by.
    """
    now = taken - stepped
    return max(stepped / done, now) * todo - now


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=max(0, round(seconds))))
