"""Thumbnails: small, of few bytes, the same every time, and of few seeds of a shard."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reds_core.jobs.thumbnails import MOST_BYTES, pictured, read_thumbnails, shrunk, thumbnail, write_thumbnails
from reds_core.spec.load import load_spec
from tests.support.worlds import world


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (height, width, channels)).astype(np.uint8)


@pytest.mark.parametrize(("size", "small"), [((1024, 512), (160, 80)), ((100, 300), (53, 160)), ((160, 160), (160, 160))])
def test_large_images_are_made_smaller(size: tuple[int, int], small: tuple[int, int]) -> None:
    assert shrunk(noise(*size)).shape == (*small, 3) and shrunk(noise(*size, 1)).shape == (*small, 1)


@pytest.mark.parametrize("pixels", [noise(1024, 1024), noise(160, 160), noise(64, 64), np.zeros((512, 512, 3), np.uint8)])
def test_no_thumbnail_is_large_whatever_it_shows(pixels: np.ndarray) -> None:
    file = thumbnail(pixels)
    assert len(file) <= MOST_BYTES and file == thumbnail(pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_small_images_are_kept_as_they_are(channels: int) -> None:
    pixels = noise(28, 28, channels)
    shown = np.asarray(Image.open(io.BytesIO(thumbnail(pixels))).convert("RGB"))
    assert (shown == pixels).all()


def test_equal_thumbnails_give_equal_files_whenever_they_are_written(tmp_path: Path) -> None:
    made = [("s00000001", thumbnail(noise(8, 8))), ("s00000001-d00p-w01", b""), ("s00000001-d00p-w02", thumbnail(noise(9, 9)))]
    with (tmp_path / "a.zip").open("wb") as a, (tmp_path / "b.zip").open("wb") as b:
        write_thumbnails(a, made)
        write_thumbnails(b, made)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert read_thumbnails(tmp_path / "a.zip") == {key: file for key, file in made if file}
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["s00000001.webp", "s00000001-d00p-w02.webp"] and archive.testzip() is None


@pytest.mark.parametrize(
    ("trajectory", "most"),
    [((4, 4), 24), ((4, 12), 8), ((50, 50), 1), ((0, 1), 96)],
    ids=["usual", "long", "as many as no page can show", "seeds alone"],
)
def test_a_shard_has_thumbnails_of_as_many_seeds_as_a_page_can_show(tmp_path: Path, trajectory: tuple[int, int], most: int) -> None:
    directions, waypoints = trajectory
    given = {"directions": directions, "waypoints": waypoints} if directions else {"directions": 0}
    spec = load_spec(world(tmp_path, trajectory=given))
    assert pictured(spec, range(100, 100 + most)) == list(range(100, 100 + most))
    found = pictured(spec, range(10 * most))
    assert len(set(found)) == most and found == sorted(found) and np.diff(found).max(initial=10) <= 11
