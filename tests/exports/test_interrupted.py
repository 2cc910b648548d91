"""Exports that are stopped or killed go on to the same bytes, on disks and in buckets."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reds_core.errors import OutputError, RunError
from reds_core.exports.inputs import Samples
from reds_core.exports.verify import verify_export
from reds_core.storage.disk import locked
from reds_core.storage.folder import Folder
from reds_core.storage.places import folder_at
from tests.support.exports import LIMITS, bytes_of, export, make, spec_at
from tests.support.s3 import CREDENTIALS, make_bucket, serving


class Stopped(BaseException):
    pass


def stop_after(count: int, patch: pytest.MonkeyPatch, by: Any) -> None:
    """Calls `by` in place of the reading of one more sample than these."""
    numbers, real = itertools.count(), Samples.files

    def files(self: Samples, row: Any) -> dict[str, bytes]:
        if next(numbers) == count:
            by()
        return real(self, row)

    patch.setattr(Samples, "files", files)


def stop() -> None:
    raise Stopped


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("format", ["webdataset", "imagefolder"])
@pytest.mark.parametrize("count", [0, 7, 35])
def test_an_export_that_was_stopped_goes_on_to_the_same_bytes(
    one: Path, two: Path, whole: dict[str, Any], tmp_path: Path, count: int, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_after(count, patch, stop)
        export([one, two], tmp_path / "e", format=format, **LIMITS)
    assert any("is not finished" in problem for problem in verify_export(folder_at(tmp_path / "e")).problems)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "e").rglob("*.*") if path.suffix in (".tar", ".png")}
    export([one, two], tmp_path / "e", format=format, **LIMITS)
    assert bytes_of(tmp_path / "e") == whole[format]
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what was finished is not made again"


@pytest.mark.parametrize("format", ["webdataset", "imagefolder"])
@pytest.mark.parametrize("count", [3, 30])
def test_an_export_that_was_killed_goes_on_to_the_same_bytes(
    one: Path, two: Path, whole: dict[str, Any], tmp_path: Path, count: int, format: str
) -> None:
    def killed() -> None:
        with pytest.MonkeyPatch.context() as patch:
            stop_after(count, patch, die)
            export([one, two], tmp_path / "e", format=format, **LIMITS)

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL and verify_export(folder_at(tmp_path / "e")).problems
    export([one, two], tmp_path / "e", format=format, **LIMITS)
    assert bytes_of(tmp_path / "e") == whole[format] and not verify_export(folder_at(tmp_path / "e")).problems


def test_a_finished_export_has_nothing_left_to_do(one: Path, tmp_path: Path) -> None:
    export([one], tmp_path / "d", **LIMITS)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "d").iterdir() if path.name != ".lock"}
    assert export([one], tmp_path / "d", **LIMITS)[1] == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_another_export_in_the_same_folder_waits_for_nobody(one: Path, tmp_path: Path) -> None:
    export([one], tmp_path / "d", **LIMITS)
    with locked(tmp_path / "d/.lock", 0, 1), pytest.raises(RunError, match="another run is writing"):
        export([one], tmp_path / "d", **LIMITS)


# Buckets


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, serving() as server:
        for key, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": server.url}.items():
            patch.setenv(key, value)
        make_bucket("bucket")
        yield "s3://bucket"


def copied(folder: Folder, to: Path) -> Path:
    """Copies a folder, and those in it, to a disk."""
    to.mkdir()
    for name in folder.files():
        (to / name).write_bytes(folder.read(name) or b"")
    for inner in folder.folders():
        copied(inner, to / inner.name)
    return to


@pytest.mark.parametrize("format", ["webdataset", "imagefolder"])
def test_runs_and_exports_in_buckets_have_the_bytes_of_those_on_a_disk(
    two: Path, whole: dict[str, Any], bucket: str, tmp_path: Path, format: str
) -> None:
    runs: list[Folder | Path] = [make(folder_at(f"{bucket}/{format}/runs"), spec_at(tmp_path)), two]
    dest = folder_at(f"{bucket}/{format}/set")
    with pytest.raises(OutputError, match=r"holds something else \(one\)"):
        export(runs, folder_at(f"{bucket}/{format}/runs"))
    export(runs, dest, format=format, **LIMITS)
    assert bytes_of(copied(dest, tmp_path / "e")) == whole[format]
    assert export(runs, dest, format=format, **LIMITS)[1] == 0 and not verify_export(dest).problems
    with pytest.raises(OutputError, match="lies in the run"):
        export(runs, folder_at(f"{runs[0]}/set"))


@pytest.mark.parametrize("count", [4, 30])
def test_an_export_into_a_bucket_goes_on_where_it_was_stopped(
    one: Path, bucket: str, tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = folder_at(f"{bucket}/stopped{count}/set")
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_after(count, patch, stop)
        export([one], dest, shards=6)
    assert export([one], dest, shards=6)[1] == (6 if count == 4 else 3)
    export([one], tmp_path / "d", shards=6)
    assert bytes_of(copied(dest, tmp_path / "e")) == bytes_of(tmp_path / "d")
