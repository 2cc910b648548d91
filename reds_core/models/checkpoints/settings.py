"""The settings that a checkpoint was trained with, from a file beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reds_core.errors import ModelError
from reds_core.models.checkpoints.pickles import read_checkpoint

PLAIN = (str, int, float, bool, type(None), list)


def read_settings(path: Path) -> dict[str, Any]:
    """Returns settings by name, from a JSON file or from a checkpoint of BigGAN-PyTorch, which holds them as `config`.

    Raises:
        ModelError: the file cannot be read, or holds no settings.
    """
    if path.suffix.lower() == ".json":
        return _json(path)
    found = read_checkpoint(path)
    config = found.get("config") if isinstance(found, dict) else None
    if not isinstance(config, dict):
        raise ModelError(
            f"{path} holds no config: take the state_dict.pth that BigGAN-PyTorch writes beside G_ema.pth, or a JSON file"
        )
    return {k: v for k, v in config.items() if isinstance(v, PLAIN)}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} must map names to values")
    return found
