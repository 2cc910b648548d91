"""What surrounds a generator in a file: prefixes of parallel and compiled networks, optimisers and discriminators beside it.

    {"module.NAME": ...}, {"_orig_mod.NAME": ...}     a network that was wrapped when its state dict was saved
    {"g_ema": {...}, "g": {...}, "g_optim": {...}}    networks by name, the average before what was trained last
    {"generator.NAME": ..., "discriminator.NAME": ...}, {"decoder.NAME": ..., "encoder.NAME": ...}    the same in one dictionary

Where an average lies, what was trained last is not looked at: a damaged average must not become another network in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reds_core.models.checkpoints.family import AVERAGED, TRAINED, Contents
from reds_core.models.checkpoints.stand_ins import Array, Record, Stored

WRAPPERS = ("module.", "_orig_mod.")  # before every name of a network that trained on several GPUs, or was compiled
HOLDERS = ("state_dict", "model_state_dict", "model", "decoder")
MEAN = "latent_avg"  # lies beside a state dict, and belongs to it
KEYS = (*AVERAGED, *HOLDERS, *TRAINED)
MOST_NESTED, MOST_WRAPPED = 2, 3


@dataclass(frozen=True)
class Inside:
    """What a file holds, or a part of it that may be a generator."""

    contents: Contents
    name: str = ""  # the last of the names in AVERAGED and TRAINED on the way there, the former before the latter


def parts_of(found: Any) -> Iterator[Inside]:
    """Yields what a file holds as a whole, and then every part that may be its generator, an average before others."""
    found = named(found)
    if isinstance(found, dict):
        yield from _parts(found, "", 0)


def named(found: Any) -> Any:
    """Returns a checkpoint's contents by name, whatever surrounds them."""
    if isinstance(found, tuple | list) and len(found) == 3:  # StyleGAN's pickles of TensorFlow are three networks in a row
        return dict(zip(("G", "D", "Gs"), found, strict=True))
    found = unwrapped(found)
    if not isinstance(found, dict) or _is_object(found):
        return found
    return {**found, **{k: unwrapped(found[k]) for k in KEYS if k in found}}


def unwrapped(found: Any) -> Any:
    """Returns a state dict without what wrappers put before all of its names."""
    for _ in range(MOST_WRAPPED):
        if not isinstance(found, dict) or not found or _is_object(found):
            break
        common = [w for w in WRAPPERS if all(isinstance(k, str) and k.startswith(w) for k in found)]
        if not common:
            break
        found = {k.removeprefix(common[0]): v for k, v in found.items()}
    return found


def _is_object(found: Any) -> bool:
    """Returns whether something is of a class of its own, such as a module, and no plain dictionary."""
    return isinstance(found, Record) and bool(found.kind)


def _parts(found: Contents, name: str, depth: int) -> Iterator[Inside]:
    yield Inside(found, name)
    if depth == MOST_NESTED or _is_object(found):
        return
    inner = {key: _below(found, key) for key in KEYS}
    averaged = any(inner[key] for key in AVERAGED)
    for key, part in inner.items():
        if part and not (averaged and key in TRAINED):
            beside = {MEAN: found[MEAN]} if MEAN in found and not _is_object(part) else {}
            yield from _parts({**beside, **part} if beside else part, name if key in HOLDERS else key, depth + 1)


def _below(found: Contents, key: str) -> Contents:
    """Returns what lies under a name, or has it as the first part of its names; nothing if none of it are tensors or modules."""
    held = found.get(key)
    if not isinstance(held, dict):
        held = {k.removeprefix(f"{key}."): v for k, v in found.items() if isinstance(k, str) and k.startswith(f"{key}.")}
    inner: Contents = unwrapped(held)
    return inner if _is_object(inner) or any(isinstance(v, Stored | Array | dict) for v in inner.values()) else {}
