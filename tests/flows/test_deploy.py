"""Runs on a schedule: what is registered, who picks it up, and what a night adds."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from reds_core.errors import UserError
from reds_core.runs.run_folder import grown, run_folder
from reds_core.runs.verify import verify_run
from reds_core.spec.load import absolute, load_spec
from reds_core.storage.places import folder_at
from tests.support import ROOT
from tests.support.programs import children_of, finished, forked, wait_until
from tests.support.shards import contents, of_shards, path_of
from tests.support.worlds import world

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
POOL, PARENTS = "gpu-pool", "parents"
NIGHTLY = ("--cron", "0 2 * * *")


@pytest.fixture
def pools(prefect_api: str) -> Iterator[None]:
    """Creates two work pools: for runs, and for runs that wait for their child runs."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    with get_client(sync_client=True) as client:
        for name in (POOL, PARENTS):
            client.create_work_pool(WorkPoolCreate(name=name, type="process"), overwrite=True)
        yield
        for name in (POOL, PARENTS):
            client.delete_work_pool(name)


def request_run(name: str, **parameters: object) -> None:
    """Leaves a run of a deployment to the workers."""
    from prefect.deployments import run_deployment

    run_deployment(name, parameters=parameters, timeout=0)


def reds(environment: dict[str, str], cwd: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return finished(forked(words, environment, cwd))


def test_every_grown_run_adds_the_next_seeds_once_all_before_are_finished(augment: Any, tmp_path: Path) -> None:
    spec, out = str(world(tmp_path / "world", seeds={"first": 5, "count": 3})), tmp_path / "out"
    first, second = (augment(spec=spec, out=str(out), grow=True) for _ in range(2))
    assert (first["seeds"], second["seeds"]) == (3, 6)
    assert not any(verify_run(folder_at(second["folder"])).values())
    # One shard is lost: the next run makes it anew and adds nothing.
    next(Path(second["folder"]).glob("shard-*.json")).unlink()
    assert grown(load_spec(spec), folder_at(out)).seeds.count == 6
    assert augment(spec=spec, out=str(out), grow=True)["seeds"] == 6
    assert augment(spec=spec, out=str(out), grow=True)["seeds"] == 9
    assert augment(spec=spec, out=str(out))["now"] == 0


def test_paths_of_an_override_no_longer_depend_on_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("generator.path=nets/g.pt") == f'generator.path="{tmp_path}/nets/g.pt"'
    assert absolute("judge={model: {kind: torchscript, path: j.pt}}").endswith(f'"path": "{tmp_path}/j.pt"}}}}')
    assert absolute("held.class=0.1") == "held.class=0.1" and absolute("label=none") == 'label="none"'


def test_a_deployed_spec_is_run_by_a_worker_with_its_schedule_kept_by_the_server(
    served: dict[str, str], pools: None, tmp_path: Path
) -> None:
    spec = world(tmp_path / "world", name="by-night")
    options = ("--pool", POOL, *NIGHTLY, "--timezone", "Europe/Berlin", "--set", "seeds.count=2", "--least-accepted", 0)
    done = reds(served, tmp_path, "deploy", spec.relative_to(tmp_path), *options)
    assert done.returncode == 0 and "augment/by-night: 0 2 * * * Europe/Berlin" in done.stdout, done.stderr
    found = deployment("augment/by-night")
    assert found.global_concurrency_limit.limit == 1
    assert (found.schedules[0].schedule.cron, found.schedules[0].schedule.timezone) == ("0 2 * * *", "Europe/Berlin")
    request_run("augment/by-night")
    # The same, registered by the file.
    by_file = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "flows/prefect.yaml"]
    done = subprocess.run(by_file, cwd=ROOT, env=served, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    found = deployment("augment/nightly")
    assert found.global_concurrency_limit.limit == 1 and found.schedules[0].schedule.cron == "0 2 * * *"
    changes = {"spec": str(spec), "out": str(tmp_path / "by-file"), "overrides": ["seeds.count=2"], "least_accepted": 0}
    request_run("augment/nightly", **changes)
    worker = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--run-once"]
    ran = subprocess.run(worker, cwd=tmp_path, env=served, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for out in ("outputs", "by-file"):
        folder = run_folder(load_spec(spec, ["seeds.count=2"]), folder_at(tmp_path / out))
        assert verify_run(folder) and not any(verify_run(folder).values()), ran.stdout + ran.stderr


def deployment(name: str) -> Any:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_deployment_by_name(name)


@pytest.fixture
def workers(served: dict[str, str], tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts workers of a pool, each for one run at a time; all are stopped at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(pool: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--limit", "1"]
        quick = served | {"PREFECT_WORKER_QUERY_SECONDS": "1"}
        with (tmp_path / f"worker{len(started)}.log").open("wb") as log:
            started.append(subprocess.Popen(command, cwd=tmp_path, env=quick, stdout=log, stderr=log, start_new_session=True))
        return started[-1]

    yield start
    for worker in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


def test_several_workers_share_a_run_and_a_dead_one_costs_its_range_only(
    served: dict[str, str], pools: None, workers: Any, augment: Any, tmp_path: Path
) -> None:
    spec = world(tmp_path / "world", name="shared", seeds={"count": 16})
    expected = Path(augment(spec=str(spec), out=str(tmp_path / "alone"))["folder"])
    options = ("--pool", POOL, "--parents", PARENTS, *NIGHTLY, "--split", 2, "--least-accepted", 0)
    done = reds(served, tmp_path, "deploy", spec, *options)
    assert (
        done.returncode == 0 and "make-shards/shared: its child runs, 2 shards each, by workers of the pool gpu-pool" in done.stdout
    ), done.stderr
    folder = path_of(run_folder(load_spec(spec), folder_at(tmp_path / "outputs")))

    def logs() -> str:
        return "\n".join(p.read_text() for p in sorted(tmp_path.glob("worker*.log")))

    first, _ = workers(POOL), workers(PARENTS)
    request_run("augment/shared")
    wait_until(lambda: list(folder.glob("shard-*.json")), 120, logs)
    second = workers(POOL)  # joins late
    victim = wait_until(lambda: children_of(second.pid), 90, logs)[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: runs_of("augment", "shared") == ["COMPLETED"], 240, logs)
    assert of_shards(contents(folder)) == of_shards(contents(expected))
    assert not any(verify_run(folder_at(folder)).values())
    states = runs_of("make-shards", "shared")
    assert states.count("COMPLETED") == 4 and states.count("CRASHED") == 1 and len(states) == 5, states
    assert "Completed" in (tmp_path / "worker2.log").read_text() and first.poll() is None
    # Registered anew and not shared, it leaves no child runs' deployment behind.
    again = reds(served, tmp_path, "deploy", spec, "--pool", POOL, *NIGHTLY)
    assert again.returncode == 0, again.stderr
    from prefect.exceptions import ObjectNotFound

    with pytest.raises(ObjectNotFound):
        deployment("make-shards/shared")


def test_workers_share_a_run_until_every_class_has_enough(
    served: dict[str, str], pools: None, workers: Any, augment: Any, tmp_path: Path
) -> None:
    spec = world(tmp_path / "world", name="filled", seeds={"count": 2})
    expected = augment(spec=str(spec), out=str(tmp_path / "alone"), until="per_class=40")
    options = ("--pool", POOL, "--parents", PARENTS, *NIGHTLY, "--split", 4, "--least-accepted", 0, "--until", "per_class=40")
    assert reds(served, tmp_path, "deploy", spec, *options).returncode == 0
    for pool in (POOL, PARENTS):
        workers(pool)
    request_run("augment/filled")

    def logs() -> str:
        return "\n".join(p.read_text() for p in sorted(tmp_path.glob("worker*.log")))

    wait_until(lambda: runs_of("augment", "filled") == ["COMPLETED"], 240, logs)
    folder = path_of(run_folder(load_spec(spec), folder_at(tmp_path / "outputs")))
    assert of_shards(contents(folder)) == of_shards(contents(Path(expected["folder"])))


def runs_of(flow: str, name: str) -> list[str]:
    """Returns the states of a deployment's runs."""
    from prefect.client.orchestration import get_client

    wanted = deployment(f"{flow}/{name}").id
    with get_client(sync_client=True) as client:
        return [run.state.type.value for run in client.read_flow_runs() if run.state and run.deployment_id == wanted]


def test_a_failed_run_is_reported_to_the_notification_block(
    served: dict[str, str], pools: None, workers: Any, prefect_api: str, tmp_path: Path
) -> None:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    heard: list[dict[str, str]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url, said = f"http://127.0.0.1:{server.server_port}/", {"subject": "{{subject}}", "text": "{{body}}"}
        block: Any = CustomWebhookNotificationBlock(name="night", url=url, json_data=said)
        block.save("night", overwrite=True)
        spec = world(tmp_path / "world", name="hopeless", seeds={"count": 2}, varied={"look": 50.0})
        options = ("--pool", POOL, *NIGHTLY, "--notify", "custom-webhook/night", "--least-accepted", 0.2)
        done = reds(served, tmp_path, "deploy", spec, *options)
        assert done.returncode == 0, done.stderr
        workers(POOL)
        request_run("augment/hopeless")
        wait_until(lambda: heard, 180, lambda: (tmp_path / "worker0.log").read_text())
        server.shutdown()
    assert heard[0]["subject"] == "augment/hopeless: Failed"
    assert "0% of 24 candidates were accepted, less than the 20% that is required" in heard[0]["text"]
    assert "look" in heard[0]["text"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--notify", "slack-webhook/none"), "there is no notification block 'slack-webhook/none'"),
        (("--pool", "nobody"), "there is no work pool 'nobody'; create it with `prefect work-pool create nobody --type process`"),
        (("--cron", "every night"), "the schedule 'every night' in UTC cannot be read"),
        (("--timezone", "Mars/Base"), "in Mars/Base cannot be read"),
        (("--workers", "0"), "workers must be at least 1, got 0"),
        (("--workers", "3"), "the local engine is one worker, not 3; use the engine `processes`"),
        (("--device", "mps"), "the device 'mps' cannot be used: the method computes in double precision, on cpu or cuda"),
        (("--device", "gpu7"), "the device 'gpu7' cannot be used"),
        (("--batch", "0"), "a batch must hold at least 1 image, got 0"),
        (("--parents", "other"), "--parents is a pool for runs that wait for child runs, but there are none; add --split N"),
    ],
)
def test_what_cannot_be_registered_is_named_before_anything_is_registered(
    prefect_api: str, pools: None, tmp_path: Path, changes: tuple[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.cli.app import app

    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    options = {"--pool": POOL, "--cron": "0 2 * * *"} | {changes[0]: changes[1]}
    words = ["deploy", str(world(tmp_path / "world")), *(w for pair in options.items() for w in pair)]
    with pytest.raises(UserError, match=re.escape(message)):
        app(words, standalone_mode=False)


def test_a_spec_of_the_same_name_replaces_no_other_deployment(
    prefect_api: str, pools: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.cli.app import app

    monkeypatch.setenv("PREFECT_API_URL", prefect_api)

    def register(folder: str, *options: str) -> None:
        words = ["deploy", str(tmp_path / folder / "spec.yaml"), "--pool", POOL, *NIGHTLY, *options]
        app(words, standalone_mode=False)

    for folder in ("mine", "theirs"):
        world(tmp_path / folder, name="same")
    register("mine")
    with pytest.raises(UserError, match=r"augment/same is that of another spec, .*mine/spec\.yaml; change the name"):
        register("theirs")
    assert deployment("augment/same").parameters["spec"] == str(tmp_path / "mine/spec.yaml")
    register("mine")
    register("theirs", "--replace")
    assert deployment("augment/same").parameters["spec"] == str(tmp_path / "theirs/spec.yaml")


@pytest.mark.parametrize("words", [("run",), ("deploy", "--pool", "p", "--cron", "0 2 * * *")])
def test_a_server_that_is_not_there_is_named(served: dict[str, str], tmp_path: Path, words: tuple[str, ...]) -> None:
    nobody = served | {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    done = reds(nobody, tmp_path, words[0], world(tmp_path / "world"), *words[1:])
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "no Prefect server answers at PREFECT_API_URL, http://127.0.0.1:9/api" in done.stderr


def test_without_a_server_there_is_no_schedule(served: dict[str, str], tmp_path: Path) -> None:
    alone = {k: v for k, v in served.items() if not k.startswith("PREFECT_")}
    done = reds(alone, tmp_path, "deploy", world(tmp_path / "world"), "--pool", "p", "--cron", "0 2 * * *")
    assert done.returncode == 2 and "prefect server start" in done.stderr
