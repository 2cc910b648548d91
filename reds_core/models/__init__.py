"""Networks from files: one file per kind; the union below is the registry.

builtin       shipped with the package            builtin.py; fashion.py, trained by reds_core.train; segmenter.py, by reds_core.train_rooms
torchscript   torch.jit.save                      torchscript.py
exported      torch.export.save                   exported.py; archive.py checks the file first
factory       a Python function of the user's     factory.py; states.py reads its weights
timm, torchvision    an architecture by its name, with weights from a file    zoo.py

Generators besides: rooms.py, a rendered test world; stylegan2.py, stylegan3.py (with style.py) and biggan.py, whose published checkpoints
`checkpoints/` reads and imported.py keeps. layout.py lays networks out in memory.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reds_core.models.builtin import Builtin
from reds_core.models.exported import Exported
from reds_core.models.factory import Factory
from reds_core.models.torchscript import TorchScript
from reds_core.models.zoo import Timm, TorchVision

OwnNetwork = TorchScript | Exported | Factory
AnyNetwork = Annotated[Builtin | TorchScript | Exported | Factory | Timm | TorchVision, Field(discriminator="kind")]

__all__ = ["AnyNetwork", "Builtin", "Exported", "Factory", "OwnNetwork", "Timm", "TorchScript", "TorchVision"]
