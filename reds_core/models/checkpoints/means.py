"""The mean w of a mapping, for checkpoints that do not hold it."""

from __future__ import annotations

import torch
from torch import Tensor

from reds_core.models.checkpoints.tensors import State
from reds_core.models.published.stylegan2 import StyleGan2
from reds_core.models.published.stylegan3 import StyleGan3

MEAN_LATENTS, BLOCK = 10_000, 100


def measured_mean(architecture: StyleGan2 | StyleGan3, state: State) -> Tensor:
    """Returns the mean w, (w,), over latents of a fixed stream, with every class in turn."""
    with torch.device("meta"):  # sizes that the file claims take no memory; what it holds is put in their place
        mapping = architecture.mapping()
    held = {k.removeprefix("mapping."): v for k, v in state.items() if k.startswith("mapping.")}
    mapping.load_state_dict(held, strict=False, assign=True)
    draw, labels = torch.Generator().manual_seed(0), torch.arange(BLOCK) % max(1, architecture.classes)
    with torch.no_grad():
        blocks = [
            mapping(torch.randn(BLOCK, architecture.z_dim, generator=draw), labels).mean(0) for _ in range(MEAN_LATENTS // BLOCK)
        ]
    return torch.stack(blocks).mean(0)
