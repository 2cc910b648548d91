"""The list of runs: what differs between specs of one name, and manifests that are wrong or cannot be read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from flows.cli.show import tables
from reds_core.errors import StorageError
from reds_core.runs.manifest import read_manifest, seal
from reds_core.runs.totals import differences, runs
from reds_core.runs.verify import verify_run
from reds_core.spec.load import load_spec
from reds_core.storage.folder import Folder
from reds_core.storage.places import folder_at
from tests.support.shards import make_run, path_of
from tests.support.worlds import world


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Folder, Folder]:
    """Makes two runs whose specs have one name, and returns the folder of all runs and those of the two."""
    spec = world(tmp_path / "spec", seeds={"first": 0, "count": 2})
    out = tmp_path / "runs"
    made = [folder_at(make_run(load_spec(spec, [change]), out)) for change in ("held.class=0.2", "held.class=0.3")]
    return out, made[0], made[1]


def test_runs_of_one_name_are_told_apart(two: tuple[Path, Folder, Folder], capsys: pytest.CaptureFixture[str]) -> None:
    out, first, second = two
    assert differences(runs(folder_at(out))) == {str(first): ["held.class=0.2"], str(second): ["held.class=0.3"]}
    assert differences(runs(first)) == {str(first): []}
    tables.show_runs(runs(folder_at(out)), str(out))
    assert f"{second}: held.class=0.3" in capsys.readouterr().out.replace("\n", "")


def test_a_wrong_manifest_takes_nothing_down(two: tuple[Path, Folder, Folder]) -> None:
    out, first, _ = two
    file = path_of(first) / "shard-00000.json"
    said = json.loads(file.read_text()) | {"passes": {"sideways": 1}}
    file.write_text(json.dumps(said | {"manifest_sha256": seal(said)}))
    assert read_manifest(first, 0) is None
    assert {r.state for r in runs(folder_at(out))} == {"complete", "partial, 0 of 1 shard"}


def test_a_manifest_that_cannot_be_read_is_not_called_damaged(
    two: tuple[Path, Folder, Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, first, _ = two
    read, mine = Path.read_bytes, path_of(first) / "shard-00000.json"

    def refused(path: Path) -> Any:
        if path == mine:
            raise PermissionError(13, os.strerror(13))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(StorageError, match=r"shard-00000\.json cannot be read: Permission denied; make it readable"):
        read_manifest(first, 0)
    assert {r.state for r in runs(folder_at(out))} == {"complete", "cannot be read"}
    (problem,) = verify_run(first)[0]
    assert "cannot be read: Permission denied" in problem and "damaged" not in problem
