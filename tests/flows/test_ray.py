"""The Ray engine, on a local Ray of two cores that is started once."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from flows.engines import base
from flows.engines import ray as on_ray
from flows.engines.local import Local
from reds_core.errors import ModelError, RunError
from reds_core.runs.plan import plan
from reds_core.runs.run_folder import opened
from reds_core.runs.worker import Request
from reds_core.spec.digest import digest
from reds_core.spec.load import load_spec
from reds_core.storage.places import folder_at
from tests.support.shards import path_of
from tests.support.worlds import world


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Request, on_ray.Ray, Path]]:
    """Yields the run, the engine, and the folder of the shards that the local engine made of the same spec."""
    place = tmp_path_factory.mktemp("ray")
    patch = pytest.MonkeyPatch()
    patch.delenv("RAY_ADDRESS", raising=False)
    patch.setattr(on_ray, "GPU_WAIT", 0.0)
    spec = load_spec(world(place / "world"))
    with opened(spec, folder_at(place / "local")) as folder:
        local = Local(Request(spec, digest(spec), folder, None, False, ()), "cpu")
        for index in range(len(plan(spec))):
            local(index)
        local.close()
    with opened(spec, folder_at(place / "ray")) as run:
        request = Request(spec, digest(spec), run, None, False, ())
        engine = on_ray.Ray(request, "cpu", 2)
        try:
            yield request, engine, path_of(folder)
        finally:
            engine.close()
            patch.undo()


def test_ray_makes_the_same_bytes(made: Any) -> None:
    request, engine, local = made
    assert (engine.slots, engine.where) == (2, "cpu of Ray")
    assert [engine(k).index for k in range(3)] == [0, 1, 2]
    for tar in sorted(local.glob("*.tar")):
        assert tar.read_bytes() == request.folder.read(tar.name)


def test_a_dead_or_stopped_worker_costs_its_shard_only(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, engine, _ = made
    with monkeypatch.context() as patch:
        patch.setattr(on_ray, "made_by_another", lambda *_: None)
        patch.setattr(engine, "task", engine.ray.remote(dies).options(max_retries=0))
        with pytest.raises(RunError, match="the worker on cpu of Ray died while it made shard 1"):
            engine(1)
        patch.setattr(engine, "task", engine.ray.remote(hangs).options(max_retries=0))
        patch.setattr(base, "FIRST_LIMIT", 2.0)
        patch.setattr(engine, "deadline", base.Deadline())
        with pytest.raises(RunError, match="the worker on cpu of Ray did not finish shard 1 in 2 s and was stopped"):
            engine(1)
    assert engine(1).index == 1


def dies(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def test_mistakes_come_back_as_themselves(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    request, engine, _ = made
    monkeypatch.setattr(on_ray, "made_by_another", lambda *_: None)
    (path_of(request.folder).parents[2] / "world/c.pt").write_bytes(b"no network")
    engine.request = dataclasses.replace(request, digest="other")  # another job: the actor loads its networks again
    try:
        with pytest.raises(ModelError, match=r"c\.pt is not a TorchScript file") as caught:
            engine(0)
    finally:
        engine.request = request
    assert type(caught.value) is ModelError


def test_a_gpu_that_nobody_offers_is_said(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, engine, _ = made
    monkeypatch.setattr(engine, "_count", {"CPU": 2, "GPU": 0}.__getitem__)  # this machine may have one
    with pytest.raises(ModelError, match="no node of the Ray cluster offers a GPU: 1 nodes with 2 cores; use the device cpu"):
        engine._pick("cuda", None)
    with pytest.raises(ModelError, match="the device must be cuda, got cuda:1"):
        engine._pick("cuda:1", None)


def test_a_cluster_that_is_not_there_is_said(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ModelError, match=r"the Ray cluster at 127\.0\.0\.1:1 cannot be reached: .*refused"):
        on_ray.Ray(made[0], "auto", None)
