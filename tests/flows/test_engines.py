"""Engines: whose fault an error is, what is made elsewhere, and what another run has made."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest

from reds_core.errors import DeviceFailed, ModelError, RunError, WorkerDied
from reds_core.storage.places import folder_at
from tests.support import devices
from tests.support.programs import wait_until
from tests.support.worlds import world

# Prefect leaves the sockets of its clients to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


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


@pytest.mark.parametrize("index", [0, 1])
def test_an_error_that_does_not_travel_between_processes_still_says_what_it_is(pretended: Callable[[Any], Any], index: int) -> None:
    engine = pretended(devices.an_error_that_does_not_travel)
    try:
        with pytest.raises(WorkerDied, match=rf"^shard {index} failed on cpu(:0)?: TwoPartError: the cause$"):
            engine(index)
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
