"""Networks saved by `torch.export.save` (.pt2). Pickles inside are read first, by an unpickler that runs nothing.

`torch.export.load` falls back to a plain unpickler for the archive's sample inputs, which runs whatever they name; so every
member that it would unpickle must pass `weights_only` before the archive is opened at all, and compiled code is refused.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import warnings
import zipfile
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from reds_core.errors import ModelError
from reds_core.models.config import Access, Config, File, Sha256, check_file

# Every member of a plain exported program, below the archive's own folder; the last two lines are those of older versions.
HARMLESS = re.compile(
    r"^([^/]+/)?(archive_(format|version)|byteorder|version|\.data/[\w.]+|models/[\w.]+\.json|extra/[\w.]+"
    r"|data/(weights|constants)/[\w.]+|data/sample_inputs/[\w.]+\.pt"
    r"|serialized_\w+\.(json|pt))$"
)


class Exported(Config):
    """A program saved by torch.export.save."""

    kind: Literal["exported"]
    path: File = Field(description="The .pt2 file.")
    sha256: Sha256 | None = Field(None, description="The file's hash, to pin it.")

    def title(self) -> str:
        return f"the exported network {self.path.name}"

    def load(self, access: Access) -> nn.Module:
        check_file(self.path, self.sha256)
        if not access.allow_code:
            self._refuse_foreign_code()
        try:
            program = torch.export.load(self.path)
            network = move_to_device_pass(program, str(access.device)).module()
        # Whatever torch makes of a broken archive is the archive's fault.
        except Exception as error:
            reason = str(error).strip().splitlines()
            raise ModelError(f"{self.path} is no torch.export archive: {reason[0] if reason else type(error).__name__}") from error
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        batch = _fixed_batch(program)
        return network if batch is None else FixedBatch(network, batch)

    def arity(self, network: nn.Module) -> int:
        """How many inputs the network takes."""
        inner = network.network if isinstance(network, FixedBatch) else network
        return len(_inputs(inner))

    def _refuse_foreign_code(self) -> None:
        """Raises ModelError if anything inside could run code when the archive is opened."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                for member in archive.namelist():
                    if not HARMLESS.search(member):
                        raise ModelError(
                            f"{self.path} holds {member}, which is no part of a plain exported program and may be code. "
                            "Pass --allow-code if you trust the file"
                        )
                for member in _pickles(archive):
                    self._try_safely(member, archive.read(member))
        except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
            raise ModelError(f"{self.path} is no torch.export archive: {error}") from error

    def _try_safely(self, member: str, content: bytes) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about unusual pickle protocols; what matters here is an error
                torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise ModelError(
                f"{self.path} holds a pickle, {member}, that names something other than tensors: it could run code of its own. "
                "Pass --allow-code if you trust the file"
            ) from error
        except (RuntimeError, EOFError, AttributeError, IndexError) as error:
            raise ModelError(f"{self.path}: its member {member} cannot be read: {error}") from error


def _pickles(archive: zipfile.ZipFile) -> list[str]:
    """The members that torch would unpickle: by their names, or because the archive's own tables say so."""
    found = [name for name in archive.namelist() if name.endswith((".pt", ".pkl", ".pickle"))]
    for name in archive.namelist():
        if not name.endswith("_config.json"):
            continue
        folder = name.rpartition("/")[0]
        for entry in json.loads(archive.read(name)).get("config", {}).values():
            if entry.get("use_pickle", True):
                found.append(f"{folder}/{entry['path_name']}")
    return found


class FixedBatch(nn.Module):
    """A network exported for one batch size, made to take any: in chunks, the last one filled up with its own first row."""

    def __init__(self, network: nn.Module, batch: int) -> None:
        super().__init__()
        self.network = network
        self.batch = batch

    def forward(self, *inputs: Tensor) -> Tensor:
        n = len(inputs[0])
        chunks = []
        for at in range(0, n, self.batch):
            rows = [x[at : at + self.batch] for x in inputs]
            short = self.batch - len(rows[0])
            full = [torch.cat([x, x[:1].expand(short, *x.shape[1:])]) for x in rows] if short else rows
            chunks.append(self.network(*full)[: self.batch - short])
        return torch.cat(chunks)


def _inputs(network: Any) -> list[Any]:
    return [node for node in network.graph.nodes if node.op == "placeholder"]


def _fixed_batch(program: torch.export.ExportedProgram) -> int | None:
    """The one batch size that a program takes, or None if it takes any."""
    names = set(program.graph_signature.user_inputs)
    shapes = [n.meta["val"].shape for n in program.graph.nodes if n.op == "placeholder" and n.name in names]
    return shapes[0][0] if shapes and len(shapes[0]) and isinstance(shapes[0][0], int) else None
