"""Networks saved by `torch.jit.save`: programs of tensors. They run no Python and no commands, but can read and write files."""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from reds_core.errors import ModelError
from reds_core.models.config import Access, File, FromFile, check_file, frozen


class TorchScript(FromFile):
    """A network saved by torch.jit.save."""

    kind: Literal["torchscript"]
    path: File = Field(description="The .pt file that torch.jit.save wrote.")

    def title(self) -> str:
        return f"the TorchScript network {self.path.name}"

    def load(self, access: Access) -> nn.Module:
        check_file(self.path, self.sha256)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, about TorchScript's future
                network: nn.Module = torch.jit.load(str(self.path), map_location=access.device)
        except (RuntimeError, ValueError, OSError) as error:
            # After the first sentence comes torch's guess that the file is corrupted.
            reason = str(error).strip().partition(". This is an internal")[0].partition("\n")[0]
            raise ModelError(
                f"{self.path} is not a TorchScript file: {reason}; write it with "
                "torch.jit.save(torch.jit.trace(network, example), path)"
            ) from error
        if not hasattr(network, "forward"):
            raise ModelError(f"{self.path} has no forward method; export the network's call as `forward`")
        return frozen(network, access.device)

    def arity(self, network: nn.Module) -> int:
        """Returns how many inputs the network takes."""
        return len(network.forward.schema.arguments) - 1  # type: ignore[attr-defined]
