"""Published checkpoints -> an architecture and plain weights. Nothing in them runs.

stand_ins    what the names in pickles stand for: inert data
pickles      a checkpoint's contents as data
tensors      reading and checking tensors, shared by all families
family       what a family of checkpoints is
nvidia       network pickles of stylegan2-ada-pytorch and stylegan3
rosinality   state dicts of stylegan2-pytorch
biggan       state dicts of BigGAN-PyTorch, with the settings that they were trained with

`FAMILIES` is the table: a new family is a file and a line there. What published code multiplies in at run time is multiplied in
here, once: equalised learning rates, noise strengths, spectral norms, statistics of normalisations. Every size is checked against
the file. What the architectures here cannot do is an error, never left out.
"""

from __future__ import annotations

from typing import Any

from reds_core.errors import ModelError
from reds_core.models.checkpoints.biggan import BIGGAN
from reds_core.models.checkpoints.family import Family, Settings
from reds_core.models.checkpoints.nvidia import STYLEGAN2, STYLEGAN3
from reds_core.models.checkpoints.pickles import read_checkpoint
from reds_core.models.checkpoints.rosinality import ROSINALITY
from reds_core.models.checkpoints.tensors import State
from reds_core.models.published import Architecture

FAMILIES = (STYLEGAN2, STYLEGAN3, ROSINALITY, BIGGAN)

__all__ = ["FAMILIES", "Family", "converted", "read_checkpoint"]


def converted(found: Any, settings: Settings | None) -> tuple[Family, Architecture, State]:
    """Returns a checkpoint's family, its architecture, and its weights.

    Args:
        found: its contents, as `read_checkpoint` returns them.
        settings: that it was trained with; only BigGAN-PyTorch's checkpoints need them.

    Raises:
        ModelError: it is of no known family, or a variant that is not supported.
    """
    if not isinstance(found, dict):
        raise ModelError(_unknown(type(found).__name__))
    try:
        for family in FAMILIES:
            if family.recognises(found):
                return family, *family.convert(found, settings)
    except KeyError as error:
        raise ModelError(f"the checkpoint lacks {error}: it is damaged, or a variant that is not supported") from error
    raise ModelError(_unknown(", ".join(ascii(name)[:40].strip("'") for name in list(found)[:8])))


def _unknown(contents: str) -> str:
    known = "; ".join(family.files for family in FAMILIES)
    return f"the checkpoint holds {contents}: none of the known formats. They are: {known}"
