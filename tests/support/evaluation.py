"""Small worlds to evaluate in: stripes across, stripes down, and squares, all noisy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from reds_core.evaluation.evaluate import Evaluation, Settings, evaluation
from reds_core.jobs.images import encode
from reds_core.storage.places import folder_at
from reds_core.types import Candidate
from tests.support.exports import NAMES, run_at, sample

SIDE = 8
NOISE = 50

Pixels = UInt8[np.ndarray, "8 8"]


def picture(label: int, number: int) -> Pixels:
    """Returns an image of a class, noisy in a way of its own."""
    draw = np.random.RandomState(1000 * label + number)
    y, x = np.mgrid[:SIDE, :SIDE] + draw.randint(0, 4)
    form = (y // 2 % 2, x // 2 % 2, (y // 2 + x // 2) % 2)[label]
    pixels: Pixels = (90 + 60 * form + NOISE * draw.randn(SIDE, SIDE)).clip(0, 255).astype(np.uint8)
    return pixels


def write_images(folder: Path, numbers: Sequence[int], names: Sequence[str] = NAMES) -> Path:
    """Writes images of each class in class folders, and returns the folder."""
    for label, name in enumerate(names):
        place = folder / name.replace("/", "_")
        place.mkdir(parents=True)
        for number in numbers:
            Image.fromarray(picture(label, number)).save(place / f"{number:04d}.png")
    return folder


def with_picture(candidate: Candidate, pixels: Pixels, **changes: Any) -> Candidate:
    """Returns a candidate that shows these pixels."""
    return replace(candidate, image=encode(pixels[:, :, None], "png", 90), **changes)


def run_of(folder: Path, label_of: Callable[[int], int] = lambda label: label, first: int = 5000, each: int = 12) -> Path:
    """Makes a run with three seeds, one a class, and variants of theirs; `label_of` says how a class is labelled."""

    def made(seed: int) -> list[Candidate]:
        label = label_of(seed % 3)
        return [
            with_picture(sample(seed, waypoint, label=label), picture(seed % 3, first + waypoint)) for waypoint in range(each + 1)
        ]

    return run_at(folder, made=made, seeds=3)


def evaluated(run: Path, folder: Path, **asked: Any) -> Evaluation:
    """Returns an evaluation of a run on `folder`'s `train` and `test`."""
    settings: dict[str, Any] = {
        "arms": ["real", "classic", "variants", "variants+classic"], "per_class": [2], "repeats": 3, "steps": 30, "model": "small",
        "group": None, "classic": ["crops"],
    }  # fmt: skip
    places = {name: str(asked.pop(name, folder / name)) for name in ("train", "test")}
    return evaluation(
        folder_at(run), places["train"], places["test"], Settings(**settings | asked), "cpu", None, False, lambda text: None
    )
