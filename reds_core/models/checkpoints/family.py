"""A family of published checkpoints: how to recognise one, and how to make an architecture and plain weights of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reds_core.models.checkpoints.stand_ins import Record
from reds_core.models.checkpoints.tensors import State
from reds_core.models.published import Architecture

Contents = Mapping[Any, Any]  # of a checkpoint, as `read_checkpoint` returns them
Settings = Mapping[str, Any]  # that a checkpoint was trained with, from a JSON file beside it

NVIDIA = "NVIDIA publishes its checkpoints for non-commercial use; what was trained by others is theirs to license."
# What the average of the weights over training is called, and the weights at its end.
AVERAGED = ("G_ema", "g_ema", "Gs", "avgG", "generator_smooth", "generator_ema", "netG_ema", "params_ema", "model_ema", "ema")
TRAINED = ("G", "g", "netG", "generator", "params")

NOT_AVERAGED = "it holds only {name}, the weights at the end of training, not their average, which draws better images"


@dataclass(frozen=True)
class Family:
    """What one family's file exports, and FAMILIES lists."""

    name: str  # stands in what `reds import` writes
    files: str  # what its files are, for messages
    licence: str  # for people
    recognises: Callable[[Contents], bool]
    convert: Callable[[Contents, Settings | None], tuple[Architecture, State]]  # raises ModelError or KeyError
    notes: Callable[[Contents], list[str]] = lambda found: []  # what a user should know, beside `warnings_of`


def generator_of(found: Contents) -> Record | None:
    """Returns the network in a pickle of modules, its average if it has one; or None if there is none."""
    for name in (*AVERAGED, *TRAINED):
        g = found.get(name)
        if is_module(g):
            return g
    return found if is_module(found) else None  # type: ignore[return-value]


def is_module(found: Any) -> bool:
    """Returns whether something is a network that was saved whole."""
    return isinstance(found, Record) and "_modules" in found


def warnings_of(found: Contents) -> list[str]:
    """Returns what a user should know of a checkpoint that is read all the same."""
    if is_module(found) or any(found.get(name) for name in AVERAGED):
        return []
    for name in TRAINED:
        if isinstance(found.get(name), dict) and found[name]:
            return [NOT_AVERAGED.format(name=name)]
    return []
