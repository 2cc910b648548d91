"""Verify: no damage to an export goes unseen or unnamed, and another export makes it good."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reds_core.exports.verify import Found, verify_export
from reds_core.runs.totals import runs
from reds_core.storage.places import folder_at
from tests.support.exports import bytes_of, export, run_at


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_at(tmp_path_factory.mktemp("run"))


def problems(folder: Path) -> list[str]:
    return verify_export(folder_at(folder)).problems


def change(path: Path) -> None:
    content = path.read_bytes()
    at = len(content) // 2
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


def drop_a_row(path: Path) -> None:
    pd.read_parquet(path).iloc[1:].to_parquet(path)


def remove(folder: Path, pattern: str) -> None:
    for path in folder.glob(pattern):
        path.unlink()


Damage = Callable[[Path], object]
OF_TARS: dict[str, tuple[Damage, str]] = {
    "a bit of a tar": (lambda d: change(d / "train-00001.tar"), "train-00001.tar: its hash differs from the manifest's"),
    "no tar": (lambda d: (d / "val-00000.tar").unlink(), "val-00000.tar: is missing"),
    "no manifest": (lambda d: (d / "train-00001.json").unlink(), "train-00001: has no manifest, so it is not finished"),
    "neither": (lambda d: remove(d, "train-00001.*"), "train-00001: is missing"),
    "another's manifest": (lambda d: shutil.copy(d / "val-00001.json", d / "train-00001.json"), "train-00001.json: is damaged, or"),
    "a damaged manifest": (lambda d: change(d / "val-00001.json"), "val-00001.json: is damaged, or"),
    "another's tar": (lambda d: shutil.copy(d / "val-00001.tar", d / "val-00000.tar"), "val-00000.tar: "),
    "an index of fewer rows": (lambda d: drop_a_row(d / "index.parquet"), "index.parquet: its hash differs"),
    "no index": (lambda d: (d / "index.parquet").unlink(), "index.parquet: is missing"),
    "a stray tar": (
        lambda d: shutil.copy(d / "val-00000.tar", d / "val-00009.tar"),
        "val-00009.tar: is not a shard of this export",
    ),
}
OF_IMAGES: dict[str, tuple[Damage, str]] = {
    "no image": (lambda d: (d / "train/Bag/s00000001.png").unlink(), "train/Bag/s00000001.png: is missing"),
    "a bit of an image": (lambda d: change(d / "train/Bag/s00000001.png"), "train/Bag/s00000001.png: its hash differs"),
    "a stray image": (lambda d: (d / "train/Bag/x.png").touch(), "train/Bag/x.png: is not an image of this export"),
    "a stray class": (
        lambda d: shutil.copytree(d / "train/Bag", d / "train/Hat"),
        "train/Hat/s00000001-d00p-w01.png: is not an image",
    ),
    "an index of fewer rows": (lambda d: drop_a_row(d / "index.parquet"), "index.parquet: its hash differs"),
}
STRAYS = ("a stray tar", "a stray image", "a stray class")  # which an export leaves alone


ASKED: dict[str, dict[str, Any]] = {
    "webdataset": {"shards": 2, "splits": {"train": 0.5, "val": 0.5}},
    "imagefolder": {"format": "imagefolder"},
}


@pytest.fixture(scope="module")
def intact(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes an export of each format, in folders of their names."""
    folder = tmp_path_factory.mktemp("intact")
    for name, asked in ASKED.items():
        export([run], folder / name, **asked)
        assert not problems(folder / name)
    return folder


def check(run: Path, intact: Path, folder: Path, damage: Damage, message: str, is_stray: bool) -> None:
    shutil.copytree(intact, folder)
    expected = bytes_of(intact)
    damage(folder)
    found = problems(folder)
    assert found and found[0].startswith(message), found
    export([run], folder, **ASKED[intact.name])
    assert is_stray or bytes_of(folder) == expected
    assert bool(problems(folder)) == is_stray


@pytest.mark.parametrize("name", OF_TARS)
def test_every_damage_to_tars_is_named_and_made_good(run: Path, intact: Path, tmp_path: Path, name: str) -> None:
    check(run, intact / "webdataset", tmp_path / "d", *OF_TARS[name], name in STRAYS)


@pytest.mark.parametrize("name", OF_IMAGES)
def test_every_damage_to_an_image_folder_is_named_and_made_good(run: Path, intact: Path, tmp_path: Path, name: str) -> None:
    check(run, intact / "imagefolder", tmp_path / "d", *OF_IMAGES[name], name in STRAYS)


def test_no_bit_of_export_json_changes_unseen(run: Path, tmp_path: Path) -> None:
    export([run], tmp_path / "d", shards=1)
    path, draw = tmp_path / "d/export.json", random.Random(0)
    content = path.read_bytes()
    for at in (at for at in range(0, len(content), 5) if content[at] not in b" \n"):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << draw.randrange(7)]) + content[at + 1 :])
        assert problems(tmp_path / "d") == ["export.json: is damaged"], at
    path.unlink()
    assert problems(tmp_path / "d") == ["export.json: is missing"]


def test_an_intact_export_is_counted_and_is_no_run(run: Path, tmp_path: Path) -> None:
    export([run], tmp_path / "d", shards=3)
    assert verify_export(folder_at(tmp_path / "d")) == Found([], 54, 3)
    shutil.copytree(run, tmp_path / "one" / run.name)
    shutil.copytree(tmp_path / "d", tmp_path / "one" / "set")
    assert [r.folder.name for r in runs(folder_at(tmp_path))] == [run.name]
