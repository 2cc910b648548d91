"""Specs that nobody would write, and what `load_spec` owes them: a Spec that reads back as itself, or a SpecError, and soon.

A mutation is a function of a `random.Random`, which hypothesis drives in `tests/fuzz/test_fuzz.py` and a seed in
`tests/benchmarks/fuzz.py`:

    TREES               change a spec's values and keys: (draw, tree) -> None
    TEXTS, OVERRIDES    change its YAML, or what is given beside it: `tests/fuzz/texts.py`
"""

from __future__ import annotations

import contextlib
import copy
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

from reds_core.errors import SpecError
from reds_core.spec.load import dump, load_spec
from tests.fuzz.texts import ALL_KINDS, HOSTILE, OVERRIDES, TEXTS
from tests.support import SPECS as SPECS_DIR

SECONDS = 10.0  # of a processor, for what takes milliseconds. PyYAML's worst in so many characters is about one

SHIPPED = [p.read_text(encoding="utf-8") for p in sorted(SPECS_DIR.glob("*.yaml"))]


@dataclass(frozen=True)
class SpecFile:
    """A spec as it lies on the disk, and the overrides given beside it."""

    content: bytes
    overrides: tuple[str, ...] = ()


def spec_file(draw: Random, kind: str) -> SpecFile:
    """Returns a shipped spec changed by one mutation of this kind, and perhaps by a few of the same family."""
    text = draw.choice((ALL_KINDS, draw.choice(SHIPPED)))  # the former takes more values
    if kind in OVERRIDES:
        return SpecFile(text.encode(), tuple(OVERRIDES[kind](draw) for _ in range(draw.choice((1, 1, 3)))))
    if kind in TEXTS:
        return SpecFile(TEXTS[kind](draw, text))
    tree = yaml.safe_load(text)
    for name in (kind, *draw.choices(list(TREES), k=draw.choice((0, 0, 1, 3)))):
        if places(tree):
            TREES[name](draw, tree)
    return SpecFile(written(tree))


def load(spec: SpecFile, folder: Path) -> str:
    """Returns what `load_spec` makes of a spec: "accepted" or "refused".

    Raises:
        AssertionError: it says nothing, takes too long, or reads back as another spec. Any other exception must not be raised.
    """
    path, again = folder / "spec.yaml", folder / "again.yaml"
    path.write_bytes(spec.content)
    try:
        with within(SECONDS):
            loaded = load_spec(path, spec.overrides)
    except SpecError as error:
        assert error.problems and all(error.problems), "a SpecError says nothing"
        str(error).encode()  # to be printed
        return "refused"
    again.write_text(dump(loaded), encoding="utf-8", newline="")
    assert load_spec(again) == loaded, "a spec reads back as another one"
    return "accepted"


class TooLong(BaseException):
    """Time is up. It is not an Exception, so that no `except Exception` swallows it."""


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Stops what takes more seconds of the processor, with an AssertionError."""

    def stop(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    except TooLong:
        raise AssertionError(f"is not done in {seconds:g} s") from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


# Trees


def written(tree: Any) -> bytes:
    """Returns a tree as YAML, with what its hostile texts stand for."""
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    return re.sub(r"'?@(\d+)@'?", lambda found: HOSTILE[int(found[1])], text).encode()


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Returns every value of a tree, as the mapping or list that holds it and its key there; what is in a shared value, once."""
    found: list[tuple[Any, Any]] = []
    seen: set[int] = set()

    def visit(value: Any) -> None:
        if isinstance(value, dict | list) and id(value) not in seen:
            seen.add(id(value))
            for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
                found.append((value, key))
                visit(inner)

    visit(tree)
    return found


def hostile(draw: Random) -> str:
    """Returns a text in whose place one of HOSTILE is written."""
    return f"@{draw.randrange(len(HOSTILE))}@"


def value(draw: Random, depth: int = 0) -> Any:
    """Returns any value: a hostile one, or a few in a list or mapping."""
    kind = draw.randrange(6)
    if kind > 1 or depth > 3:
        return hostile(draw)
    inner = [value(draw, depth + 1) for _ in range(draw.randrange(4))]
    return inner if kind else {draw.choice(("kind", "model", "path", "a", "1", "", "é", "class")): v for v in inner}


def replaced(draw: Random, tree: Any) -> None:
    where, key = draw.choice(places(tree))
    where[key] = value(draw)


def number_replaced(draw: Random, tree: Any) -> None:
    everywhere = places(tree)
    where, key = draw.choice([(w, k) for w, k in everywhere if isinstance(w[k], int | float)] or everywhere)
    where[key] = hostile(draw)


def deleted(draw: Random, tree: Any) -> None:
    where, key = draw.choice(places(tree))
    del where[key]


def renamed(draw: Random, tree: Any) -> None:
    named = [(w, k) for w, k in places(tree) if isinstance(w, dict)] or [(tree, next(iter(tree)))]
    where, key = draw.choice(named)
    where[draw.choice((hostile(draw), draw.choice(named)[1]))] = where.pop(key)


def copied(draw: Random, tree: Any) -> None:
    everywhere = places(tree)
    (source, name), (where, key) = draw.choice(everywhere), draw.choice(everywhere)
    where[key] = copy.deepcopy(source[name])


def aliased(draw: Random, tree: Any) -> None:
    """Puts one value in two places, written as an anchor and an alias; inside itself, if that is where the place is."""
    everywhere = places(tree)
    (source, name), (where, key) = draw.choice(everywhere), draw.choice(everywhere)
    where[key] = source[name]


def swapped(draw: Random, tree: Any) -> None:
    everywhere = places(tree)
    (a, i), (b, j) = draw.choice(everywhere), draw.choice(everywhere)
    a[i], b[j] = b[j], a[i]


def added(draw: Random, tree: Any) -> None:
    everywhere = places(tree)
    where = draw.choice([tree, *(w[k] for w, k in everywhere if isinstance(w[k], dict | list))])
    if isinstance(where, dict):
        where[draw.choice((hostile(draw), draw.choice(everywhere)[1], "options", "kind", "path", "region", "sha256"))] = value(draw)
    else:
        where.insert(draw.randrange(len(where) + 1), value(draw))


def retyped(draw: Random, tree: Any) -> None:
    where, key = draw.choice(places(tree))
    old = where[key]
    text = str(old)[:99]
    where[key] = draw.choice(
        ([old], [old, old], {"kind": old}, {"minimum": old}, {"decision": old}, text, bool(old), None, len(text), len(text) / 7)
    )


TREES: dict[str, Callable[[Random, Any], None]] = {
    f.__name__: f for f in (replaced, number_replaced, deleted, renamed, copied, aliased, swapped, added, retyped)
}
KINDS = (*TREES, *TEXTS, *OVERRIDES)
