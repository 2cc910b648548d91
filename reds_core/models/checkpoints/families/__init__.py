"""The families of published checkpoints. `FAMILIES` is the table: a new one is a file and a line there.

stylegan2     networks by the names of stylegan2-ada-pytorch
stylegan3     networks of stylegan3 and of StyleGAN-XL
tensorflow    StyleGAN2 in TensorFlow
stylegan1     StyleGAN in TensorFlow
genforce      state dicts of genforce's StyleGAN2
rosinality    state dicts of stylegan2-pytorch, and of the encoders that hold one
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
from reds_core.models.checkpoints.families.genforce import GENFORCE
from reds_core.models.checkpoints.families.pggan import PGGAN
from reds_core.models.checkpoints.families.r3gan import R3GAN
from reds_core.models.checkpoints.families.rosinality import ROSINALITY
from reds_core.models.checkpoints.families.stylegan1 import STYLEGAN1
from reds_core.models.checkpoints.families.stylegan2 import STYLEGAN2
from reds_core.models.checkpoints.families.stylegan3 import STYLEGAN3
from reds_core.models.checkpoints.families.tensorflow import TENSORFLOW

FAMILIES = (STYLEGAN2, STYLEGAN3, TENSORFLOW, STYLEGAN1, GENFORCE, ROSINALITY, BIGGAN, BIGGAN_DEEP, R3GAN, FASTGAN, DCGAN, PGGAN)

__all__ = ["FAMILIES"]
