"""Classic augmentation: random crops, mirror images and colours, by kornia."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

from torch import nn

from reds_core.evaluation.labelled import Shape
from reds_core.types import Images

ALL = ("crops", "flips", "colours")
MARGIN = 8  # a crop moves an image by up to an eighth of its side
BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.2, 0.2, 0.2, 0.02

Augment = Callable[[Images], Images]


def classic(shape: Shape, kinds: Sequence[str] = ALL) -> Augment:
    """Returns what augments images (n, c, h, w) in [0, 1], each anew, by torch's global random numbers.

    Args:
        shape: of an image.
        kinds: which of `ALL`; mirror images do not suit digits or letters.
    """
    # kornia, when it is imported, uses what torch has declared outdated.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from kornia import augmentation as k

    channels, height, width = shape
    margin = (max(1, height // MARGIN), max(1, width // MARGIN))
    layers: list[nn.Module] = []
    if "crops" in kinds:
        layers.append(
            k.RandomCrop(
                (height, width), padding=(margin[1], margin[0]), padding_mode="reflect" if min(shape[1:]) > 1 else "replicate"
            )
        )
    if "flips" in kinds:
        layers.append(k.RandomHorizontalFlip(p=0.5))
    if "colours" in kinds and channels == 3:
        layers.append(k.ColorJiggle(BRIGHTNESS, CONTRAST, SATURATION, HUE, p=1.0))
    elif "colours" in kinds:
        layers += [
            k.RandomBrightness((1 - BRIGHTNESS, 1 + BRIGHTNESS), p=1.0),
            k.RandomContrast((1 - CONTRAST, 1 + CONTRAST), p=1.0),
        ]
    augment = nn.Sequential(*layers)
    return lambda images: augment(images).clamp(0, 1)
