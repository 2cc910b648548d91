"""The families of published checkpoints. `FAMILIES` is the table: a new one is a file and a line there.

stylegan/     the families of StyleGAN
biggan        state dicts of BigGAN-PyTorch, with the settings that they were trained with
biggan_deep   state dicts of pytorch-pretrained-BigGAN
r3gan         network pickles of R3GAN
fastgan       network pickles of Projected GAN's FastGAN
dcgan         state dicts of DCGAN by the names of PyTorch's tutorial
pggan         checkpoints of pytorch_GAN_zoo's Progressive GAN
"""

from __future__ import annotations

from reds_core.models.checkpoints.families.biggan import BIGGAN
from reds_core.models.checkpoints.families.biggan_deep import BIGGAN_DEEP
from reds_core.models.checkpoints.families.dcgan import DCGAN
from reds_core.models.checkpoints.families.fastgan import FASTGAN
from reds_core.models.checkpoints.families.pggan import PGGAN
from reds_core.models.checkpoints.families.r3gan import R3GAN
from reds_core.models.checkpoints.families.stylegan.genforce import GENFORCE
from reds_core.models.checkpoints.families.stylegan.mmagic import MMAGIC
from reds_core.models.checkpoints.families.stylegan.rosinality import ROSINALITY
from reds_core.models.checkpoints.families.stylegan.stylegan1 import STYLEGAN1
from reds_core.models.checkpoints.families.stylegan.stylegan2 import STYLEGAN2
from reds_core.models.checkpoints.families.stylegan.stylegan3 import STYLEGAN3
from reds_core.models.checkpoints.families.stylegan.tensorflow import TENSORFLOW

FAMILIES = (
    STYLEGAN2,
    STYLEGAN3,
    TENSORFLOW,
    STYLEGAN1,
    GENFORCE,
    ROSINALITY,
    MMAGIC,
    BIGGAN,
    BIGGAN_DEEP,
    R3GAN,
    FASTGAN,
    DCGAN,
    PGGAN,
)

__all__ = ["FAMILIES"]
