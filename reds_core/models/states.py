"""State dicts: tensors by name, read without executing anything, and fitted to a network without leaving anything open."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from reds_core.errors import ModelError

NAMED = 4  # of the names that do not fit


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a safetensors file or a plain file of torch.save. Nothing inside is executed."""
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path} holds more than tensors and is not opened; save network.state_dict() as safetensors") from error
    # torch raises anything for a broken file: a KeyError for its first byte, an IndexError for an empty one.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(f"{path} cannot be read as a state dict: {type(error).__name__}: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        inside = f", but holds {_some(list(map(str, state)))}" if isinstance(state, dict) and state else ""
        raise ModelError(f"{path} is no state dict (names -> tensors){inside}; save network.state_dict()")
    return state


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path, title: str) -> None:
    """Loads a state dict into a network, every tensor of both. Raises ModelError that names what does not fit."""
    try:
        missing, unknown = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        # The first line names the network's class; the others a tensor and its two shapes each.
        shapes = [line.strip().rstrip(".") for line in str(error).splitlines()[1:]]
        raise ModelError(f"{path} does not fit {title}: {_some(shapes, '; ')}") from error
    # How many batches were seen while training: no weight, and not stored by every program.
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    problems = [
        f"{len(names)} {what}: {_some(names)}" for what, names in (("missing", missing), ("unknown to it", unknown)) if names
    ]
    if problems:
        raise ModelError(f"{path} does not fit {title}: {'; '.join(problems)}")


def _some(names: Sequence[str], between: str = ", ") -> str:
    return between.join([*names[:NAMED], *["..."] * (len(names) > NAMED)])
