"""Networks of dnnlib.tflib, TensorFlow's side of StyleGAN: settings and variables by name, in networks within networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from reds_core.errors import ModelError
from reds_core.models.checkpoints.family import Contents
from reds_core.models.checkpoints.stand_ins import Array, Record

NETWORK = "dnnlib.tflib.network.Network"
MOST_NESTED = 4


def average_of(found: Contents) -> Record | None:
    """Returns the averaged generator of a TensorFlow pickle, or its only network, or None if it is of another kind."""
    for network in (found.get("Gs"), found.get("G"), found):
        if isinstance(network, Record) and network.kind == NETWORK and "static_kwargs" in network:
            return network
    return None


def variables_of(network: Record) -> dict[str, np.ndarray]:
    """Returns a network's variables, float32, with those of the networks in it under their names: "mapping/Dense0/weight"."""
    found = {}
    for name, value in _walk(network, "", 0):
        array = value.value if isinstance(value, Array) else np.asarray(value)
        if array.dtype.kind not in "fiu" or not array.size:
            raise ModelError(f"the variable {ascii(name)[:80]} is a {type(value).__name__} without numbers")
        found[name] = array.astype(np.float32)
    return found


def settings_of(network: Record) -> dict[str, Any]:
    """Returns the settings that a network was built with, those of the networks in it included."""
    inner = [settings_of(component) for component in _components(network).values()]
    return {k: v for settings in (network["static_kwargs"], *inner) for k, v in settings.items()}


def _walk(network: Record, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > MOST_NESTED:
        raise ModelError(f"its networks lie in each other, more than {MOST_NESTED} deep; no published network does")
    for name, value in network.get("variables", []):
        yield f"{prefix}{name}", value
    for name, component in _components(network).items():
        yield from _walk(component, f"{prefix}{name}/", depth + 1)


def _components(network: Record) -> dict[str, Record]:
    found = network.get("components", {})
    if not isinstance(found, dict) or not all(isinstance(c, Record) and c.kind == NETWORK for c in found.values()):
        raise ModelError("the components of a network are not networks")
    return found
