"""Images as files: what is measured is what a reader of the file sees."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, JpegImagePlugin

from reds_core.jobs.images import ImageFormat, as_stored, decode, encode, to_bytes

FORMATS: tuple[ImageFormat, ...] = ("png", "jpg", "webp")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image", FORMATS)
def test_an_image_as_stored_is_what_a_reader_of_its_file_sees(image: ImageFormat, channels: int) -> None:
    images = torch.rand(5, channels, 9, 7, generator=torch.Generator().manual_seed(0))
    stored, files = as_stored(images, image, None)
    assert stored.shape == images.shape and stored.dtype == images.dtype
    assert bool(files) == (image != "png")  # a lossless file need not be made to know what is in it
    files = files or [encode(x, image, None) for x in to_bytes(stored)]
    read = np.stack([decode(f, channels) for f in files]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(read, (stored * 255).round().numpy())
    np.testing.assert_array_equal(stored.numpy(), np.float32(read) / np.float32(255))


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([1, 3]).flatmap(
        lambda c: arrays.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(c)))
    )
)
def test_png_keeps_every_pixel(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(decode(encode(pixels, "png", None), pixels.shape[2]), pixels)


@pytest.mark.parametrize("image", FORMATS)
def test_equal_pixels_give_equal_bytes(image: ImageFormat) -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (16, 16, 3)).astype(np.uint8)
    assert encode(pixels, image, None) == encode(np.asfortranarray(pixels), image, None)


def test_lossy_images_are_stored_at_quality_95_with_full_colour_unless_asked_otherwise() -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (16, 16, 3)).astype(np.uint8)
    for image in ("jpg", "webp"):
        assert encode(pixels, image, None) == encode(pixels, image, 95)
        assert len(encode(pixels, image, 20)) < len(encode(pixels, image, None))
    with Image.open(io.BytesIO(encode(pixels, "jpg", None))) as picture:
        assert JpegImagePlugin.get_sampling(picture) == 0  # 0 is 4:4:4


@pytest.mark.parametrize("image", ["png", "jpg"])
def test_gray_images_stay_one_channel(image: ImageFormat) -> None:
    with Image.open(io.BytesIO(encode(np.zeros((8, 8, 1), np.uint8), image, None))) as picture:
        assert picture.mode == "L"


def test_what_is_not_an_image_does_not_decode() -> None:
    with pytest.raises(OSError, match="identify"):
        decode(b"not an image", 3)
