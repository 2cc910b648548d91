"""Latent -> image. `AnyGenerator` is the table of kinds: a new one is a class and a line there.

latent     what every generator has in common: the space walked, truncation, images in [0, 1]
builtin    kind builtin: ships with the package
own        kinds torchscript, exported, factory: a user's own network, with its options
imported   kinds stylegan2, stylegan3, biggan: a published one, imported by `reds import`
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reds_core.generators.builtin import BuiltinGenerator
from reds_core.generators.imported import BigGanGenerator, StyleGan2Generator, StyleGan3Generator
from reds_core.generators.latent import Walkable, check_images
from reds_core.generators.own import ExportedGenerator, FactoryGenerator, LatentOptions, TorchScriptGenerator

AnyGenerator = Annotated[
    BuiltinGenerator
    | TorchScriptGenerator
    | ExportedGenerator
    | FactoryGenerator
    | StyleGan2Generator
    | StyleGan3Generator
    | BigGanGenerator,
    Field(discriminator="kind"),
]

__all__ = [
    "AnyGenerator", "BigGanGenerator", "BuiltinGenerator", "ExportedGenerator", "FactoryGenerator", "LatentOptions",
    "StyleGan2Generator", "StyleGan3Generator", "TorchScriptGenerator", "Walkable", "check_images",
]  # fmt: skip
