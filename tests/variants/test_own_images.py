"""Own images in whole jobs: images of hidden latents are found again, held to themselves, and vary from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reds_core import load_spec
from reds_core.errors import ModelError, SpecError
from reds_core.jobs.prepare import prepare
from reds_core.runs.plan import plan
from reds_core.runs.run_folder import grown
from reds_core.spec.digest import digest
from reds_core.storage.places import folder_at
from reds_core.types import Candidate, Passes
from reds_core.variants.run_seeds import run_seeds
from tests.support.worlds import D, TinyClassifier, TinyConditional, TinyGenerator, torchscript, world

CORRECTED = {"method": "corrected", "directions": 2, "waypoints": 2, "step": 0.2}
COUNT = 6


def hidden(number: int) -> torch.Tensor:
    """Returns a latent that no run samples."""
    return torch.from_numpy(np.random.RandomState(777 + number).randn(1, D)).float()


def photographs(folder: Path, count: int = COUNT, label: str = "") -> list[str]:
    """Writes images of hidden latents, each in the folder of its class, and returns their names."""
    names = []
    for number in range(count):
        with torch.no_grad():
            image = (TinyGenerator()(hidden(number)) + 1) / 2
            own = label or "abc"[int(TinyClassifier()(image).argmax())]
        path = folder / own / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image[0, 0] * 255).round().byte().numpy()).save(path)
        names.append(f"{own}/{number}.png")
    return sorted(names)


def own_world(folder: Path, **changes: Any) -> Path:
    given = {"seeds": {"images": "data"}, "label": None, "trajectory": CORRECTED, "varied": {"look": 0.01}, "duplicates": 0}
    return world(folder, **(given | changes))


def made(spec: Path, *overrides: str) -> tuple[list[Candidate], Passes]:
    loaded = load_spec(spec, overrides)
    return run_seeds(prepare(loaded, "cpu"), range(loaded.seeds.first, loaded.seeds.first + loaded.seeds.number))


def of(candidates: list[Candidate], role: str) -> list[Candidate]:
    return [c for c in candidates if c.role == role]


def test_images_are_found_again_and_their_variants_are_held_to_them(tmp_path: Path) -> None:
    names = photographs(tmp_path / "data")
    candidates, passes = made(own_world(tmp_path, held={"class": 0.1}))
    sources, seeds, variants = (of(candidates, role) for role in ("source", "seed", "variant"))
    assert [s.source for s in sources] == names and [s.key for s in sources] == [f"s{k:08d}-source" for k in range(COUNT)]
    assert [s.label_name for s in sources] == [n[0] for n in names] and all(c.label_name == c.source[0] for c in candidates)
    assert max(s.fit for s in seeds) < 0.02 and all(s.accepted for s in seeds)
    assert len(variants) == COUNT * 8 and sum(v.accepted for v in variants) > COUNT * 4
    assert passes.equivalents / COUNT <= 300 + 8 * 40
    classifier = TinyClassifier()
    job = prepare(load_spec(tmp_path / "spec.yaml"), "cpu")

    def scores(c: Candidate) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = classifier(torch.from_numpy(c.pixels).permute(2, 0, 1)[None].float() / 255)[0]
        return found

    for c in (c for c in candidates if c.accepted):
        own = scores(sources[c.seed])
        drift = float((scores(c) - own).norm()) / job.spreads["class"]
        assert c.drifts["class"] == pytest.approx(drift, abs=1e-5) and drift <= 0.1
        start = seeds[c.seed].pixels if c.role == "variant" else c.pixels
        effect = float(np.linalg.norm((c.pixels / 255.0 - start / 255.0).ravel())) / job.spreads["look"]
        assert c.effects["look"] == pytest.approx(effect, abs=1e-5)


def test_the_distance_is_that_of_the_stored_images(tmp_path: Path) -> None:
    photographs(tmp_path / "data", 2)
    spec = own_world(tmp_path, **{"seeds": {"images": "data", "fit": {"distance": 5.0, "passes": 10}}})
    candidates, _ = made(spec, "held.class=20")
    job = prepare(load_spec(spec), "cpu")
    assert job.own is not None
    for source, seed in zip(of(candidates, "source"), of(candidates, "seed"), strict=True):
        apart = np.linalg.norm((source.pixels / 255.0 - seed.pixels / 255.0).ravel()) / job.own.pixel_spread
        assert seed.fit == source.fit == pytest.approx(float(apart), abs=1e-5)


def test_what_lies_too_far_or_cannot_be_decoded_yields_nothing_and_says_so(tmp_path: Path) -> None:
    names = photographs(tmp_path / "data", 3)
    noise = np.random.RandomState(0).randint(0, 256, (8, 8)).astype(np.uint8)
    (tmp_path / "data/a").mkdir(exist_ok=True)
    Image.fromarray(noise).save(tmp_path / "data/a/noise.png")
    whole = (tmp_path / "data" / names[0]).read_bytes()
    (tmp_path / "data" / names[0]).write_bytes(whole[: len(whole) - 30])
    candidates, _ = made(own_world(tmp_path, seeds={"images": "data", "fit": {"distance": 0.1}}))
    bad = {names[0], "a/noise.png"}
    assert {c.source for c in candidates if c.reason == "fit"} == bad
    assert not any(c.accepted for c in candidates if c.source in bad)


def test_labels_are_the_user_s_and_the_judge_s_word_on_them_counts_only_if_it_is_strict(tmp_path: Path) -> None:
    photographs(tmp_path / "data", 4, label="c")
    spec = own_world(tmp_path, held={"class": 0.1})
    contradicted = {c.source for c in of(made(spec)[0], "source") if not c.judge_agrees}
    assert contradicted and all(c.label_name == "c" for c in made(spec)[0])
    assert all(c.accepted for c in of(made(spec)[0], "seed"))
    strict = made(spec, "judge.seeds=strict")[0]
    assert {c.source for c in of(strict, "seed") if c.reason == "seed_label"} == contradicted


def test_a_decision_is_held_to_the_image(tmp_path: Path) -> None:
    photographs(tmp_path / "data")
    candidates, _ = made(own_world(tmp_path, held={"class": {"decision": 0.5}}))
    sources = of(candidates, "source")
    assert all(c.tolerances["class"] == sources[c.seed].tolerances["class"] for c in candidates)
    assert all(c.drifts["class"] <= c.tolerances["class"] + 1e-9 for c in candidates if c.accepted)
    assert sum(c.accepted for c in of(candidates, "variant"))


def test_a_wide_region_is_held_to_the_image(tmp_path: Path) -> None:
    photographs(tmp_path / "data", 3)
    left = {"left": {"kind": "pixels", "region": {"box": [0, 0, 1, 0.5]}}, "look": {"kind": "pixels"}}
    candidates, _ = made(own_world(tmp_path, attributes=left, held={"left": 0.1}, judge=None))
    assert all(s.accepted and s.drifts["left"] <= 0.1 for s in of(candidates, "seed"))
    assert sum(c.accepted for c in of(candidates, "variant")) > 6


@pytest.mark.parametrize("method", ["corrected", "linear"])
def test_with_residuals_variants_have_what_the_generator_cannot_draw(tmp_path: Path, method: str) -> None:
    photographs(tmp_path / "data")
    for file in (tmp_path / "data").glob("*/*.png"):
        pixels = np.asarray(Image.open(file)).copy()
        pixels[:2, :2] = 255 - pixels[:2, :2]  # a print, as on a shirt
        Image.fromarray(pixels).save(file)
    changes = {"held": {"class": 0.5}, "trajectory": CORRECTED | {"method": method}}
    spec = own_world(tmp_path, seeds={"images": "data", "fit": {"distance": 9, "residual": True}}, **changes)
    candidates, _ = made(spec)
    sources, seeds = of(candidates, "source"), of(candidates, "seed")
    assert all((a.pixels == b.pixels).all() for a, b in zip(sources, seeds, strict=True))
    assert all(s.fit > 0.01 and not any(s.drifts.values()) for s in seeds)
    made_by = prepare(load_spec(spec), "cpu").networks.generator

    def drawn(c: Candidate) -> torch.Tensor:
        with torch.no_grad():
            return made_by.images(torch.from_numpy(c.latent)[None], torch.zeros(1, dtype=torch.long))[0].permute(1, 2, 0)

    accepted = [v for v in of(candidates, "variant") if v.accepted]
    assert len(accepted) >= COUNT
    for variant in accepted:
        residual = torch.from_numpy(sources[variant.seed].pixels) / 255 - drawn(seeds[variant.seed])
        expected = (drawn(variant) + residual).clamp(0, 1) * 255
        assert float((torch.from_numpy(variant.pixels) - expected).abs().max()) < 0.51
        assert variant.drifts["class"] <= 0.5 and variant.effects["look"] >= 0.01


def test_residuals_make_another_run_and_their_absence_none(tmp_path: Path) -> None:
    photographs(tmp_path / "data")
    fits = [{}, {"residual": False}, {"residual": True}]
    plain, without, added = (load_spec(own_world(tmp_path, seeds={"images": "data", "fit": fit})) for fit in fits)
    assert digest(plain) == digest(without) != digest(added)


def test_an_image_does_not_depend_on_the_others_of_its_shard(tmp_path: Path) -> None:
    photographs(tmp_path / "data")
    spec = load_spec(own_world(tmp_path))
    job = prepare(spec, "cpu")
    together, alone = run_seeds(job, range(4))[0], run_seeds(job, range(2, 3))[0]
    for a, b in zip([c for c in together if c.seed == 2], alone, strict=True):
        assert (a.key, a.reason) == (b.key, b.reason) and a.fit == pytest.approx(b.fit, abs=1e-4)


def test_a_conditional_generator_gets_the_class_of_the_label(tmp_path: Path) -> None:
    spec = own_world(tmp_path, generator={
        "kind": "torchscript", "path": "k.pt", "latent_dim": D, "output_range": [-1, 1], "classes": ["a", "b", "c"],
    })  # fmt: skip
    torchscript(TinyConditional(), tmp_path / "k.pt")
    for number in range(3):
        with torch.no_grad():
            image = (TinyConditional()(hidden(number), torch.tensor([number])) + 1) / 2
        path = tmp_path / "data" / "ABC"[number] / "x.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image[0, 0] * 255).round().byte().numpy()).save(path)
    candidates, _ = made(spec, "judge=null")
    assert [c.condition for c in of(candidates, "seed")] == [0, 1, 2] and max(c.fit for c in of(candidates, "seed")) < 0.02
    (tmp_path / "data/A").rename(tmp_path / "data/Z")
    with pytest.raises(ModelError, match="the generator has no class named Z; it has 3: a, b, c"):
        made(spec, "judge=null")


def test_images_are_counted_and_named_by_the_digest(tmp_path: Path) -> None:
    photographs(tmp_path / "data")
    path = own_world(tmp_path)
    spec = load_spec(path)
    assert (spec.label, spec.seeds.number, len(plan(spec))) == ("given", COUNT, 3)
    assert load_spec(path, ["seeds.first=4"]).seeds.number == 2
    before = digest(spec)
    Image.new("L", (8, 8), 3).save(tmp_path / "data" / "new.png")  # lies in no class folder
    assert digest(load_spec(path)) == before
    (tmp_path / "data" / "b").mkdir(exist_ok=True)
    Image.new("L", (8, 8), 3).save(tmp_path / "data" / "b" / "new.png")
    assert digest(load_spec(path)) != before and load_spec(path).seeds.number == COUNT + 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": {"count": 3}, "label": "given"}, "`given` is the label of the user's own images"),
        ({"label": "condition"}, "own images have their labels from the user"),
        ({"seeds": {"images": "data", "first": 99}}, "seeds.first: 99, but there are only 6 images"),
        ({"seeds": {"images": "data", "fit": {"distance": 0}}}, "seeds.fit.distance"),
        ({"seeds": {"images": []}}, "seeds.images"),
    ],
)
def test_a_spec_that_asks_for_nonsense_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    photographs(tmp_path / "data")
    with pytest.raises(SpecError, match=message):
        load_spec(own_world(tmp_path, **changes))


def test_a_generator_without_derivatives_is_refused(tmp_path: Path) -> None:
    photographs(tmp_path / "data", 1)
    spec = own_world(tmp_path, generator={"kind": "torchscript", "path": "r.pt", "latent_dim": D, "output_range": [-1, 1]})
    torchscript(_Rounded(), tmp_path / "r.pt")
    with pytest.raises(ModelError, match="cannot be reconstructed with the generator r, which has no derivatives"):
        prepare(load_spec(spec), "cpu")


class _Rounded(torch.nn.Module):
    """A generator of steps: its derivatives are zero."""

    def __init__(self) -> None:
        super().__init__()
        self.basis = TinyGenerator().basis

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.round(8 * torch.tanh(torch.einsum("nd,dchw->nchw", z, self.basis))) / 8


def test_more_images_than_there_are_cannot_be_asked_for(tmp_path: Path) -> None:
    photographs(tmp_path / "data")
    with pytest.raises(ModelError, match="images 0 to 8 are asked for, but there are only 6"):
        made(own_world(tmp_path), "seeds.count=9")
    with pytest.raises(SpecError, match="own images are as many as they are"):
        grown(load_spec(tmp_path / "spec.yaml"), folder_at(str(tmp_path / "out")))


def test_what_own_images_make_optional_is_required_without_them(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"seeds\.count: is required[\s\S]*label: is required"):
        load_spec(own_world(tmp_path, seeds={"first": 1}))
