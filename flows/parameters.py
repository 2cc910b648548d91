"""The parameters that a run, its child runs and its engine share, and the spec that they name."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from flows.engines import EngineName
from reds_core.errors import OutputError, UserError
from reds_core.runs.until import Until, until_of
from reds_core.runs.worker import Request
from reds_core.spec.digest import digest
from reds_core.spec.fields import Spec
from reds_core.spec.files import check_code, check_files
from reds_core.spec.load import load_spec
from reds_core.storage.folder import Folder
from reds_core.storage.places import folder_at


class Parameters(BaseModel):
    """Parameters of the flow `augment` that its child runs get too; see there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: str
    out: str
    engine: EngineName
    workers: int | None
    device: str
    batch: int | None
    overrides: tuple[str, ...]
    allow_code: bool

    def loaded(self) -> Spec:
        """Returns the spec, all of its files present. Raises SpecError or ModelError."""
        return checked_spec(Path(self.spec), self.overrides, self.allow_code)

    def place(self) -> Folder:
        """Returns the folder of all runs. Raises OutputError if the run's processes would not see the same one."""
        return placed(self.out, self.engine)

    def request(self, folder: Folder, spec: Spec) -> Request:
        """Returns what an engine needs to know."""
        paths = code_places(Path(self.spec)) if self.allow_code else ()
        return Request(spec, digest(spec), folder, self.batch, self.allow_code, paths)

    def of_child(self, count: int) -> dict[str, Any]:
        """Returns the parameters of a child run, on whatever machine, with `count` seeds."""
        return self.model_dump(mode="json") | {
            "out": folder_at(self.out).absolute(),
            "overrides": [*self.overrides, f"seeds.count={count}"],
        }


def placed(out: str, engine: EngineName) -> Folder:
    """Returns a folder of runs. Raises OutputError if an engine's processes would not see the same one."""
    folder = folder_at(out)
    if not folder.is_shared and engine != "local":
        raise OutputError(f"{out} can be seen by one process alone; use the engine `local`, or another folder", parameter="out")
    return folder


def wanted_until(text: str | None, grow: bool, shards: str | None) -> Until | None:
    """Returns what the parameter `until` of the flow `augment` asks for, None if it is not given.

    Raises:
        UserError: it cannot be read, or stands beside a parameter that it contradicts.
    """
    if text is None:
        return None
    if grow or shards is not None:
        raise UserError(
            f"until says itself how many seeds are made, and does not go with {'grow' if grow else 'shards'}; give one of the two",
            parameter="until",
        )
    return until_of(text)


def checked_spec(path: Path, overrides: Sequence[str], allow_code: bool) -> Spec:
    """Returns a spec, all of its files present, and makes the user's own modules importable if their code may run.

    `reds` calls this, then the flow does; the spec is read again only if it has changed.

    Raises:
        SpecError, ModelError: the spec is wrong, a file is missing or changed, or code is named that may not run.
    """
    make_importable(path, allow_code)
    try:
        stat = path.stat()
    except OSError:
        return load_spec(path, overrides)  # which says what is wrong with it
    # Overrides are relative to the working directory, and a spec's files may change while the spec does not.
    spec = _loaded(path, tuple(overrides), Path.cwd(), stat.st_mtime_ns, stat.st_size)
    check_files(spec)
    check_code(spec, allow_code)
    return spec


@lru_cache(maxsize=1)
def _loaded(path: Path, overrides: tuple[str, ...], *_changes: object) -> Spec:
    return load_spec(path, overrides)


def make_importable(spec: Path, allow_code: bool) -> None:
    """Makes the user's own modules importable if their code may run."""
    if allow_code:
        sys.path += [place for place in code_places(spec) if place not in sys.path]


def code_places(spec: Path) -> tuple[str, ...]:
    """Returns where a user's own modules lie: in the working directory, or beside the spec."""
    return str(Path.cwd()), str(spec.absolute().parent)
