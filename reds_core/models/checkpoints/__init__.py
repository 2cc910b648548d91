"""Published checkpoints -> an architecture and plain weights. Nothing in them runs.

pickles      a checkpoint's contents as data
common       what all readers check and ask of a state dict
nvidia       network pickles of stylegan2-ada-pytorch and stylegan3
rosinality   state dicts of stylegan2-pytorch
biggan       state dicts of BigGAN-PyTorch, with the configuration that they were trained with

What published code multiplies in at run time is multiplied in here, once: equalised learning rates, noise strengths, spectral norms,
statistics of normalisations. Every size is checked against the file; what the architectures here do not do is an error, never left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reds_core.errors import ModelError
from reds_core.models.checkpoints.biggan import biggan
from reds_core.models.checkpoints.common import State, Tensors
from reds_core.models.checkpoints.nvidia import stylegan2, stylegan3
from reds_core.models.checkpoints.pickles import Record, read_checkpoint
from reds_core.models.checkpoints.rosinality import rosinality
from reds_core.models.published.biggan import BigGan
from reds_core.models.published.stylegan2 import StyleGan2
from reds_core.models.published.stylegan3 import StyleGan3

__all__ = ["converted", "read_checkpoint"]


def converted(found: Any, config: Mapping[str, Any] | None) -> tuple[str, StyleGan2 | StyleGan3 | BigGan, State]:
    """What a checkpoint is, by its contents: the format's name, the architecture, and its weights.

    Args:
        found: the contents, as `read_checkpoint` gives them.
        config: BigGAN-PyTorch's configuration; the other formats need none.

    Raises:
        ModelError: it is none of the known formats, or a variant of one that is not supported.
    """
    if not isinstance(found, dict):
        raise ModelError(_unknown(type(found).__name__))
    try:
        generator = found.get("G_ema")
        if isinstance(generator, Record) and generator.kind:
            if "layer_names" in generator["_modules"]["synthesis"]:
                return "stylegan3", *stylegan3(generator)
            return "stylegan2-ada-pytorch", *stylegan2(generator)
        if "g_ema" in found:
            return "rosinality", *rosinality(Tensors(found["g_ema"]), found.get("latent_avg"))
        if "blocks.0.0.conv1.weight" in found:
            if config is None:
                raise ModelError(
                    "this is a state dict of BigGAN-PyTorch, which needs the configuration it was trained with: --config FILE"
                )
            return "biggan-pytorch", *biggan(Tensors(found), config)
    except KeyError as error:
        raise ModelError(f"the checkpoint lacks {error}: it is damaged, or a variant that is not supported") from error
    raise ModelError(_unknown(", ".join(ascii(name)[:40].strip("'") for name in list(found)[:8])))


def _unknown(holds: str) -> str:
    return (
        f"the checkpoint holds {holds}: none of the known formats. They are network pickles of stylegan2-ada-pytorch and stylegan3 "
        "(G_ema), rosinality's stylegan2-pytorch (g_ema), and BigGAN-PyTorch's G_ema state dicts"
    )
