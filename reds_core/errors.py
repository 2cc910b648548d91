"""Everything that this package raises on purpose, except that `directions` raises ValueError for arguments that do not fit.

    RedsError
    +-- UserError            the input is wrong: nothing was computed, exit code 2
    |   +-- SpecError        the spec's text: unknown keys, wrong values, names that refer to nothing
    |   +-- ModelError       a file or a network: missing, changed, refused, of the wrong shape or range
    |   +-- OutputError      the output folder: cannot be written, or is not a run
    +-- NoDirectionsError    the held attributes leave no direction to walk: exit code 1
    +-- RunError             the run could not go on: exit code 1, what is finished stays
        +-- WorkerDied       a process that made a shard failed, died or hung; another try may succeed
        +-- DeviceFailed     a shard failed on every device that tried it; another machine may succeed
        +-- ShardDamaged     a shard differs from its manifest
        +-- StorageError     where shards go takes no more: a full disk, a store that refuses or does not answer

A message says what happened, with the numbers, then what to change. It never names an option of the command line: an error
whose cure is a parameter of the caller's names it in `parameter`, and the command line adds the option.
"""

from __future__ import annotations

from reds_core.words import counted

LONGEST = 400  # characters of somebody else's message that are shown


class RedsError(Exception):
    """The base of the errors that a user is shown without a traceback.

    `parameter` names the parameter that cures the error, such as "out" or "allow_code"; "" if none does.
    """

    def __init__(self, message: str, *, parameter: str = "") -> None:
        super().__init__(message)
        self.parameter = parameter

    def at(self, where: str) -> RedsError:
        """Returns the same error with the place where it was found before its message."""
        return type(self)(f"{where}: {self}", parameter=self.parameter)


class UserError(RedsError):
    """The input is wrong."""


class SpecError(UserError):
    """The spec is wrong. `where` names it; `problems` lists every mistake found, each as "where: what"."""

    def __init__(self, where: str, problems: list[str], *, parameter: str = "") -> None:
        self.where = where
        self.problems = problems
        super().__init__(
            f"{where}: {counted(len(problems), 'mistake')}\n" + "\n".join(f"  {p}" for p in problems), parameter=parameter
        )

    def at(self, where: str) -> SpecError:
        return SpecError(f"{where}: {self.where}", self.problems, parameter=self.parameter)

    def __reduce__(self) -> tuple[type[SpecError], tuple[str, list[str]], dict[str, str]]:
        # Exceptions are rebuilt from their message when they cross processes; this one needs its parts.
        return SpecError, (self.where, self.problems), {"parameter": self.parameter}


class ModelError(UserError):
    """A model file or network cannot be used."""


class OutputError(UserError):
    """The output folder cannot be used."""


class NoDirectionsError(RedsError):
    """The held attributes fill the latent space: there is no direction left to walk."""


class RunError(RedsError):
    """The run stopped; finished shards are kept and it can be started again."""


class WorkerDied(RunError):
    """The process that made a shard failed or died, or hung and was stopped."""


class DeviceFailed(RunError):
    """A shard failed on every device that tried it, by an error that may be the devices' or the shard's own."""


class ShardDamaged(RunError):
    """A shard differs from its manifest, or from what was just written to it."""


class StorageError(RunError):
    """The disk is full, or the object store refuses or does not answer: no further shard can be written."""


def is_text(name: object) -> bool:
    """Returns whether a path or name is text in UTF-8: a disk may hold others, but no spec, report or table can name them."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        return False
    return True


def described(error: BaseException, line: int = 0) -> str:
    """Returns somebody else's error as "type: line of its message", cut if it is very long; as its type alone without a message.

    `line` is an index: 0 where the cause comes first, -1 where it follows a traceback, as in TorchScript's messages.
    """
    name = type(error).__name__
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # an error whose own text fails is still worth its name
        lines = []
    # TorchScript repeats the type in its own message.
    what = lines[line].strip().removeprefix(f"{name}:").strip() if lines else ""
    if len(what) > LONGEST:
        what = f"{what[:LONGEST]}... ({len(what):,} characters)"
    return f"{name}: {what}" if what else name
