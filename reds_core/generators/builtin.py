"""The generators that ship with the package: a trained one, and a rendered test world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from reds_core.generators.latent import Walkable, by_rows
from reds_core.models.config import Access, Config, frozen
from reds_core.models.shipped import rooms
from reds_core.models.shipped.builtin import GENERATORS, load_shipped, weights_sha256
from reds_core.models.shipped.fashion import Generator
from reds_core.types import Labels


class BuiltinGenerator(Config):
    """A generator that ships with the package."""

    kind: Literal["builtin"]
    name: Literal["fashion-mnist", "fashion-mnist-unlabelled", "rooms"] = Field(
        description="The generator's name: one that knows ten classes, one that never saw a label, or rooms, a rendered test world "
        "whose true factors are known."
    )
    space: Literal["z", "w", "w+"] = Field("w", description="The latent space walked; rooms has only z.")

    @model_validator(mode="before")
    @classmethod
    def _only_space(cls, given: Any) -> Any:
        """Fills in z for the generator that has no w."""
        return {"space": "z", **given} if isinstance(given, Mapping) and given.get("name") == "rooms" else given

    def mistakes(self) -> list[str]:
        if self.name == "rooms" and self.space != "z":
            return ["space: the generator rooms has no w; leave it out, or set it to z"]
        return []

    def identity(self) -> dict[str, str]:
        if self.name == "rooms":
            return {"renderer_version": str(rooms.RENDERER_VERSION)}
        return {"weights_sha256": weights_sha256(self.name)}

    def declared_classes(self) -> tuple[str, ...]:
        """Returns the names of its classes; none if it takes no class."""
        return GENERATORS[self.name].class_names if self.name in GENERATORS else ()

    def load(self, access: Access) -> Walkable:
        """Returns the generator, ready to use."""
        return _rooms(access) if self.name == "rooms" else _fashion(self.name, self.space, access)


def _rooms(access: Access) -> Walkable:
    network = rooms.Rooms()
    frozen(network, access.device)
    return Walkable(
        name="rooms", space="z", z_dim=rooms.DIM, dim=rooms.DIM, latent="normal", class_names=(), output_range=(0.0, 1.0),
        synthesis=lambda z, labels: network(z), mapping=None, device=access.device, truth=lambda z, labels: network.factors(z),
    )  # fmt: skip


def _fashion(name: str, space: Literal["z", "w", "w+"], access: Access) -> Walkable:
    shipped = GENERATORS[name]
    network = load_shipped(name, shipped, access)
    if not isinstance(network, Generator):
        raise TypeError(f"{name} is registered as a generator but built as {type(network).__name__}")
    mapping, synthesis = network.mapping, network.synthesis
    w_dim = mapping.mean.shape[1]
    z_dim = mapping.z_dim
    layers = [*synthesis.first, *synthesis.second, *synthesis.to_image]
    rows = synthesis.rows if space == "w+" else 1
    affine = torch.cat([layer.affine.weight.detach() for layer in layers]) if space == "w" else None

    def repeated(z: Tensor, labels: Labels) -> Tensor:
        w: Tensor = mapping(z, labels)
        return w if rows == 1 else w[:, None].expand(-1, rows, -1)

    def raw(w: Tensor, labels: Labels) -> Tensor:
        images: Tensor = synthesis(w)
        return images

    return Walkable(
        name=name, space=space, z_dim=z_dim, dim=z_dim if space == "z" else rows * w_dim, rows=rows, latent="normal",
        class_names=shipped.class_names, output_range=(-1.0, 1.0),
        synthesis=by_rows(raw, rows, repeat=False) if rows > 1 else raw,
        mapping=repeated, means=dict(enumerate(mapping.mean)), style_weight=affine, device=access.device,
    )  # fmt: skip
