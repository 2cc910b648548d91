"""Runs on a schedule: what is registered, who picks it up, and what a night adds."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reds_core.shards import grown, run_folder
from reds_core.spec import absolute, load_spec
from reds_core.verify import verify_run
from tests.worlds import world

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
ROOT = Path(__file__).parent.parent


@pytest.fixture
def augment(prefect_api: None) -> Any:
    from flows.augment import augment

    return augment


@pytest.fixture
def environment(prefect_api: str, tmp_path: Path) -> dict[str, str]:
    """What programs beside the test's server need."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    return keep | {
        "PREFECT_API_URL": prefect_api, "PREFECT_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "DO_NOT_TRACK": "1", "COLUMNS": "160",
    }  # fmt: skip


@pytest.fixture
def pool(environment: dict[str, str]) -> Iterator[str]:
    prefect(environment, "work-pool", "create", "nights", "--type", "process", "--overwrite")
    yield "nights"
    prefect(environment, "--no-prompt", "work-pool", "delete", "nights")


def prefect(environment: dict[str, str], *words: str) -> str:
    command = [sys.executable, "-m", "prefect", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def reds(environment: dict[str, str], cwd: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows", *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=180)


def test_every_grown_run_adds_the_next_seeds_once_all_before_are_finished(augment: Any, tmp_path: Path) -> None:
    spec, out = str(world(tmp_path / "world", seeds={"first": 5, "count": 3})), tmp_path / "out"
    first, second = (augment(spec=spec, out=str(out), grow=True) for _ in range(2))
    assert (first["seeds"], second["seeds"]) == (3, 6)
    assert not any(verify_run(Path(second["folder"])).values())
    # One shard is lost: the next run makes it anew and adds nothing.
    next(Path(second["folder"]).glob("shard-*.json")).unlink()
    assert grown(load_spec(spec), out).seeds.count == 6
    assert augment(spec=spec, out=str(out), grow=True)["seeds"] == 6
    assert augment(spec=spec, out=str(out), grow=True)["seeds"] == 9
    assert augment(spec=spec, out=str(out))["now"] == 0


def test_paths_of_an_override_no_longer_depend_on_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("generator.path=nets/g.pt") == f'generator.path="{tmp_path}/nets/g.pt"'
    assert absolute("judge={model: {kind: torchscript, path: j.pt}}").endswith(f'"path": "{tmp_path}/j.pt"}}}}')
    assert absolute("held.class=0.1") == "held.class=0.1" and absolute("label=none") == 'label="none"'


def test_a_deployed_spec_is_run_by_a_worker_with_its_schedule_kept_by_the_server(
    environment: dict[str, str], pool: str, tmp_path: Path
) -> None:
    spec = world(tmp_path / "world", name="by-night")
    options = (
        "--pool",
        pool,
        "--cron",
        "0 2 * * *",
        "--timezone",
        "Europe/Berlin",
        "--set",
        "seeds.count=2",
        "--least-accepted",
        0,
    )
    done = reds(environment, tmp_path, "deploy", spec.relative_to(tmp_path), *options)
    assert done.returncode == 0 and "augment/by-night: 0 2 * * * Europe/Berlin" in done.stdout, done.stderr
    from prefect.client.orchestration import get_client

    async def registered() -> Any:
        async with get_client() as client:
            return await client.read_deployment_by_name("augment/by-night")

    found = asyncio.run(registered())
    assert found.global_concurrency_limit.limit == 1
    assert (found.schedules[0].schedule.cron, found.schedules[0].schedule.timezone) == ("0 2 * * *", "Europe/Berlin")
    prefect(environment, "deployment", "run", "augment/by-night")
    worker = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--run-once"]
    ran = subprocess.run(worker, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    folder = run_folder(load_spec(spec, ["seeds.count=2"]), tmp_path / "outputs")
    assert verify_run(folder) and not any(verify_run(folder).values()), ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--pool", "nobody"), "there is no work pool 'nobody'; `prefect work-pool create nobody --type process`"),
        (("--cron", "every night"), "the schedule 'every night' in UTC cannot be read"),
        (("--timezone", "Mars/Base"), "in Mars/Base cannot be read"),
    ],
)
def test_what_cannot_be_registered_is_said_before_anything_is(
    environment: dict[str, str], pool: str, tmp_path: Path, changes: tuple[str, str], message: str
) -> None:
    options = {"--pool": pool, "--cron": "0 2 * * *"} | {changes[0]: changes[1]}
    done = reds(environment, tmp_path, "deploy", world(tmp_path / "world"), *(w for pair in options.items() for w in pair))
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_without_a_server_there_is_no_schedule(environment: dict[str, str], tmp_path: Path) -> None:
    alone = {k: v for k, v in environment.items() if not k.startswith("PREFECT_")}
    done = reds(alone, tmp_path, "deploy", world(tmp_path / "world"), "--pool", "p", "--cron", "0 2 * * *")
    assert done.returncode == 2 and "prefect server start" in done.stderr
