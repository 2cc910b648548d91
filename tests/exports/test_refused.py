"""What is not exported: damaged shards, runs that do not go together, and folders that hold something else."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from reds_core.errors import OutputError, ShardDamaged
from reds_core.exports.inputs import Samples, located, open_runs
from reds_core.exports.verify import verify_export
from reds_core.runs.verify import verify_run
from reds_core.storage.places import folder_at
from tests.support.exports import NAMES, export, held, make, plan_of, run_at, sample, spec_at


def test_a_damaged_or_missing_shard_stops_the_export_and_is_named(tmp_path: Path) -> None:
    run = run_at(tmp_path)
    tar = run / "shard-00001.tar"
    content = tar.read_bytes()
    tar.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    with pytest.raises(ShardDamaged, match=r"shard-00001\.tar: its hash differs"):
        export([run], tmp_path / "d")
    tar.unlink()
    with pytest.raises(ShardDamaged, match=r"shard-00001\.tar: is missing"):
        export([run], tmp_path / "d")
    (run / "shard-00001.json").write_text("{}")
    with pytest.raises(ShardDamaged, match=r"shard-00001\.json: is damaged"):
        export([run], tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_a_tar_that_changes_while_it_is_read_stops_the_export(tmp_path: Path) -> None:
    run = run_at(tmp_path)
    with plan_of(run) as plan:
        samples, row = Samples(plan.index), next(plan.rows.itertuples())
        tar = run / "shard-00000.tar"
        content = tar.read_bytes()
        (found,) = (content.index(files["png"]) for key, _, _, files in located(tar) if key == str(row.key))
        tar.write_bytes(content[: found + 30] + b"?" + content[found + 31 :])
        with contextlib.closing(samples), pytest.raises(ShardDamaged, match=r"shard-00000\.tar: was changed while it was read"):
            samples.files(row)


def test_an_unfinished_run_gives_what_is_finished(tmp_path: Path) -> None:
    part = make(tmp_path / "runs", spec_at(tmp_path), shards=2)
    (run,) = open_runs([part])
    assert run.so_far == "2 of 3 shards"
    export([part], tmp_path / "d")
    assert held(tmp_path / "d").seed.nunique() == 8
    none = make(tmp_path / "others", spec_at(tmp_path, "none"), shards=0)
    with pytest.raises(OutputError, match="has no finished shard yet"):
        open_runs([none])


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is not a run"):
        open_runs([folder_at(tmp_path)])


def of_names(names: tuple[str, ...], label: int = 0) -> Any:
    return lambda seed: [sample(seed, w, label=label, names=names) for w in range(2)]


@pytest.mark.parametrize(
    ("names", "label"),
    [(("T-shirt/top", "Shoe", "Ankle boot"), 0), (("Bag", "T-shirt/top", "Ankle boot"), 0), (("Shoe", *NAMES[1:]), 0)],
)
def test_runs_that_number_their_labels_differently_are_refused(
    one: Path, tmp_path: Path, names: tuple[str, ...], label: int
) -> None:
    other = run_at(tmp_path, made=of_names(names, label), names=names)
    with pytest.raises(OutputError, match="must number their labels alike"):
        export([one, other], tmp_path / "d")


def test_a_run_with_labels_and_one_without_are_refused(one: Path, tmp_path: Path) -> None:
    other = run_at(tmp_path, made=of_names(("",), -1), label="none")
    with pytest.raises(OutputError, match="one has labels, the other has none"):
        export([one, other], tmp_path / "d")


def test_runs_whose_images_differ_in_shape_are_refused(one: Path, tmp_path: Path) -> None:
    other = run_at(tmp_path, "large", lambda seed: [sample(seed, w, side=12) for w in range(2)])
    with pytest.raises(OutputError, match="12x12 with 1 channels") as caught:
        export([one, other], tmp_path / "d")
    assert "8x8" in str(caught.value)


def test_tars_hold_images_of_one_kind(one: Path, tmp_path: Path) -> None:
    lossy = {"seeds": 4, "image": "jpg"}
    other = run_at(tmp_path, "lossy", lambda seed: [sample(seed, w, image="jpg") for w in range(2)], shards=lossy)
    with pytest.raises(OutputError, match="jpg and png files"):
        export([one, other], tmp_path / "d")
    export([one, other], tmp_path / "d", format="imagefolder")
    kinds = {path.suffix for path in (tmp_path / "d/train/T-shirt_top").iterdir()}
    assert kinds == {".png", ".jpg"} and not verify_export(folder_at(tmp_path / "d")).problems


def test_a_folder_that_holds_something_else_or_lies_in_a_run_is_refused(one: Path, two: Path, tmp_path: Path) -> None:
    for dest in (one, one / "set"):
        with pytest.raises(OutputError, match="lies in the run"):
            export([one], dest)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").touch()
    with pytest.raises(OutputError, match=r"holds something else \(notes\.txt\)"):
        export([one], tmp_path / "full")
    export([one], tmp_path / "d")
    for runs, asked in (([one, two], {}), ([one], {"per_seed": 2}), ([one], {"format": "imagefolder"})):
        with pytest.raises(OutputError, match="holds another export"):
            export(runs, tmp_path / "d", **asked)
    (tmp_path / "d/export.json").write_text("{}")
    with pytest.raises(OutputError, match=r"whose export\.json is damaged"):
        export([one], tmp_path / "d")
    assert not any(verify_run(folder_at(one)).values())
