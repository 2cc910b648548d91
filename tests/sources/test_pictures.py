"""Image files of every mode, size and orientation, in a generator's shape."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reds_core.errors import ModelError
from reds_core.sources.pictures import Resize, has_colour, looks_like_an_image, pixels_of

RGB, GREY = (3, 8, 8), (1, 8, 8)


def file_of(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def plain(colour: Any, mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new(mode, size, colour)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (file_of(plain((200, 10, 30))), (200, 10, 30)),
        (file_of(plain(77, "L")), (77, 77, 77)),
        (file_of(plain((200, 10, 30)).convert("P")), (204, 0, 51)),
        (file_of(plain((200, 10, 30, 0), "RGBA")), (255, 255, 255)),
        (file_of(plain((100, 0, 0, 255), "RGBA")), (100, 0, 0)),
        (file_of(plain((40, 0), "LA")), (255, 255, 255)),
        (file_of(Image.fromarray(np.full((8, 8), 51400, np.uint16))), (200, 200, 200)),
        (file_of(plain(1, "1")), (255, 255, 255)),
        (file_of(plain((200, 10, 30)), "WEBP", lossless=True), (200, 10, 30)),
        (file_of(plain((0, 255, 255, 0), "CMYK"), "JPEG", quality=100), (254, 0, 0)),
        (file_of(plain((120, 120, 120)), "JPEG", quality=100), (120, 120, 120)),
    ],
)
def test_every_mode_becomes_eight_bits_of_colour(content: bytes, expected: tuple[int, int, int]) -> None:
    found = pixels_of(content, RGB, "crop")
    assert found.shape == (8, 8, 3) and found.dtype == np.uint8
    np.testing.assert_allclose(found[4, 4], expected, atol=2)


def test_a_grey_generator_takes_colours_as_grey() -> None:
    content = file_of(plain((255, 0, 0)))
    assert pixels_of(content, GREY, "crop")[0, 0, 0] == 76  # ITU-R 601: 0.299 of red
    assert has_colour(content) and not has_colour(file_of(plain(3, "L")))


def test_a_photograph_is_turned_as_its_camera_says() -> None:
    picture = plain((0, 0, 0))
    picture.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    assert tuple(pixels_of(file_of(picture, exif=exif), RGB, "crop")[0, 7]) == (255, 255, 255)


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
def test_a_wide_photograph_is_cut_framed_or_stretched(resize: Resize) -> None:
    wide = np.zeros((2000, 3000), np.uint8)
    wide[:, 500:2500] = 255  # the square in the middle
    found = pixels_of(file_of(Image.fromarray(wide)), (1, 30, 30), resize)[:, :, 0]
    assert found[15, 15] == 255
    assert {"crop": found.min() > 200, "pad": found[2, 15] == 0 and found[15, 0] == 0, "stretch": found[0, 15] == 255}[resize]
    assert {"crop": found[15, 0], "pad": found[15, 6], "stretch": found[15, 6]}[resize] > 200


def test_pixels_of_the_right_size_stay_as_they_are() -> None:
    own = np.random.RandomState(0).randint(0, 256, (8, 8, 3)).astype(np.uint8)
    for resize in ("crop", "pad", "stretch"):
        np.testing.assert_array_equal(pixels_of(file_of(Image.fromarray(own)), RGB, resize), own)


def test_what_is_no_image_is_told_by_its_first_bytes_and_what_is_cut_short_when_it_is_decoded() -> None:
    whole = file_of(Image.fromarray(np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)))
    assert not looks_like_an_image(whole) and looks_like_an_image(b"") == "an empty file"
    assert looks_like_an_image(b"<html>") == "not an image"
    with pytest.raises(ModelError, match="cannot be decoded"):
        pixels_of(whole[: len(whole) // 2], RGB, "crop")
