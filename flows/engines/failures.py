"""Whose fault an error is: the shard's, the user's, or that of the place where the shard was made.

No message is read: a GPU that fails says so in a thousand ways, and also by answers that look like a user's mistake. A shard that
failed is tried at another place. If that works, the first place was at fault, and after the second time in a row it is left: the
second shard is its probe, and is made elsewhere if it fails. If it does not work, the shard is at fault, or the user is.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from textwrap import shorten
from typing import TypeVar

from reds_core.errors import DeviceFailed, RedsError, UserError, WorkerDied, described

T = TypeVar("T")

STRIKES = 2  # failures in a row after which a place is left
TRIES, DEATHS = 2, 3  # of a shard, at the least, before it is given up; a process may be killed by somebody else
MOST_TRIES = 4
BRIEF = 100  # characters


class ForeignError(Exception):
    """Somebody else's error, in words: the error itself may not survive the way between processes, or bring megabytes of text."""


def in_words(make: Callable[..., T], *arguments: object) -> T:
    """Calls `make` in a worker process, and raises ForeignError for an error that is not this package's."""
    try:
        return make(*arguments)
    except RedsError:
        raise
    except Exception as error:
        raise ForeignError(described(error)) from None


class Failures:
    """What failed where. Places are numbers below `places`; safe to use from any thread."""

    def __init__(self, places: int) -> None:
        self.strikes = [0] * places  # failures in a row, of each place
        self.tries: defaultdict[int, Counter[int]] = defaultdict(Counter)  # by shard: failures at each place
        self.mistakes: dict[int, UserError] = {}  # by place
        self.lock = threading.Lock()

    def usable(self) -> list[int]:
        """Returns the places that are not left; all of them, if none is better than another."""
        better = [place for place, strikes in enumerate(self.strikes) if strikes < STRIKES]
        return better or list(range(len(self.strikes)))

    def place_for(self, index: int, home: int) -> int:
        """Returns where to try a shard: at `home`, unless that is left or the shard failed there."""
        with self.lock:
            tried = self.tries[index]
            return min(self.usable(), key=lambda place: (tried[place], place != home, self.strikes[place]))

    def made(self, index: int, place: int) -> None:
        """Notes that a shard was made."""
        with self.lock:
            self.strikes[place] = 0
            self.mistakes.pop(place, None)
            for other in self.tries.pop(index, ()):
                self.mistakes.pop(other, None)

    def failed(self, index: int, place: int, where: str, error: Exception) -> Exception:
        """Notes that a shard failed, and returns what to raise.

        Args:
            index: of the shard.
            place: where it failed; `where` for people.
            error: what was raised there.

        Returns:
            WorkerDied if another try may succeed. DeviceFailed if the shard is given up. The error itself if it stops the run.
        """
        if isinstance(error, RedsError) and not isinstance(error, UserError | WorkerDied):
            return error
        with self.lock:
            self.strikes[place] += 1
            tried = self.tries[index]
            tried[place] += 1
            if isinstance(error, UserError):
                self.mistakes[place] = error
                if len(self.mistakes) >= min(2, len(self.strikes)):
                    return error
            died = isinstance(error, WorkerDied)
            what = str(error) if isinstance(error, RedsError | ForeignError) else described(error)
            why = what if died else f"shard {index} failed on {where}: {what}"
            everywhere = all(tried[other] for other in self.usable())
            if tried.total() < MOST_TRIES and not (everywhere and tried.total() >= (DEATHS if died else TRIES)):
                # A mistake that another place finds too is told in full, once, at the end.
                return WorkerDied(shorten(why, BRIEF, placeholder=" ...") if isinstance(error, UserError) else why)
            for other, times in self.tries.pop(index).items():
                self.strikes[other] = max(0, self.strikes[other] - times)  # it is the shard's fault, and no place's
            return error if isinstance(error, UserError) else DeviceFailed(f"{why}; so it did wherever it was tried")
