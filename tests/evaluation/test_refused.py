"""Data and settings that cannot be evaluated, and the message for each."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reds_core.errors import ModelError, OutputError, ShardDamaged
from reds_core.evaluation.classic import classic
from reds_core.evaluation.networks import builder
from reds_core.models.config import Access
from tests.support.evaluation import evaluated, run_of, write_images
from tests.support.exports import NAMES


@pytest.fixture
def world(tmp_path: Path) -> Path:
    write_images(tmp_path / "train", range(3))
    write_images(tmp_path / "test", range(100, 103))
    return tmp_path


@pytest.fixture
def run(world: Path) -> Path:
    return run_of(world / "run")


def test_no_label_in_common_names_both_lists(run: Path, world: Path) -> None:
    for part in ("train", "test"):
        shutil.rmtree(world / part)
        write_images(world / part, range(3) if part == "train" else range(5, 8), ("cat", "dog", "owl"))
    with pytest.raises(ModelError, match="the run has T-shirt/top, Bag, Ankle boot; the images cat, dog, owl"):
        evaluated(run, world)


def test_a_class_without_images_is_named(run: Path, world: Path) -> None:
    shutil.rmtree(world / "test" / "Bag")
    with pytest.raises(ModelError, match="there are no test images of Bag; the test images have Ankle boot, T-shirt_top"):
        evaluated(run, world)
    shutil.rmtree(world / "train" / "Bag")
    shutil.rmtree(world / "train" / "Ankle boot")
    with pytest.raises(ModelError, match="there are no training images of Ankle boot"):
        evaluated(run, world)
    shutil.rmtree(world / "test" / "Ankle boot")
    with pytest.raises(ModelError, match="all images are T-shirt_top; a classifier needs two classes"):
        evaluated(run, world)


@pytest.mark.parametrize("ending", ["png", "bmp"])
def test_an_image_in_training_and_test_is_found_by_its_bytes_and_by_its_pixels(run: Path, world: Path, ending: str) -> None:
    Image.open(world / "train/Bag/0001.png").save(world / f"test/Bag/again.{ending}")
    with pytest.raises(ModelError, match=rf"1 of the test images are training images, too: Bag/again.{ending} and Bag/0001.png"):
        evaluated(run, world)


def test_more_images_than_there_are(run: Path, world: Path) -> None:
    (world / "train/Bag/0002.png").unlink()
    with pytest.raises(ModelError, match="3 real images a class are asked for; Bag has 2") as found:
        evaluated(run, world, per_class=[1, 3])
    assert found.value.parameter == "per_class"


def test_unknown_arms_networks_and_columns(run: Path, world: Path) -> None:
    with pytest.raises(ModelError, match="there is no arm magic; there are real, classic, sources"):
        evaluated(run, world, arms=["real", "magic"])
    with pytest.raises(ModelError, match="sources: the run did not start from images of yours"):
        evaluated(run, world, arms=["sources"])
    with pytest.raises(ModelError, match="huge: is no network; give small"):
        evaluated(run, world, model="huge")
    with pytest.raises(ModelError, match="code of yours") as found:
        evaluated(run, world, model="tests.evaluation.test_refused:no_scores")
    assert found.value.parameter == "allow_code"
    with pytest.raises(ModelError, match="is no table with a column light"):
        evaluated(run, world, group="light")


def no_scores(shape: tuple[int, int, int], classes: int) -> object:
    return object()


def test_a_network_that_does_not_fit_is_told_so() -> None:
    import torch

    access = Access(torch.device("cpu"), allow_code=True)
    with pytest.raises(ModelError, match=r"no_scores returned object; a torch\.nn\.Module is needed"):
        builder("tests.evaluation.test_refused:no_scores", (1, 8, 8), 3, access)
    with pytest.raises(ModelError, match=r"gives \(2, 8\) for two images; scores \(2, 3\) are needed"):
        builder("tests.evaluation.test_refused:flat", (1, 1, 8), 3, access)


def flat(shape: tuple[int, int, int], classes: int) -> object:
    import torch

    return torch.nn.Flatten()


def test_a_damaged_shard_and_a_folder_that_is_no_run(run: Path, world: Path) -> None:
    with pytest.raises(OutputError, match=r"train is not a run: it has no spec\.yaml"):
        evaluated(world / "train", world)
    table = run / "shard-00000.parquet"
    table.rename(run / "elsewhere")
    with pytest.raises(ShardDamaged, match="shard-00000: differs from its manifest"):
        evaluated(run, world)
    (run / "elsewhere").rename(table)
    tar = run / "shard-00000.tar"
    tar.write_bytes(tar.read_bytes()[:-600])
    with pytest.raises(ShardDamaged, match="shard-00000: differs from its manifest"):
        evaluated(run, world)


def test_a_damaged_image_is_named(run: Path, world: Path) -> None:
    file = world / "train/Bag/0001.png"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(ModelError, match=r"Bag/0001.png: cannot be decoded"):
        evaluated(run, world)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 33, 17), (1, 1, 1), (3, 64, 64)])
def test_classic_augmentation_keeps_shapes_and_range_and_changes_images(shape: tuple[int, int, int]) -> None:
    import torch

    images = torch.from_numpy(np.random.RandomState(0).rand(6, *shape)).float()
    found = classic(shape)(images)
    assert found.shape == images.shape and float(found.min()) >= 0 and float(found.max()) <= 1
    assert not torch.equal(found, images)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 33, 17), (1, 1, 1), (3, 128, 128), (1, 28, 28)])
def test_the_small_network_takes_images_of_any_size(shape: tuple[int, int, int]) -> None:
    import torch

    build = builder("small", shape, len(NAMES), Access(torch.device("cpu"), allow_code=False))
    assert build()(torch.rand(2, *shape)).shape == (2, 3)


def test_a_run_without_variants_is_refused_before_anything_is_trained(world: Path) -> None:
    run = run_of(world / "none", each=0)
    with pytest.raises(OutputError, match="the run accepted no variants, so there is nothing to evaluate"):
        evaluated(run, world)
    assert list(evaluated(run, world, arms=["real"]).arms) == ["real"]
