"""What is measured once, on reference images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reds_core.jobs import reference
from reds_core.jobs.prepare import prepare
from reds_core.jobs.reference import median_distance, spread_of
from reds_core.spec.load import load_spec
from tests.support.spies import Halves
from tests.support.worlds import torchscript, world


def test_a_spread_is_the_median_over_all_pairs() -> None:
    x = torch.tensor([[0.0], [1.0], [3.0], [float("nan")]])
    assert median_distance(x) == 2.0  # of 1, 2 and 3
    assert median_distance(x[:1]) != median_distance(x[:1])


@pytest.mark.parametrize("held", ["class", "inside", "look"])
def test_a_spread_is_the_same_however_little_of_it_is_in_memory_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    torchscript(Halves(), tmp_path / "s.pt")
    segment = {"model": {"kind": "torchscript", "path": "s.pt"}, "classes": [0]}
    attributes = {
        "class": {"kind": "classifier", "model": {"kind": "torchscript", "path": "c.pt"}},
        "look": {"kind": "pixels"},
        "inside": {"kind": "pixels", "region": {"segment": segment}},
    }
    varied = {"look": 0.1} if held != "look" else {"inside": 0.1}
    spec = load_spec(world(tmp_path, attributes=attributes, held={held: 0.5}, varied=varied))
    whole = prepare(spec).spreads[held]
    monkeypatch.setattr(reference, "MOST_NUMBERS", 640)
    assert prepare(spec, batch=7).spreads[held] == pytest.approx(whole, rel=1e-5)


def test_a_bound_spread_is_measured_on_the_seeds_terms(tmp_path: Path) -> None:
    torchscript(Halves(), tmp_path / "s.pt")
    segment = {"model": {"kind": "torchscript", "path": "s.pt"}, "classes": [0]}
    attributes = {"look": {"kind": "pixels"}, "inside": {"kind": "pixels", "region": {"segment": segment}}}
    spec = load_spec(world(tmp_path, attributes=attributes, label="none", judge=None, held={"inside": 0.5}))
    networks = prepare(spec).networks
    levels = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    x = levels.float() / 255
    weights = ((x - 0.5) * 40).sigmoid()
    apart = [float(((x[a] - x[b]) * weights[a]).norm()) for a in range(5) for b in range(5) if a != b]
    assert spread_of(networks, "inside", levels) == pytest.approx(np.median(apart), rel=1e-5)
