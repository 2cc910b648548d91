"""Networks from files, from an installed library, or shipped with the package.

`AnyNetwork` is the table of kinds: a new one is a file and a line there.

config        what every part of a spec shares: the base model, checked numbers, files and their hashes
answers       what a network answers: in single precision, and alike, when asked again and in any batch
layout        networks laid out in memory as suits the device
states        state dicts, read as data
archive       archives of torch.export, checked before they are opened
torchscript   kind torchscript: torch.jit.save
exported      kind exported: torch.export.save
factory       kind factory: a Python function of the user's
zoo           kinds timm and torchvision: an architecture by its name, weights from a file
consistency   consistency models in diffusers' format, in one step
published/    published generator architectures
shipped/      kind builtin: networks that ship with the package, and the rendered rooms
checkpoints/  published checkpoints, read as data
imported      what `reds import` wrote: weights, and their architecture beside them
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reds_core.models.exported import Exported
from reds_core.models.factory import Factory
from reds_core.models.shipped.builtin import Builtin
from reds_core.models.torchscript import TorchScript
from reds_core.models.zoo import Timm, TorchVision

OwnNetwork = TorchScript | Exported | Factory  # the kinds that can be a generator or its mapping
AnyNetwork = Annotated[Builtin | OwnNetwork | Timm | TorchVision, Field(discriminator="kind")]

__all__ = ["AnyNetwork", "Builtin", "Exported", "Factory", "OwnNetwork", "Timm", "TorchScript", "TorchVision"]
