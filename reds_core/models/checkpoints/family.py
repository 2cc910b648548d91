"""A family of published checkpoints: how to recognise one, and how to make an architecture and plain weights of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reds_core.models.checkpoints.tensors import State
from reds_core.models.published import Architecture

Contents = Mapping[Any, Any]  # of a checkpoint, as `read_checkpoint` returns them
Settings = Mapping[str, Any]  # that a checkpoint was trained with, from a JSON file beside it


@dataclass(frozen=True)
class Family:
    """What one family's file exports, and FAMILIES lists."""

    name: str  # stands in what `reds import` writes
    files: str  # what its files are, and the key that tells them, for messages
    licence: str  # for people
    recognises: Callable[[Contents], bool]
    convert: Callable[[Contents, Settings | None], tuple[Architecture, State]]  # raises ModelError or KeyError
