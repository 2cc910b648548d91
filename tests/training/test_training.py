"""How the shipped networks were trained: a few steps of everything on made-up data, and figures with exact answers."""

from __future__ import annotations

import gzip
import struct
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from reds_core.models.shipped.fashion import Classifier, Embedding, Generator, Judge
from reds_core.models.shipped.segmenter import Segmenter
from reds_core.training import fashion, rooms
from reds_core.training.embedding import contrast, train_embedding
from reds_core.training.gan import train_gan
from reds_core.training.images import load
from reds_core.training.quality import density_and_coverage, kernel_distance, probe

COUNTS = {"train": 160, "t10k": 40}  # images, as many of each class


def pixels(part: str) -> np.ndarray:
    return np.random.RandomState(COUNTS[part]).randint(0, 256, (COUNTS[part], 28, 28)).astype(np.uint8)


def write_idx(path: Path, values: np.ndarray) -> None:
    path.write_bytes(gzip.compress(struct.pack(f">I{values.ndim}I", 0x800 + values.ndim, *values.shape) + values.tobytes()))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of Fashion-MNIST's four files, with noise in place of garments."""
    folder = tmp_path_factory.mktemp("data")
    for part, count in COUNTS.items():
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", pixels(part))
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", (np.arange(count) % 10).astype(np.uint8))
    return folder


def check_weights(path: Path, like: nn.Module) -> None:
    """Asserts that a file holds the weights of a network: all of them, and finite."""
    found = load_file(path)
    wanted = {name: value.shape for name, value in like.state_dict().items() if value.is_floating_point()}
    assert {name: value.shape for name, value in found.items()} == wanted
    assert all(bool(torch.isfinite(value).all()) for value in found.values())


def test_images_are_read_as_distributed_with_a_border_of_background(data: Path) -> None:
    images, labels = load(data, "t10k")
    assert images.shape == (40, 1, 32, 32) and labels.tolist() == [k % 10 for k in range(40)]
    np.testing.assert_array_equal((images[:, 0, 2:-2, 2:-2] * 255).round().numpy(), pixels("t10k"))
    assert float(images.sum()) == pytest.approx(float(images[:, :, 2:-2, 2:-2].sum()))


@pytest.mark.parametrize(("network", "erase"), [(Classifier, False), (Judge, True)])
def test_a_classifier_trains_and_is_written(data: Path, tmp_path: Path, network: type[nn.Module], erase: bool) -> None:
    fashion.train_classifier(network(), data, tmp_path, "made", 1, 0, erase)
    check_weights(tmp_path / "made.safetensors", network())


def test_the_generator_trains_and_continues_where_it_stopped(data: Path, tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    for images in (16, 32):
        train_gan(data, tmp_path, state, images, 16, 0, 0.5, 0.1)
        assert torch.load(state, weights_only=True)["shown"] == images
    path = tmp_path / "fashion-mnist.safetensors"
    check_weights(path, Generator())
    assert bool(load_file(path)["mapping.mean"].any(1).all())  # the means that truncation moves towards


def test_a_generator_without_labels_trains_on_images_alone(data: Path, tmp_path: Path) -> None:
    train_gan(data, tmp_path, tmp_path / "state.pt", 32, 16, 0, 0.5, 0.0, unlabelled=True)
    check_weights(tmp_path / "fashion-mnist-unlabelled.safetensors", Generator(0))


def test_the_embedding_trains_and_is_written(data: Path, tmp_path: Path) -> None:
    train_embedding(data, tmp_path, 1, 32, "cpu")
    check_weights(tmp_path / "fashion-mnist-embedding.safetensors", Embedding())


def test_views_of_one_image_find_each_other() -> None:
    apart = torch.eye(6)
    assert float(contrast(apart, apart)) < float(contrast(apart, apart.roll(1, 0)))


def test_a_probe_finds_classes_that_a_line_parts() -> None:
    labels = torch.arange(60) % 3
    x = torch.eye(3)[labels] + 0.01 * torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    assert probe(x, labels, x, labels, 5, 0) == 1.0


def test_the_figures_of_the_model_cards_are_measured(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fashion.measure(data)
    accuracy, *lines, halves = capsys.readouterr().out.splitlines()
    assert accuracy.startswith("test accuracy: classifier 0.") and halves.startswith("for comparison")
    probes, by_psi = lines[:3], lines[3:]
    assert all(line.startswith("embedding, a linear probe") for line in probes)
    names = ("fashion-mnist", "fashion-mnist-unlabelled")
    assert [line.partition(":")[0] for line in by_psi] == [f"{n}, psi {psi}" for n in names for psi in (0.7, 1.0)]


def test_the_segmenter_trains_and_is_written(tmp_path: Path) -> None:
    rooms.train(tmp_path, 2, 4, 0)
    check_weights(tmp_path / "rooms-segmenter.safetensors", Segmenter())


def test_a_kernel_distance_is_its_definition() -> None:
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64) + 1

    def mean(a: torch.Tensor, b: torch.Tensor) -> float:
        """The mean of the kernel over pairs, without those of a point and itself."""
        pairs = [(p, q) for (i, p), (j, q) in product(enumerate(a), enumerate(b)) if a is not b or i != j]
        return float(np.mean([(float(p @ q) / 3 + 1) ** 3 for p, q in pairs]))

    assert kernel_distance(x, y) == pytest.approx(mean(x, x) + mean(y, y) - 2 * mean(x, y))


def test_density_and_coverage_are_one_for_the_same_points_and_zero_for_points_far_away() -> None:
    real = torch.randn(50, 4)
    assert density_and_coverage(real, real) == pytest.approx((1.0, 1.0))
    assert density_and_coverage(real, real + 100) == (0.0, 0.0)
