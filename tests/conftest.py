"""Shared by all tests: one thread (two busy cores), and Prefect's own test server, started once and only if a test needs it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from flows import prefect_env as home

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Prefect home for the programs that tests start."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="session")
def prefect_api(prefect_home: Path) -> Iterator[str]:
    """Prefect's test server, and its URL."""
    os.environ["REDS_PREFECT_HOME"] = str(prefect_home)
    os.environ.pop("PREFECT_API_URL", None)
    home.settle()
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield str(PREFECT_API_URL.value())


@pytest.fixture
def survived(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Records faults that a test injected, by what they were."""
    return lambda **counts: record_property("faults", counts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The faults that tests injected into real runs and that these survived, by kind."""
    counts = Counter[str]()
    for report in terminalreporter.stats.get("passed", []):
        for name, value in getattr(report, "user_properties", []):
            if name == "faults" and report.when == "call":
                counts.update(value)
    if counts:
        told = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
        terminalreporter.write_line(f"faults injected and survived: {counts.total()} ({told})")
