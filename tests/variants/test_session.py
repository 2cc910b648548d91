"""Sessions: measured once, then any number of seeds and images, as whole jobs would give them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reds_core import Session, augment, load_spec
from reds_core.errors import ModelError
from reds_core.jobs import prepare as preparing
from reds_core.types import Candidate
from tests.support.worlds import TinyGenerator, world
from tests.variants.test_own_images import CORRECTED, hidden, made, of, own_world, photographs


def same(a: Candidate, b: Candidate) -> bool:
    return (a.reason, a.label, a.image, a.drifts, a.effects) == (b.reason, b.label, b.image, b.drifts, b.effects)


def test_seeds_of_a_session_are_those_of_a_job_and_networks_are_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load_spec(world(tmp_path, trajectory=CORRECTED))
    expected = list(augment(spec, range(4), device="cpu"))
    session = Session(spec, device="cpu")
    monkeypatch.setattr(preparing, "load_networks", None)
    found = [*session.augment(range(2)), *session.augment(range(2, 4))]
    assert [c.key for c in found] == [c.key for c in expected] and any(c.accepted for c in found)
    assert all(same(a, b) or not a.accepted for a, b in zip(found, expected, strict=True))


def test_images_in_memory_give_what_the_same_files_give(tmp_path: Path) -> None:
    photographs(tmp_path / "data", 4)
    by_files, _ = made(own_world(tmp_path))
    session = Session(load_spec(world(tmp_path, trajectory=CORRECTED, varied={"look": 0.01}, duplicates=0)), device="cpu")
    sources = of(by_files, "source")
    images = torch.from_numpy(np.stack([c.pixels for c in sources])).permute(0, 3, 1, 2).float() / 255
    before = session.passes
    found = list(session.augment_images(images, [c.label for c in sources]))
    assert session.passes.reverse > before.reverse
    assert [(c.role, c.label, c.reason) for c in found] == [(c.role, c.label, c.reason) for c in by_files]
    assert [c.source for c in of(found, "source")] == ["image 0", "image 1", "image 2", "image 3"]
    np.testing.assert_allclose([c.fit for c in found], [c.fit for c in by_files], atol=1e-4)


def test_images_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    session = Session(load_spec(world(tmp_path, trajectory=CORRECTED)), device="cpu")
    with torch.no_grad():
        good = (TinyGenerator()(hidden(0)) + 1) / 2
    for images, labels, message in (
        (torch.zeros(1, 3, 8, 8), [0], r"the generator makes \(n, 1, 8, 8\)"),
        (good, [0, 1], "with 2 labels"),
        (good * 255, [0], "numbers from 0 to 1"),
        (good * torch.nan, [0], "numbers from 0 to 1"),
    ):
        with pytest.raises(ModelError, match=message):
            next(session.augment_images(images, labels))
