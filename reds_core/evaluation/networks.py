"""The classifier that every arm trains: a small one of our own, one of timm's, or what a function of the user's returns."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from reds_core.errors import ModelError, described
from reds_core.evaluation.labelled import Shape
from reds_core.models.config import Access
from reds_core.models.factory import import_target
from reds_core.models.states import read_state_dict
from reds_core.models.zoo import library

WIDTHS = (16, 32, 64, 128, 128)
SIDE = 4  # pixels of the last feature maps

Build = Callable[[], nn.Module]


def builder(model: str, shape: Shape, classes: int, access: Access) -> Build:
    """Returns what builds a network (n, c, h, w) -> (n, classes) with new weights, by torch's global random numbers.

    Args:
        model: small, timm:NAME, timm:NAME=FILE (a state dict) or module:function, called with `shape` and `classes`.
        shape: of an image.
        classes: how many there are.
        access: whether code of the user's may run.

    Raises:
        ModelError: there is no such network, or it does not take such images.
    """
    if model == "small":
        build: Build = lambda: small(shape, classes)  # noqa: E731
    elif model.startswith("timm:"):
        build = _timm(model.removeprefix("timm:"), shape, classes)
    elif ":" in model:
        function = import_target(model, access)
        build = lambda: function(shape, classes)  # noqa: E731
    else:
        raise ModelError(f"{model}: is no network; give small, timm:NAME or module:function", parameter="model")
    try:
        with torch.random.fork_rng(devices=[]):
            network = build()
        if not isinstance(network, nn.Module):
            raise ModelError(f"{model} returned {type(network).__name__}; a torch.nn.Module is needed", parameter="model")
        with torch.no_grad():
            scores = network.eval()(torch.zeros(2, *shape))
    except ModelError:
        raise
    # Somebody else's network: whatever it raises is shown as its own.
    except Exception as error:
        raise ModelError(f"{model}: failed on images {(2, *shape)}: {described(error, -1)}", parameter="model") from error
    if tuple(scores.shape) != (2, classes):
        raise ModelError(
            f"{model}: gives {tuple(scores.shape)} for two images; scores {(2, classes)} are needed", parameter="model"
        )
    return build


def small(shape: Shape, classes: int) -> nn.Module:
    """Returns a small network with new weights: convolutions, each followed by pooling, down to 4x4 pixels."""
    depth = max(1, min(len(WIDTHS), round(math.log2(max(1, min(shape[1:]) / SIDE)))))
    sizes = (shape[0], *WIDTHS[:depth])
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.MaxPool2d(2, ceil_mode=True), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(SIDE), nn.Flatten(), nn.Linear(sizes[-1] * SIDE**2, classes))


def _timm(name: str, shape: Shape, classes: int) -> Build:
    """Returns what builds one of timm's networks, with random weights or a file's, its last layer always new."""
    timm = library("timm")
    name, _, file = name.partition("=")
    state = read_state_dict(Path(file)) if file else {}

    def build() -> nn.Module:
        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes, in_chans=shape[0])
        own = network.state_dict()
        fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
        if state and len(fitting) < len(own) / 2:
            raise ModelError(f"{file}: only {len(fitting)} of its {len(state)} tensors fit {name}, which has {len(own)}")
        network.load_state_dict(own | fitting)
        return network

    return build
