"""Networks that were saved whole: a tree of modules, read as tensors by their dotted names and the modules' own settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from reds_core.errors import ModelError
from reds_core.models.checkpoints.stand_ins import Array, Record, Stored
from reds_core.models.checkpoints.tensors import Tensors

MOST_MODULES, MOST_NESTED = 20_000, 32  # far above everything published; a file may hold a module inside itself


class Modules(Tensors):
    """The tensors of a tree of modules, and `modules`, its records, both by their dotted names; the root's name is empty."""

    def __init__(self, root: Record) -> None:
        self.modules: dict[str, Record] = {}
        for name, module in _walk("", root, 0):
            if len(self.modules) == MOST_MODULES:
                raise ModelError(f"it holds more than {MOST_MODULES} modules: it was made to fill the memory")
            self.modules[name] = module
        super().__init__({
            f"{name}.{key}".lstrip("."): value
            for name, module in self.modules.items() for part in ("_parameters", "_buffers")
            for key, value in _of(module, part).items() if isinstance(value, Stored)
        })  # fmt: skip

    def children(self, name: str) -> list[str]:
        """Returns the names of a module's own modules, in their order."""
        return [key for key, child in _of(self.modules[name], "_modules").items() if child is not None]

    def has(self, name: str) -> bool:
        """Returns whether there is such a module."""
        return name in self.modules

    def setting(self, name: str, key: str) -> Any:
        """Returns a number, a text or nothing that a module has as an attribute.

        Raises:
            KeyError: the module or the attribute is missing.
            ModelError: it is something else, which need not even be finite to print.
        """
        return plain(self.modules[name][key], key)


def plain(value: Any, key: str) -> Any:
    """Returns a number, a text or nothing as it is. Raises ModelError for anything else."""
    if isinstance(value, Array):  # NumPy's arrays of one number, or of equal ones, such as both sides of a square
        flat = np.unique(value.value)
        value = flat[0].item() if len(flat) == 1 else value
    if type(value) not in (int, float, str, bool, type(None)):
        raise ModelError(f"{key} of a module is a {type(value).__name__}; it should be a number or a text")
    return value


def _walk(name: str, module: Record, depth: int) -> Iterator[tuple[str, Record]]:
    if depth > MOST_NESTED:
        raise ModelError(f"its modules lie in each other, more than {MOST_NESTED} deep; no published network does")
    yield name, module
    for key, child in _of(module, "_modules").items():
        if child is not None:
            if not isinstance(child, Record) or not isinstance(key, str):
                raise ModelError(f"a module of {name or 'the network'} is a {type(child).__name__}")
            yield from _walk(f"{name}.{key}".lstrip("."), child, depth + 1)


def _of(module: Record, part: str) -> dict[Any, Any]:
    found = module.get(part, {})
    if not isinstance(found, dict):
        raise ModelError(f"{part} of a module is a {type(found).__name__}")
    return found
