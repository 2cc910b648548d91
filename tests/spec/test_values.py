"""Values that nothing can be computed with, names that are no text, and images that no file of a format holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import reds_core
from reds_core.errors import ModelError, OutputError, SpecError
from reds_core.jobs.images import size_problem
from reds_core.jobs.prepare import pick_device, prepare
from reds_core.spec.load import load_spec
from reds_core.storage.places import folder_at
from tests.support.worlds import D, torchscript, world


@pytest.mark.parametrize("key", ["held.class", "varied.look", "trajectory.step"])
@pytest.mark.parametrize("value", ["1e-300", "1e-20", "1e20", "1e300"])
def test_a_number_beyond_single_precision_is_refused(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(SpecError, match="is beyond what can be computed with in single precision; give 1e-12 to 1e\\+12"):
        load_spec(world(tmp_path), [f"{key}={value}"])


@pytest.mark.parametrize("value", ["1e-12", "1e12"])
def test_the_numbers_at_the_ends_can_be_computed_with(tmp_path: Path, value: str) -> None:
    spec = load_spec(world(tmp_path), [f"held.class={value}", "trajectory.method=corrected", "trajectory.waypoints=1"])
    candidates = list(reds_core.augment(spec, [0]))
    assert len(candidates) == 5 and all(c.drifts["class"] >= 0 for c in candidates if len(c.latent))


@pytest.mark.parametrize("place", ["run:1", "s3:/bucket", "", "a.b:c/d", "memory:x"])
def test_a_folder_that_reads_like_a_url_is_refused(place: str) -> None:
    with pytest.raises(OutputError, match=r"URL|empty"):
        folder_at(place)


def test_a_whole_path_may_hold_a_colon(tmp_path: Path) -> None:
    assert str(folder_at(tmp_path / "run:1")) == str(tmp_path / "run:1")


def test_a_path_that_is_not_text_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"n\xff")
    with pytest.raises(OutputError, match=r"the name is not UTF-8"):
        folder_at(odd)
    with pytest.raises(SpecError, match=r"the path is not UTF-8"):
        load_spec(odd / "spec.yaml")
    with pytest.raises(SpecError, match=r"generator\.torchscript\.path|generator\.path"):
        load_spec(world(tmp_path), [r'generator.path="\uDCFF"'])


class Tall(nn.Module):
    """(n, 6) -> (n, 1, 16384, 1)."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(z[:, :1, None, None]).expand(-1, 1, 16384, 1)


def test_images_that_no_file_of_the_format_holds_are_refused_when_the_spec_is_checked(tmp_path: Path) -> None:
    path = world(tmp_path, attributes={"a": {"kind": "pixels"}, "b": {"kind": "colour"}}, label="none", judge=None)
    torchscript(Tall(), tmp_path / "g.pt")
    spec = load_spec(path, ["held={a: 1}", "varied={b: 1}", "shards.image=webp", f"generator.latent_dim={D}"])
    with pytest.raises(ModelError, match=r"shards\.image: webp files have at most 16,383 pixels .* 16,384x1; choose png"):
        prepare(spec)
    assert size_problem("jpg", 16384, 1) == "" and "65,500" in size_problem("jpg", 1, 65501)
    assert size_problem("webp", 16383, 16383) == "" and size_problem("png", 10**6, 1) == ""


def test_a_device_without_double_precision_is_refused_in_words() -> None:
    with pytest.raises(ModelError, match="'mps' cannot be used: the method computes in double precision, on cpu or cuda"):
        pick_device("mps")


def test_the_package_lists_its_public_names() -> None:
    assert dir(reds_core) == sorted(reds_core.__all__) and all(hasattr(reds_core, name) for name in dir(reds_core))


def test_class_names_that_are_numbers_are_names(tmp_path: Path) -> None:
    lines = [
        "name: digits",
        "generator: {kind: torchscript, path: g.pt, latent_dim: 4, output_range: [0, 1], classes: [0, 01, 7, 010, ten]}",
        "seeds: {count: 1}",
        "attributes: {class: {kind: classifier, model: {kind: torchscript, path: c.pt}, names: [3, 08]}}",
        "label: condition",
        "trajectory: {directions: 0}",
    ]
    path = tmp_path / "spec.yaml"
    path.write_text("\n".join(lines))
    (tmp_path / "g.pt").touch()
    (tmp_path / "c.pt").touch()
    spec = load_spec(path)
    assert spec.generator.declared_classes() == ("0", "01", "7", "010", "ten")
    assert spec.attributes["class"].names == ("3", "08")  # type: ignore[union-attr]
    path.write_text("\n".join(lines).replace("01, 7", "no, 7"))
    with pytest.raises(SpecError, match=r"generator\.classes\.1: Input should be a valid string, not False; put it in quotes"):
        load_spec(path)
