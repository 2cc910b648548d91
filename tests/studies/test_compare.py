"""Comparisons: intervals by known answers, then the methods side by side in a small world, then what `reds compare` writes."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from flows.cli.app import app
from reds_core import load_spec
from reds_core.errors import UserError
from reds_core.studies.compare import COMPARED, compare
from reds_core.studies.estimates import over_seeds
from tests.support.worlds import TinyClassifier, torchscript, world

COLUMNS = [
    "method", "attribute", "effect_from", "effect_to", "n", "drift", "drift_low", "drift_high", "flips", "flips_low", "flips_high",
    "passes", "seconds",
]  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A world in which nothing varies without the class, and its spec."""
    trajectory = {"method": "corrected", "directions": 2, "waypoints": 3, "step": 0.2}
    path = world(tmp_path, held={"class": 0.02}, trajectory=trajectory, seeds={"count": 8})
    torchscript(TinyClassifier(everywhere=True), tmp_path / "c.pt")
    return path


def test_an_interval_is_over_seeds_not_over_variants() -> None:
    """A thousand equal variants of each of four seeds are worth four values."""
    seed = np.repeat([0, 1, 2, 3], 1000)
    found = over_seeds(seed, np.repeat([0.0, 0.0, 1.0, 1.0], 1000))
    assert found.value == 0.5
    assert found.low <= 0.1 and found.high >= 0.9


def test_bins_count_by_their_weights_not_by_what_is_in_them() -> None:
    which = np.array([0] * 90 + [1] * 10)
    values = np.where(which == 0, 1.0, 3.0)
    found = over_seeds(np.arange(100) % 10, values, which, [0, 1], [1.0, 1.0])
    assert found.value == pytest.approx(2.0)


def test_no_values_are_no_estimate() -> None:
    assert np.isnan(over_seeds(np.array([0, 1]), np.array([np.nan, np.nan])).value)
    assert str(over_seeds(np.zeros(0), np.zeros(0))) == "-"


def test_corrected_holds_better_at_equal_effect(small: Path) -> None:
    found = compare(load_spec(small), ["corrected", "local", "rand"], "cpu")
    ours, local, rand = found.methods
    for other in (local, rand):
        bins = found.shared(other)
        assert bins
        a = found.at_equal_effect(ours, ours.drift["class"], bins)
        b = found.at_equal_effect(other, other.drift["class"], bins)
        assert a.high < b.low
    # A waypoint costs what it costs in any space; `local` pays for each latent axis, of which this world has 6.
    assert ours.passes_each < 9


def test_steps_are_chosen_so_that_methods_get_as_far(small: Path) -> None:
    spec = load_spec(small, ["trajectory.step=0.1"])
    ours, other = compare(spec, ["corrected", "maxc"], "cpu").methods
    assert 0.6 < np.quantile(other.effect, 0.75) / np.quantile(ours.effect, 0.75) < 1.6


def test_effect_grows_with_arc_length(small: Path) -> None:
    spec = load_spec(small, ["trajectory.step=0.1", "trajectory.waypoints=8"])
    (ours,) = compare(spec, ["corrected"], "cpu").methods
    growth = ours.growth(8)
    assert all(a < b for a, b in itertools.pairwise(growth))
    assert np.isnan(ours.growth(9)[8])


def test_the_command_writes_a_table_a_picture_and_a_verdict(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(
        app, ["compare", str(small), "--out", str(out), "--methods", "corrected,linear,rand", "--device", "cpu"]
    )
    assert result.exit_code == 0, result.output
    folder = out / "tiny" / "compare"
    table = pd.read_csv(folder / "compare.csv")
    assert list(table.columns[: len(COLUMNS)]) == COLUMNS
    assert set(table.method) == {"corrected", "linear", "rand"}
    assert (table.drift_low <= table.drift + 1e-9).all() and (table.drift <= table.drift_high + 1e-9).all()
    assert (table.effect_from < table.effect_to).all() and (table.n > 0).all()
    with Image.open(folder / "compare.png") as picture:
        assert picture.width > 1000
    verdict = (folder / "compare.md").read_text()
    assert "## Effect along the trajectories" in verdict
    assert "**rand**" in verdict and "times" in verdict and "fewer passes" in verdict
    assert str(folder) in result.output


def test_without_a_judge_flips_are_unknown_and_it_says_so(small: Path, tmp_path: Path) -> None:
    small.write_text(small.read_text().replace("judge:\n  model:\n    kind: torchscript\n    path: j.pt\n", ""))
    result = CliRunner().invoke(app, ["compare", str(small), "--out", str(tmp_path / "out"), "--methods", "corrected,rand"])
    assert result.exit_code == 0, result.output
    assert "names no judge" in result.output
    assert pd.read_csv(tmp_path / "out/tiny/compare/compare.csv").flips.isna().all()


def test_a_method_that_does_not_exist_is_named_with_those_that_do(small: Path) -> None:
    with pytest.raises(UserError, match=r"unknown method ganspace; there are: corrected, local"):
        compare(load_spec(small), ["corrected", "ganspace"], "cpu")
    assert len(COMPARED) == 8


def test_one_seed_is_too_few(small: Path) -> None:
    with pytest.raises(UserError, match=r"seeds\.count"):
        compare(load_spec(small, ["seeds.count=1"]), ["corrected"], "cpu")


def test_nothing_reached_is_nothing_to_compare_with(small: Path) -> None:
    with pytest.raises(UserError, match="reached 0 of"):
        compare(load_spec(small, ["held.class=0.00000001"]), ["corrected", "rand"], "cpu")
