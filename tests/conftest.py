"""What all tests share: one thread each, and a Prefect server, which each worker starts once and only if a test needs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from flows import prefect_env
from flows.cli.app import main
from tests.support.prefect_server import Server, new_home
from tests.support.programs import Reds, outside

torch.set_num_threads(1)

# Files by the time that they take, longest first: no worker then ends long before the others.
LONG = (
    "flows/test_faults.py", "flows/test_deploy.py", "flows/test_api.py", "flows/test_cli.py", "flows/test_engines.py",
    "flows/test_flows.py", "house/test_tutorial.py", "storage/test_remote.py", "flows/test_ray.py", "flows/test_until.py",
    "house/test_docs.py", "training", "variants", "trajectories", "models", "evaluation", "exports", "runs", "fuzz",
    "storage", "reports", "studies",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        place = str(item.path.relative_to(Path(__file__).parent))
        return next((k for k, name in enumerate(LONG) if place.startswith(name)), len(LONG))

    items.sort(key=rank)


@pytest.fixture(scope="session")
def new_prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Returns a maker of Prefect homes, from a database that all workers of pytest-xdist share."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return lambda: new_home(tmp_path_factory.mktemp("prefect"), shared)


@pytest.fixture(scope="session")
def prefect_home(new_prefect_home: Callable[[], Path]) -> Path:
    """Makes a Prefect home for the programs that tests start."""
    return new_prefect_home()


@pytest.fixture(scope="session")
def prefect_api(new_prefect_home: Callable[[], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Starts a Prefect server, which this process uses too, and yields its URL."""
    server = Server(new_prefect_home())
    try:
        os.environ |= {"PREFECT_API_URL": server.api, "PREFECT_HOME": str(tmp_path_factory.mktemp("home"))}
        prefect_env.set_environment()
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()
        del os.environ["PREFECT_API_URL"]
        yield server.api
    finally:
        server.kill()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mounts a real disk of 300 KB, which a few shards fill."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and os.geteuid() == 0
    if not mounted or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("a small disk can only be mounted by root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.fixture
def embedded(prefect_home: Path) -> dict[str, str]:
    """Returns the environment of a program on a machine without a Prefect server, behind a proxy that does not answer."""
    return outside() | {"REDS_PREFECT_HOME": str(prefect_home), "http_proxy": "http://127.0.0.1:9"}


@pytest.fixture
def served(prefect_api: str, tmp_path: Path) -> dict[str, str]:
    """Returns the environment of a program beside a Prefect server, which saves the time to start one."""
    return outside() | {"PREFECT_API_URL": prefect_api, "PREFECT_HOME": str(tmp_path / "home")}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Reds:
    """The program's `main` in this process, which has torch at hand; not for `run`, which settles in a process of its own."""

    def call(*words: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["reds", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return subprocess.CompletedProcess(sys.argv, int(ended.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def augment(prefect_api: str) -> Any:
    """Returns the flow, in this process."""
    from flows.augment import augment

    return augment


@pytest.fixture
def survived(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Returns a function that records the faults that a test injected, by what they were."""
    return lambda **counts: record_property("faults", counts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the faults that tests injected into real runs and that these survived, by kind."""
    counts = Counter[str]()
    for report in terminalreporter.stats.get("passed", []):
        for name, value in getattr(report, "user_properties", []):
            if name == "faults" and report.when == "call":
                counts.update(value)
    if counts:
        in_words = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
        terminalreporter.write_line(f"faults injected and survived: {counts.total()} ({in_words})")
