"""croissant.json: the folder as its format's own reader sees it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import mlcroissant
import pandas as pd
import pytest
from etils import epath
from mlcroissant._src.operation_graph.operations import extract

from reds_core.reports.croissant import NAME, TABLE
from reds_core.reports.page import write_report
from reds_core.runs.manifest import read_manifests
from reds_core.runs.samples import read_samples
from reds_core.storage.folder import hash_of
from reds_core.storage.local import LocalFolder
from reds_core.storage.places import folder_at
from tests.reports.test_page import other_judge, run

# The reader's own libraries', and files that it leaves open.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader extracts tars to a folder by their names alone, and takes what is there for them ever after."""
    monkeypatch.setattr(extract, "EXTRACT_PATH", epath.Path(tmp_path / "cache"))


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The samples by key."""
    found = {}
    for record in mlcroissant.Dataset(jsonld=str(folder / NAME)).records("samples"):
        named = {name.removeprefix("samples/"): value for name, value in record.items()}
        found[named["key"].decode()] = named
    return found


@pytest.mark.parametrize(("image", "label"), [("png", "class"), ("webp", "none")])
def test_every_sample_is_read_with_its_own_label_and_figures(tmp_path: Path, image: str, label: str) -> None:
    folder = run(tmp_path, shards={"seeds": 2, "image": image}, label=label)
    write_report(folder_at(folder))
    assert not mlcroissant.Dataset(jsonld=str(folder / NAME)).metadata.issues.errors
    found = read(folder)
    expected = {key: files for tar in sorted(folder.glob("*.tar")) for key, files in read_samples(tar)}
    assert found.keys() == expected.keys() and len(found) > 4
    for key, files in expected.items():
        record, theirs = json.loads(files["json"]), found[key]
        assert (theirs["label"], theirs["seed"], theirs["waypoint"]) == (record["label"], record["seed"], record["waypoint"])
        assert theirs["group"].decode() == record["group"]
        name, held = next(iter(record["held"].items()))
        assert theirs[f"drift_{name}"] == pytest.approx(held["drift"])
        assert theirs["image"].size == (8, 8)


def test_a_tar_that_changed_is_not_read(tmp_path: Path) -> None:
    folder = run(tmp_path)
    write_report(folder_at(folder))
    tar = next(folder.glob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:-1] + b"x")
    with pytest.raises(mlcroissant.GenerationError, match=re.escape(tar.name)):
        read(folder)


def test_made_again_it_is_the_same_and_a_run_without_shards_has_none(tmp_path: Path) -> None:
    folder = run(tmp_path / "a")
    write_report(folder_at(folder))
    before = {name: (folder / name).read_bytes() for name in (NAME, TABLE)}
    write_report(folder_at(folder))
    assert before == {name: (folder / name).read_bytes() for name in (NAME, TABLE)}
    empty = run(tmp_path / "b", first=0)
    write_report(folder_at(empty))
    assert not (empty / NAME).exists() and not (empty / TABLE).exists()


def test_a_shard_without_samples_is_in_no_ones_way(tmp_path: Path) -> None:
    """The judge contradicts both seeds of the first shard."""
    folder = run(tmp_path, seeds={"first": 0, "count": 8}, judge=other_judge(tmp_path))
    tars = {tar.name: len(list(read_samples(tar))) for tar in folder.glob("*.tar")}
    assert "shard-00000.tar" not in tars and sum(tars.values()) == len(read(folder)) > 0


def test_figures_say_their_units(tmp_path: Path) -> None:
    described = {}
    for name, limit in (("level", 0.2), ("decision", {"decision": 0.6})):
        folder = run(tmp_path / name, held={"class": limit})
        write_report(folder_at(folder))
        assert not mlcroissant.Dataset(jsonld=str(folder / NAME)).metadata.issues.errors
        table = json.loads((folder / NAME).read_text())["recordSet"][0]
        described[name] = {field["name"]: field["description"] for field in table["field"] if "description" in field}
        for key, record in read(folder).items():
            assert 0 <= record["drift_class"] <= record["tolerance_class"] and key.startswith("s")
    effect = {"effect_look": "look: the effect, in spreads"}
    assert described["level"] == effect | {
        "drift_class": "class: the drift, in spreads",
        "tolerance_class": "class: the largest drift allowed, in spreads",
    }
    assert described["decision"] == effect | {
        "drift_class": "class: the probability that the label lost, as a decision is held",
        "tolerance_class": "class: the probability that the label may lose, as a decision is held",
    }


def test_a_run_goes_on_from_shards_whose_tables_had_no_tolerances(tmp_path: Path) -> None:
    folder = run(tmp_path)
    table = folder / "shard-00000.parquet"
    pd.read_parquet(table).drop(columns=["tolerance_class"]).to_parquet(table, index=False)
    manifest = next(m for m in read_manifests(LocalFolder(folder)) if m.index == 0)
    changed = manifest.model_copy(update={"parquet_sha256": hash_of(table), "parquet_bytes": table.stat().st_size}).sealed()
    (folder / "shard-00000.json").write_text(changed.to_json())
    write_report(folder_at(folder))
    assert set(pd.read_parquet(folder / TABLE).tolerance_class) == {0.2}
