"""A spec to start from is one that runs, whatever files it was made from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reds_core.errors import ModelError
from reds_core.jobs.prepare import prepare
from reds_core.spec.load import load_spec
from reds_core.spec.probe import generator_in, kind_of
from reds_core.spec.starter import starter
from tests.support import ROOT
from tests.support.networks import SAFE, exported
from tests.support.worlds import SIZE, D, TinyClassifier, TinyConditional, TinyGenerator, torchscript

PHOTOS = str(ROOT / "augment_specs" / "own_images")


class Bytes(TinyGenerator):
    """(n, 6) -> flat images of 3 x 8 x 8, from 0 to 255."""

    def __init__(self) -> None:
        super().__init__(channels=3)

    def forward(self, z: Tensor) -> Tensor:
        return (torch.tanh(torch.einsum("nd,dchw->nchw", z, self.basis)).flatten(1) + 1) * 127.5


class Unit(TinyGenerator):
    """(n, 6) -> images from 0 to 1."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(torch.einsum("nd,dchw->nchw", z, self.basis))


def started(folder: Path, **given: Any) -> Any:
    """Writes a spec to start from, and returns it loaded."""
    file = folder / "my spec.yaml"
    file.write_text(starter(file, given.get("generator"), given.get("images"), given.get("classifier")))
    return load_spec(file)


@pytest.mark.parametrize("place", ["file", "generator", "classifier"])
def test_a_path_that_is_not_text_is_refused(tmp_path: Path, place: str) -> None:
    paths: dict[str, Any] = {"file": tmp_path / "s.yaml", "generator": None, "images": None, "classifier": None}
    with pytest.raises(ModelError, match="the path is not UTF-8, and no spec could name it"):
        starter(**paths | {place: tmp_path / "g\udce9.pt"})


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (TinyGenerator(), {"latent_dim": D, "output_range": [-1, 1]}),
        (Unit(), {"latent_dim": D, "output_range": [0, 1]}),
        (Bytes(), {"latent_dim": D, "output_range": [0, 255], "image_shape": [3, SIZE, SIZE]}),
        (TinyConditional(5), {"latent_dim": D, "output_range": [-1, 1], "classes": 5}),
    ],
)
def test_what_a_generators_file_does_not_say_is_found_by_trying(
    tmp_path: Path, network: nn.Module, options: dict[str, Any]
) -> None:
    path = torchscript(network, tmp_path / "g.pt")
    config, _, shape = generator_in(path, SAFE)
    assert config == {"kind": "torchscript", "path": str(path)} | options and shape[1:] == (SIZE, SIZE)


def test_an_exported_generator_is_known_by_its_members(tmp_path: Path) -> None:
    path = exported(TinyGenerator(), (torch.zeros(4, D),), tmp_path / "g.bin.pt2", dynamic=True)
    assert generator_in(path, SAFE)[0] == {"kind": "exported", "path": str(path), "latent_dim": D, "output_range": [-1, 1]}


def test_a_file_of_no_kind_says_what_to_do(tmp_path: Path) -> None:
    torch.save(TinyGenerator().state_dict(), tmp_path / "state.pt")
    for path in (tmp_path / "state.pt", ROOT / "README.md"):
        with pytest.raises(ModelError, match="import a published checkpoint, or save the network"):
            kind_of(path)
    with pytest.raises(ModelError, match="there is no file"):
        kind_of(tmp_path / "none.pt")


def test_a_spec_of_shipped_networks_is_right_as_it_is(tmp_path: Path) -> None:
    spec = started(tmp_path)
    assert (spec.name, spec.label, spec.judge is not None) == ("my-spec", "condition", True)
    assert prepare(spec).spreads["class"] > 0


@pytest.mark.parametrize("images", [None, PHOTOS])
def test_a_spec_of_own_files_is_accepted(tmp_path: Path, images: str | None) -> None:
    generator, classifier = torchscript(TinyGenerator(), tmp_path / "g.pt"), torchscript(TinyClassifier(), tmp_path / "c.pt")
    spec = started(tmp_path, generator=generator, classifier=classifier, images=images)
    assert spec.label == ("given" if images else "class") and "path: g.pt" in (tmp_path / "my spec.yaml").read_text()
    assert prepare(spec).spreads.keys() == {"class", "look"}


def test_without_a_classifier_the_layout_is_held(tmp_path: Path) -> None:
    spec = started(tmp_path, generator=torchscript(TinyConditional(5), tmp_path / "g.pt"))
    assert (spec.label, list(spec.held)) == ("condition", ["layout"]) and prepare(spec).spreads["layout"] > 0


def test_images_of_other_labels_than_the_shipped_ones_take_a_generator_without_classes(tmp_path: Path) -> None:
    shutil.copytree(Path(PHOTOS) / "Bag", tmp_path / "data" / "cats")
    spec = started(tmp_path, images=str(tmp_path / "data"))
    assert spec.generator.name == "fashion-mnist-unlabelled" and spec.seeds.fit.residual
    assert "images: data" in (tmp_path / "my spec.yaml").read_text()
    assert prepare(spec).spreads["layout"] > 0
    assert started(tmp_path, images=PHOTOS).generator.name == "fashion-mnist"


def test_a_classifier_that_takes_other_channels_and_sizes_is_adapted_to(tmp_path: Path) -> None:
    class Colour(TinyClassifier):
        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum("nchw,khw->nk", x.reshape(x.shape[0], 3, 8, 8), self.weight)

    classifier = torchscript(Colour(), tmp_path / "c.pt")
    spec = started(tmp_path, generator=torchscript(Unit(), tmp_path / "g.pt"), classifier=classifier)
    assert spec.attributes["class"].channels == 3
