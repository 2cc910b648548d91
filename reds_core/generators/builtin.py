"""The generator that ships with the package."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from reds_core.generators.latent import Walkable
from reds_core.models.builtin import GENERATORS, load_shipped, weights_sha256
from reds_core.models.config import Access, Config
from reds_core.models.fashion import Generator


class BuiltinGenerator(Config):
    """A generator that ships with the package."""

    kind: Literal["builtin"]
    name: Literal["fashion-mnist"] = Field(description="Its name.")
    space: Literal["z", "w"] = Field("w", description="The latent space walked.")

    def identity(self) -> dict[str, str]:
        return {"weights_sha256": weights_sha256(self.name)}

    def load(self, access: Access) -> Walkable:
        shipped = GENERATORS[self.name]
        network = load_shipped(self.name, shipped, access)
        if not isinstance(network, Generator):
            raise TypeError(f"{self.name} is registered as a generator but built as {type(network).__name__}")
        mapping, synthesis = network.mapping, network.synthesis
        w_dim = mapping.mean.shape[1]
        z_dim = mapping.embed.shape[1]
        layers = [*synthesis.first, *synthesis.second, *synthesis.to_image]
        affine = torch.cat([layer.affine.weight.detach() for layer in layers]) if self.space == "w" else None
        return Walkable(
            name=self.name, space=self.space, z_dim=z_dim, dim=w_dim if self.space == "w" else z_dim, latent="normal",
            class_names=shipped.class_names, output_range=(-1.0, 1.0), synthesis=lambda w, labels: synthesis(w),
            mapping=mapping, means=dict(enumerate(mapping.mean)), style_weight=affine, device=access.device,
        )  # fmt: skip
