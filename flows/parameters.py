"""What a run was asked to do: the parameters that a run, its child runs and its engine share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from flows.engines import EngineName
from reds_core.errors import OutputError
from reds_core.runs.worker import Request
from reds_core.spec.digest import digest
from reds_core.spec.fields import Spec
from reds_core.spec.files import check_files
from reds_core.spec.load import load_spec
from reds_core.storage.folder import Folder
from reds_core.storage.places import folder_at


class Asked(BaseModel):
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

    @cached_property
    def loaded(self) -> Spec:
        """The spec, its files there, its code let in. Raises SpecError or ModelError."""
        spec = load(Path(self.spec), self.overrides, self.allow_code)
        check_files(spec)
        return spec

    def place(self) -> Folder:
        """The folder of all runs. Raises OutputError if the run's processes would not see the same one."""
        folder = folder_at(self.out)
        if not folder.is_shared and self.engine != "local":
            raise OutputError(f"{self.out} can be seen by one process alone; use --engine local, or another folder", parameter="out")
        return folder

    def request(self, folder: Folder, spec: Spec) -> Request:
        """What an engine needs to know."""
        paths = code_places(Path(self.spec)) if self.allow_code else ()
        return Request(spec, digest(spec), folder, self.batch, self.allow_code, paths)

    def of_child(self, count: int) -> dict[str, Any]:
        """The same for a child run, on whatever machine, with `count` seeds."""
        return self.model_dump(mode="json") | {
            "out": folder_at(self.out).absolute(), "overrides": [*self.overrides, f"seeds.count={count}"],
        }  # fmt: skip


def load(path: Path, overrides: Sequence[str], allow_code: bool) -> Spec:
    """The spec, and a user's own modules importable if they may be."""
    spec = load_spec(path, overrides)
    if allow_code:
        sys.path += [place for place in code_places(path) if place not in sys.path]
    return spec


def code_places(spec: Path) -> tuple[str, ...]:
    """Where a user's own modules lie: in the working directory, or beside the spec."""
    return str(Path.cwd()), str(spec.absolute().parent)
