"""Two runs of one generator, and their export: what several tests start from, and leave as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.exports import LIMITS, bytes_of, export, others, run_at


@pytest.fixture(scope="session")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_at(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_at(tmp_path_factory.mktemp("two"), "two", others, held={"class": 0.2}, varied={"look": 0.3})


@pytest.fixture(scope="session")
def whole(one: Path, two: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """Returns the files of both runs' export in one go, by format."""
    found = {}
    for format in ("webdataset", "imagefolder"):
        dest = tmp_path_factory.mktemp("whole") / "d"
        export([one, two], dest, format=format, **LIMITS)
        found[format] = bytes_of(dest)
    return found
