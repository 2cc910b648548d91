"""The rendered rooms: a map with an exact inverse, smooth pictures with true masks, a segmenter, and a sofa that is held."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from reds_core import load_spec
from reds_core.errors import SpecError
from reds_core.generators.builtin import BuiltinGenerator
from reds_core.generators.latent import Walkable, check_images, draw
from reds_core.jobs.prepare import prepare
from reds_core.models import Builtin
from reds_core.models.config import Access
from reds_core.models.shipped import rooms
from reds_core.models.shipped.rooms import DIM, FACTORS, NAMES, SEGMENTS, Rooms
from reds_core.spec.digest import digest
from reds_core.studies.compare import Comparison, measure
from reds_core.studies.comparison_report import write_comparison
from reds_core.training.rooms import FRESH_SEEDS, overlap
from tests.support import SPECS

SAFE = Access(torch.device("cpu"), allow_code=False)
WORLD = Rooms().requires_grad_(False)
SOFA = SEGMENTS.index("sofa")


def z_of(count: int) -> Tensor:
    return draw(range(count), DIM, "normal")


def moved(z: Tensor, group: str, by: float, names: set[str] | None = None) -> Tensor:
    """The latents (n, d) of the same rooms, with some factors of one group moved by as many deviations of u."""
    u = WORLD.entangled(z)
    for k, (g, name) in enumerate(NAMES):
        if g == group and (names is None or name in names):
            u[:, k] += by
    return WORLD.inverse(u)


# The map


def test_the_map_is_inverted_exactly() -> None:
    z = z_of(200)
    torch.testing.assert_close(WORLD.inverse(WORLD.entangled(z)), z, atol=1e-4, rtol=0)
    torch.testing.assert_close(WORLD.entangled(WORLD.inverse(z)), z, atol=1e-4, rtol=0)


def test_the_map_leaves_the_normal_distribution_as_it_is() -> None:
    u = WORLD.entangled(torch.randn(40_000, DIM, generator=torch.Generator().manual_seed(0)))
    assert float(u.mean(0).abs().max()) < 0.03
    assert float((u.T.cov() - torch.eye(DIM)).abs().max()) < 0.04
    assert float((u**4).mean(0).sub(3).abs().max()) < 0.3


def test_no_latent_axis_is_a_factor_and_no_line_moves_one_alone() -> None:
    z = torch.randn(20_000, DIM, generator=torch.Generator().manual_seed(0))
    factors = torch.cat(list(WORLD.factors(z).values()), 1)
    assert len(NAMES) == factors.shape[1] >= 24
    torch.testing.assert_close(factors.std(0), torch.ones(len(NAMES)), atol=0.03, rtol=0)
    together = torch.cat([z, factors], 1).T.corrcoef()[:DIM, DIM:]
    assert float(together.abs().max()) < 0.5
    # Bent, too: what is linear in z says less than two thirds of any factor.
    assert float(together.square().sum(0).max()) < 0.67


# The picture


def test_derivatives_in_either_mode_are_those_of_differences() -> None:
    world, z = Rooms().double(), z_of(4).double()
    along = torch.nn.functional.normalize(
        torch.randn(z.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64), dim=1
    )
    h = 1e-5
    slope = (world(z + h * along) - world(z - h * along)) / (2 * h)
    forward = torch.func.jvp(world, (z,), (along,))[1]
    torch.testing.assert_close(forward, slope, atol=1e-6, rtol=1e-5)
    cotangent = torch.randn(slope.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (pulled,) = torch.func.vjp(world, z)[1](cotangent)
    torch.testing.assert_close((pulled * along).sum(1), (cotangent * slope).sum((1, 2, 3)), atol=1e-6, rtol=1e-5)


def test_every_number_of_the_latent_can_be_seen() -> None:
    """Texture included: moving any u by one deviation changes some pixel by more than two of its 256 levels."""
    u = WORLD.entangled(0.5 * z_of(8))
    for k in range(DIM):
        other = u.clone()
        other[:, k] += 1
        assert float((WORLD.render(other) - WORLD.render(u)).abs().amax((1, 2, 3)).median()) > 2 / 255, k


def test_masks_share_out_every_pixel() -> None:
    masks = WORLD.masks(z_of(20))
    assert masks.shape == (20, len(SEGMENTS), 64, 64) and float(masks.min()) >= -1e-6
    torch.testing.assert_close(masks.sum(1), torch.ones(20, 64, 64))


def test_the_sofas_mask_is_where_the_sofa_is() -> None:
    z = z_of(20)
    other = moved(z, "sofa", 1.0, {"lightness", "warmth", "green", "pillow", "pillow_warmth", "pillow_green"})
    changed = (WORLD(other) - WORLD(z)).abs().amax(1)
    mask = WORLD.masks(z)[:, SOFA]
    assert float(changed[mask < 1e-3].max()) < 2e-3
    assert bool((changed[mask > 0.99] > 1 / 255).float().mean() > 0.8)
    torch.testing.assert_close(WORLD.masks(other), WORLD.masks(z), atol=1e-4, rtol=0)


@pytest.mark.parametrize("psi", [0.5, 1.0, 1.5])
def test_every_room_is_a_room(psi: float) -> None:
    z = psi * z_of(256)
    images, masks = WORLD(z), WORLD.masks(z)
    assert float(images.min()) > 0.01 and float(images.max()) < 0.99
    assert float(images.flatten(1).std(1).min()) > 0.05
    area = masks.mean((2, 3))
    for name, least in {"wall": 0.25, "floor": 0.12, "window": 0.04, "sofa": 0.10, "lamp": 0.01, "picture": 0.02}.items():
        assert float(area[:, SEGMENTS.index(name)].min()) > least, name
    sofa = masks[:, SOFA]
    assert float(sofa[:, :, [0, -1]].max()) < 0.1 and float(sofa[:, -1].max()) < 0.1, "a sofa leaves the image"
    # It stands on the floor: its lowest row is below the horizon.
    lowest = 63 - (sofa.amax(2) > 0.5).flip(1).float().argmax(1)
    assert bool((lowest > 64 * FACTORS["floor"]["horizon"][1]).all())


# As a generator


def test_it_is_a_generator_of_z_that_knows_its_truth() -> None:
    generator = BuiltinGenerator(kind="builtin", name="rooms").load(SAFE)
    assert (generator.space, generator.dim, generator.class_names) == ("z", DIM, ())
    assert check_images(generator) == (3, 64, 64)
    z, none = z_of(3), torch.zeros(3, dtype=torch.long)
    torch.testing.assert_close(generator.truncated(0.5).images(generator.truncated(0.5).latents(z, none), none), WORLD(0.5 * z))
    assert generator.truth is not None
    truth = generator.truth(z, none)
    assert {g: v.shape for g, v in truth.items()} == {g: (3, len(names)) for g, names in FACTORS.items()}
    change = generator.truth(moved(z, "lamp", 0.5), none)
    for group, before in truth.items():
        assert (float((change[group] - before).abs().max()) > 0.05) == (group == "lamp")
    trained: Walkable = BuiltinGenerator(kind="builtin", name="fashion-mnist").load(SAFE)
    assert trained.truth is None


def test_it_has_no_w() -> None:
    with pytest.raises(SpecError, match=r"generator: space: the generator rooms has no w; leave it out"):
        load_spec(SPECS / "rooms.yaml", ["generator.space=w"])


def test_another_version_of_the_renderer_is_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load_spec(SPECS / "rooms.yaml")
    before = digest(spec)
    monkeypatch.setattr(rooms, "RENDERER_VERSION", rooms.RENDERER_VERSION + 1)
    assert digest(spec) != before


def test_the_segmenter_finds_the_segments_of_rooms_it_never_saw() -> None:
    network = Builtin(kind="builtin", name="rooms-segmenter").load(SAFE)
    for psi in (0.7, 1.0):
        z = psi * draw(FRESH_SEEDS[:32], DIM, "normal")
        with torch.no_grad():
            found = overlap(network(WORLD(z)), WORLD.masks(z))
        assert float(found.min()) > 0.9 and float(found[SOFA]) > 0.97, found


# The sofa held


@pytest.fixture(scope="module")
def held() -> Comparison:
    """The sofa held and the whole image varied, on three seeds. Short steps of `linear` are cheap, and pass the same effects."""
    ways = {"corrected": (3, 0.2), "linear": (8, 0.04)}
    specs = {
        name: load_spec(
            SPECS / "rooms.yaml",
            [
                f"trajectory={{method: {name}, directions: 2, waypoints: {waypoints}, step: {step}}}",
                "attributes.room={kind: pixels}",
                "seeds.count=3",
            ],
        )
        for name, (waypoints, step) in ways.items()
    }
    job = prepare(specs["corrected"], "cpu")
    derivatives = replace(job.derivatives, modes=dict.fromkeys(job.derivatives.modes, "forward"))
    jobs = {"corrected": job, "linear": replace(job.with_spec(specs["linear"]), derivatives=derivatives)}
    methods = [measure(name, one, range(3)) for name, one in jobs.items()]
    return Comparison(specs["corrected"], 3, np.quantile(methods[0].effect, [0.02, 0.5, 0.98]), methods)


def test_holding_the_sofa_holds_its_true_factors(held: Comparison) -> None:
    ours, linear = held.methods
    bins = held.shared(linear)
    assert bins
    sofa, theirs = (held.at_equal_effect(m, m.changed["sofa"], bins).value for m in (ours, linear))
    rest = [held.at_equal_effect(ours, ours.changed[g], bins).value for g in FACTORS if g != "sofa"]
    assert sofa < 0.3 * theirs and sofa < 0.3 * np.mean(rest)


def test_a_comparison_of_rooms_tells_how_far_the_true_factors_moved(held: Comparison, tmp_path: Path) -> None:
    written = write_comparison(held, tmp_path).read_text()
    assert "rendered test world" in written and "| method | sofa | lamp |" in written
    table = pd.read_csv(tmp_path / "truth.csv")
    assert list(table.columns) == ["method", "group", "effect_from", "effect_to", "n", "change", "low", "high"]
    assert set(table.group) == set(FACTORS) and set(table.method) == {"corrected", "linear"}
    assert (table.low <= table.change + 1e-9).all() and (table.change <= table.high + 1e-9).all() and (table.n > 0).all()
    assert "group" not in pd.read_csv(tmp_path / "compare.csv").columns
