"""State dicts: tensors by name, read without executing anything, and loaded into a network only if every tensor of both fits."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from reds_core.errors import ModelError, described

MOST_NAMED = 4  # in a message, of the names that do not fit


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Returns the tensors, by name, of a safetensors file or a plain file of torch.save, without executing anything in it.

    Raises:
        ModelError: the file cannot be read, or holds more than tensors by name.
    """
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path} holds more than tensors and is not opened; save network.state_dict() as safetensors") from error
    # torch raises anything for a broken file: a KeyError for its first byte, an IndexError for an empty one.
    except Exception as error:
        raise ModelError(f"{path} cannot be read as a state dict: {described(error)}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        inside = f", but holds {_some(list(map(str, state)))}" if isinstance(state, dict) and state else ""
        raise ModelError(f"{path} is not a state dict (names -> tensors){inside}; save network.state_dict()")
    return state


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path, title: str) -> None:
    """Loads a state dict into a network. Raises ModelError that names what does not fit, or is in only one of the two."""
    try:
        missing, unknown = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        # The first line names the network's class; each other line names a tensor and its two shapes.
        shapes = [line.strip().rstrip(".") for line in str(error).splitlines()[1:]]
        raise ModelError(f"{path} does not fit {title}: {_some(shapes, '; ')}") from error
    # The count of batches seen in training is not a weight, and not every program stores it.
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    problems = [
        f"{len(names)} {what}: {_some(names)}" for what, names in (("missing", missing), ("unknown to it", unknown)) if names
    ]
    if problems:
        raise ModelError(f"{path} does not fit {title}: {'; '.join(problems)}")


def _some(names: Sequence[str], between: str = ", ") -> str:
    return between.join([*names[:MOST_NAMED], *["..."] * (len(names) > MOST_NAMED)])
