"""What samples and tables say of held levels and decisions, side by side: the same keys and types everywhere, and no nulls."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from reds_core.runs.samples import read_samples
from tests.reports.test_page import run
from tests.support.worlds import TinyClassifier, torchscript

LIMITS = {"class": {"decision": 0.6}, "left": 0.5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of three shards, one of which has no samples: the judge contradicts its seeds."""
    judge = torchscript(TinyClassifier(seed=9), tmp_path / "other.pt")
    return run(
        tmp_path,
        attributes={
            "class": {"kind": "classifier", "model": {"kind": "torchscript", "path": "c.pt"}, "names": ["a", "b", "c"]},
            "left": {"kind": "pixels", "region": {"box": [0, 0, 1, 0.5]}},
            "look": {"kind": "pixels"},
        },
        held=LIMITS,
        trajectory={"directions": 2, "waypoints": 3, "step": 0.2},
        judge={"model": {"kind": "torchscript", "path": str(judge)}},
        keep=5,
    )


def types(value: Any) -> Any:
    """Returns the keys and types of what JSON holds."""
    return {k: types(v) for k, v in value.items()} if isinstance(value, dict) else type(value)


def test_every_sample_has_drift_and_tolerance_of_levels_and_decisions(folder: Path) -> None:
    records = [json.loads(files["json"]) for tar in sorted(folder.glob("*.tar")) for _, files in read_samples(tar)]
    assert {r["role"] for r in records} == {"seed", "variant"}
    assert all(types(r) == types(records[0]) for r in records)
    for record in records:
        assert record["held"].keys() == LIMITS.keys() and record["held"]["left"]["tolerance"] == 0.5
        for held in record["held"].values():
            assert types(held) == {"drift": float, "tolerance": float} and 0 <= held["drift"] <= held["tolerance"] < math.inf
        assert record["held"]["class"]["tolerance"] <= 0.4
        assert record["role"] == "variant" or record["held"]["class"]["drift"] == record["varied"]["look"]["effect"] == 0.0
    of_seeds: dict[int, set[float]] = {}
    for record in records:
        of_seeds.setdefault(record["seed"], set()).add(record["held"]["class"]["tolerance"])
    assert all(len(found) == 1 for found in of_seeds.values()) and len(set().union(*of_seeds.values())) > 1


def test_tables_have_a_tolerance_for_every_held_attribute_whatever_became_of_their_seeds(folder: Path) -> None:
    tables = [pq.read_table(path) for path in sorted(folder.glob("shard-*.parquet"))]
    assert all(t.schema.remove_metadata() == tables[0].schema.remove_metadata() for t in tables) and len(tables) == 3
    columns = ["drift_class", "drift_left", "effect_look", "tolerance_class", "tolerance_left"]
    assert tables[0].schema.names[-5:] == columns and {str(tables[0].schema.field(c).type) for c in columns} == {"double"}
    assert sorted({sum(t["accepted"].to_pylist()) > 0 for t in tables}) == [False, True]
    assert all(math.isfinite(v) for t in tables for c in columns[3:] for v in t[c].to_pylist())
    for path in folder.glob("shard-*.json"):
        spreads = json.loads(path.read_text())["spreads"]
        assert spreads.keys() == {"class", "left", "look"} and spreads["class"] == 1.0
