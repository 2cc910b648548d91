"""Published generator architectures, in plain PyTorch. `Architecture` is the table: a new one is a file and a line there.

limits        the numbers that an architecture may have
style         what StyleGAN2 and StyleGAN3 share: mapping, modulation
stylegan1     StyleGAN
stylegan2     StyleGAN2
stylegan3     StyleGAN3, configurations T and R, and StyleGAN-XL
biggan        BigGAN
biggan_deep   BigGAN-deep
r3gan         R3GAN
fastgan       FastGAN
dcgan         DCGAN
pggan         Progressive GAN

An architecture is a config that builds its network without weights: `mapping` and `synthesis`, or for one that is walked in z the
generator itself. `layout` is how its weights are laid out in memory.
"""

from __future__ import annotations

from reds_core.models.published.biggan import BigGan
from reds_core.models.published.biggan_deep import BigGanDeep
from reds_core.models.published.dcgan import DcGan
from reds_core.models.published.fastgan import FastGan
from reds_core.models.published.pggan import PgGan
from reds_core.models.published.r3gan import R3Gan
from reds_core.models.published.stylegan1 import StyleGan1
from reds_core.models.published.stylegan2 import StyleGan2
from reds_core.models.published.stylegan3 import StyleGan3

Architecture = StyleGan1 | StyleGan2 | StyleGan3 | BigGan | BigGanDeep | R3Gan | FastGan | DcGan | PgGan

__all__ = ["Architecture", "BigGan", "BigGanDeep", "DcGan", "FastGan", "PgGan", "R3Gan", "StyleGan1", "StyleGan2", "StyleGan3"]
