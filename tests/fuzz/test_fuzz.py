"""Specs that nobody would write and runs that nobody would wish for: a few of each kind, always the same.

`tests/benchmarks/fuzz.py` tries more.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import specs as fuzz_specs
from tests.fuzz.damages import DAMAGES
from tests.fuzz.runs import Run, finished_run, verify
from tests.fuzz.specs import load, spec_file
from tests.fuzz.texts import ALL_KINDS

DRAWS = st.randoms(use_true_random=False)
TOO = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
SOME = settings(max_examples=14, deadline=None, derandomize=True, database=None, suppress_health_check=TOO)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("specs")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finished_run(tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("text", [ALL_KINDS, *fuzz_specs.SHIPPED], ids=lambda t: t.partition("name: ")[2].split()[0])
def test_what_is_mutated_is_a_spec(folder: Path, text: str) -> None:
    assert load(fuzz_specs.SpecFile(text.encode()), folder) == "accepted"


@pytest.mark.parametrize("kind", fuzz_specs.KINDS)
def test_a_mutated_spec_reads_back_as_itself_or_is_refused_with_reasons(folder: Path, kind: str) -> None:
    @SOME
    @given(DRAWS)
    def each(draw: Random) -> None:
        load(spec_file(draw, kind), folder)

    each()


@pytest.mark.parametrize("kind", DAMAGES)
def test_every_damage_to_a_run_is_named_and_nothing_else(run: Run, kind: str) -> None:
    @SOME
    @given(DRAWS)
    def each(draw: Random) -> None:
        verify(run, DAMAGES[kind](draw, run))

    each()
