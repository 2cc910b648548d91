"""The choice under limits: exact answers first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reds_core.exports.choose import farthest, ranked, round_robin
from reds_core.exports.small import SmallImages, small
from reds_core.jobs.images import encode


def levels(*values: int) -> np.ndarray:
    return np.array(values, np.int32)[:, None]


@pytest.fixture
def images(tmp_path: Path) -> Iterator[SmallImages]:
    with contextlib.closing(SmallImages(tmp_path / "small")) as images:
        yield images


def indexed(images: SmallImages, rows: list[tuple[str, str, str, int, int, int]]) -> pd.DataFrame:
    """Returns an index whose small images have one level each: (key, group, role, label, place, level)."""
    for row in rows:
        images.append(bytes([row[5]]))
    table = pd.DataFrame(rows, columns=["key", "group", "role", "label", "place", "level"])
    return table.assign(small=range(len(rows)), wanted=True)


def test_the_next_one_is_always_the_farthest_from_those_before() -> None:
    # From 0: 100 is farthest; then 40, which is 40 from the nearer one; then 70, 30 away; then 10.
    assert farthest(levels(0, 10, 40, 70, 100), None, 9) == [0, 4, 2, 3, 1]
    assert farthest(levels(10, 40, 70, 100), levels(0)[0], 3) == [3, 1, 2]


def test_ties_go_to_the_first_and_equal_images_come_last() -> None:
    assert farthest(levels(50, 0, 100, 50), None, 4) == [0, 1, 2, 3]


def test_a_seed_s_own_image_comes_first_or_only_says_where_to_start(images: SmallImages) -> None:
    rows = indexed(images, [("a", "g", "variant", 0, 0, 90), ("b", "g", "seed", 0, 0, 20), ("c", "g", "variant", 0, 0, 30)])
    assert ranked(rows, images, None)["rank"].tolist() == [1, 0, 2]
    only = rows.assign(wanted=rows.role == "variant")
    assert ranked(only, images, None)["rank"].tolist() == [0, 1]
    assert ranked(only, images, 1).key.tolist() == ["a"]


def test_a_class_takes_the_first_of_every_seed_before_the_second_of_any(images: SmallImages) -> None:
    rows = indexed(
        images,
        [(f"{group}{n}", group, "variant", 0, 0, 50 * n) for group, count in (("a", 5), ("b", 1), ("c", 3)) for n in range(count)],
    )
    left = ranked(rows, images, None)
    for most, expected in ((1, [1]), (3, [1, 1, 1]), (5, [2, 1, 2]), (8, [4, 1, 3]), (99, [5, 1, 3])):
        counts = round_robin(left, most).groupby("group").size()
        assert sorted(counts.tolist()) == sorted(expected) and len(round_robin(left, most)) == sum(expected)


def test_runs_take_turns_whatever_their_sizes(images: SmallImages) -> None:
    rows = indexed(images, [(f"k{n:03d}", f"g{n}", "seed", 0, 0 if n < 90 else 1, n) for n in range(100)])
    assert round_robin(ranked(rows, images, None), 10).place.tolist().count(1) == 5


def test_each_class_has_a_limit_of_its_own(images: SmallImages) -> None:
    rows = indexed(images, [(f"k{n:02d}", f"g{n % 7}", "variant", n % 3, 0, n) for n in range(40)])
    assert round_robin(ranked(rows, images, None), 4).groupby("label").size().tolist() == [4, 4, 4]


@pytest.mark.parametrize("side", [4, 16, 40, 1024])
def test_small_images_are_means(side: int) -> None:
    half = np.zeros((side, side, 3), np.uint8)
    half[:, side // 2 :] = (10, 20, 30)
    found = np.frombuffer(small(encode(half, "png", 90)), np.uint8).reshape(min(side, 16), min(side, 16), 3)
    assert found[0, 0].tolist() == [0, 0, 0] and found[-1, -1].tolist() == [10, 20, 30]


def test_small_images_of_several_sizes_are_refused(images: SmallImages) -> None:
    images.append(b"12")
    with pytest.raises(ValueError, match="an image of 3 small pixels among those of 2"):
        images.append(b"123")
