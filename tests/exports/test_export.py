"""Exports: what is counted in the files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reds_core.errors import UserError
from reds_core.exports.image_folder import folder_names
from reds_core.exports.verify import verify_export
from reds_core.runs.samples import read_samples
from reds_core.storage.places import folder_at
from reds_core.types import Candidate
from tests.support.exports import LIMITS, NAMES, bytes_of, export, held, make, plan_of, run_at, sample, spec_at, usual

# What is in it


def test_without_limits_every_sample_is_there_once_byte_for_byte(one: Path, tmp_path: Path) -> None:
    export([one], tmp_path / "d", shards=4)
    kept = {key: files for path in sorted((tmp_path / "d").glob("*.tar")) for key, files in read_samples(path)}
    made = {key: files for path in sorted(one.glob("*.tar")) for key, files in read_samples(path)}
    assert kept == made and len(kept) == sum(3 + seed % 4 for seed in range(12))


def test_limits_hold_exactly_and_take_from_every_seed(one: Path, two: Path, tmp_path: Path) -> None:
    export([one, two], tmp_path / "d", **LIMITS)
    found = held(tmp_path / "d")
    assert found.groupby("label_name").size().to_dict() == dict.fromkeys(NAMES, 12)
    assert set(found.groupby("group").size()) == {3} and found.group.nunique() == 12
    assert set(found[found.role == "seed"].group) == set(found.group)
    assert found.groupby("split").size().to_dict() == {"train": 27, "val": 9}
    assert set(found[found.split == "val"].groupby("label").size()) == {3}
    assert not set(found[found.split == "train"].group) & set(found[found.split == "val"].group)
    assert found.cls.map(int).tolist() == found.label.tolist()


def test_the_index_says_what_the_files_hold(one: Path, two: Path, tmp_path: Path) -> None:
    export([one, two], tmp_path / "d", **LIMITS)
    found, index = held(tmp_path / "d").sort_values("key"), pd.read_parquet(tmp_path / "d/index.parquet").sort_values("key")
    for column in ("key", "split", "file", "label", "label_name", "role", "seed", "group", "source", "spec"):
        assert found[column].tolist() == index[column].tolist()
    assert index.run.tolist() == found.digest.tolist() and set(index.run) == {one.name, two.name}


@pytest.mark.parametrize("format", ["webdataset", "imagefolder"])
def test_equal_runs_give_equal_bytes_in_whatever_order_they_are_named(
    one: Path, two: Path, whole: dict[str, Any], tmp_path: Path, format: str
) -> None:
    shutil.copytree(two, tmp_path / "moved")
    export([tmp_path / "moved", one, two], tmp_path / "e", format=format, **LIMITS)
    assert bytes_of(tmp_path / "e") == whole[format] and len(whole[format]) > 10


def test_the_same_seed_of_two_specs_is_one_group_and_its_own_image_is_written_once(one: Path, two: Path, tmp_path: Path) -> None:
    export([one, two], tmp_path / "d", splits={"a": 0.5, "b": 0.5})
    found = held(tmp_path / "d")
    assert (found.groupby("group")["split"].nunique() == 1).all() and found.groupby("group").digest.nunique().eq(2).all()
    assert len(found[found.role == "seed"]) == 12 and found.key.is_unique
    assert (
        set(found.key.str.partition("-")[0]) == {one.name[:8], two.name[:8]} and not found.key.str.contains(".", regex=False).any()
    )
    with plan_of(one, two) as plan:
        assert plan.twice == 12


def test_one_run_in_two_folders_is_one_run(tmp_path: Path) -> None:
    spec = spec_at(tmp_path)
    whole = make(tmp_path / "whole", spec)
    parts = [Path(shutil.copytree(whole.absolute(), tmp_path / f"part{index}" / whole.name)) for index in (0, 1)]
    for index, part in enumerate(parts):
        for path in part.glob(f"shard-0000{index}.*"):
            path.unlink()
    export([whole], tmp_path / "d")
    export(parts, tmp_path / "e")
    assert held(tmp_path / "d").key.tolist() == held(tmp_path / "e").key.tolist()


def own(seed: int) -> list[Candidate]:
    """Returns the samples of an own image."""
    name = f"cats/{seed:03d}.jpg"
    return [sample(seed, role="source", source=name), *(sample(seed, w, source=name) for w in range(3))]


def later(seed: int) -> list[Candidate]:
    """Returns other samples of the own image that is the third after it."""
    name = f"cats/{seed + 3:03d}.jpg"
    return [sample(seed + 3, role="source", source=name), *(sample(seed, w, source=name) for w in (7, 8))]


def test_an_own_image_is_one_group_in_all_runs_and_gives_the_group_its_name(tmp_path: Path) -> None:
    export([run_at(tmp_path, "a", own), run_at(tmp_path, "b", later)], tmp_path / "d", splits={"train": 0.5, "val": 0.5})
    found = held(tmp_path / "d")
    assert found.group.tolist() == found.source.tolist() and found.group.nunique() == 15
    assert (found.groupby("group")["split"].nunique() == 1).all()
    assert len(found[found.role == "source"]) == 15, "the image of both runs is there once"


def test_only_the_roles_asked_for_are_exported(one: Path, tmp_path: Path) -> None:
    export([one], tmp_path / "d", roles=("seed",))
    assert held(tmp_path / "d").role.tolist() == ["seed"] * 12
    with pytest.raises(UserError, match="no sample of the role source"):
        export([one], tmp_path / "e", roles=("source",))
    assert not (tmp_path / "e").exists()


def test_a_seed_s_samples_lie_as_far_apart_as_they_can(tmp_path: Path) -> None:
    grey = {0: 0, 1: 10, 2: 200, 3: 100, 4: 205}
    run = run_at(tmp_path, made=lambda seed: [sample(seed, w, level=level) for w, level in grey.items()], seeds=2)
    export([run], tmp_path / "d", per_seed=3)
    assert sorted(held(tmp_path / "d").waypoint) == [0, 0, 3, 3, 4, 4]
    export([run], tmp_path / "e", per_seed=2, roles=("variant",))
    assert sorted(held(tmp_path / "e").waypoint) == [3, 3, 4, 4]


def test_there_are_as_many_shards_as_asked_for_but_none_is_empty(one: Path, tmp_path: Path) -> None:
    said, made = export([one], tmp_path / "d", shards=5, per_class=2, splits={"train": 0.5, "val": 0.5})
    assert {name: (size.samples, size.shards) for name, size in said.splits.items()} == {"train": (3, 3), "val": (3, 3)}
    said, made = export([one], tmp_path / "e", shards=5)
    assert (said.splits["train"].shards, made) == (5, 5) and held(tmp_path / "e").groupby("file").size().tolist() == [
        11,
        11,
        11,
        11,
        10,
    ]


def test_a_class_that_has_too_few_says_how_many_seeds_would_do(one: Path) -> None:
    # The seeds of label 0 are 0, 3, 6 and 9: 3 + 6 + 5 + 4 samples of 12 seeds.
    with plan_of(one, per_class=30) as plan:
        lack = next(lack for lack in plan.lacks if lack.name == NAMES[0])
        assert (lack.found, lack.wanted, lack.each, lack.seeds) == (18, 30, 1.5, 8)
    with plan_of(one, per_class=17) as plan:
        assert not plan.lacks


def test_samples_without_labels_are_one_class(tmp_path: Path) -> None:
    run = run_at(tmp_path, made=lambda seed: [sample(seed, w, label=-1, names=("",)) for w in range(3)], label="none")
    export([run], tmp_path / "d", per_class=20)
    assert len(held(tmp_path / "d")) == 20 and "cls" not in held(tmp_path / "d")
    export([run], tmp_path / "e", format="imagefolder", per_class=20)
    assert len(list((tmp_path / "e/train/unlabelled").glob("*.png"))) == 20


# Image folders


def test_an_image_folder_has_a_folder_a_class_and_the_runs_bytes(one: Path, tmp_path: Path) -> None:
    export([one], tmp_path / "d", format="imagefolder", splits=LIMITS["splits"])
    index = pd.read_parquet(tmp_path / "d/index.parquet")
    images = {key: files["png"] for path in one.glob("*.tar") for key, files in read_samples(path)}
    assert {path.name for path in (tmp_path / "d/train").iterdir()} == {"T-shirt_top", "Bag", "Ankle boot"}
    for row in index.itertuples():
        assert (tmp_path / "d" / str(row.file)).read_bytes() == images[str(row.key)]
    assert len(list((tmp_path / "d").rglob("*.png"))) == len(index) == len(images)


def test_no_two_labels_share_a_folder() -> None:
    names = [
        "a/b",
        "a_b",
        "A_B",
        "",
        ".",
        "..",
        "x" * 300,
        "x" * 301,
        "unlabelled",
        "猫",
        "né",
        "ne\u0301",
        "a_b-0",
        'q?"<',
        "end.",
    ]
    found = folder_names(dict(enumerate(names)) | {-1: ""})
    assert len({name.casefold() for name in found.values()}) == len(names) + 1
    assert found[1] == "a_b" and found[0].startswith("a_b-0") and found[9] == "猫" and found[-1] != found[8] == "unlabelled"
    for name in found.values():
        assert name and "/" not in name and not name.startswith(".") and not name.endswith(".") and len(name.encode()) < 230


def test_odd_label_names_become_folders_that_verify(tmp_path: Path) -> None:
    names = ("T-shirt/top", "T-shirt_top", '../猫 "1"')
    run = run_at(tmp_path, made=lambda seed: [sample(seed, w, label=seed % 3, names=names) for w in (0, 1)], names=names)
    export([run], tmp_path / "d", format="imagefolder")
    assert {p.name: len(list(p.iterdir())) for p in (tmp_path / "d/train").iterdir()} == {
        "T-shirt_top": 8, "T-shirt_top-0": 8, "_._猫 _1_": 8,
    }  # fmt: skip
    assert not verify_export(folder_at(tmp_path / "d")).problems


def test_what_the_usual_run_holds_is_what_these_tests_count() -> None:
    assert [len(usual(seed)) for seed in range(5)] == [3, 4, 5, 6, 3]
