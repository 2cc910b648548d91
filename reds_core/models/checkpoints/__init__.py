"""Published checkpoints -> an architecture and plain weights. Nothing in them runs.

stand_ins    what the names in pickles stand for: inert data
pickles      a checkpoint's contents as data
tensors      reading and checking tensors, shared by all families
modules      networks that were saved whole
means        the mean w of a mapping, where a file does not hold it
family       what a family of checkpoints is
tflib        networks of TensorFlow's StyleGAN
families/    the families, and their table

What published code multiplies in at run time is multiplied in here, once: equalised learning rates, noise strengths, spectral
norms, statistics of normalisations. Every size is checked against the file, and every tensor is used or known to be of no use.
What the architectures here cannot do is an error, never left out.
"""

from __future__ import annotations

from typing import Any

from reds_core.errors import ModelError
from reds_core.models.checkpoints.families import FAMILIES
from reds_core.models.checkpoints.family import Family, Settings, warnings_of
from reds_core.models.checkpoints.pickles import read_checkpoint
from reds_core.models.checkpoints.tensors import State
from reds_core.models.published import Architecture

__all__ = ["FAMILIES", "Family", "converted", "read_checkpoint", "warnings_of"]


def converted(found: Any, settings: Settings | None) -> tuple[Family, Architecture, State]:
    """Returns a checkpoint's family, its architecture, and its weights.

    Args:
        found: its contents, as `read_checkpoint` returns them.
        settings: that it was trained with; only BigGAN-PyTorch's checkpoints need them.

    Raises:
        ModelError: it is of no known family, or a variant that is not supported.
    """
    if isinstance(found, tuple | list) and len(found) == 3:
        found = dict(zip(("G", "D", "Gs"), found, strict=True))  # as StyleGAN's pickles of TensorFlow hold them
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
