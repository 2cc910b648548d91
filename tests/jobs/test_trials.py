"""Networks that answer in another type, by chance, or by their batch; and how many images they are given at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from reds_core.errors import ModelError
from reds_core.jobs.prepare import prepare
from reds_core.spec.load import load_spec
from reds_core.variants.run_seeds import run_seeds
from tests.support import spies
from tests.support.worlds import SIZE, D, TinyClassifier, TinyGenerator, TinyMapping, torchscript, world

OF_CLASS = {"class": {"kind": "classifier", "model": {"kind": "torchscript", "path": "n.pt"}}, "look": {"kind": "pixels"}}
GENERATOR = {"kind": "torchscript", "path": "n.pt", "latent_dim": D, "output_range": [-1, 1]}


def with_network(folder: Path, role: str, network: nn.Module, **changes: Any) -> Path:
    """Writes a world in which a network has a role."""
    model = {"kind": "torchscript", "path": "n.pt"}
    roles: dict[str, dict[str, Any]] = {
        "class": {"attributes": OF_CLASS},
        "judge": {"judge": {"model": model}},
        "generator": {"generator": GENERATOR},
        "mapping": {"generator": GENERATOR | {"path": "g.pt", "mapping": model}},
    }
    path = world(folder, **roles[role] | changes)
    torchscript(network, folder / "n.pt")
    return path


def original(role: str) -> nn.Module:
    return TinyGenerator() if role == "generator" else TinyMapping() if role == "mapping" else TinyClassifier()


# Types


@pytest.mark.parametrize(
    ("role", "kind"),
    [(r, k) for r in ("class", "generator") for k in (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8)]
    + [("judge", torch.float16), ("judge", torch.int64), ("mapping", torch.bfloat16), ("mapping", torch.int64)],
)
def test_a_network_may_answer_in_any_type(tmp_path: Path, role: str, kind: torch.dtype) -> None:
    changes: dict[str, Any] = {"held": {"class": 0.9}}
    network = spies.Answers(original(role), kind, 1 if kind.is_floating_point else 20)
    if role == "generator" and not kind.is_floating_point:
        # Unsigned bytes cannot be negative.
        network = spies.Answers(nn.Sequential(TinyGenerator(), nn.ReLU()), kind, 255)
        changes["generator"] = GENERATOR | {"output_range": [0, 255]}
    job = prepare(load_spec(with_network(tmp_path, role, network, **changes)))
    candidates, _ = run_seeds(job, range(2))
    assert all(feature.unit for feature in job.networks.features.values())
    assert len(candidates) == 26 and all(np.isfinite(c.drifts["class"]) for c in candidates if len(c.latent))


def test_complex_numbers_are_refused_by_name(tmp_path: Path) -> None:
    spec = load_spec(with_network(tmp_path, "judge", spies.Answers(TinyClassifier(), torch.complex64)))
    with pytest.raises(ModelError, match=r"^judge: the TorchScript network n\.pt returns complex numbers; let it return real ones"):
        prepare(spec)


def test_convolutions_of_three_axes_are_left_in_their_layout(tmp_path: Path) -> None:
    path = with_network(tmp_path, "judge", spies.Volume())
    candidates, _ = run_seeds(prepare(load_spec(path)), range(2))
    assert {c.judge_label for c in candidates if c.role == "seed"} <= {0, 1, 2}


# Chance


@pytest.mark.parametrize(
    ("role", "named"),
    [
        ("class", "attributes.class: the network"),
        ("judge", "judge: the network"),
        ("generator", "the generator n"),
        ("mapping", "the generator g"),
    ],
)
def test_a_network_that_answers_by_chance_or_by_its_batch_is_refused_with_the_cause(tmp_path: Path, role: str, named: str) -> None:
    spec = load_spec(with_network(tmp_path, role, spies.Noisy(original(role))))
    with pytest.raises(ModelError, match=f"^{named} answers otherwise from call to call: by up to .* It draws random numbers"):
        prepare(spec)
    torchscript(spies.OfItsBatch(original(role)), tmp_path / "n.pt")
    with pytest.raises(ModelError, match=f"^{named} answers otherwise with the batch: .* BatchNorm in training mode"):
        prepare(spec)


@pytest.mark.parametrize("role", ["class", "judge", "generator", "mapping"])
def test_one_image_at_a_time_hides_no_network_that_goes_by_its_batch(tmp_path: Path, role: str) -> None:
    path = with_network(tmp_path, role, spies.OfItsBatch(original(role)))
    with pytest.raises(ModelError, match="answers otherwise with the batch"):
        prepare(load_spec(path), batch=1)


def test_a_network_that_takes_one_image_at_a_time_serves_a_batch_of_one(tmp_path: Path) -> None:
    path = with_network(tmp_path, "judge", spies.Frozen(original("judge"), 1))
    assert prepare(load_spec(path), batch=1).batch == 1


@pytest.mark.parametrize("role", ["class", "generator", "mapping"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
def test_rounding_that_goes_by_the_batch_is_no_fault(tmp_path: Path, role: str, kind: torch.dtype) -> None:
    network = spies.Answers(spies.Rounds(original(role)), kind)
    assert prepare(load_spec(with_network(tmp_path, role, network))).spreads["class"] > 0


def test_dropout_that_was_left_on_is_refused(tmp_path: Path) -> None:
    class Drops(TinyClassifier):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.dropout(super().forward(x), 0.1, training=True)

    path = with_network(tmp_path, "class", TinyClassifier())
    traced = torch.jit.trace(Drops().eval(), torch.rand(2, 1, SIZE, SIZE), check_trace=False)  # type: ignore[no-untyped-call]
    torch.jit.save(traced, str(tmp_path / "n.pt"))
    with pytest.raises(ModelError, match=r"attributes\.class: the network answers otherwise from call to call"):
        prepare(load_spec(path))


@pytest.mark.parametrize(("role", "named"), [("class", "attributes.class"), ("judge", "judge"), ("generator", "the generator n")])
def test_a_frozen_batch_size_is_named_as_such(tmp_path: Path, role: str, named: str) -> None:
    spec = load_spec(with_network(tmp_path, role, spies.Frozen(original(role))))
    with pytest.raises(ModelError, match=f"^{named}.* it takes 2 at once, and no other number: its batch size was frozen"):
        prepare(spec)


# Batches


def spied(role: str) -> dict[str, Any]:
    return {"kind": "factory", "target": "tests.support.spies:watched", "options": {"role": role}}


@pytest.mark.parametrize(
    ("method", "by", "mapped"),
    [
        ("corrected", "reds", True),
        ("local", "reds", False),
        ("linear", "pca", False),
        ("linear", "sefa", False),
        ("linear", "interfacegan", False),
    ],
)
def test_no_network_gets_more_images_at_once_than_a_batch(tmp_path: Path, method: str, by: str, mapped: bool) -> None:
    generator = GENERATOR | spied("generator") | ({"mapping": spied("mapping")} if mapped else {})
    generator.pop("path")
    inside = {"segment": {"model": spied("segmenter"), "classes": [0]}}
    spec = load_spec(
        world(
            tmp_path,
            generator=generator,
            attributes={
                "class": {"kind": "classifier", "model": spied("class")},
                "inside": {"kind": "pixels", "region": inside},
                "look": {"kind": "pixels"},
            },
            held={"class": 0.5, "inside": 0.5},
            judge={"model": spied("judge")},
            trajectory={"method": method, "directions_by": by, "directions": 2, "waypoints": 2, "step": 0.1},
        )
    )
    spies.seen.clear()
    run_seeds(prepare(spec, batch=3, allow_code=True), range(7))
    assert {role: max(sizes) for role, sizes in spies.seen.items()} == dict.fromkeys(
        ("class", "segmenter", "generator", "judge", *["mapping"] * mapped), 3
    )


def test_own_images_are_judged_and_bound_a_batch_at_a_time(tmp_path: Path) -> None:
    for k in range(5):
        place = tmp_path / "data" / "abc"[k % 3]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.RandomState(k).randint(0, 256, (SIZE, SIZE)).astype(np.uint8)).save(place / f"{k}.png")
    generator = GENERATOR | spied("generator")
    generator.pop("path")
    spec = load_spec(
        world(
            tmp_path,
            generator=generator,
            seeds={"images": "data", "fit": {"distance": 9, "passes": 30}},
            attributes={
                "inside": {"kind": "pixels", "region": {"segment": {"model": spied("segmenter"), "classes": [0]}}},
                "look": {"kind": "pixels"},
            },
            label="given",
            held={"inside": 0.5},
            judge={"model": spied("judge")},
        )
    )
    spies.seen.clear()
    run_seeds(prepare(spec, batch=2, allow_code=True), range(5))
    assert {role: max(sizes) for role, sizes in spies.seen.items()} == {"segmenter": 2, "generator": 2, "judge": 2}
