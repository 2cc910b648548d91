"""A plan -> its files. What lies there already is kept if it is intact, so that a killed export goes on where it was.

    export.json            first: what was asked, and of which shards
    tars, or images        each as a whole or not at all, and a tar's manifest after it
    README.md              the dataset card
    index.parquet          a row for every sample
    export.json            last, with the hash of index.parquet: the export is finished

Everything follows from the shards and the request: equal ones give equal bytes, however often the export was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reds_core.errors import OutputError
from reds_core.exports import image_folder, tars
from reds_core.exports.inputs import Run, Samples
from reds_core.exports.manifest import CARD, INDEX, NAME, Export, Size, described, is_export
from reds_core.exports.pages import card, write_index
from reds_core.exports.plan import Plan
from reds_core.exports.request import Format, Request
from reds_core.storage.disk import writing
from reds_core.storage.folder import PART, Folder, hash_of
from reds_core.types import Tell


@dataclass(frozen=True)
class Layout:
    """One form of an export: where each sample goes, and how the files are written."""

    placed: Callable[[pd.DataFrame, Request, Mapping[int, str]], pd.DataFrame]
    write: Callable[[Folder, Export, pd.DataFrame, Samples, Tell], int]


LAYOUTS: dict[Format, Layout] = {
    "webdataset": Layout(tars.placed, tars.write),
    "imagefolder": Layout(image_folder.placed, image_folder.write),
}


def check_dest(dest: Folder, runs: Sequence[Run], request: Request) -> None:
    """Raises OutputError if this export cannot go into a folder: it is or lies in a run, or holds something else."""
    for run in runs:
        if _lies_in(dest, run.folder):
            raise OutputError(f"{dest} lies in the run {run.folder}; give the export a folder of its own")
    if not dest.exists():
        return
    if is_export(dest):
        found, asked = Export.read(dest, NAME), described(request, runs).export
        if found is None:
            raise OutputError(f"{dest} holds an export whose {NAME} is damaged or missing; remove it, or choose another folder")
        if found.export != asked:
            raise OutputError(
                f"{dest} holds another export ({found.export}, this one is {asked}): of other shards, or with other options; "
                "remove it, or choose another folder"
            )
        return
    names = {*dest.names(), *(folder.name for folder in dest.folders())}  # in a store, folders have no names of their own
    others = sorted(name for name in names if not name.startswith((PART, ".lock")))
    if others:
        raise OutputError(f"{dest} holds something else ({', '.join(others[:3])}); choose a new or an empty folder")


def _lies_in(folder: Folder, other: Folder) -> bool:
    """Returns whether a folder is another one, or lies in it."""
    inner, outer = (f.absolute() if "://" in f.absolute() else str(Path(f.absolute()).resolve()) for f in (folder, other))
    return f"{inner.rstrip('/')}/".startswith(f"{outer.rstrip('/')}/")


def write_export(plan: Plan, dest: Folder, tell: Tell) -> tuple[Export, int]:
    """Writes what is missing of an export.

    Args:
        plan: what it holds; its tars are there to be read.
        dest: the folder, which `check_dest` has let pass.
        tell: hears what goes on.

    Returns:
        What `export.json` says, and how many shards or images were made now.

    Raises:
        RunError: another export is writing to the folder, or it cannot be written; what is finished is kept.
    """
    request = plan.request
    layout = LAYOUTS[request.format]
    rows = layout.placed(plan.rows, request, plan.names)
    sizes = {name: _size(rows[rows.split == name], request) for name in request.splits}
    said = described(request, plan.index.runs).model_copy(update={"splits": sizes})
    with dest.opening(), dest.locked(range(1)):
        before = Export.read(dest, NAME)
        if before is None:
            dest.write(NAME, said.to_json().encode())
        with closing(Samples(plan.index)) as samples:
            made = layout.write(dest, said, rows, samples, tell)
        _write_if_new(dest, CARD, card(plan, said).encode())
        said = said.model_copy(update={"finished": True, "index_sha256": _write_index(dest, plan, rows)})
        _write_if_new(dest, NAME, said.to_json().encode())
        dest.flush()
    return said, made


def sizes_of(plan: Plan) -> dict[str, Size]:
    """Returns how much every split would hold."""
    request = plan.request
    rows = LAYOUTS[request.format].placed(plan.rows, request, plan.names)
    return {name: _size(rows[rows.split == name], request) for name in request.splits}


def _size(rows: pd.DataFrame, request: Request) -> Size:
    return Size(samples=len(rows), shards=rows.shard.nunique() if request.format == "webdataset" else 0)


def _write_if_new(dest: Folder, name: str, content: bytes) -> None:
    if dest.read(name) != content:
        dest.write(name, content)


def _write_index(dest: Folder, plan: Plan, rows: pd.DataFrame) -> str:
    """Writes index.parquet unless it is there, and returns its hash."""
    specs = {run.digest: run.spec.name for run in plan.index.runs}
    with dest.drafts([INDEX]) as paths, writing(paths[INDEX].parent):
        write_index(paths[INDEX], rows, specs)
        sha256, size = hash_of(paths[INDEX]), paths[INDEX].stat().st_size
        if not dest.matches(dest.files(), INDEX, size, sha256):
            dest.send(paths[INDEX], INDEX)
    return sha256
