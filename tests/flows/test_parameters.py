"""The spec that a run's parameters name: read once, but never out of date."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flows.parameters import checked_spec
from reds_core.errors import ModelError
from reds_core.spec.digest import digest
from tests.support.worlds import world


def test_a_relative_override_means_the_working_directory_of_each_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = world(tmp_path / "world")
    digests = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(tmp_path / "world/c.pt", tmp_path / name / "c.pt")
        with (tmp_path / name / "c.pt").open("ab") as file:
            file.write(name.encode())
        monkeypatch.chdir(tmp_path / name)
        digests.append(digest(checked_spec(spec, ["attributes.class.model.path=c.pt"], allow_code=False)))
    assert digests[0] != digests[1]


def test_a_file_that_goes_between_two_calls_is_missed_by_its_key(tmp_path: Path) -> None:
    spec = world(tmp_path / "world")
    assert checked_spec(spec, [], allow_code=False) == checked_spec(spec, [], allow_code=False)
    (tmp_path / "world/c.pt").unlink()
    with pytest.raises(ModelError, match=r"attributes\.class\.model\.path: there is no file"):
        checked_spec(spec, [], allow_code=False)


def test_a_spec_that_changes_between_two_calls_is_read_again(tmp_path: Path) -> None:
    spec = world(tmp_path / "world")
    before = checked_spec(spec, [], allow_code=False)
    spec.write_text(spec.read_text().replace("name: tiny", "name: changed"))
    assert (before.name, checked_spec(spec, [], allow_code=False).name) == ("tiny", "changed")
