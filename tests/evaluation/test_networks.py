"""Extra images that are made with the run's networks, and the program itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from reds_core.errors import ModelError
from reds_core.evaluation.evaluate import Evaluation
from reds_core.runs import worker
from reds_core.runs.run_folder import opened
from reds_core.spec.digest import digest
from reds_core.spec.load import load_spec
from reds_core.storage.places import folder_at
from tests.support import ROOT
from tests.support.evaluation import evaluated
from tests.support.programs import Reds
from tests.support.shards import path_of

SMALL = ["seeds.count=3", "seeds.classes=[5, 7, 9]", "trajectory.directions=1", "trajectory.waypoints=2", "shards.seeds=2"]
LABELS = ("Sandal", "Sneaker", "Ankle boot")


def run_at(folder: Path, *changes: str) -> Path:
    """Makes a small run of the main job with the shipped networks."""
    spec = load_spec(ROOT / "augment_specs/fashion_mnist.yaml", [*SMALL, *changes])
    with opened(spec, folder_at(folder)) as place:
        for index in range(2):
            worker.make(worker.Request(spec, digest(spec), place, None, False, ()), "cpu", 1, index)
    return path_of(place)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of shoes, two of each label to train and one to test."""
    folder = tmp_path_factory.mktemp("shoes")
    for label in LABELS:
        for at, file in enumerate(sorted((ROOT / "augment_specs/own_images" / label).glob("*.png"))):
            place = folder / ("train" if at < 2 else "test") / label
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    return folder


@pytest.fixture(scope="module")
def run(world: Path) -> Path:
    return run_at(world / "runs")


def extra(asked: Evaluation, arm: str) -> tuple[int, set[int]]:
    found = asked.extra(arm, asked.drawn(2, 0))
    assert found is not None and tuple(found.pixels.shape[1:]) == (1, 32, 32)
    return len(found), set(found.labels.tolist())


def test_sampled_images_are_as_many_as_the_variants_and_labelled_as_the_run_labels(run: Path, world: Path) -> None:
    asked = evaluated(run, world, arms=["variants", "sampled", "unfiltered"])
    variants, _ = extra(asked, "variants")
    assert 0 < variants <= 3 * 2 * 2 and extra(asked, "sampled") == (variants, {0, 1, 2})
    again = evaluated(run, world, arms=["sampled"])
    assert asked.pool.get("sampled").identity == again.pool.get("sampled").identity


@pytest.mark.parametrize("stored", ["", "png", "jpg", "webp"])
def test_unfiltered_images_are_all_that_was_measured(run: Path, world: Path, tmp_path: Path, stored: str) -> None:
    if stored:  # with residuals
        fit = "{distance: 9, passes: 30, residual: true}"
        own = f"seeds={{images: {world / 'train'}, count: 3, fit: {fit}}}"
        run = run_at(tmp_path, own, "label=given", "varied.look=0.01", f"shards.image={stored}")
    asked = evaluated(run, world, arms=["unfiltered"])
    tables = pd.concat([pd.read_parquet(path) for path in sorted(run.glob("*.parquet"))])
    measured = tables[(tables.role == "variant") & tables.effect_look.notna()]
    assert list(asked.pool.get("unfiltered").names) == list(measured.key)
    accepted = asked.pool.get("variants")
    rows = [list(measured.key).index(key) for key in accepted.names]
    apart = asked.pool.get("unfiltered").part(rows).pixels.int() - accepted.pixels.int()
    # Another batch may round otherwise, and one level more may move a block of a lossy file by a few.
    assert apart.abs().max() <= (1 if stored in ("", "png") else 8) and apart.abs().float().mean() < 0.1


def test_a_run_that_follows_no_direction_is_evaluated_by_its_own_samples(world: Path, tmp_path: Path) -> None:
    run = run_at(tmp_path, "trajectory={directions: 0}")
    asked = evaluated(run, world, arms=None)
    assert asked.arms == ["real", "classic", "sampled", "sampled+classic"]
    tables = pd.concat([pd.read_parquet(path) for path in sorted(run.glob("*.parquet"))])
    assert list(asked.pool.get("sampled").names) == list(tables[tables.reason == ""].key)
    assert extra(asked, "sampled")[0] == (tables.reason == "").sum() > 0
    with pytest.raises(ModelError, match="variants: the run follows no direction"):
        evaluated(run, world, arms=["real", "variants"])


def test_a_run_labelled_by_a_classifier_labels_fresh_samples_with_it(world: Path, tmp_path: Path) -> None:
    asked = evaluated(run_at(tmp_path, "label=class"), world, arms=["sampled"])
    assert extra(asked, "sampled")[1] <= {0, 1, 2}


def test_the_program_writes_its_files_and_continues(here: Reds, run: Path, world: Path, tmp_path: Path) -> None:
    words = ["evaluate", run, "--train", world / "train", "--test", world / "test", "--per-class", "1,2", "--repeats", 2,
             "--steps", 3, "--arms", "classic,variants", "--to", "here"]  # fmt: skip
    done = here(*words)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (tmp_path / "here").iterdir()} >= {"evaluation.csv", "evaluation.png", "evaluation.md"}
    table = pd.read_csv(tmp_path / "here/evaluation.csv")
    assert len(table) == 8 and set(table.arm) == {"classic", "variants"} and set(table.per_class) == {1, 2}
    assert done.stdout.splitlines()[-1] == "here: evaluation.csv, evaluation.png, evaluation.md"
    more = here(*words, "--arms", "classic,variants,real")
    assert "8 of 12 were finished before" in more.stderr
    assert len(pd.read_csv(tmp_path / "here/evaluation.csv")) == 12


def test_mistakes_name_the_option_that_cures_them(here: Reds, run: Path, world: Path) -> None:
    words = ["evaluate", run, "--train", world / "train", "--test", world / "test"]
    for more, message in (
        (["--per-class", "5,x"], "is no list of whole numbers from 1"),
        (["--per-class", "9"], "9 real images a class are asked for; Sandal has 2 (--per-class)"),
        (["--arms", "best"], "there is no arm best"),
        (["--classic", "blur"], "there is no classic augmentation blur; there are crops, flips, colours (--classic)"),
        (["--model", "a.b:c", "--per-class", "2"], "(--allow-code)"),
    ):
        found = here(*words, *more)
        assert found.returncode == 2 and message in found.stderr.replace("\n", " "), found.stderr
    nowhere = here("evaluate", run, "--train", "nowhere", "--test", world / "test")
    assert nowhere.returncode == 2 and "train: there is no folder, table or tar nowhere" in nowhere.stderr
