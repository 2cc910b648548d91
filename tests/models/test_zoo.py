"""Architectures by name: the file alone fills what the library builds, every tensor of it, and nothing is fetched."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from reds_core.errors import ModelError, SpecError
from reds_core.features import AnyFeature
from reds_core.models import AnyNetwork
from reds_core.models.config import Access
from reds_core.spec.load import load_spec
from tests.support.worlds import world

SAFE = Access(torch.device("cpu"), False)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


class Tiny(nn.Module):
    """An architecture: a body and a last layer, which `num_classes: 0` leaves out."""

    def __init__(self, num_classes: int = 10, width: int = 4) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.body(x)).mean((2, 3)))
        return out


class TinySegmenter(nn.Module):
    """Returns scores in a dict, as torchvision's segmentation networks do."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, num_classes, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.layer(x), "aux": x}


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stand-ins for both libraries. Returns what they were asked to build."""
    asked: list[dict[str, Any]] = []

    def create_model(name: str, pretrained: bool, **options: Any) -> nn.Module:
        asked.append({"name": name, "pretrained": pretrained})
        return Tiny(**options)

    timm = ModuleType("timm")
    published = SimpleNamespace(input_size=(3, 16, 16), mean=MEAN, std=STD)
    vars(timm).update(
        create_model=create_model, list_models=lambda: ["tiny", "tiny_large"], list_pretrained=lambda: ["tiny.in1k"],
        get_pretrained_cfg=lambda name: published,
    )  # fmt: skip

    def tiny(weights: str | None = "IMAGENET", **options: Any) -> nn.Module:
        asked.append({"weights": weights})
        return Tiny(**options)

    def segmenter(weights: str | None = "COCO", weights_backbone: str | None = "IMAGENET", **options: Any) -> nn.Module:
        asked.append({"weights": weights, "weights_backbone": weights_backbone})
        return TinySegmenter(**options)

    builders = {"tiny": tiny, "segmenter": segmenter}
    models = ModuleType("torchvision.models")
    vars(models).update(
        list_models=lambda: list(builders), get_model_builder=builders.__getitem__, get_model_weights=lambda name: [],
        get_model=lambda name, **options: builders[name](**options),
    )  # fmt: skip
    torchvision = ModuleType("torchvision")
    vars(torchvision).update(models=models)
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    return asked


def saved(network: nn.Module, path: Path, leave_out: str = "num_batches_tracked") -> Path:
    state = {k: v for k, v in network.state_dict().items() if leave_out not in k}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def network(**config: Any) -> Any:
    return TypeAdapter(AnyNetwork).validate_python(config)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("kind", ["timm", "torchvision"])
@pytest.mark.parametrize("classes", [10, 7])
def test_an_architecture_computes_with_the_files_weights_and_its_number_of_classes(
    libraries: list[dict[str, Any]], tmp_path: Path, kind: str, suffix: str, classes: int
) -> None:
    original = Tiny(classes).eval()
    path = saved(original, tmp_path / f"w.{suffix}")
    loaded = network(kind=kind, architecture="tiny", path=path).load(SAFE)
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(loaded(x), original(x))
    assert not any(asked.get("pretrained") or asked.get("weights") for asked in libraries)


def test_an_embedding_of_a_classifiers_weights_leaves_its_last_layer_out(libraries: list[dict[str, Any]], tmp_path: Path) -> None:
    original = Tiny().eval()
    path = saved(original, tmp_path / "w.safetensors")
    x = torch.rand(2, 3, 8, 8)
    found = network(kind="timm", architecture="tiny", path=path, options={"num_classes": 0}).load(SAFE)(x)
    original.head = nn.Identity()
    torch.testing.assert_close(found, original(x))


def test_a_segmentation_networks_scores_are_under_out_and_no_backbone_is_fetched(
    libraries: list[dict[str, Any]], tmp_path: Path
) -> None:
    original = TinySegmenter(4)
    original.get_parameter("layer.bias").data[2] += 2  # class 2 is somewhere
    model = {"kind": "torchvision", "architecture": "segmenter", "path": saved(original, tmp_path / "w.safetensors")}
    config = {"kind": "object", "model": model, "classes": [2], "mean": MEAN, "std": STD}
    x = torch.rand(2, 3, 8, 8)
    f = TypeAdapter(AnyFeature).validate_python(config).load(SAFE, (3, 8, 8))
    seen = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    mask = original(seen)["out"].softmax(1)[:, 2:3]
    shown = (mask > 0.5).flatten(1).any(1)
    assert bool(shown.any())
    torch.testing.assert_close(f(x, None)[shown], torch.cat([x * mask, mask], 1).flatten(1)[shown])
    assert libraries and all(asked == {"weights": None, "weights_backbone": None} for asked in libraries)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architecture": "tinny"}, "timm has no architecture named 'tinny'; the closest names are tiny"),
        ({"architecture": "hf-hub:a/b"}, "timm has no architecture named 'hf-hub:a/b'"),
        ({"options": {"depth": 3}}, "cannot be built with .*unexpected keyword argument 'depth'"),
        ({"options": {"width": 5}}, "size mismatch for body.weight"),
        ({"options": {"num_classes": 3}}, "size mismatch for head.weight"),
        ({"sha256": "0" * 64}, "the spec asks for"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_wrong_architecture_says_what_to_change(
    libraries: list[dict[str, Any]], tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    path = saved(Tiny(), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=message):
        network(**{"kind": "timm", "architecture": "tiny", "path": path} | config).load(SAFE)


@pytest.mark.parametrize("name", ["pretrained", "checkpoint_path", "weights_backbone"])
def test_weights_come_from_the_file_alone(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name}: would take weights from elsewhere; set path to"):
        network(kind="timm", architecture="tiny", path=tmp_path / "w.safetensors", options={name: "somewhere"})


def test_tensors_that_are_missing_or_unknown_are_named(libraries: list[dict[str, Any]], tmp_path: Path) -> None:
    path = saved(Tiny(), tmp_path / "w.safetensors", leave_out="norm")
    with pytest.raises(ModelError, match=r"timm's tiny of w.safetensors: 4 missing: norm.weight, norm.bias, norm.running_mean"):
        network(kind="timm", architecture="tiny", path=path).load(SAFE)
    wrapped = nn.ModuleDict({"module": Tiny()})
    with pytest.raises(ModelError, match=r"8 missing: .*; 9 unknown to it: module.body.weight"):
        network(kind="timm", architecture="tiny", path=saved(wrapped, tmp_path / "p.pth", "nothing")).load(SAFE)
    torch.save({"epoch": torch.tensor(3), "state_dict": Tiny().state_dict()}, tmp_path / "c.pth")
    with pytest.raises(ModelError, match=r"is not a state dict \(names -> tensors\), but holds epoch, state_dict"):
        network(kind="timm", architecture="tiny", path=tmp_path / "c.pth").load(SAFE)


@pytest.mark.parametrize("kind", ["timm", "torchvision"])
def test_a_library_that_is_not_there_or_broken_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    config = {"kind": kind, "architecture": "tiny", "path": saved(Tiny(), tmp_path / "w.safetensors")}
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(ModelError, match=f"the library {kind} .*pip install {kind}"):
        network(**config).load(SAFE)
    monkeypatch.delitem(sys.modules, kind)
    (tmp_path / f"{kind}.py").write_text("raise RuntimeError('operator nms does not exist')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModelError, match=r"cannot be imported: RuntimeError: operator nms .* must be built for each other"):
        network(**config).load(SAFE)


def spec_with(folder: Path, **look: Any) -> Path:
    saved(Tiny(), folder / "w.safetensors")
    model = {"kind": "timm", "architecture": "tiny", "path": "w.safetensors"}
    return world(
        folder,
        attributes={"face": {"kind": "embedding", "model": model, **look}, "look": {"kind": "pixels"}},
        held={"face": 0.1},
        label="none",
    )


@pytest.mark.parametrize("given", [{}, {"mean": [0.5]}, {"std": [0.5]}])
def test_the_preprocessing_of_an_architecture_must_be_declared(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"face: a timm network needs the mean and std .*\[0.485, 0.456, 0.406\]"):
        load_spec(spec_with(tmp_path, **given))


@pytest.mark.parametrize(
    ("given", "doubt"),
    [
        ({"mean": MEAN, "std": STD, "input_size": (16, 16)}, None),
        ({"input_range": (0, 255), "mean": [m * 255 for m in MEAN], "std": [s * 255 for s in STD], "input_size": (16, 16)}, None),
        ({"mean": MEAN, "std": STD}, r"were trained with input_size: \[16, 16\], unlike here"),
        ({"mean": [0.5], "std": STD, "input_size": (16, 16)}, r"were trained with mean: \[0.5, 0.4, 0.3\], std: \[0.2, 0.3, 0.4\]"),
        ({"input_range": (-1, 1), "mean": MEAN, "std": STD, "input_size": (16, 16)}, r"and input_range: \[0, 1\], unlike here"),
    ],
)  # fmt: skip
def test_preprocessing_unlike_that_of_the_published_weights_is_doubted(
    libraries: list[dict[str, Any]], tmp_path: Path, given: dict[str, Any], doubt: str | None
) -> None:
    model = {"kind": "timm", "architecture": "tiny", "path": tmp_path / "w.safetensors"}
    doubts = TypeAdapter(AnyFeature).validate_python({"kind": "embedding", "model": model, **given}).doubts()
    if doubt is None:
        assert doubts == []
    else:
        assert len(doubts) == 1 and re.search(doubt, doubts[0])


def _usable(name: str) -> bool:
    if not importlib.util.find_spec(name):
        return False
    try:
        importlib.import_module(name)
    except (ImportError, RuntimeError):  # built for another torch
        return False
    return True


REAL = [
    ("timm", "resnet18"),
    ("timm", "vit_tiny_patch16_224"),
    ("torchvision", "mobilenet_v3_small"),
    ("torchvision", "lraspp_mobilenet_v3_large"),
]


@pytest.mark.parametrize(("kind", "name"), REAL)
def test_real_architectures_compute_as_the_library_itself(tmp_path: Path, kind: str, name: str) -> None:
    if not _usable(kind):
        pytest.skip(f"{kind} is not installed, or not for this torch")
    library: Any = importlib.import_module(kind)
    if kind == "timm":
        original = library.create_model(name, pretrained=False, num_classes=7)
    else:
        none = {"weights_backbone": None} if "lraspp" in name else {}
        original = library.models.get_model(name, weights=None, num_classes=7, **none)
    path = saved(original.eval(), tmp_path / "w.safetensors")
    found = network(kind=kind, architecture=name, path=path)
    x = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        expected = original(x)
        torch.testing.assert_close(found.load(SAFE)(x), expected["out"] if isinstance(expected, dict) else expected)
    assert found.trained_on() is not None
