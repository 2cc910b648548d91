"""Networks of dnnlib.tflib, TensorFlow's side of StyleGAN: settings and variables by name, in networks within networks."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from reds_core.errors import ModelError
from reds_core.models.checkpoints.family import Contents
from reds_core.models.checkpoints.identify import NotSupportedError
from reds_core.models.checkpoints.stand_ins import Array, Record

NETWORK = "dnnlib.tflib.network.Network"
MOST_NESTED, MOST_BLOCKS = 4, 12


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


def settings_of(network: Record, only: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    """Returns the settings that a network and those in it were built with.

    Raises:
        NotSupportedError: one is not among the values that `only` has for it.
    """
    parts = (network, *_components(network).values())
    told = {k: v for part in parts for k, v in part["static_kwargs"].items()}
    for key, allowed in only.items():
        if key in told and told[key] not in allowed:
            raise NotSupportedError(f"its setting {key} is {ascii(told[key])[:60]}; only {allowed[0]} is supported")
    return told


def blocks_of(variables: Mapping[str, np.ndarray]) -> list[str]:
    """Returns what the blocks of a synthesis are called, such as 8x8, from the smallest images up."""
    found = {m[1] for m in map(re.compile(r"synthesis/(\d{1,5}x\d{1,5})/").match, variables) if m}
    if len(found) > MOST_BLOCKS:
        raise NotSupportedError(f"it has {len(found)} blocks; no published network has more than {MOST_BLOCKS}")
    return sorted(found, key=lambda name: math.prod(map(int, name.split("x"))))


def has_style_mod(network: Record) -> bool:
    """Returns whether styles scale and shift normalised channels, as in the first StyleGAN, and not the weights."""
    return any("StyleMod" in name for name, _ in _walk(network, "", 0) if isinstance(name, str))


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
