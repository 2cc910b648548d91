"""Seeds -> verdicts, end to end in memory, with somebody else's networks."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import reds_core
from reds_core.errors import ModelError
from reds_core.jobs.job import Work
from reds_core.jobs.prepare import prepare
from reds_core.spec.load import load_spec
from reds_core.types import PassCounter
from reds_core.variants.origins import origins_of
from reds_core.variants.run_seeds import run_seeds
from tests.support.worlds import D, TinyClassifier, TinyConditional, TinyGenerator, TinyMapping, torchscript, world

CLASS = {"kind": "classifier", "model": {"kind": "torchscript", "path": "c.pt"}}


def made(path: Path, seeds: list[int] | range = range(4), allow_code: bool = False, **job: Any) -> list[Any]:
    spec = load_spec(path)
    return list(reds_core.augment(spec, seeds, device="cpu", allow_code=allow_code, **job))


def test_every_waypoint_of_every_trajectory_is_a_candidate_in_order(tmp_path: Path) -> None:
    found = made(world(tmp_path), [3, 1])
    keys = [c.key for c in found]
    assert len(keys) == len(set(keys)) == 2 * (1 + 2 * 2 * 3)
    assert keys[:5] == ["s00000003", *(f"s00000003-d00p-w0{w}" for w in (1, 2, 3)), "s00000003-d00n-w01"]
    assert [c.role for c in found].count("seed") == 2


def test_a_variant_is_what_its_figures_say(tmp_path: Path) -> None:
    path = world(tmp_path)
    job = prepare(load_spec(path), "cpu")
    candidates, _ = run_seeds(job, range(4))
    accepted = [c for c in candidates if c.accepted and c.role == "variant"]
    assert accepted
    g, net = TinyGenerator().requires_grad_(False), TinyClassifier().requires_grad_(False)

    def stored(latent: Any) -> Tensor:
        levels: Tensor = ((g(torch.as_tensor(latent)[None]) + 1) / 2 * 255).round()
        return levels / 255

    for c in accepted:
        own = np.random.RandomState(c.seed).randn(D).astype(np.float32)
        drift = float((net(stored(c.latent)) - net(stored(own))).norm()) / job.spreads["class"]
        effect = float((stored(c.latent) - stored(own)).norm()) / job.spreads["look"]
        assert c.drifts["class"] == pytest.approx(drift, abs=1e-4) and drift <= 0.2
        assert c.effects["look"] == pytest.approx(effect, abs=1e-4) and effect >= 0.05
        assert c.label == c.judge_label == int(net(stored(own)).argmax()) and c.label_name == "abc"[c.label]


def test_spreads_do_not_depend_on_the_runs_seeds_and_are_medians_of_all_pairs(tmp_path: Path) -> None:
    one, two = (prepare(load_spec(world(tmp_path), [f"seeds.first={n}"]), "cpu") for n in (0, 77))
    assert one.spreads == two.spreads
    z = torch.from_numpy(np.stack([np.random.RandomState(2**31 + i).randn(D) for i in range(256)])).float()
    images = ((TinyGenerator()(z) + 1) / 2 * 255).round() / 255
    assert one.spreads["look"] == pytest.approx(float(np.median(torch.pdist(images.flatten(1)).detach().numpy())), rel=1e-4)
    assert one.latent_spread == pytest.approx(float(np.median(torch.pdist(z).numpy())), rel=1e-5)


@pytest.mark.parametrize("by", ["reds", "rayleigh", "maxc", "minf", "rand"])
@pytest.mark.parametrize("method", ["local", "linear"])
def test_every_method_walks_steps_of_the_length_in_the_spec(tmp_path: Path, method: str, by: str) -> None:
    trajectory = {"method": method, "directions_by": by, "directions": 2, "waypoints": 2, "step": 0.1}
    path = world(tmp_path, trajectory=trajectory, held={"class": 99.0}, varied={"look": 1e-9}, duplicates=0, judge=None)
    job = prepare(load_spec(path), "cpu")
    candidates, _ = run_seeds(job, [0])
    points = {(c.direction, c.sign, c.waypoint): c.latent for c in candidates if c.accepted}
    assert len(points) == 9
    for (d, sign, w), point in points.items():
        if w:
            before = points[(d, sign, w - 1) if w > 1 else (-1, 0, 0)]
            assert np.linalg.norm(point - before) == pytest.approx(0.1 * job.latent_spread, rel=1e-3)


def test_a_seed_that_the_judge_contradicts_yields_nothing(tmp_path: Path) -> None:
    path = world(tmp_path)
    torchscript(TinyClassifier(seed=9), tmp_path / "j.pt")
    found = made(path, range(12))
    contradicted = {c.seed for c in found if c.role == "seed" and c.judge_label != c.label}
    assert contradicted and len(contradicted) < 12
    for c in found:
        assert (c.reason == "seed_label") == (c.seed in contradicted)
        assert not (c.seed in contradicted and (c.accepted or c.image))


class Blind(nn.Module):
    """A judge that cannot tell of bright images what they are."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = TinyClassifier()

    def forward(self, x: Tensor) -> Tensor:
        bright = x.flatten(1).mean(1, keepdim=True) > 0.5
        scores: Tensor = self.judge(x).masked_fill(bright, float("nan"))
        return scores


@pytest.mark.parametrize("label", ["class", "none"])
def test_a_seed_that_the_judge_cannot_tell_yields_nothing(tmp_path: Path, label: str) -> None:
    path = world(tmp_path, label=label)
    torchscript(Blind(), tmp_path / "j.pt")
    found = made(path, range(12))
    own = [c for c in found if c.role == "seed"]
    lost = {c.seed for c in own if c.reason == "not_finite"}
    assert 0 < len(lost) < 12 and {c.seed for c in own if c.accepted} == set(range(12)) - lost
    assert all(c.judge_agrees == (c.seed not in lost) for c in own)
    assert all(c.reason == "not_finite" for c in found if c.seed in lost)


def test_without_labels_the_judge_compares_with_its_own_decision(tmp_path: Path) -> None:
    found = made(world(tmp_path, label="none"))
    assert {c.label for c in found} == {-1} and {c.label_name for c in found} == {""}
    own = {c.seed: c.judge_label for c in found if c.role == "seed"}
    accepted = [c for c in found if c.accepted]
    assert len(accepted) > 4 and all(c.judge_label == own[c.seed] for c in accepted)


def test_a_conditional_generator_gets_its_class_by_the_seed(tmp_path: Path) -> None:
    torchscript(TinyConditional(), tmp_path / "k.pt")
    config = {"kind": "torchscript", "path": "k.pt", "latent_dim": D, "output_range": [-1, 1], "classes": ["x", "y", "z"]}
    path = world(tmp_path, generator=config, label="condition", seeds={"count": 4, "classes": ["z", 0]}, judge=None)
    own = [c for c in made(path) if c.role == "seed"]
    assert [(c.condition, c.label_name) for c in own] == [(2, "z"), (0, "x"), (2, "z"), (0, "x")]
    with pytest.raises(ModelError, match="has no class 'q'"):
        prepare(load_spec(path, ["seeds.classes=[q]"]), "cpu")


def test_the_batch_size_changes_no_verdict_and_no_figure_beyond_rounding(tmp_path: Path) -> None:
    path = world(tmp_path)
    for a, b in zip(made(path, batch=1), made(path, batch=50), strict=True):
        assert (a.key, a.reason, a.label) == (b.key, b.reason, b.label)
        assert list(a.drifts.values()) == pytest.approx(list(b.drifts.values()), abs=1e-4, nan_ok=True)


def test_several_held_and_varied_attributes_hold_and_vary_together(tmp_path: Path) -> None:
    attributes = {
        "class": CLASS,
        "left": {"kind": "pixels", "region": {"box": [0, 0, 1, 0.5]}},
        "right": {"kind": "pixels", "region": {"box": [0, 0.5, 1, 1]}},
        "tone": {"kind": "colour", "region": {"box": [0, 0.5, 1, 1]}},
    }
    held, varied = {"class": 0.05, "left": 0.05}, {"right": {"minimum": 0.05, "weight": 2}, "tone": 0.01}
    found = made(world(tmp_path, attributes=attributes, held=held, varied=varied))
    accepted = [c for c in found if c.accepted and c.role == "variant"]
    # The left half has latents of its own: REDs leave them alone.
    assert len(accepted) > 20
    assert all(c.drifts["left"] <= 0.05 and c.effects["right"] >= 0.05 and c.effects["tone"] >= 0.01 for c in accepted)


def test_a_black_box_is_held_by_differences(tmp_path: Path) -> None:
    attributes = {
        "class": CLASS,
        "columns": {"kind": "callable", "target": "tests.support.worlds:mean_by_numpy"},
        "look": {"kind": "pixels"},
    }
    path = world(tmp_path, attributes=attributes, held={"columns": 0.1})
    job = prepare(load_spec(path), "cpu", allow_code=True)
    assert set(job.derivatives.modes.values()) == {"differences"}
    assert sum(c.accepted for c in run_seeds(job, range(4))[0]) > 10
    with pytest.raises(ModelError, match="reverse mode does not work"):
        prepare(load_spec(path, ["trajectory.jacobian=reverse"]), "cpu", allow_code=True)


def test_what_cannot_be_measured_is_a_reject_and_never_held(tmp_path: Path) -> None:
    attributes = {
        "class": CLASS,
        "face": {"kind": "callable", "target": "tests.support.worlds:nan_when_bright"},
        "look": {"kind": "pixels"},
    }
    path = world(tmp_path, attributes=attributes, held={"face": 99.0}, varied={"look": 1e-9}, judge=None, duplicates=0)
    found = made(path, range(10), allow_code=True)
    unmeasured = [c for c in found if c.reason == "not_finite"]
    assert unmeasured and any(c.accepted for c in found)
    assert all(math.isfinite(c.drifts["face"]) for c in found if c.accepted)


class Flat(nn.Module):
    """An attribute that never changes."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3] * 0.0


class Wrong(nn.Module):
    """A network for other images."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, 3 * 5)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Flat(), "attributes.class: is the same on at least half of 256"),
        (Wrong(), "attributes.class: failed on the generator's images"),
    ],
)
def test_a_feature_that_measures_nothing_stops_before_the_first_seed(tmp_path: Path, net: nn.Module, message: str) -> None:
    path = world(tmp_path)
    torchscript(net, tmp_path / "c.pt")
    with pytest.raises(ModelError, match=message):
        prepare(load_spec(path), "cpu")


def test_a_judge_of_other_classes_is_refused(tmp_path: Path) -> None:
    attributes = {"class": CLASS | {"names": ["a", "b", "c"]}, "look": {"kind": "pixels"}}
    path = world(tmp_path, attributes=attributes)

    class TwoClasses(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :2]

    torchscript(TwoClasses(), tmp_path / "j.pt")
    with pytest.raises(ModelError, match="decides among 2 classes, but the label is one of 3"):
        prepare(load_spec(path), "cpu")


def test_held_that_fills_the_latent_space_rejects_with_a_reason(tmp_path: Path) -> None:
    attributes = {"class": CLASS, "all": {"kind": "pixels"}, "look": {"kind": "pixels", "gray": True}}
    path = world(tmp_path, attributes=attributes, held={"all": 0.1}, judge=None)
    found = made(path.rename(tmp_path / "s.yaml"))
    full = load_spec(tmp_path / "s.yaml", ["trajectory.beta.all=1"])
    found = list(reds_core.augment(full, range(2), device="cpu"))
    assert Counter(c.reason for c in found if c.role == "variant") == {"turned": 2 * 12}


def test_a_lossy_format_is_judged_as_a_reader_will_see_it(tmp_path: Path) -> None:
    import io

    from PIL import Image

    found = made(world(tmp_path, shards={"seeds": 2, "image": "jpg", "quality": 30}))
    job = prepare(load_spec(tmp_path / "spec.yaml"), "cpu")
    net = TinyClassifier().requires_grad_(False)

    def read(c: Any) -> Tensor:
        pixels = np.asarray(Image.open(io.BytesIO(c.image)), np.float32) / 255
        scores: Tensor = net(torch.from_numpy(pixels)[None, None])
        return scores

    own = {c.seed: read(c) for c in found if c.role == "seed"}
    accepted = [c for c in found if c.accepted and c.role == "variant"]
    assert accepted
    for c in accepted:
        assert c.drifts["class"] == pytest.approx(float((read(c) - own[c.seed]).norm()) / job.spreads["class"], abs=1e-4)


def test_a_coarse_job_leads_the_trajectories_and_follows_the_spec(tmp_path: Path) -> None:
    spec = load_spec(world(tmp_path), ["trajectory.method=corrected"])
    job = prepare(spec, "cpu")
    led = replace(job, coarse=job)
    (alone, cost), (found, cost_led) = run_seeds(job, [0, 1]), run_seeds(led, [0, 1])
    assert [(c.key, c.reason) for c in found] == [(c.key, c.reason) for c in alone]
    for a, b in zip(found, alone, strict=True):
        np.testing.assert_array_equal(a.latent, b.latent)
    # Both render the seeds; what the coarse one saw at the waypoints, the large one renders again.
    assert cost_led.forward - cost.forward == 2 + sum(c.role == "variant" and len(c.latent) > 0 for c in found)
    longer = spec.model_copy(update={"trajectory": spec.trajectory.model_copy(update={"step": 2 * spec.trajectory.step})})
    changed = led.with_spec(longer)
    assert changed.coarse is not None and changed.step == changed.coarse.step == pytest.approx(2 * job.step)


def test_scores_that_stand_still_in_float32_end_in_verdicts(tmp_path: Path) -> None:
    trajectory = {"method": "corrected", "directions": 1, "waypoints": 2, "step": 0.1}
    spec = world(tmp_path, trajectory=trajectory)
    classifier = TinyClassifier().requires_grad_(False)
    classifier.weight.mul_(1e18)  # a move is lost in rounding
    torchscript(classifier, tmp_path / "c.pt")
    found = [c for c in made(spec, [0, 1]) if c.role == "variant"]
    assert len(found) == 8 and all(c.drifts["class"] <= 0.2 for c in found if c.accepted)


def test_a_mapped_generator_is_walked_in_w(tmp_path: Path) -> None:
    torchscript(TinyMapping(), tmp_path / "m.pt")
    mapping = {"kind": "torchscript", "path": "m.pt"}
    config = {"kind": "torchscript", "path": "g.pt", "latent_dim": D, "output_range": [-1, 1], "mapping": mapping}
    found = made(world(tmp_path, generator=config, seeds={"count": 4, "truncation": 0.7}))
    assert sum(c.accepted for c in found) > 8


def test_a_shards_seeds_are_measured_a_batch_at_a_time_and_kept_as_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As floats, a shard's images would take four times the memory, whatever the batch."""
    job = prepare(load_spec(world(tmp_path)), "cpu", 2)
    rendered = []
    images = job.networks.generator.images

    def noted(latents: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        rendered.append(len(latents))
        return images(latents, labels)

    monkeypatch.setattr(job.networks.generator, "images", noted)
    few, all_at_once = (
        origins_of(Work(job, PassCounter()), range(5)),
        origins_of(Work(prepare(job.spec, "cpu", 5), PassCounter()), range(5)),
    )
    assert rendered == [2, 2, 1] and few.images.dtype == torch.uint8
    assert torch.equal(few.images, all_at_once.images) and few.labels == all_at_once.labels
    assert few.judged and all_at_once.judged and few.judged.labels == all_at_once.judged.labels
    assert all(torch.allclose(few.features[n], all_at_once.features[n], atol=1e-5) for n in few.features)
