"""Real runs that are hurt at random instants, and started again: every shard is then byte for byte an undisturbed run's.

What was injected and survived is counted, and printed at the end of the tests (`tests/conftest.py`).
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from reds_core.runs.plan import plan
from reds_core.runs.run_folder import opened, run_folder
from reds_core.runs.verify import verify_run
from reds_core.runs.worker import Request, forget, make
from reds_core.spec.digest import digest
from reds_core.spec.load import load_spec
from reds_core.storage.places import folder_at
from tests.support import ROOT
from tests.support.prefect_server import Server
from tests.support.programs import Environment, Program, Start, children_of, finished, forked, outside, started, wait_until
from tests.support.s3 import CREDENTIALS, make_bucket, serving
from tests.support.shards import KINDS, contents, of_shards, path_of, stored
from tests.support.worlds import TinyGenerator, world

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]
SEEDS, SHARDS = 60, 30
Count = Callable[..., None]


@pytest.fixture(scope="module")
def environment(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Returns the environment of a program beside the tests' Prefect server."""
    return outside() | {"PREFECT_API_URL": prefect_api, "PREFECT_HOME": str(tmp_path_factory.mktemp("home"))}


@pytest.fixture(scope="module")
def spec_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world(tmp_path_factory.mktemp("world"), seeds={"count": SEEDS})


@pytest.fixture(scope="module")
def expected(spec_path: Path, environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Makes an undisturbed run, and returns its shards."""
    out = tmp_path_factory.mktemp("undisturbed")
    done = completed(spec_path, out, environment)
    assert done.returncode == 0, done.stderr
    found = of_shards(contents(folder_of(spec_path, out)))
    assert len(found) == len(KINDS) * SHARDS
    return found


def folder_of(spec_path: Path, out: Path) -> Path:
    return path_of(run_folder(load_spec(spec_path), folder_at(out)))


def run(spec_path: Path, out: object, environment: Environment, *options: object, start: Start = forked) -> Program:
    """Starts `reds run` in the folder of the spec."""
    return start(("run", spec_path, "--out", out, *options), environment, spec_path.parent)


def completed(spec_path: Path, out: object, environment: Environment, *options: object) -> subprocess.CompletedProcess[str]:
    return finished(run(spec_path, out, environment, *options), 300)


@contextmanager
def under_way(
    spec_path: Path, out: Path, environment: Environment, shards: int, *options: object, start: Start = forked
) -> Iterator[Program]:
    """Yields a run that has finished `shards` more shards than the folder held, and kills it at the end, if it is still there."""
    folder = folder_of(spec_path, out)
    before = len(list(folder.glob("shard-*.json")))
    program = run(spec_path, out, environment, *options, start=start)

    def far_enough() -> bool:
        return len(list(folder.glob("shard-*.json"))) >= before + shards or program.returncode() is not None

    try:
        wait_until(far_enough, 120, program.log)
        yield program
    finally:
        program.kill_all()


def test_a_killed_flow_continues_to_equal_bytes(
    spec_path: Path, environment: Environment, expected: Any, tmp_path: Path, survived: Count
) -> None:
    draw, out = random.Random(1), tmp_path / "out"
    for _ in range(3):
        with under_way(spec_path, out, environment, draw.randrange(1, 6)) as program:
            time.sleep(draw.uniform(0, 0.2))
            program.kill()
            assert program.wait(20) in (0, -signal.SIGKILL)
        whole = verify_run(folder_at(folder_of(spec_path, out)))
        assert all(not p or p == [f"{name}: is missing"] or "no manifest" in p[0] for name, p in named(whole)), whole
    assert completed(spec_path, out, environment).returncode == 0
    assert of_shards(contents(folder_of(spec_path, out))) == expected
    survived(**{"SIGKILL of the flow": 3})


def named(found: dict[int, list[str]]) -> list[tuple[str, list[str]]]:
    return [(f"shard-{index:05d}", problems) for index, problems in found.items()]


def test_killed_workers_cost_their_shards_only(
    spec_path: Path, environment: Environment, expected: Any, tmp_path: Path, survived: Count
) -> None:
    draw, out, kills = random.Random(2), tmp_path / "out", 0
    options = ("--engine", "processes", "--workers", 2)
    with under_way(spec_path, out, environment, 1, *options) as program:
        while program.returncode() is None and kills < 3:
            workers = [pid for pid in children_of(program.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
            if workers:
                with suppress(ProcessLookupError):
                    os.kill(draw.choice(workers), signal.SIGKILL)
                    kills += 1
            time.sleep(draw.uniform(0.5, 3))
        assert program.wait(240) == 0 and "died while it made shard" in program.log(), program.log()
    assert of_shards(contents(folder_of(spec_path, out))) == expected
    survived(**{"SIGKILL of a worker": kills})


def test_a_killed_server_loses_no_finished_shard(
    spec_path: Path, environment: Environment, expected: Any, tmp_path: Path, new_prefect_home: Callable[[], Path], survived: Count
) -> None:
    out, server = tmp_path / "out", Server(new_prefect_home())
    with closing(server), under_way(spec_path, out, {**environment, "PREFECT_API_URL": server.api}, 3) as program:
        server.kill()
        server.start()
        assert program.wait(240) in (0, 1) and "ConnectError" not in program.log(), program.log()
    assert completed(spec_path, out, environment).returncode == 0
    assert of_shards(contents(folder_of(spec_path, out))) == expected
    survived(**{"SIGKILL of the server": 1})


def test_a_full_or_read_only_disk_is_one_clear_error(
    spec_path: Path, environment: Environment, expected: Any, small_disk: Path, survived: Count
) -> None:
    done = completed(spec_path, small_disk, environment)
    assert done.returncode == 1 and "the disk is full" in done.stderr and "Traceback" not in done.stderr, done.stderr
    remount = ["mount", "-o"]
    subprocess.run([*remount, "remount,size=8m", small_disk], check=True)
    subprocess.run([*remount, "remount,ro", small_disk], check=True)
    done = completed(spec_path, small_disk, environment)
    assert done.returncode == 2 and "Read-only file system; choose another folder (--out)" in done.stderr, done.stderr
    subprocess.run([*remount, "remount,rw", small_disk], check=True)
    assert completed(spec_path, small_disk, environment).returncode == 0
    assert of_shards(contents(folder_of(spec_path, small_disk))) == expected
    survived(**{"full disk": 1, "read-only folder": 1})


def test_a_clock_set_back_changes_no_byte(
    spec_path: Path, environment: Environment, expected: Any, tmp_path: Path, survived: Count
) -> None:
    library, switch, out = tmp_path / "clock.so", tmp_path / "back", tmp_path / "out"
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("a clock can only be set back for one program with a C compiler")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, ROOT / "tests/support/clock.c", "-ldl"], check=True)
    clock = {**environment, "LD_PRELOAD": str(library), "CLOCK_BACK": str(switch)}
    with under_way(spec_path, out, clock, 3, start=started) as program:
        switch.touch()
        assert program.wait(240) == 0, program.log()
    folder = folder_of(spec_path, out)
    assert max(p.stat().st_mtime for p in folder.glob("shard-*.json")) > time.time() - 600  # the kernel's own clock was left alone
    assert of_shards(contents(folder)) == expected
    survived(**{"clock set back": 1})


@pytest.mark.parametrize("engine", ["local", "processes"])
def test_a_model_that_is_replaced_in_mid_run_stops_it(
    environment: Environment, expected: Any, tmp_path: Path, engine: str, survived: Count
) -> None:
    spec_path, out = world(tmp_path / "world", seeds={"count": 400}), tmp_path / "out"
    folder, model = folder_of(spec_path, out), tmp_path / "world/c.pt"
    good = model.read_bytes()
    options = ("--engine", engine, *(("--workers", 1) if engine == "processes" else ()))
    with under_way(spec_path, out, environment, 2, *options) as program:
        model.with_suffix(".new").write_bytes((tmp_path / "world/g.pt").read_bytes())
        model.with_suffix(".new").replace(model)
        code, log = program.wait(120), program.log()
    assert code == 2 and "a file of the spec was changed during the run" in log and str(model) in log, log
    whole = [k for k, p in verify_run(folder_at(folder)).items() if not p]
    assert 2 <= len(whole) < 200, "it went on with another model"
    model.write_bytes(good)
    done = completed(spec_path, out, environment, "--shards", f"0:{SHARDS}")
    assert done.returncode == 0, done.stderr
    assert of_shards(contents(folder)).items() >= expected.items()
    survived(**{"model replaced in mid-run": 1})


def test_an_interrupted_upload_is_made_again_once(
    spec_path: Path, environment: Environment, expected: Any, tmp_path: Path, survived: Count
) -> None:
    draw = random.Random(3)
    with serving() as s3, pytest.MonkeyPatch.context() as patch:
        for key, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": s3.url}.items():
            patch.setenv(key, value)
        make_bucket("faults")
        far = {**environment, **{k: v for k, v in os.environ.items() if k.startswith("AWS_")}}
        folder = folder_at("s3://faults/runs") / "tiny" / digest(load_spec(spec_path))
        for _ in range(2):
            program = run(spec_path, "s3://faults/runs", far)
            kind, at, seen = draw.choice(["tar", "parquet", "zip", "json"]), draw.randrange(2, 8), itertools.count(1)

            def kill(request: Any, program: Program = program, kind: str = kind, at: int = at, seen: Any = seen) -> str:
                upload = request.method == "PUT" and request.name.startswith("shard") and request.name.endswith(kind)
                if not upload or next(seen) != at:
                    return ""
                program.kill()
                return "cut"

            s3.fault = kill
            program.wait(120)
            s3.fault = lambda request: ""
            there = verify_run(folder)
            assert all(not p or "is missing" in p[0] or "no manifest" in p[0] for p in there.values()), there
        done = completed(spec_path, "s3://faults/runs", far)
        assert done.returncode == 0, done.stderr
        assert of_shards(stored(folder)) == expected  # type: ignore[arg-type]
        manifests = s3.written(".json")
        assert len([n for n in manifests if n.startswith("shard")]) == SHARDS, "a shard was finished twice"
    survived(**{"SIGKILL in an upload": 2})


class Crowded(TinyGenerator):
    """Fails as a GPU does whose memory holds 8 images."""

    def forward(self, z: Tensor) -> Tensor:
        if len(z) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(z)


class Roomy(TinyGenerator):
    """The same network, on a larger GPU."""


def test_a_full_gpu_halves_the_batch_and_the_run_goes_on(tmp_path: Path, survived: Count) -> None:
    rows: dict[str, pd.DataFrame] = {}
    for name in ("Roomy", "Crowded"):
        target = f"tests.flows.test_faults:{name}"
        spec_path = world(
            tmp_path / name, generator={"kind": "factory", "target": target, "latent_dim": 6, "output_range": [-1, 1]}
        )
        spec = load_spec(spec_path)
        with opened(spec, folder_at(tmp_path / "out")) as folder:
            request = Request(spec, digest(spec), folder, 64, True, ())
            made = [make(request, "cpu", 1, index) for index in range(len(plan(spec)))]
        forget()
        rows[name] = pd.concat([pd.read_parquet(path_of(folder) / f"{m.stem}.parquet") for m in made])
        assert not any(verify_run(folder).values())
    one, other = rows["Roomy"], rows["Crowded"]
    assert one.key.tolist() == other.key.tolist() and one.accepted.any()
    for column in ("drift_class", "effect_look"):
        np.testing.assert_allclose(one[column], other[column], atol=1e-5)
    differ = one[one.reason.to_numpy() != other.reason.to_numpy()]
    at_threshold = ((differ.drift_class - 0.2).abs() < 1e-5) | ((differ.effect_look - 0.05).abs() < 1e-5)
    assert at_threshold.all()
    survived(**{"CUDA out of memory": 1})


def test_a_soak_of_two_thousand_seeds_leaves_the_memory_flat(environment: Environment, tmp_path: Path) -> None:
    # One variant a seed: what a run keeps, it keeps of shards and of seeds.
    trajectory = {"method": "linear", "directions": 1, "waypoints": 1, "step": 0.1}
    spec_path = world(tmp_path / "world", seeds={"count": 2000}, shards={"seeds": 20}, trajectory=trajectory)
    out = tmp_path / "out"
    folder, used = folder_of(spec_path, out), []
    with under_way(spec_path, out, environment, 20) as program:
        while program.returncode() is None:
            with suppress(OSError, StopIteration, IndexError):
                status = Path(f"/proc/{program.pid}/status").read_text()
                used.append(int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024)
            time.sleep(0.2)
        assert program.returncode() == 0
    half, end = float(np.median(used[len(used) // 4 : len(used) // 2])), float(np.median(used[-len(used) // 4 : -3]))
    assert len(list(folder.glob("shard-*.json"))) == 100 and len(used) > 10
    assert end - half < 40, f"from {half:.0f} to {end:.0f} MB"
