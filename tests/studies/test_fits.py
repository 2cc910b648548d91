"""What `reds check` says of own images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reds_core import load_spec
from reds_core.jobs.prepare import prepare
from reds_core.studies.fits import fits_of, spread_over
from reds_core.studies.forecast import forecast
from tests.variants.test_own_images import own_world, photographs


def test_images_are_tried_from_the_first_class_to_the_last() -> None:
    assert spread_over(0, 100, 4) == [12, 37, 62, 87] and spread_over(5, 3, 32) == [5, 6, 7]


def test_good_and_bad_images_are_told_apart_by_name(tmp_path: Path) -> None:
    names = photographs(tmp_path / "data", 4, label="a")
    noise = np.random.RandomState(0).randint(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "data/a/noise.png")
    whole = (tmp_path / "data" / names[0]).read_bytes()
    (tmp_path / "data" / names[0]).write_bytes(whole[:-30])
    (tmp_path / "data/a/notes.txt").write_text("hello")
    job = prepare(load_spec(own_world(tmp_path)), "cpu")
    f = fits_of(job)
    assert f.images == 5 and list(f.names) == [*names[1:], "a/noise.png"]
    assert max(f.distances[:3]) < 0.02 and min(f.psnr[:3]) > 30 and f.distances[3] > 0.3
    assert max(f.after["class"][:3]) <= 0.2 and len(f.before["class"]) == 4
    assert f.yield_nothing == ["a/noise.png"] and f.in_colour == 1
    assert [name for name, _ in f.unreadable] == [names[0]] and list(f.skipped) == [("a/notes.txt", "not an image, by its name")]
    assert set(f.contradicted) <= set(f.names)
    good = [1, 3]  # by name, of five
    alone = forecast(job, good)
    assert f.usable == 3 / 5 and forecast(job, good, f.usable).samples == pytest.approx(alone.samples * 3 / 5, abs=1)


@pytest.mark.parametrize("method", ["linear", "local"])
def test_published_trajectories_start_from_own_images_too(tmp_path: Path, method: str) -> None:
    photographs(tmp_path / "data", 2)
    spec = own_world(tmp_path, trajectory={"method": method, "directions": 1, "waypoints": 1, "step": 0.1})
    f = fits_of(prepare(load_spec(spec), "cpu"))
    assert not f.yield_nothing
