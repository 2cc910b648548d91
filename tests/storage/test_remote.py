"""Runs in object stores: the promise of a disk, kept by a server that fails, and by two runs that meet."""

from __future__ import annotations

import errno
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import webdataset as wds
from webdataset.gopen import gopen_schemes

from reds_core.errors import OutputError, ShardDamaged, StorageError
from reds_core.reports.page import write_report
from reds_core.runs import publish as publishing
from reds_core.runs.manifest import Manifest, names_of, read_manifest, stem
from reds_core.runs.plan import plan
from reds_core.runs.publish import publish
from reds_core.runs.run_folder import made_meanwhile, opened, pending
from reds_core.runs.shards import write_shard
from reds_core.runs.totals import runs
from reds_core.runs.verify import STRAY, verify_run, verify_shard
from reds_core.spec.digest import digest
from reds_core.spec.fields import Spec
from reds_core.storage import disk, remote, retries
from reds_core.storage.folder import Folder
from reds_core.storage.local import LocalFolder
from reds_core.storage.places import folder_at
from reds_core.storage.remote import RemoteFolder
from tests.support.s3 import CREDENTIALS, Fault, Server, make_bucket, serving
from tests.support.shards import candidates_of, computed, contents, make_run, make_run_in, spec_of, stored
from tests.support.worlds import world

BUCKETS = itertools.count()


@pytest.fixture(scope="module")
def spec_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch, serving() as server:
        for key, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": server.url, "AWS_MAX_ATTEMPTS": "2"}.items():
            patch.setenv(key, value)
        # Hundreds of faults: neither this package's pauses nor the client's own may be long.
        patch.setattr(remote, "RETRY_TIME", 20.0)
        patch.setattr(retries, "FIRST_PAUSE", 0.01)
        patch.setattr(publishing, "MANIFEST_WAIT", 2.0)
        yield server


@pytest.fixture
def s3(server: Server) -> Iterator[str]:
    """An empty bucket's URL."""
    server.fault = lambda request: ""
    name = f"bucket{next(BUCKETS)}"
    make_bucket(name)
    server.asked.clear()
    server.done.clear()
    yield f"s3://{name}/runs"
    server.fault = lambda request: ""


def remote_folder(url: str) -> RemoteFolder:
    folder = folder_at(url)
    assert isinstance(folder, RemoteFolder)
    return folder


def put(folder: Folder, name: str, content: bytes) -> None:
    """Writes an object behind the back of this package."""
    assert isinstance(folder, RemoteFolder)
    folder.place.fs.pipe_file(f"{folder.place.path}/{name}", content)


@pytest.fixture(params=["s3", "memory"])
def anywhere(request: pytest.FixtureRequest) -> str:
    return f"memory://m{next(BUCKETS)}" if request.param == "memory" else str(request.getfixturevalue("s3"))


def test_a_remote_run_holds_the_bytes_of_a_local_one(spec_path: Path, tmp_path: Path, anywhere: str) -> None:
    spec = spec_of(spec_path)
    local = make_run(spec, tmp_path)
    folder = make_run_in(remote_folder(anywhere), spec)
    assert stored(folder) == contents(local) and pending(folder, spec) == [] and verify_run(folder) == {0: [], 1: [], 2: []}
    assert make_run_in(remote_folder(anywhere), spec) == folder and stored(folder) == contents(local)
    (run,) = runs(remote_folder(anywhere))
    assert (run.folder, run.state, run.totals.shards) == (folder, "complete", 3) and run.changed > 1.7e9
    assert runs(folder)[0].totals == run.totals
    write_report(folder_at(local))
    assert str(write_report(folder)) == f"{folder}/report.html" and stored(folder) == contents(local)


def test_a_manifest_is_written_last_by_the_servers_own_record(spec_path: Path, s3: str, server: Server) -> None:
    make_run_in(remote_folder(s3), spec_of(spec_path))
    kinds = ("tar", "parquet", "zip", "json")
    assert server.written() == ["spec.yaml", *(f"{stem(k)}.{kind}" for k in range(3) for kind in kinds)]


def test_webdataset_reads_a_remote_run(spec_path: Path, anywhere: str) -> None:
    folder = make_run_in(remote_folder(anywhere), spec_of(spec_path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(gopen_schemes, anywhere.partition("://")[0], fsspec_open)
        found = list(wds.WebDataset(f"{folder}/shard-{{00000..00002}}.tar", shardshuffle=False, empty_check=False))
    expected = [c.key for k in range(3) for c in candidates_of(spec_of(spec_path), plan(spec_of(spec_path))[k]) if c.accepted]
    assert [s["__key__"] for s in found] == expected


def fsspec_open(url: str, mode: str = "rb", bufsize: int = 8192) -> Any:
    import fsspec

    return fsspec.open(url, mode).open()


def test_a_short_last_shard_is_made_anew_and_nothing_else(spec_path: Path, s3: str, server: Server, tmp_path: Path) -> None:
    make_run_in(remote_folder(s3), spec_of(spec_path, 3))
    server.done.clear()
    spec = spec_of(spec_path, 6)
    folder = make_run_in(remote_folder(s3), spec)
    assert server.written(".tar") == ["shard-00001.tar", "shard-00002.tar"]
    assert stored(folder) == contents(make_run(spec, tmp_path))
    with opened(spec_of(spec_path, 1), remote_folder(s3)) as same:
        assert same == folder and pending(folder, spec) == []
    with opened(spec, remote_folder(s3), fresh=True):
        assert set(folder.files()) == {"spec.yaml"}


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes] | None, str]] = {
    "cut": ("tar", lambda b: b[:-512], "has"),
    "flipped": ("tar", lambda b: b[:3000] + bytes([b[3000] ^ 1]) + b[3001:], "its hash differs"),
    "table": ("parquet", lambda b: b[::-1], "its hash differs"),
    "manifest": ("json", lambda b: b[:-9], "is damaged"),
    "gone": ("tar", None, "is missing"),
    "no manifest": ("json", None, "has no manifest"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_is_found_over_the_network_and_mended(spec_path: Path, tmp_path: Path, s3: str, name: str) -> None:
    spec = spec_of(spec_path)
    folder = make_run_in(remote_folder(s3), spec)
    kind, change, message = DAMAGES[name]
    file = f"{stem(1)}.{kind}"
    content = folder.read(file) or b""
    folder.remove(file)
    if change is not None:
        put(folder, file, change(content))
    found = verify_run(folder)
    assert found[0] == found[2] == [] and message in found[1][0] and verify_shard(folder, 1) == found[1]
    if name in ("flipped", "table"):  # of the right size: a listing cannot see it
        assert pending(folder, spec) == []
        folder.remove(f"{stem(1)}.json")
    assert pending(folder, spec) == [1]
    assert stored(make_run_in(remote_folder(s3), spec)) == contents(make_run(spec, tmp_path))


@pytest.mark.parametrize("kind", ["zip", "parquet"])
def test_a_report_of_a_damaged_shard_is_one_clear_error(spec_path: Path, s3: str, kind: str) -> None:
    folder = make_run_in(remote_folder(s3), spec_of(spec_path))
    content = folder.read(f"{stem(1)}.{kind}")
    assert content is not None
    put(folder, f"{stem(1)}.{kind}", content[:2000] + bytes([content[2000] ^ 1]) + content[2001:])
    with pytest.raises(ShardDamaged, match=r"shard-00001: differs from its manifest; remove its \.json, then run the spec again"):
        write_report(folder)
    folder.remove(f"{stem(1)}.json")
    make_run_in(remote_folder(s3), spec_of(spec_path))
    write_report(folder)


@pytest.mark.parametrize("prefix", ["", "/a[1]*?", "/50% off/ä"])
def test_any_prefix_of_a_bucket_will_do(spec_path: Path, s3: str, prefix: str) -> None:
    out = remote_folder(s3.removesuffix("/runs") + prefix)
    folder = make_run_in(out, spec_of(spec_path))
    put(folder, "", b"")  # as some tools mark a folder
    assert pending(folder, spec_of(spec_path)) == [] and verify_run(folder) == {0: [], 1: [], 2: []}
    assert [run.folder for run in runs(out)] == [run.folder for run in runs(folder)] == [folder]
    write_report(folder)
    assert folder.read("report.html") is not None
    assert out.exists() and not (out / "nothing").exists()


def test_a_store_whose_files_grow_in_sight_gets_them_by_renaming(
    spec_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "APPEARS_WHOLE", ())
    monkeypatch.setattr(remote, "CREATES", ())
    spec, out = spec_of(spec_path), remote_folder(f"memory://m{next(BUCKETS)}")
    seen: list[str] = []
    put_file_of_the_store = out.place.fs.put_file

    def put_file(source: str, path: str, **options: Any) -> None:
        seen.append(path.rpartition("/")[2])
        put_file_of_the_store(source, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(out.place.fs, "put_file", put_file)
        folder = make_run_in(out, spec)
    assert len(seen) >= 10 and len(set(seen)) == len(seen) and all(name.startswith(".part-") for name in seen)
    assert stored(folder) == contents(make_run(spec, tmp_path))
    path = tmp_path / "once"
    path.write_bytes(b"1")
    assert not folder.send(path, "once", only_new=True) and folder.read("once") == b"1"
    path.write_bytes(b"2")
    assert not folder.send(path, "once", only_new=True) and folder.read("once") == b"1"


def test_a_bucket_can_be_tried_before_a_run_and_nothing_stays_in_it(s3: str) -> None:
    remote_folder(s3).check_place()
    assert remote_folder(s3).names() == []
    with pytest.raises(OutputError, match="there is no such bucket; create it"):
        remote_folder("s3://nobody-made-this/runs").check_place()


def test_a_try_that_fails_leaves_no_part_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "APPEARS_WHOLE", ())
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.01)
    folder, tries = remote_folder(f"memory://m{next(BUCKETS)}/runs"), itertools.count()
    rename_of_the_store = folder.place.fs.mv

    def mv(source: str, path: str, **options: Any) -> None:
        if next(tries) < 2:
            raise OSError("the connection was lost")
        rename_of_the_store(source, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(folder.place.fs, "mv", mv)
        folder.write("once", b"1")
    assert folder.names() == ["once"] and folder.read("once") == b"1" and next(tries) == 3


def test_what_a_killed_process_left_on_its_way_to_a_store_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os, sys; from reds_core.storage.disk import scratch\n"
        "with scratch() as f: (f / 'large').write_bytes(bytes(9)); print(f, flush=True); os.kill(os.getpid(), int(sys.argv[1]))"
    )

    def hurt(by: int) -> Path:
        where = os.environ | {"TMPDIR": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", code, str(by)], env=where, capture_output=True, text=True, timeout=60)
        assert done.returncode == -by, done.stderr
        return Path(done.stdout.strip())

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(disk, "_root", None)
    with disk.scratch() as mine:
        first = hurt(signal.SIGKILL)
        assert (first / "large").is_file()
        second = hurt(signal.SIGKILL)
        assert not first.exists() and second.exists() and mine.is_dir(), "the folder of a live process must stay"
    assert not mine.exists()
    disk.remove_scratch()
    assert list(tmp_path.iterdir()) == [second.parent]
    disk._sweep()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["tar", "parquet", "zip"])
def test_a_shard_of_which_a_part_is_gone_is_not_taken_for_another_runs(spec_path: Path, kind: str) -> None:
    spec = spec_of(spec_path)
    folder = make_run_in(remote_folder(f"memory://m{next(BUCKETS)}"), spec)
    assert all(made_meanwhile(folder, spec, k) for k in range(3))
    folder.remove(f"{stem(1)}.{kind}")
    assert pending(folder, spec) == [1]
    assert made_meanwhile(folder, spec, 0) and made_meanwhile(folder, spec, 1) is None


def test_no_room_for_what_is_on_its_way_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(StorageError, match="the disk is full"), disk.scratch():
        pass


def test_a_bucket_that_goes_away_in_mid_run_stops_it(s3: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1")
    with pytest.raises(StorageError, match="its bucket is gone"):
        remote_folder("s3://nowhere/runs").send(path, "file")


def test_a_tar_that_is_no_shard_is_named(spec_path: Path, s3: str) -> None:
    folder = make_run_in(remote_folder(s3), spec_of(spec_path, 2))
    put(folder, "extra.tar", b"tar")
    assert verify_run(folder)[STRAY] == ["extra.tar: is not a shard of this run; readers of *.tar would take it for one"]


# A server that fails

KINDS_TOLD = {"500": "500", "503": "503", "cut": "connection cut", "cut after": "answer lost"}


def intact_or_unfinished(folder: Folder) -> None:
    """Nothing is seen that looks finished and is not."""
    assert all(verify_shard(folder, k) == [] for k in range(3) if folder.read(f"{stem(k)}.json") is not None)


def at_request(at: int, kind: str, seen: Iterator[int]) -> Fault:
    return lambda request: kind if next(seen) == at else ""


def from_request(at: int, kind: str, seen: Iterator[int]) -> Fault:
    return lambda request: kind if next(seen) >= at else ""


def test_a_fault_at_any_request_loses_and_doubles_nothing(
    spec_path: Path, tmp_path: Path, s3: str, server: Server, survived: Callable[..., None]
) -> None:
    """Every request of a run is answered once by an error, and once by nothing although it was carried out."""
    spec = spec_of(spec_path, 4)
    expected = contents(make_run(spec, tmp_path))
    counts = {"500": 0, "cut after": 0}
    for kind in counts:
        for at in itertools.count(1):
            out, seen = remote_folder(f"{s3}/{kind.replace(' ', '-')}/{at}"), itertools.count(1)
            server.fault = at_request(at, kind, seen)
            server.done.clear()
            folder = make_run_in(out, spec)
            asked, server.fault = next(seen) - 1, lambda request: ""
            assert stored(folder) == expected, (kind, at)
            if kind != "cut after":
                assert sorted(server.written()) == sorted(expected), "something was written twice"
            if at > asked:
                break
            counts[kind] += 1
    assert min(counts.values()) > 10
    survived(**{f"S3 {KINDS_TOLD[kind]}": count for kind, count in counts.items()})


def test_many_faults_at_random_are_survived(
    spec_path: Path, tmp_path: Path, s3: str, server: Server, survived: Callable[..., None]
) -> None:
    spec = spec_of(spec_path, 12)
    expected = contents(make_run(spec, tmp_path))
    draw, before = random.Random(1), dict(server.hurt)
    server.fault = lambda request: draw.choice(["500", "503", "cut", "cut after"]) if draw.random() < 0.4 else ""
    folder = make_run_in(remote_folder(s3), spec)
    server.fault = lambda request: ""
    counts = {f"S3 {told}": server.hurt[kind] - before[kind] for kind, told in KINDS_TOLD.items()}
    assert stored(folder) == expected and sum(counts.values()) > 15
    survived(**counts)


def test_slow_answers_are_waited_for(
    spec_path: Path, tmp_path: Path, s3: str, server: Server, survived: Callable[..., None]
) -> None:
    spec, before = spec_of(spec_path, 2), server.hurt["slow"]
    server.fault = lambda request: "slow" if request.name.endswith(".parquet") else ""
    assert stored(make_run_in(remote_folder(s3), spec)) == contents(make_run(spec, tmp_path))
    survived(**{"S3 slow answer": server.hurt["slow"] - before})


def test_credentials_that_expire_at_any_request_stop_the_run_and_lose_nothing(
    spec_path: Path, tmp_path: Path, s3: str, server: Server, survived: Callable[..., None]
) -> None:
    spec = spec_of(spec_path, 4)
    expected = contents(make_run(spec, tmp_path))
    for at in itertools.count(1):
        out, seen = remote_folder(f"{s3}/{at}"), itertools.count(1)
        server.fault = from_request(at, "expired", seen)
        try:
            folder = make_run_in(out, spec)
        except (StorageError, OutputError) as error:
            assert "What is finished is kept; renew the credentials, or ask for access, and run again" in str(error)
            server.fault = lambda request: ""
            folder = out / "tiny" / digest(spec)
            intact_or_unfinished(folder)
            assert stored(make_run_in(out, spec)) == expected
        else:
            break
    assert at > 10
    survived(**{"S3 credentials expired": at - 1})


def test_a_store_that_stays_away_is_one_clear_error(
    spec_path: Path, s3: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "RETRY_TIME", 0.5)
    server.fault = lambda request: "503" if request.name.endswith(".parquet") else ""
    with pytest.raises(StorageError, match=r"s3://.*SlowDown\. What is finished is kept; run again when the store answers"):
        make_run_in(remote_folder(s3), spec_of(spec_path, 2))
    server.fault = lambda request: "cut"
    with pytest.raises(StorageError, match="run again when the store answers"):
        verify_run(remote_folder(s3))


def test_what_a_store_refuses_before_anything_was_made_is_the_users_mistake(
    spec_path: Path, s3: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OutputError, match="there is no such bucket"):
        make_run_in(remote_folder("s3://nowhere/runs"), spec_of(spec_path, 2))
    server.fault = lambda request: "denied"
    with pytest.raises(OutputError, match="renew the credentials, or ask for access"):
        make_run_in(remote_folder(s3), spec_of(spec_path, 2))


@pytest.mark.parametrize(
    ("kind", "cure"),
    [
        ("token", "renew the credentials, or ask for access"),
        ("region", "correct the store's address, its region or the bucket's name"),
        ("name", "correct the store's address, its region or the bucket's name"),
    ],
)
def test_what_no_try_can_mend_is_said_at_once(spec_path: Path, s3: str, server: Server, kind: str, cure: str) -> None:
    server.fault = lambda request: kind
    with pytest.raises(OutputError, match=cure):
        make_run_in(remote_folder(s3), spec_of(spec_path, 2))
    assert len(server.asked) < 20


def test_an_address_that_is_none_is_said_at_once(spec_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from s3fs import S3FileSystem

    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:9000")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(OutputError, match=r"Invalid endpoint: 127\.0\.0\.1:9000.* correct the store's address"):
        make_run_in(remote_folder("s3://bucket/runs"), spec_of(spec_path, 2))


def test_a_store_that_does_not_answer_is_told_of_after_seconds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter([OSError("no such host"), "found"])

    def call() -> Any:
        answer = next(answers)
        time.sleep(0.02)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(retries, "SILENT", 0.01)
    assert retries.retried(300, "s3://bucket/runs", call) == "found"
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == "s3://bucket/runs: no such host; trying again, for 5 minutes at the most"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nfs5://x/y", "runs cannot be kept in nfs5://; give a path"),
        ("https://example.org/runs", "runs cannot be kept in https://"),
        ("zip://runs.zip", "runs cannot be kept in zip://"),
        ("s3:///runs", "names no bucket; give s3://BUCKET/FOLDER"),
        ("file://runs", "has three slashes"),
        ("s3:/bucket/runs", "a URL has two slashes after its colon, as in s3://BUCKET/FOLDER"),
        ("", "the folder's name is empty"),
        ("~nobody-here/runs", "there is no such user"),
    ],
)
def test_a_place_that_cannot_hold_runs_is_the_users_mistake(place: str, message: str) -> None:
    with pytest.raises(OutputError, match=message):
        folder_at(place)


def test_a_path_may_begin_with_a_home() -> None:
    assert folder_at("~/runs") == LocalFolder(Path.home() / "runs")


def test_a_large_file_is_sent_in_portions(s3: str, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "large.tar"
    path.write_bytes(random.Random(0).randbytes(40 * 2**20))
    assert remote_folder(s3).send(path, "large.tar", only_new=True) and not remote_folder(s3).send(path, "large.tar", only_new=True)
    assert sum("partNumber" in r.query for r in server.asked) >= 3
    with remote_folder(s3).fetched("large.tar") as copy:
        assert copy.read_bytes() == path.read_bytes()


# Two runs that meet


def other_bytes(spec: Spec, index: int, folder: Folder, shift: float) -> Manifest:
    """Writes a shard as another machine would: the same seeds, other roundings."""
    shard = computed(spec, index)
    shifted = [replace(c, latent=c.latent + shift) for c in shard.candidates]
    return write_shard(folder, digest(spec), replace(shard, candidates=shifted))


@pytest.mark.parametrize("shift", [0.0, 1e-7], ids=["equal machines", "other roundings"])
def test_two_runs_into_one_remote_folder_at_once_leave_intact_shards(
    spec_path: Path, s3: str, server: Server, shift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(spec_path, 12)
    draw = random.Random(2)
    server.fault = lambda request: "slow" if request.method == "PUT" and draw.random() < 0.1 else ""
    errors: list[BaseException] = []

    def one(own: float) -> None:
        try:
            with opened(spec, remote_folder(s3)) as folder:
                for index in pending(folder, spec):
                    other_bytes(spec, index, folder, own)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(own,)) for own in (0.0, shift)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    folder = remote_folder(s3) / "tiny" / digest(spec)
    assert not errors and verify_run(folder) == {k: [] for k in range(6)} and pending(folder, spec) == []
    assert len(set(server.written(".json"))) == 6


class Turns:
    """Lets two threads do one step each in an order that is drawn: a step is a call to the store."""

    def __init__(self, seed: int) -> None:
        self.draw, self.lock = random.Random(seed), threading.Condition()
        self.running = {0, 1}
        self.turn = self.draw.randrange(2)

    def step(self, who: int, call: Callable[[], Any]) -> Any:
        with self.lock:
            self.lock.wait_for(lambda: self.turn == who)
            try:
                return call()
            finally:
                self.turn = self.draw.choice(sorted(self.running))
                self.lock.notify_all()

    def leave(self, who: int) -> None:
        with self.lock:
            self.running.discard(who)
            if self.running:
                self.turn = min(self.running)
            self.lock.notify_all()


def test_any_order_of_two_runs_calls_leaves_an_intact_shard(
    spec_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MANIFEST_WAIT is over at once: a run that waits for another's manifest takes it for dead, though it lives."""
    monkeypatch.setattr(publishing, "MANIFEST_WAIT", -1.0)
    spec = spec_of(spec_path, 2)
    parts: list[dict[str, Path]] = []
    manifests: list[Manifest] = []
    for shift in (0.0, 1e-7):
        local = tmp_path / f"local{shift}"
        local.mkdir()
        manifests.append(other_bytes(spec, 0, folder_at(local), shift))
        parts.append({kind: local / name for kind, name in names_of(0).items()})
    who = threading.local()
    turns: list[Turns] = []

    def stepped(call: Any) -> Any:
        def wrapper(*args: Any, **options: Any) -> Any:
            number = getattr(who, "number", None)  # None: the test itself, which waits for nobody
            return call(*args, **options) if number is None else turns[-1].step(number, lambda: call(*args, **options))

        return wrapper

    for name in ("send", "remove", "read", "holds"):
        monkeypatch.setattr(RemoteFolder, name, stepped(getattr(RemoteFolder, name)))

    def one(number: int, folder: Folder) -> None:
        who.number = number
        try:
            publish(parts[number], folder, manifests[number])
        finally:
            turns[-1].leave(number)

    winners = set()
    for seed in range(200):
        turns.append(Turns(seed))
        folder = remote_folder(f"memory://turns{seed}/tiny") / digest(spec)
        if seed % 3 == 0:  # a killed run left its tar
            put(folder, f"{stem(0)}.tar", parts[seed % 2]["tar"].read_bytes())
        threads = [threading.Thread(target=one, args=(number, folder)) for number in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert verify_shard(folder, 0) == [], f"order {seed}"
        winner = read_manifest(folder, 0)
        assert winner is not None
        winners.add(winner.sha256)
    assert winners == {m.sha256 for m in manifests}
