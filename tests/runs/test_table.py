"""A shard's table has the columns and types of its run, whatever its rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from reds_core.runs.shards import write_shard
from reds_core.runs.table import schema_of, write_table
from reds_core.runs.verify import verify_shard
from reds_core.storage.places import folder_at
from tests.support.shards import candidates_of, computed, spec_of
from tests.support.worlds import world


@pytest.mark.parametrize("kept", ["all", "rejected", "none"])
def test_a_table_of_any_rows_has_one_schema(tmp_path: Path, kept: str) -> None:
    spec = spec_of(world(tmp_path / "world"))
    candidates = [c for c in candidates_of(spec, range(6)) if kept == "all" or (kept == "rejected" and c.reason)]
    with (tmp_path / "t.parquet").open("wb") as file:
        write_table(file, candidates, spec)
    found = pq.read_table(tmp_path / "t.parquet")
    assert found.schema.equals(schema_of(spec)) and len(found) == len(candidates)


def test_a_shard_without_a_sample_is_intact(tmp_path: Path) -> None:
    spec, folder = spec_of(world(tmp_path / "world")), folder_at(tmp_path / "run")
    (tmp_path / "run").mkdir()
    shard = computed(spec, 0)
    none = replace(shard, candidates=[replace(c, reason="seed_label") for c in shard.candidates])
    manifest = write_shard(folder, "0" * 16, none)
    assert (manifest.samples, manifest.accepted, manifest.labels) == (0, 0, {}) and manifest.candidates == 24
    assert verify_shard(folder, 0) == []
