"""The flow and its engines, against a Prefect server that the tests start."""

from __future__ import annotations

import base64
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from reds_core.errors import ModelError, RunError, SpecError
from tests.support.programs import wait_until
from tests.support.worlds import world

# Prefect leaves the sockets of its clients to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def tars(result: dict[str, Any]) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(Path(result["folder"]).glob("shard-*.tar"))}


def test_local_and_processes_make_the_same_bytes(augment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.engines import registry

    spec = str(world(tmp_path / "world"))
    local = augment(spec=spec, out=str(tmp_path / "a"))
    monkeypatch.setattr(registry, "pick_devices", lambda device, workers: ["cpu", "cpu:0"])
    processes = augment(spec=spec, out=str(tmp_path / "b"), engine="processes", workers=2)
    assert local["now"] == processes["now"] == 3 and local["accepted"] > 0
    assert tars(local) == tars(processes)
    assert {k: v for k, v in local.items() if k not in ("folder", "seconds")} == {
        k: v for k, v in processes.items() if k not in ("folder", "seconds")
    }

    # People see which device made what.
    names = wait_until(lambda: [n for n in task_runs() if n.endswith("on cpu:0")], 30, lambda: str(task_runs()))
    assert all(name.startswith("shard-0000") for name in names) and "shard-00000 on cpu" in task_runs()


def task_runs() -> list[str]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return [run.name for run in client.read_task_runs()]


def test_a_dead_worker_costs_its_shard_only(augment: Any, tmp_path: Path) -> None:
    from flows import shards as module

    spec = str(world(tmp_path / "world", seeds={"count": 20}))
    whole = augment(spec=spec, out=str(tmp_path / "whole"))
    events: list[str] = []
    victims: list[int] = []

    def hear(event: str, figures: dict[str, Any]) -> None:
        events.append(event)
        if event == "shard" and not victims:
            import multiprocessing

            victims.extend(p.pid for p in multiprocessing.active_children() if p.pid and "Spawn" in type(p).__name__)
            for pid in victims:
                os.kill(pid, signal.SIGKILL)

    module.listen(hear)
    try:
        hurt = augment(spec=spec, out=str(tmp_path / "hurt"), engine="processes", workers=2)
    finally:
        module._listeners.remove(hear)
    assert victims and "retry" in events and tars(hurt) == tars(whole)


def test_a_shard_that_was_spoilt_on_its_way_to_the_disk_is_made_again(
    augment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reds_core.runs.verify import tar_problems

    spoilt = ["one byte differs"]
    monkeypatch.setattr("reds_core.runs.shards.tar_problems", lambda *args: [spoilt.pop()] if spoilt else tar_problems(*args))
    assert augment(spec=str(world(tmp_path / "world")), out=str(tmp_path))["now"] == 3 and not spoilt


def test_a_server_that_is_away_while_progress_is_shown_ends_nothing(
    augment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx

    from flows import artifacts

    def away(*_: object, **__: object) -> None:
        raise httpx.ConnectError("All connection attempts failed")

    for name in ("create_progress_artifact", "create_table_artifact"):
        monkeypatch.setattr(artifacts, name, away)
    assert augment(spec=str(world(tmp_path / "world")), out=str(tmp_path))["now"] == 3


def test_mistakes_reach_the_caller_as_themselves(augment: Any, tmp_path: Path) -> None:
    spec = world(tmp_path / "world")
    with pytest.raises(SpecError, match="no attribute has this name"):
        augment(spec=str(spec), out=str(tmp_path), overrides=["held.nobody=1"])
    (tmp_path / "world/c.pt").write_bytes(b"no network")
    for engine in ("local", "processes"):
        with pytest.raises(ModelError, match=r"c\.pt is not a TorchScript file"):
            augment(spec=str(spec), out=str(tmp_path / engine), engine=engine)


@pytest.mark.parametrize("step", ["compute", "write"])
def test_a_shard_that_fails_is_named_and_the_others_are_made(
    augment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from flows.engines import local

    real = getattr(local, step)

    def fail(request: Any, *rest: Any) -> Any:
        if getattr(rest[-1], "index", rest[-1]) == 1:
            raise RunError("the disk is full")
        return real(request, *rest)

    monkeypatch.setattr(local, step, fail)
    with pytest.raises(RunError, match=r"1 of 3 shards failed \(1\): the disk is full"):
        augment(spec=str(world(tmp_path / "world")), out=str(tmp_path / "out"))
    (folder,) = (tmp_path / "out/tiny").iterdir()
    assert sorted(p.name for p in folder.glob("*.tar")) == ["shard-00000.tar", "shard-00002.tar"]
    assert "2 of 3 shards" in (folder / "report.html").read_text()


def test_a_run_whose_first_shards_all_fail_ends_soon(augment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.engines import local
    from reds_core.runs.worker import compute as real

    tried: list[int] = []

    def fail(request: Any, device: str, threads: int, index: int) -> Any:
        tried.append(index)
        raise RunError("every seed is odd")

    with monkeypatch.context() as patch:
        patch.setattr(local, "compute", fail)
        spec, settings = str(world(tmp_path / "world")), ["seeds.count=80", "shards.seeds=2"]
        with pytest.raises(RunError, match=r"3 shards failed before one of 40 was made: every seed is odd"):
            augment(spec=spec, out=str(tmp_path / "out"), overrides=settings)
    assert len(tried) < 10

    def fail_at_first(request: Any, device: str, threads: int, index: int) -> Any:
        return fail(request, device, threads, index) if 0 < index < 6 else real(request, device, threads, index)

    augment(spec=spec, out=str(tmp_path / "out"), overrides=settings, shards="0:1")
    monkeypatch.setattr(local, "compute", fail_at_first)
    with pytest.raises(RunError, match=r"5 of 9 shards failed \(1-5\)"):  # others of this folder were made
        augment(spec=spec, out=str(tmp_path / "out"), overrides=settings, shards="0:10")


@pytest.mark.parametrize("end", [SystemExit(0), KeyboardInterrupt(), GeneratorExit()])
def test_a_network_that_ends_the_program_ends_no_run_as_if_all_were_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException
) -> None:
    from reds_core.runs import worker
    from reds_core.runs.run_folder import opened
    from reds_core.spec.digest import digest
    from reds_core.spec.load import load_spec
    from reds_core.storage.places import folder_at

    def ends(*_: Any) -> Any:
        raise end

    monkeypatch.setattr(worker, "run_seeds", ends)
    spec = load_spec(world(tmp_path / "world"))
    with opened(spec, folder_at(tmp_path / "out")) as folder:
        request = worker.Request(spec, digest(spec), folder, None, False, ())
        with pytest.raises(RuntimeError, match=f"the code that the spec names raised {type(end).__name__}"):
            worker.make(request, "cpu", 1, 0)


def test_fresh_removes_what_was_made_and_nothing_else(augment: Any, tmp_path: Path) -> None:
    spec = str(world(tmp_path / "world"))
    first = augment(spec=spec, out=str(tmp_path / "out"))
    (Path(first["folder"]) / "notes.txt").write_text("mine")
    again = augment(spec=spec, out=str(tmp_path / "out"), fresh=True, shards="1:2")
    assert again["now"] == 1 and list(tars(again)) == ["shard-00001.tar"]
    assert (Path(first["folder"]) / "notes.txt").read_text() == "mine"


def test_one_process_at_a_time_sets_up_a_new_home(tmp_path: Path) -> None:
    from flows.embedded_api import first_start

    inside: list[int] = []

    def start() -> None:
        with first_start(tmp_path):
            inside.append(1)
            assert len(inside) == 1
            time.sleep(0.05)
            inside.pop()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not inside


def test_the_ui_shows_progress_totals_the_contact_sheet_and_the_report(augment: Any, tmp_path: Path) -> None:
    from prefect.artifacts import Artifact

    result = augment(spec=str(world(tmp_path / "world", name="watched")), out=str(tmp_path / "out"))

    def artifact(what: str) -> Any:
        found: Any = Artifact.get(f"augment-{what}-watched")
        assert found is not None
        return found

    def data(what: str) -> Any:
        return artifact(what).data

    assert data("progress") == 100.0
    (row,) = json.loads(data("totals"))
    assert (row["shards"], row["accepted"], row["samples"]) == (3, result["accepted"], result["samples"])
    assert row["accepted share"] == pytest.approx(result["accepted"] / result["candidates"], abs=1e-4)
    assert row["class, drift (median)"] > 0 and row["accepted a second"] > 0
    head, _, picture = data("sheet").partition(",")
    assert head == "data:image/webp;base64" and base64.b64decode(picture).startswith(b"RIFF") and len(picture) < 50_000
    assert Path(result["folder"], "report.html").absolute().as_uri() in data("report")
    before = {what: artifact(what).id for what in ("totals", "sheet", "report")}
    assert augment(spec=str(tmp_path / "world" / "spec.yaml"), out=str(tmp_path / "out"))["now"] == 0
    assert before == {what: artifact(what).id for what in before}  # nothing is sent again


def test_a_run_that_accepts_too_little_fails_with_a_reason_and_keeps_its_shards(augment: Any, tmp_path: Path) -> None:
    spec, out = str(world(tmp_path / "world")), str(tmp_path / "out")
    state = augment(spec=spec, out=out, least_accepted=1.0, return_state=True)
    assert state.is_failed() and "candidates were accepted, less than the 100% that is required: " in str(state.message)
    again = augment(spec=spec, out=out)
    assert again["now"] == 0 and 0 < again["accepted"] < again["candidates"]


def test_what_keep_leaves_out_does_not_count_as_too_little(augment: Any, tmp_path: Path) -> None:
    spec, out = str(world(tmp_path / "world")), str(tmp_path / "out")
    result = augment(spec=spec, out=out, overrides=["keep=1"], least_accepted=0.9)
    assert result["accepted"] / result["candidates"] < 0.9
