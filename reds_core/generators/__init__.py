"""Latent -> image: one file per kind; the union below is the registry.

builtin                           ships with the package                      builtin.py
torchscript, exported, factory    a user's own network, with its options      own.py
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reds_core.generators.builtin import BuiltinGenerator
from reds_core.generators.latent import Walkable, check_images
from reds_core.generators.own import ExportedGenerator, FactoryGenerator, LatentOptions, TorchScriptGenerator

AnyGenerator = Annotated[
    BuiltinGenerator | TorchScriptGenerator | ExportedGenerator | FactoryGenerator, Field(discriminator="kind")
]

__all__ = [
    "AnyGenerator", "BuiltinGenerator", "ExportedGenerator", "FactoryGenerator", "LatentOptions", "TorchScriptGenerator",
    "Walkable", "check_images",
]  # fmt: skip
