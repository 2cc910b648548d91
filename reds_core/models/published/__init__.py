"""Published generator architectures, in plain PyTorch. `Architecture` is the table: a new one is a file and a line there.

limits      the numbers that an architecture may have
style       what StyleGAN2 and StyleGAN3 share: mapping, modulation
stylegan2   StyleGAN2
stylegan3   StyleGAN3, configurations T and R
biggan      BigGAN

An architecture is a config that builds its network without weights: `mapping` and `synthesis`, or for a BigGAN the generator
itself. `layout` is how its weights are laid out in memory.
"""

from __future__ import annotations

from reds_core.models.published.biggan import BigGan
from reds_core.models.published.stylegan2 import StyleGan2
from reds_core.models.published.stylegan3 import StyleGan3

Architecture = StyleGan2 | StyleGan3 | BigGan

__all__ = ["Architecture", "BigGan", "StyleGan2", "StyleGan3"]
