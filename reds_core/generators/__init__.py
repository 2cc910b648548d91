"""Latent -> image. `AnyGenerator` is the table of kinds: a new one is a class and a line there.

latent     what every generator has in common: the space walked, truncation, images in [0, 1]
builtin    kind builtin: ships with the package
own        kinds torchscript, exported, factory: a user's own network, with its options
imported   kinds stylegan1, stylegan2, stylegan3: a published one with a mapping, imported by `reds import`
diffusers  kind diffusers: a consistency model in one step, walked in a subspace of its noise
direct     kinds biggan, biggan-deep, r3gan, fastgan, dcgan, pggan: the same for those that are walked in z
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reds_core.generators.builtin import BuiltinGenerator
from reds_core.generators.diffusers import DiffusersGenerator
from reds_core.generators.direct import (
    BigGanDeepGenerator,
    BigGanGenerator,
    DcGanGenerator,
    FastGanGenerator,
    PgGanGenerator,
    R3GanGenerator,
)
from reds_core.generators.imported import StyleGan1Generator, StyleGan2Generator, StyleGan3Generator
from reds_core.generators.latent import Walkable, check_images
from reds_core.generators.own import ExportedGenerator, FactoryGenerator, LatentOptions, TorchScriptGenerator

AnyGenerator = Annotated[
    BuiltinGenerator
    | TorchScriptGenerator
    | ExportedGenerator
    | FactoryGenerator
    | StyleGan1Generator
    | StyleGan2Generator
    | StyleGan3Generator
    | BigGanGenerator
    | BigGanDeepGenerator
    | R3GanGenerator
    | FastGanGenerator
    | DcGanGenerator
    | PgGanGenerator
    | DiffusersGenerator,
    Field(discriminator="kind"),
]

__all__ = [
    "AnyGenerator", "BigGanDeepGenerator", "BigGanGenerator", "BuiltinGenerator", "DcGanGenerator",
    "DiffusersGenerator", "ExportedGenerator", "FactoryGenerator", "FastGanGenerator", "LatentOptions",
    "PgGanGenerator", "R3GanGenerator", "StyleGan1Generator", "StyleGan2Generator", "StyleGan3Generator",
    "TorchScriptGenerator", "Walkable", "check_images",
]  # fmt: skip
