"""Kills, full disks and folders that cannot be written: what is finished stays, and nothing else looks finished."""

from __future__ import annotations

import errno
import io
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reds_core.errors import OutputError, RunError
from reds_core.runs import verify
from reds_core.runs.manifest import stem
from reds_core.runs.run_folder import opened, pending, run_folder
from reds_core.runs.verify import verify_run, verify_shard
from reds_core.storage import local
from reds_core.storage.folder import hash_of
from reds_core.storage.places import folder_at
from tests.support import ROOT
from tests.support.shards import KINDS, contents, make_run, path_of, spec_of, write
from tests.support.worlds import world


@pytest.fixture(scope="module")
def spec_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world(tmp_path_factory.mktemp("world"))


# Kills


class Killed(BaseException):
    """What a killed process does next: nothing."""


class Faults:
    """Counts every step that changes the disk; step number `at` fails with `error`, or kills, after which no step does anything."""

    def __init__(self, at: int, error: OSError | None = None) -> None:
        self.at, self.error = at, error
        self.steps: list[str] = []
        self.dead = False

    def step(self, name: str) -> bool:
        if self.dead:
            return False
        self.steps.append(name)
        if len(self.steps) == self.at:
            if self.error is None:
                self.dead = True
                raise Killed
            raise self.error
        if self.error is not None and len(self.steps) > self.at and name == "write":
            raise self.error  # a full disk stays full
        return True

    def install(self, patch: pytest.MonkeyPatch) -> None:
        faults, replaced, unlinked, opened_ = self, os.replace, Path.unlink, Path.open

        class Raw(io.FileIO):
            def write(self, data: Any) -> int:
                return super().write(data) if faults.step("write") else len(data)

        def open_(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
            if mode != "wb":
                return opened_(path, mode, *args, **options)
            faults.step("open")
            return io.BufferedWriter(Raw(path, "wb"))

        patch.setattr(Path, "open", open_)
        patch.setattr(Path, "unlink", lambda path, missing_ok=False: faults.step("unlink") and unlinked(path, missing_ok))
        patch.setattr(os, "replace", lambda source, target: faults.step("replace") and replaced(source, target))
        patch.setattr(os, "fsync", lambda handle: faults.step("fsync"))


def hurt(
    monkeypatch: pytest.MonkeyPatch, base: Path, where: Path, error: Callable[[], OSError | None]
) -> Iterator[tuple[Faults, Path, pytest.MonkeyPatch]]:
    """For every step of a run in turn: the fault that strikes then, a copy of the folder `base`, and what ends the fault."""
    for at in itertools.count(1):
        faults, out = Faults(at, error()), where / str(at)
        shutil.copytree(base, out)
        with monkeypatch.context() as patch:
            faults.install(patch)
            yield faults, out, patch
        if len(faults.steps) < at:
            assert set(faults.steps) == {"open", "write", "fsync", "replace", "unlink"} and at > 20
            return


@pytest.mark.parametrize("before", [0, 3], ids=["a new folder", "a short last shard"])
def test_a_kill_at_any_step_leaves_nothing_that_looks_finished(
    spec_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    base, last = tmp_path / "base", 1 if before else 0
    base.mkdir()
    if before:
        make_run(spec_of(spec_path, before), base)
    spec = spec_of(spec_path, 4 if before else 2)
    expected = contents(make_run(spec, tmp_path / "expected"))
    for faults, out, patch in hurt(monkeypatch, base, tmp_path / "runs", lambda: None):
        try:
            make_run(spec, out)
        except Killed:
            patch.undo()
            folder = path_of(run_folder(spec, folder_at(out)))
            claimed = [k for k in range(2) if (folder / f"{stem(k)}.json").exists()]
            assert all(verify_shard(folder_at(folder), k) == [] for k in claimed), faults.steps
            if before:
                assert 0 in claimed, "a shard that was not touched is gone"
            if before and last not in claimed:  # an old shard goes only when all of the new one is there
                for kind in ("tar", "parquet"):
                    there = [folder / f"{part}{stem(last)}.{kind}" for part in (".part-", "")]
                    assert expected[f"{stem(last)}.{kind}"] in [p.read_bytes() for p in there if p.exists()], faults.steps
        else:
            assert len(faults.steps) < faults.at
            patch.undo()
        assert contents(make_run(spec, out)) == expected, faults.steps


def test_a_full_disk_at_any_step_is_one_clear_error_and_leaves_no_unfinished_file(
    spec_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    make_run(spec_of(spec_path, 3), base)
    spec = spec_of(spec_path, 4)
    folder = path_of(run_folder(spec, folder_at(base)))
    before, messages = contents(folder), set()
    for faults, out, patch in hurt(
        monkeypatch, folder, tmp_path / "runs", lambda: OSError(errno.ENOSPC, "No space left on device")
    ):
        try:
            write(folder_at(out), spec, 1)
        except RunError as error:
            messages.add(str(error).replace(str(out), "FOLDER"))
        patch.undo()
        after = contents(out)
        assert not [name for name in after if name.startswith(".part-")], faults.steps
        assert all(after[f"shard-00000.{kind}"] == before[f"shard-00000.{kind}"] for kind in KINDS)
        assert verify_shard(folder_at(out), 1) == [] or not (out / "shard-00001.json").exists(), faults.steps
        if "replace" not in faults.steps and faults.steps.count("unlink") <= 3:  # the new one was not complete
            assert after == before, faults.steps
    assert messages == {"the disk is full: FOLDER. What is finished is kept; make room and run again"}


def be_killed(spec_path: str, out: str) -> None:
    """For every line of input, a child that writes shards over and over, until it is killed. Prints its id, and "gone"."""
    spec = spec_of(Path(spec_path), 4)
    for _ in sys.stdin:
        child = os.fork()
        if child:
            print(child, flush=True)
            os.waitpid(child, 0)
            print("gone", flush=True)
            continue
        parent, until = os.getppid(), time.monotonic() + 20
        with opened(spec, folder_at(Path(out))) as folder:
            for index in itertools.cycle(range(2)):
                write(folder, spec, index)
                if os.getppid() != parent or time.monotonic() > until:
                    os._exit(1)


def test_a_sigkill_at_random_moments_leaves_nothing_that_looks_finished(spec_path: Path, tmp_path: Path) -> None:
    spec, out = spec_of(spec_path, 4), tmp_path / "out"
    expected = contents(make_run(spec, tmp_path / "expected"))
    code = "import sys; from tests.storage.test_local import be_killed; be_killed(*sys.argv[1:])"
    draw, seen = random.Random(0), Counter[str]()
    with subprocess.Popen(
        [sys.executable, "-c", code, str(spec_path), str(out)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    ) as process:  # fmt: skip
        assert process.stdin and process.stdout
        for attempt in range(100):
            if attempt >= 10 and seen["unfinished"] and seen["finished"]:
                break
            print("go", file=process.stdin, flush=True)
            victim = int(process.stdout.readline())
            time.sleep(draw.uniform(0.005, 0.2 + 0.02 * attempt))  # a busy machine needs longer to finish anything
            os.kill(victim, signal.SIGKILL)
            assert process.stdout.readline() == "gone\n"
            folder = path_of(run_folder(spec, folder_at(out)))
            names = {p.name for p in folder.glob("*")}
            seen.update({"unfinished"} if any(n.startswith(".part-") for n in names) else {"at rest"})
            for index in (0, 1):
                if f"{stem(index)}.json" in names:
                    seen["finished"] += 1
                    assert verify_shard(folder_at(folder), index) == []
        process.stdin.close()
        assert process.wait(20) == 0
    # The kernel released the lock, and another process's bytes are these ones' equals.
    assert contents(make_run(spec, out)) == expected
    assert seen["unfinished"] and seen["finished"], f"the kills hit only one kind of moment: {seen}"


# Folders that cannot be written


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_folder_that_cannot_be_written_is_the_users_mistake(
    spec_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        with pytest.raises(OutputError, match=f"cannot be written: {os.strerror(code)}; choose another folder"):
            make_run(spec_of(spec_path), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_does_not_wait_for_anothers_report_but_its_own_pages_do(spec_path: Path, tmp_path: Path) -> None:
    spec = spec_of(spec_path)
    with opened(spec, folder_at(tmp_path), range(0, 1)) as folder, folder.pages_locked():
        folder.path.joinpath(".part-report.html").touch()  # type: ignore[attr-defined]
        code = (
            "import sys; from pathlib import Path; from reds_core.runs.run_folder import opened; "
            "from reds_core.storage.places import folder_at; "
            "from tests.support.shards import spec_of\n"
            "with opened(spec_of(Path(sys.argv[1])), folder_at(sys.argv[2]), range(1, 3)) as folder:\n"
            "    print('in', flush=True)\n"
            "    with folder.pages_locked(): print('pages', flush=True)"
        )
        words = [sys.executable, "-c", code, str(spec_path), str(tmp_path)]
        other = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert other.stdout and other.stdout.readline() == "in\n" and folder.read(".part-report.html") == b""
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(1)
    assert other.communicate(timeout=60)[0] == "pages\n" and other.returncode == 0


def test_a_finished_shard_is_read_once_in_a_process_and_again_if_it_changed(
    spec_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(spec_path, 4)
    folder = folder_at(make_run(spec, tmp_path))
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return hash_of(path)

    monkeypatch.setattr(local, "hash_of", counted)
    monkeypatch.setattr(verify, "hash_of", counted)
    assert pending(folder, spec) == [] and pending(folder, spec) == []
    assert sorted(read) == [f"{stem(k)}.{kind}" for k in range(2) for kind in ("parquet", "tar", "zip")]
    read.clear()
    tar = path_of(folder) / "shard-00001.tar"
    times, content = tar.stat(), bytearray(tar.read_bytes())
    content[700] ^= 1
    tar.write_bytes(content)
    os.utime(tar, ns=(times.st_atime_ns, times.st_mtime_ns))  # only the kernel's own time of the change tells
    assert pending(folder, spec) == [1] and read == ["shard-00001.tar"]
    read.clear()
    assert verify_run(folder)[1] and len(read) == 6, "verify reads everything"


def test_a_link_where_a_file_was_being_written_is_removed_not_followed(spec_path: Path, tmp_path: Path) -> None:
    spec = spec_of(spec_path, 2)
    folder = make_run(spec, tmp_path / "out")
    expected = contents(folder)
    (folder / "shard-00000.json").unlink()
    (folder / ".part-shard-00000.tar").symlink_to(tmp_path / "elsewhere")
    assert contents(make_run(spec, tmp_path / "out")) == expected
    assert not (folder / "shard-00000.tar").is_symlink() and not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["shard-00000.json", ".part-shard-00000.tar", "report.html"])
def test_a_folder_in_place_of_a_file_is_noticed_before_anything_is_made(spec_path: Path, tmp_path: Path, name: str) -> None:
    spec = spec_of(spec_path, 2)
    folder = path_of(run_folder(spec, folder_at(tmp_path)))
    (folder / name).mkdir(parents=True)
    with pytest.raises(OutputError, match="it is a folder; move it away"), opened(spec, folder_at(tmp_path), fresh=True):
        raise AssertionError("it was opened")


def test_a_name_too_long_for_a_folder_is_the_users_mistake(spec_path: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="File name too long"):
        make_run(spec_of(spec_path, 2, f"name={'n' * 300}"), tmp_path)


def test_a_disk_that_fails_is_one_clear_error(spec_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch, pytest.raises(RunError, match=r"Input/output error\. Run again"):
        patch.setattr(os, "fsync", fail)
        make_run(spec_of(spec_path, 2), tmp_path)
    assert {p.name for p in tmp_path.rglob("*") if p.is_file()} == {".lock", ".lock-pages"}


def test_a_folder_removed_in_mid_run_is_one_clear_error(spec_path: Path, tmp_path: Path) -> None:
    spec = spec_of(spec_path)
    with opened(spec, folder_at(tmp_path)) as folder:
        shutil.rmtree(path_of(folder))
        with pytest.raises(RunError, match="No such file or directory"):
            write(folder, spec, 0)


def test_an_error_that_is_not_the_folders_is_not_blamed_on_it(spec_path: Path, tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="weights"), opened(spec_of(spec_path), folder_at(tmp_path)):
        raise PermissionError(errno.EACCES, "weights")


def test_an_output_folder_that_is_a_file_is_the_users_mistake(spec_path: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written: Not a directory"):
        make_run(spec_of(spec_path), tmp_path / "out")


@pytest.mark.parametrize("place", ["file", "file/below", "file/far/below"])
def test_a_place_below_a_file_is_refused_before_anything_is_made(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("a file")
    with pytest.raises(OutputError, match="file is not a folder; choose another folder"):
        folder_at(tmp_path / place).check_place()
    folder_at(tmp_path / "new" / "folder").check_place()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_no_file_system_takes_is_the_users_mistake() -> None:
    with (
        pytest.raises(OutputError, match="cannot be made: No such file or directory; choose another"),
        folder_at("/proc/x").opening(),
    ):
        raise AssertionError("entered")


def test_a_run_on_a_real_disk_stops_when_it_is_full_and_continues_when_there_is_room(spec_path: Path, small_disk: Path) -> None:
    spec = spec_of(spec_path, 12)
    with pytest.raises(RunError, match="the disk is full"):
        make_run(spec, small_disk)
    folder = path_of(run_folder(spec, folder_at(small_disk)))
    finished = contents(folder)
    assert not [name for name in finished if name.startswith(".part-")]
    intact = [k for k, problems in verify_run(folder_at(folder)).items() if not problems]
    assert intact and len(intact) == sum(name.endswith(".tar") for name in finished) < 6
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    make_run(spec, small_disk)
    assert all(contents(folder)[name] == value for name, value in finished.items())
    assert not any(verify_run(folder_at(folder)).values())
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(OutputError, match="Read-only file system; choose another folder"):
        make_run(spec, small_disk)
