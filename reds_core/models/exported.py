"""Networks saved by `torch.export.save` (.pt2), opened only once `archive.py` has found that nothing in them can run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from reds_core.errors import ModelError, described
from reds_core.models.archive import checked_copy
from reds_core.models.config import Access, File, FromFile, check_file, frozen

ANY_BATCH = 2**20  # larger than any batch of images


class Exported(FromFile):
    """A network saved by torch.export.save."""

    kind: Literal["exported"]
    path: File = Field(description="The .pt2 file that torch.export.save wrote.")

    def title(self) -> str:
        return f"the exported network {self.path.name}"

    def load(self, access: Access) -> nn.Module:
        check_file(self.path, self.sha256)
        try:
            with self.path.open("rb") if access.allow_code else checked_copy(self.path) as file, _torch_silent():
                program = torch.export.load(file)
            module = move_to_device_pass(program, str(access.device)).module()
            sizes = _batch_sizes(program)
        except ModelError:
            raise
        # Whatever torch raises for a broken archive is the archive's fault.
        except Exception as error:
            raise ModelError(
                f"{self.path} is not a torch.export archive that torch {torch.__version__} can read: {described(error)}"
            ) from error
        network = frozen(module, access.device)
        return network if sizes is None else InChunks(network, sizes)

    def arity(self, network: nn.Module) -> int:
        """Returns how many inputs the network takes."""
        inner = network.network if isinstance(network, InChunks) else network
        return len(_inputs(inner))


class InChunks(nn.Module):
    """Takes any batch size, for a network exported for some of them (a Python range): in chunks, filled up with the first row."""

    def __init__(self, network: nn.Module, sizes: range) -> None:
        super().__init__()
        self.network = network
        self.sizes = sizes

    def forward(self, *inputs: Tensor) -> Tensor:
        chunks = []
        for rows in zip(*(x.split(self.sizes[-1]) for x in inputs), strict=True):
            n = len(rows[0])
            short = max(self.sizes[0], n + -n % self.sizes.step) - n
            full = [torch.cat([x, x[:1].expand(short, *x.shape[1:])]) for x in rows] if short else rows
            out = self.network(*full)
            if not isinstance(out, Tensor):
                raise ModelError(f"an exported network returns {type(out).__name__}; a tensor is needed")
            chunks.append(out[:n] if short else out)
        return torch.cat(chunks)


@contextlib.contextmanager
def _torch_silent() -> Iterator[None]:
    """Silences torch's loggers: what it raises it also logs, as a warning with a traceback."""
    loggers = [
        logging.getLogger(name) for name in ("torch.export", "torch.export.pt2_archive._package", "torch._export.serde.serialize")
    ]
    before = [logger.disabled for logger in loggers]
    try:
        for logger in loggers:
            logger.disabled = True
        yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


def _inputs(network: Any) -> list[Any]:
    return [node for node in network.graph.nodes if node.op == "placeholder"]


def _batch_sizes(program: torch.export.ExportedProgram) -> range | None:
    """Returns the batch sizes that a program takes, or None if it takes any."""
    names = set(program.graph_signature.user_inputs)
    shapes = [n.meta["val"].shape for n in program.graph.nodes if n.op == "placeholder" and n.name in names]
    if not shapes or not len(shapes[0]):
        return None
    size = shapes[0][0]
    if isinstance(size, int):
        return range(size, size + 1)
    expression = size.node.expr
    # A size that must be a multiple of 4 is written 4*s; anything more involved is left to torch's own message.
    (symbol,) = expression.free_symbols if len(expression.free_symbols) == 1 else (expression,)
    step = expression.coeff(symbol) if symbol != expression else 1
    allowed = program.range_constraints.get(symbol)
    if allowed is None or expression != step * symbol:
        return None
    # torch itself writes 2 for a size that may also be 1.
    least = int(allowed.lower) if allowed.lower > 2 else 1
    most = int(allowed.upper) if allowed.upper.is_Integer else ANY_BATCH
    return None if (least, most, step) == (1, ANY_BATCH, 1) else range(int(step) * least, int(step) * most + 1, int(step))
