"""A consistency model in diffusers' format: noise -> image in one step, walked in a subspace of the noise found at every seed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from reds_core.errors import ModelError
from reds_core.generators.latent import Walkable
from reds_core.models.config import Access, ClassName, Count, File, FromFile
from reds_core.models.consistency import open_consistency, read_plan, weights_in


class DiffusersGenerator(FromFile):
    """A small consistency model in diffusers' format, from a local folder (the extra `diffusers`). It is walked in the noise."""

    kind: Literal["diffusers"]
    path: Annotated[File, AfterValidator(weights_in)] = Field(
        description="The folder of a ConsistencyModelPipeline, or of a UNet2DModel alone, or the file of the U-Net's weights."
    )
    classes: Annotated[tuple[ClassName, ...], Field(min_length=1)] | None = Field(
        None, description="The classes' names, in the network's order; their numbers if absent."
    )
    subspace: Annotated[Count, Field(ge=64, le=256)] = Field(
        128, description="How many directions of the noise a seed is walked in: those that its image reacts to most."
    )

    def identity(self) -> dict[str, str]:
        text = json.dumps(asdict(read_plan(self.path)), sort_keys=True)
        return {"architecture_sha256": hashlib.sha256(text.encode()).hexdigest()}

    def declared_classes(self) -> tuple[str, ...]:
        """Returns the names of its classes; none if it takes no class. Raises ModelError if its files do not say them."""
        count = read_plan(self.path).classes
        if self.classes is not None and len(self.classes) != count:
            raise ModelError(f"generator.classes names {len(self.classes)} classes; {self.path.name} has {count or 'none'}")
        return self.classes or tuple(map(str, range(count)))

    def load(self, access: Access) -> Walkable:
        """Returns the generator, ready to use. Raises ModelError if the folder or a field does not fit."""
        names = self.declared_classes()
        network = open_consistency(self.path, self.sha256, access)
        size = network.plan.size
        return Walkable(
            name=_title(self.path), space="z", z_dim=size, dim=size, latent="normal", class_names=names, output_range=(-1.0, 1.0),
            synthesis=network, mapping=None, subspace=min(self.subspace, size), device=access.device,
        )  # fmt: skip


def _title(weights: Path) -> str:
    """Returns what a model is called: its folder, not the file in it, whose name is always the same."""
    folder = weights.parent
    return folder.parent.name if folder.name == "unet" else folder.name
