"""The flow and its engines, against a Prefect server that the tests start."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest

from reds_core.errors import DeviceFailed, ModelError, RunError, SpecError, WorkerDied
from reds_core.storage.places import folder_at
from tests.support import devices
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


def test_a_stopped_worker_is_replaced_at_its_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.engines import base
    from flows.engines.processes import Processes
    from reds_core.runs import worker as work
    from reds_core.runs.run_folder import opened
    from reds_core.spec.digest import digest
    from reds_core.spec.load import load_spec

    spec = load_spec(world(tmp_path / "world"))
    with opened(spec, folder_at(tmp_path / "out")) as folder:
        engine = Processes(work.Request(spec, digest(spec), folder, None, False, ()), ["cpu"])
        try:
            assert engine(0).index == 0
            monkeypatch.setattr(engine.deadline, "slowest", 0.0)
            monkeypatch.setattr(base, "FIRST_LIMIT", 1.0)
            (pid,) = (engine.pools[0]._processes or {}).keys()
            os.kill(pid, signal.SIGSTOP)
            with pytest.raises(RunError, match="did not finish shard 1 in 1 s"):
                engine(1)
            monkeypatch.setattr(base, "FIRST_LIMIT", 60.0)
            assert engine(1).index == 1
        finally:
            engine.close()


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    """Opens the engine `processes` on two devices, whose workers call a function of tests.support.devices in place of `make`."""
    from flows.engines import processes

    def start(make: Any) -> Any:
        monkeypatch.setattr(processes, "make", make)
        monkeypatch.setattr(processes, "_start_worker", devices.start)
        monkeypatch.setattr(processes, "made_by_another", lambda *_: None)
        return processes.Processes(None, ["cpu:0", "cpu"])  # type: ignore[arg-type]

    return start


@pytest.mark.parametrize("broken", [devices.a_poisonous_shard, devices.a_shard_that_fails])
def test_a_shard_that_fails_on_every_device_is_given_up_and_no_devices_fault(pretended: Callable[[Any], Any], broken: Any) -> None:
    engine = pretended(broken)

    def make(index: int) -> str:
        for _ in range(5):
            with contextlib.suppress(WorkerDied):
                try:
                    made: str = engine(index)["device"]
                except DeviceFailed as error:
                    assert index == 0 and str(error).endswith("so it did wherever it was tried")
                    break
                return made
        return "nowhere"

    try:
        both = threading.Barrier(2)
        with ThreadPoolExecutor(2) as threads:
            made = list(threads.map(make, range(4)))
            used = set(threads.map(lambda _: (both.wait(60), engine.here())[1], range(2)))
    finally:
        engine.close()
    assert made[0] == "nowhere" and "nowhere" not in made[1:] and engine.failures.strikes == [0, 0] and used == {"cpu:0", "cpu"}


def test_a_deadline_follows_the_slowest_shard_so_far_and_says_how_long_it_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.engines import base

    monkeypatch.setattr(base, "FIRST_LIMIT", 0.3)
    monkeypatch.setattr(base, "PORTION", 0.1)
    deadline = base.Deadline()

    def never(timeout: float) -> NoReturn:
        time.sleep(timeout)
        raise TimeoutError

    with pytest.raises(WorkerDied, match="did not finish shard 7 in 0 s and was stopped"):
        deadline.result(never, "cpu", 7)

    def unreachable(timeout: float) -> NoReturn:
        raise TimeoutError("Connection timed out")

    with pytest.raises(TimeoutError, match="Connection timed out"):
        deadline.result(unreachable, "cpu", 7)


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


@pytest.mark.parametrize(
    "broken", [devices.on_a_gpu_that_is_gone, devices.on_a_gpu_that_fails, devices.on_a_gpu_that_seems_misused]
)
def test_a_device_that_fails_again_and_again_is_no_longer_used(pretended: Callable[[Any], Any], broken: Any) -> None:
    engine = pretended(broken)
    deaths = []

    def make(index: int) -> int:
        for _ in range(3):
            with contextlib.suppress(WorkerDied):
                made: int = engine(index)["index"]
                return made
            deaths.append(index)
        raise AssertionError(f"shard {index} is lost")

    try:
        with ThreadPoolExecutor(2) as threads:
            assert list(threads.map(make, range(8))) == list(range(8)) and len(deaths) in (1, 2)
    finally:
        engine.close()


def test_a_mistake_that_two_devices_find_is_the_users(pretended: Callable[[Any], Any]) -> None:
    engine = pretended(devices.a_mistake)
    try:
        with pytest.raises(WorkerDied, match="the network does not fit"):
            engine(0)
        with pytest.raises(ModelError, match="the network does not fit"):
            engine(0)
    finally:
        engine.close()


def test_after_an_error_the_local_engine_goes_on_in_new_processes(
    augment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.engines import local
    from flows.engines.processes import Processes
    from reds_core.runs.worker import compute, write

    class Instead(Processes):
        """Makes shards here, as new processes would."""

        def __init__(self, request: Any, devices: list[str]) -> None:
            self.request, self.devices = request, devices

        def here(self) -> str:
            return self.devices[0]

        def __call__(self, index: int) -> Any:
            return write(self.request, compute(self.request, "cpu", 1, index))

        def close(self) -> None:
            """Has started nothing."""

    def fail(*_: Any) -> Any:
        raise RuntimeError("cuFFT error: CUFFT_EXEC_FAILED")

    monkeypatch.setattr(local, "compute", fail)
    monkeypatch.setattr(local, "Processes", Instead)
    assert augment(spec=str(world(tmp_path / "world")), out=str(tmp_path / "out"))["now"] == 3


def test_a_child_run_whose_device_fails_counts_as_crashed_and_comes_again(
    augment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import child_runs
    from flows.parameters import Parameters

    parameters = Parameters(
        spec=str(world(tmp_path / "world")), out=str(tmp_path / "out"), engine="local", workers=None, device="cpu", batch=None,
        overrides=(), allow_code=False,
    )  # fmt: skip

    def ended(error: Exception) -> Any:
        monkeypatch.setattr(child_runs, "made_here", lambda *_: {1: error})
        return child_runs.make_shards(parameters, "0:3", return_state=True)

    again, last = ended(DeviceFailed("odd")), ended(RunError("the disk is failing"))
    assert again.is_crashed() and again.message == "1 of 3 shards failed: odd"
    assert last.is_failed() and "1 of 3 shards failed: the disk is failing" in str(last.message)


def test_runs_that_share_a_store_take_shards_in_orders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect import runtime

    from flows import shards

    def order(place: str, run: str) -> list[int]:
        monkeypatch.setattr(runtime.flow_run, "id", run, raising=False)
        return shards.in_order(folder_at(place), list(range(20)))

    one, other = order("memory://here", "one"), order("memory://here", "other")
    assert one != other and sorted(one) == sorted(other) == list(range(20)) and order("memory://here", "one") == one
    assert order(str(tmp_path), "one") == list(range(20)), "on a disk, locks keep them apart"


def test_a_shard_that_another_run_made_while_this_one_waited_is_not_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.engines import local
    from reds_core.runs import worker
    from reds_core.runs.run_folder import opened
    from reds_core.spec.digest import digest
    from reds_core.spec.load import load_spec

    spec, computed = load_spec(world(tmp_path / "world")), []

    def compute(request: Any, device: str, threads: int, index: int) -> Any:
        computed.append(index)
        if index == 0:
            worker.make(request, device, threads, 1)  # another run, in the meantime
        return worker.compute(request, device, threads, index)

    monkeypatch.setattr(local, "compute", compute)
    with opened(spec, folder_at(f"memory://{tmp_path.name}")) as folder:
        engine = local.Local(worker.Request(spec, digest(spec), folder, None, False, ()), "cpu")
        try:
            with ThreadPoolExecutor(2) as threads:
                first = threads.submit(engine, 0)
                wait_until(lambda: computed, 60, lambda: "nothing was computed")
                second = threads.submit(engine, 1)
                assert (first.result().index, second.result().index) == (0, 1) and computed == [0]
        finally:
            engine.close()


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

    def data(what: str) -> Any:
        found: Any = Artifact.get(f"augment-{what}-watched")
        assert found is not None
        return found.data

    assert data("progress") == 100.0
    (row,) = json.loads(data("totals"))
    assert (row["shards"], row["accepted"], row["samples"]) == (3, result["accepted"], result["samples"])
    assert row["accepted share"] == pytest.approx(result["accepted"] / result["candidates"], abs=1e-4)
    assert row["class, drift (median)"] > 0 and row["accepted a second"] > 0
    head, _, picture = data("sheet").partition(",")
    assert head == "data:image/png;base64" and base64.b64decode(picture).startswith(b"\x89PNG")
    assert Path(result["folder"], "report.html").absolute().as_uri() in data("report")


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
