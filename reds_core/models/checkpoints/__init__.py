"""Published checkpoints -> an architecture and plain weights. Nothing in them runs.

stand_ins    what the names in pickles stand for: inert data
identify     what a file is that is not read, and the way round
pickles      a checkpoint's contents as data
settings     the settings that a checkpoint was trained with
tensors      reading and checking tensors, shared by all families
modules      networks that were saved whole
layers       fully connected layers, as NVIDIA's networks have them
means        the mean w of a mapping, where a file does not hold it
family       what a family of checkpoints is
containers   what surrounds a generator in a file
tflib        networks of TensorFlow's StyleGAN
families/    the families, and their table

What published code multiplies in at run time is multiplied in here, once: equalised learning rates, noise strengths, spectral
norms, statistics of normalisations. Every size is checked against the file, and every tensor is used or known to be of no use.
What the architectures here cannot do is an error, never left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reds_core.errors import ModelError
from reds_core.models.checkpoints.containers import named, parts_of
from reds_core.models.checkpoints.families import FAMILIES
from reds_core.models.checkpoints.family import NOT_AVERAGED, TRAINED, Contents, Family, Settings, generator_of, warnings_of
from reds_core.models.checkpoints.identify import NotSupportedError, by_names, way_round
from reds_core.models.checkpoints.pickles import read_checkpoint
from reds_core.models.checkpoints.settings import read_settings
from reds_core.models.checkpoints.tensors import State
from reds_core.models.published import Architecture

__all__ = [
    "FAMILIES", "Family", "NotSupportedError", "converted", "notes_of", "read_checkpoint", "read_settings", "way_round",
]  # fmt: skip

MOST_NAMED = 4  # in a message, of what a file holds


def converted(found: Any, settings: Settings | None) -> tuple[Family, Architecture, State]:
    """Returns a checkpoint's family, its architecture, and its weights.

    Args:
        found: its contents, as `read_checkpoint` returns them.
        settings: that it was trained with; only BigGAN-PyTorch's checkpoints need them.

    Raises:
        NotSupportedError: it is of no known family, or a variant that is not supported.
        ModelError: it is damaged, or `settings` do not belong to it.
    """
    found = named(found)
    if not isinstance(found, dict):
        raise NotSupportedError(f"it holds a {type(found).__name__}, which is none of the formats that are read")
    try:
        for family, contents, _ in _recognised(found):
            return family, *family.convert(contents, settings)
    except KeyError as error:
        raise ModelError(f"the checkpoint lacks {error}: it is damaged, or a variant that is not supported") from error
    what = by_names(found)
    if what is not None:
        raise NotSupportedError(f"it looks like {what}, which is not read")
    network = generator_of(found)
    if network is not None:
        raise NotSupportedError(f"its network is of the class {ascii(network.kind)[1:-1][:80]}, which is none of those read")
    held = ", ".join([ascii(name)[:40].strip("'") for name in list(found)[:MOST_NAMED]] + ["..."] * (len(found) > MOST_NAMED))
    raise NotSupportedError(f"it holds {held}: none of the formats that are read")


def notes_of(found: Any) -> list[str]:
    """Returns what a user should know of a checkpoint that is read all the same."""
    for family, contents, name in _recognised(found):
        trained = [NOT_AVERAGED.format(name=name)] if name in TRAINED else []
        return [*trained, *warnings_of(contents), *family.notes(contents)]
    return []


def _recognised(found: Any) -> Iterator[tuple[Family, Contents, str]]:
    """Yields the families that recognise a file or a part of it, with the part and its name."""
    for inside in parts_of(found):
        for family in FAMILIES:
            if family.recognises(inside.contents):
                yield family, inside.contents, inside.name
