"""A finished run whose files are changed, and what `verify_run` owes its owner: every damage named, at its file, and nothing else.

What leaves every byte as it was is not damage. What leaves a manifest saying the same, but for its time, may be named or not. The
damages are in `tests/fuzz/damages.py`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reds_core.errors import OutputError
from reds_core.runs.verify import STRAY, verify_run
from reds_core.storage.places import folder_at
from tests.fuzz.specs import SECONDS, within
from tests.support.shards import KINDS, TIME, make_run, spec_of
from tests.support.worlds import world

SPEC = "spec.yaml"
SHARDS = range(3)


@dataclass(frozen=True)
class Odd:
    """What is not a file of bytes; a link leads to `target`."""

    kind: str
    target: str = ""


Content = bytes | Odd | None  # None: nothing lies there
Damage = Mapping[str, Content]


@dataclass(frozen=True)
class Run:
    """A finished run of three shards, one without samples, and the files of another of the same seeds."""

    folder: Path
    files: dict[str, bytes]
    other: dict[str, bytes]

    def names(self, ending: str = "") -> list[str]:
        return [n for n in self.files if n.endswith(ending) and n != SPEC]


def finished_run(folder: Path) -> Run:
    """Makes a run of seeds 3, 4 and 5, a shard each; of seed 4 nothing is accepted."""
    path = world(folder / "world")
    overrides = ("seeds.first=3", "shards.seeds=1")
    made, other = (make_run(spec_of(path, 3, *overrides, f"held.class={t}"), folder) for t in (0.2, 0.3))
    files, others = ({p.name: p.read_bytes() for p in sorted(f.iterdir()) if not p.name.startswith(".lock")} for f in (made, other))
    assert len(files) == len(KINDS) * len(SHARDS) - 1 + 1, "no tar of seed 4, and the spec"
    return Run(made, files, others)


def verify(run: Run, damage: Damage) -> str:
    """Returns whether `verify_run` finds the damage, as "found", "no damage" or "may be named". Leaves the run as it was.

    Raises:
        AssertionError: it misses the damage, or names what is whole. Any other exception is one that it must not raise.
    """
    try:
        for name, content in damage.items():
            _put(run.folder / name, content)
        return _judge(run, damage)
    finally:
        for name in damage:
            _put(run.folder / name, run.files.get(name))


def _judge(run: Run, damage: Damage) -> str:
    touched = {name for name, content in damage.items() if content != run.files.get(name)}
    harmed = {name for name in touched if not _says_the_same(run, name, damage[name])}
    try:
        with within(SECONDS):
            found = verify_run(folder_at(run.folder))
    except OutputError as error:
        assert SPEC in touched, "a run is said to be none"
        str(error).encode()  # to be printed
        return "found"
    if SPEC in touched:
        return "may be named"
    # A tar beside a manifest that says nothing may be an unfinished shard's.
    strays = {name for name in touched if name not in run.files and f"{name.partition('.')[0]}.json" not in harmed}
    assert set(found) == {*SHARDS, *([STRAY] if strays else [])}
    assert {p.partition(": ")[0] for p in found.pop(STRAY, [])} == strays
    for index, problems in found.items():
        stem = f"shard-{index:05d}"
        mine = {name for name in touched - strays if name.startswith(stem)}
        named = {p.partition(": ")[0] for p in problems}
        # Without a manifest there is nothing to hold the other files against.
        judged = {f"{stem}.json"} if f"{stem}.json" in mine else {n for n in mine if n in harmed}
        assert named <= mine | {stem for n in mine if n.endswith(".json")}, f"names {named - mine}; changed were {sorted(mine)}"
        assert named or not harmed & mine, f"{sorted(harmed & mine)} not found"
        assert f"{stem}.json" in judged or named == judged, f"names {sorted(named)} of {sorted(judged)}"
        "\n".join(problems).encode()  # to be printed
    return "found" if harmed else "may be named" if touched else "no damage"


def _says_the_same(run: Run, name: str, content: Content) -> bool:
    """Returns whether a manifest still says what it said, but for its time."""
    if not name.endswith(".json") or not isinstance(content, bytes):
        return False
    try:
        new, old = ({**json.loads(c), TIME: 0} for c in (content, run.files[name]))
        return json.dumps(new, sort_keys=True) == json.dumps(old, sort_keys=True)
    except (ValueError, TypeError, RecursionError):
        return False


def _put(path: Path, content: Content) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is None:
        pass
    elif content.kind == "folder":
        path.mkdir()
        (path / "file").write_bytes(b"content")
    elif content.kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(content.target)
