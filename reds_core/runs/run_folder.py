"""TODO."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reds_core.errors import OutputError, StorageError, UserError
from reds_core.runs.manifest import indices, intact, read_manifest, seems_intact, stem
from reds_core.runs.plan import plan
from reds_core.runs.shards import (
    PART,
    write_small,
)
from reds_core.spec.digest import digest
from reds_core.spec.fields import Spec
from reds_core.spec.load import dump, load_spec
from reds_core.storage.folders import Folder, fetched, names, near, read, remove, size
from reds_core.storage.local import disk, locked
from reds_core.storage.retries import is_refusal

PAGE_NAMES = ("report.html", "README.md", "samples.parquet", "croissant.json")  # the last describes the one before


MOST = 2**40  # more shards than any run has


def run_folder(spec: Spec, out: Folder) -> Folder:
    """Where a run of this spec lives: out/name/digest."""
    return out / spec.name / digest(spec)


@contextlib.contextmanager
def opened(spec: Spec, out: Folder, shards: range | None = None, fresh: bool = False) -> Iterator[Folder]:
    """The run's folder, created, and cleared of what a killed run left behind; if `fresh`, of all shards.

    Args:
        spec: of the run.
        out: the folder of all runs.
        shards: those that this run will write; all, if None or `fresh`. On a disk they are locked: another run may write others meanwhile.

    Raises:
        OutputError: it cannot be written.
        RunError: another run is writing to it.
    """
    folder = run_folder(spec, out)
    mine = range(MOST) if shards is None or fresh else shards
    if not isinstance(folder, Path):
        with _users_mistakes(folder):
            if fresh:
                remove(folder, *(name for name in names(folder) if _is_own(name)))
            write_small(folder, "spec.yaml", dump(_longest(spec, folder)).encode())
        yield folder
        return
    with contextlib.ExitStack() as stack:
        with disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if mine:
                stack.enter_context(locked(folder / ".lock", mine.start, len(mine)))
            with pages_of(folder):
                if fresh:
                    for path in (p for p in folder.iterdir() if _is_own(p.name)):
                        path.unlink()
                _clear(folder, mine)
                write_small(folder, "spec.yaml", dump(_longest(spec, folder)).encode())
        yield folder


@contextlib.contextmanager
def pages_of(folder: Path) -> Iterator[None]:
    """The files of a run that belong to no shard, for this process alone."""
    with disk(folder, "make it writable, or a copy of it"), locked(folder / ".lock-pages", 0, 1, wait=True):
        yield


@contextlib.contextmanager
def _users_mistakes(folder: Folder) -> Iterator[None]:
    """What a store refuses before anything was made is the user's to put right."""
    try:
        yield
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise OutputError(
                f"{folder} cannot be written: there is no such bucket; make it, or choose another with --out"
            ) from error
        if not is_refusal(error.__cause__):
            raise
        raise OutputError(str(error)) from error


def pending(folder: Folder, spec: Spec, among: range | None = None) -> list[int]:
    """The shards of the plan, or those `among` it, that are missing, damaged, or shorter than the plan.

    Reads every finished tar on a disk. Of a far folder it reads the manifests, and compares them with one listing.
    """
    todo = []
    with near(folder, ".json") as here:
        sizes = {} if isinstance(folder, Path) else names(folder)
        planned = plan(spec)
        for index in range(len(planned)) if among is None else among:
            manifest = read_manifest(here, index)
            if (
                manifest is None
                or manifest["seeds"] < len(planned[index])
                or not (intact(here, index, manifest) if isinstance(folder, Path) else seems_intact(sizes, index, manifest))
            ):
                todo.append(index)
    return todo


def made_meanwhile(folder: Folder, spec: Spec, index: int) -> dict[str, Any] | None:
    """The manifest of a shard that another run has finished in a store since `pending` looked; on a disk, locks keep others away."""
    found = None if isinstance(folder, Path) else read_manifest(folder, index)
    if isinstance(folder, Path) or found is None or found["seeds"] < len(plan(spec)[index]):
        return None
    sizes = {name: size(folder, name) for name in (f"{stem(index)}.tar", f"{stem(index)}.parquet")}
    return found if seems_intact(sizes, index, found) else None


def grown(spec: Spec, out: Folder) -> Spec:
    """The spec with more seeds than its folder holds: the next `seeds.count` of them, once all before are finished."""
    folder = run_folder(spec, out)
    longest = _longest(spec, folder)
    if read(folder, "spec.yaml") is None or pending(folder, longest):
        return longest
    return _counting(longest, longest.seeds.count + spec.seeds.count)


def _is_own(name: str) -> bool:
    """Whether a file of this name is one that a run writes into its folder."""
    return name in ("spec.yaml", *PAGE_NAMES) or bool(indices([name]))


def _clear(folder: Path, mine: range) -> None:
    """Removes unfinished files: those of a killed run, and tars and tables without a manifest. What others are writing stays."""
    for path in folder.iterdir():
        name = path.name.removeprefix(PART)
        ours = [index for index in indices([name]) if index in mine]
        if name != path.name:
            unfinished = bool(ours) or not indices([name])
        else:
            unfinished = bool(ours) and not path.with_suffix(".json").is_file()
        if unfinished:
            path.unlink(missing_ok=True)


def _longest(spec: Spec, folder: Folder) -> Spec:
    """The spec with the largest count that the folder was ever asked for: a smaller run deletes nothing."""
    try:
        with fetched(folder, "spec.yaml") as path:
            before = load_spec(path).seeds.count if path.is_file() else 0
    except (UserError, FileNotFoundError):
        before = 0  # damaged: written anew; or a new folder
    return _counting(spec, max(spec.seeds.count, before))


def _counting(spec: Spec, count: int) -> Spec:
    return spec.model_copy(update={"seeds": spec.seeds.model_copy(update={"count": count})})
