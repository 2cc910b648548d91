"""What others read: webdataset with workers, Hugging Face, and the dataset card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import webdataset as wds
import yaml
from datasets import load_dataset

from reds_core.types import Candidate
from tests.support.exports import NAMES, bytes_of, export, held, run_at, sample, usual

SPLITS = {"train": 0.75, "val-2": 0.25}

# Readers leave files to the garbage collector, and their workers may be more than this machine's cores.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Makes two runs whose samples have other attributes."""
    folder = tmp_path_factory.mktemp("runs")
    classes = {"kind": "classifier", "model": {"kind": "builtin", "name": "fashion-mnist-classifier"}, "names": [*NAMES]}
    attributes = {"class": classes, "shape": {"kind": "pixels", "gray": True}}
    two = run_at(folder, "two", pairs, attributes=attributes, varied={"shape": 0.2})
    return [run_at(folder, "one", usual), two]


def pairs(seed: int) -> list[Candidate]:
    """Returns two samples of a seed, whose effect is on the shape."""
    return [replace(sample(seed, waypoint, label=seed % 3), effects={"shape": 0.2}) for waypoint in (0, 7)]


def test_webdataset_gives_four_workers_every_sample_once(runs: list[Path], tmp_path: Path) -> None:
    said, _ = export(runs, tmp_path / "d", splits=SPLITS)
    for name, size in said.splits.items():
        urls = f"{tmp_path}/d/{name}-{{00000..{size.shards - 1:05d}}}.tar"
        data = wds.WebDataset(urls, shardshuffle=False).decode("pil").to_tuple("__key__", "png", "cls", "json")
        found = list(wds.WebLoader(data, batch_size=None, num_workers=4))
        expected = held(tmp_path / "d")
        assert sorted(key for key, *_ in found) == sorted(expected[expected.split == name].key)
        assert all(image.size == (8, 8) and label == record["label"] for _, image, label, record in found)


@pytest.mark.parametrize("format", ["webdataset", "imagefolder"])
def test_hugging_face_reads_the_splits_of_the_folder(runs: list[Path], tmp_path: Path, format: str) -> None:
    said, _ = export(runs, tmp_path / "d", format=format, splits=SPLITS)
    data = load_dataset(str(tmp_path / "d"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(rows) for name, rows in data.items()} == {
        name.replace("-", "_"): size.samples for name, size in said.splits.items()
    }
    image = data["train"][0]["png" if format == "webdataset" else "image"]
    assert image.size == (8, 8)
    if format == "imagefolder":
        assert data["train"].features["label"].names == sorted({"T-shirt_top", "Bag", "Ankle boot"})


def test_hugging_face_loses_no_attribute_that_only_one_of_the_runs_has(runs: list[Path], tmp_path: Path) -> None:
    export(runs, tmp_path / "d")
    data = load_dataset(str(tmp_path / "d"), cache_dir=str(tmp_path / "cache"), split="train")
    expected = held(tmp_path / "d").set_index("key")
    for row in data:
        varied = {name: value for name, value in row["json"]["varied"].items() if value is not None}
        assert varied == expected.varied[row["__key__"]] and row["cls"] == expected.label[row["__key__"]]
    assert {name for varied in expected.varied for name in varied} == {"look", "shape"}


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    _, front, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), text


def test_the_card_says_what_is_in_it_and_where_it_comes_from(runs: list[Path], tmp_path: Path) -> None:
    export(runs, tmp_path / "d", splits=SPLITS, per_class=9, per_seed=2)
    front, text = card_of(tmp_path / "d")
    assert front["license"] == "other" and front["size_categories"] == ["n<1K"]
    assert front["configs"][0]["data_files"][1] == {"split": "val_2", "path": "val-2-?????.tar"}
    for words in ("24 images of 12 seeds, 8x8 pixels with 1 channel", "At most 2 samples of a seed", runs[0].name, "| Bag | "):
        assert words in text
    assert all(
        len(set(line.count("|") for line in table.splitlines())) == 1 for table in text.split("\n\n") if table.startswith("|")
    )


def test_the_card_states_the_licence_that_all_runs_state(tmp_path: Path) -> None:
    run = run_at(tmp_path)
    (run / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# one\n")
    export([run], tmp_path / "d")
    assert card_of(tmp_path / "d")[0]["license"] == "cc-by-4.0"
    (run / "README.md").write_text("---\nlicense: [\n---\n# one\n")
    export([run], tmp_path / "e")
    assert card_of(tmp_path / "e")[0]["license"] == "other"
    assert bytes_of(tmp_path / "d")["train-00000.tar"] == bytes_of(tmp_path / "e")["train-00000.tar"]
