"""Published generators that are walked in z, imported by `reds import`: each a network z [, class] -> image."""

from __future__ import annotations

from typing import ClassVar, Literal

from reds_core.generators.imported import ImportedGenerator
from reds_core.generators.latent import Walkable
from reds_core.models.config import Access
from reds_core.models.published import Architecture, BigGan, BigGanDeep, DcGan, FastGan, PgGan, R3Gan, biggan_deep


class DirectGenerator(ImportedGenerator):
    """A published generator without a mapping."""

    architecture: ClassVar[type[Architecture]]

    def load(self, access: Access) -> Walkable:
        """Returns the generator, ready to use. Raises ModelError if the file or a field does not fit."""
        architecture, network = self.opened(access, self.architecture)
        return Walkable(
            name=self.path.stem, space="z", z_dim=architecture.z_dim, dim=architecture.z_dim, latent="normal",
            class_names=self.class_names(architecture.classes), output_range=self.output_range, synthesis=network, mapping=None,
            at_truncation=network.at_truncation if isinstance(network, biggan_deep.Generator) else None, device=access.device,
        )  # fmt: skip


class BigGanGenerator(DirectGenerator):
    """A BigGAN, imported from BigGAN-PyTorch's files. It is walked in z."""

    architecture: ClassVar[type[Architecture]] = BigGan
    kind: Literal["biggan"]


class BigGanDeepGenerator(DirectGenerator):
    """A BigGAN-deep, imported from the files of Hugging Face's pytorch-pretrained-BigGAN. It is walked in z."""

    architecture: ClassVar[type[Architecture]] = BigGanDeep
    kind: Literal["biggan-deep"]


class R3GanGenerator(DirectGenerator):
    """An R3GAN, imported from its network pickles. It is walked in z."""

    architecture: ClassVar[type[Architecture]] = R3Gan
    kind: Literal["r3gan"]


class FastGanGenerator(DirectGenerator):
    """A FastGAN, imported from Projected GAN's network pickles. It is walked in z."""

    architecture: ClassVar[type[Architecture]] = FastGan
    kind: Literal["fastgan"]


class DcGanGenerator(DirectGenerator):
    """A DCGAN, imported from state dicts by the names of PyTorch's tutorial. It is walked in z."""

    architecture: ClassVar[type[Architecture]] = DcGan
    kind: Literal["dcgan"]


class PgGanGenerator(DirectGenerator):
    """A Progressive GAN, imported from pytorch_GAN_zoo's files. It is walked in z."""

    architecture: ClassVar[type[Architecture]] = PgGan
    kind: Literal["pggan"]
