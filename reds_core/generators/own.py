"""A user's own generator: any latent-to-image network from a file or a function, with or without a mapping of its own."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from reds_core.errors import ModelError
from reds_core.generators.latent import MEAN_SEEDS, Layers, Walkable, draw
from reds_core.models import Exported, Factory, OwnNetwork, TorchScript
from reds_core.models.config import Access, Config, Count, Number
from reds_core.models.layout import BestLayout
from reds_core.types import Labels

Size = Annotated[Count, Field(ge=1)]


class LatentOptions(Config):
    """What a file cannot say of itself: the latent it takes and the images it gives."""

    latent_dim: Size = Field(description="Size of the sampled latent z.")
    latent: Literal["normal", "uniform"] = Field("normal", description="normal, or uniform in [-1, 1].")
    output_range: tuple[Number, Number] = Field(description="[lo, hi] of the network's pixels.")
    classes: Size | Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        None, description="For a conditional generator: how many classes, or their names."
    )
    image_shape: tuple[Size, Size, Size] | None = Field(None, description="[c, h, w], for a network with flat outputs.")
    mapping: Annotated[OwnNetwork, Field(discriminator="kind")] | None = Field(
        None, description="A second network z [, class] -> w; the generator then takes w."
    )
    space: Literal["z", "w", "w+"] | None = Field(None, description="The space walked; w with a mapping, else z.")

    def mistakes(self) -> list[str]:
        found = []
        if self.output_range[0] >= self.output_range[1]:
            found.append(f"output_range {list(self.output_range)} is empty: it is [lo, hi]")
        if self.space in ("w", "w+") and not self.mapping:
            found.append(f"space {self.space} needs a mapping; without one the space is z")
        return found

    def class_names(self) -> tuple[str, ...]:
        """The declared classes' names; numbers where only a count was given."""
        if isinstance(self.classes, int):
            return tuple(str(c) for c in range(self.classes))
        return self.classes or ()


class TorchScriptGenerator(TorchScript, LatentOptions):
    """A generator saved by torch.jit.save: (n, d) latents [, (n,) classes] -> (n, c, h, w) images."""

    def load(self, access: Access) -> Walkable:  # type: ignore[override]
        return assemble(self.path.stem, TorchScript.load(self, access), self, self, access)


class ExportedGenerator(Exported, LatentOptions):
    """A generator saved by torch.export.save: (n, d) latents [, (n,) classes] -> (n, c, h, w) images."""

    def load(self, access: Access) -> Walkable:  # type: ignore[override]
        return assemble(self.path.stem, Exported.load(self, access), self, self, access)


class FactoryGenerator(Factory, LatentOptions):
    """A generator that a Python function of yours returns; needs --allow-code."""

    def mistakes(self) -> list[str]:
        return [*Factory.mistakes(self), *LatentOptions.mistakes(self)]

    def load(self, access: Access) -> Walkable:  # type: ignore[override]
        return assemble(self.target.partition(":")[2], Factory.load(self, access), self, self, access)


def assemble(name: str, network: nn.Module, kind: OwnNetwork, options: LatentOptions, access: Access) -> Walkable:
    """A network and its options as a walkable generator. Raises ModelError where they do not fit together."""
    names = options.class_names()
    mapping_net = options.mapping.load(access) if options.mapping else None
    conditional = kind.arity(network) >= 2 and bool(names)
    mapping_conditional = options.mapping is not None and options.mapping.arity(mapping_net) >= 2 and bool(names)  # type: ignore[arg-type]
    if names and not (conditional or mapping_conditional):
        raise ModelError(f"generator.classes are declared, but {kind.title()} takes no second input for them")
    mapping = _layers(mapping_net, mapping_conditional, access) if mapping_net is not None else None
    synthesis = _layers(network, conditional, access)
    space = options.space or ("w" if mapping else "z")
    dim, rows = options.latent_dim, None
    if mapping is not None:
        dim, rows = _mapped_shape(mapping, options, access, space)
        if rows:
            synthesis = by_rows(synthesis, rows, repeat=space == "w")
    return Walkable(
        name=name, space=space, z_dim=options.latent_dim, dim=dim, latent=options.latent, class_names=names,
        output_range=options.output_range, synthesis=synthesis, mapping=mapping, rows=(rows or 1) if space == "w+" else 1,
        image_shape=options.image_shape, device=access.device,
    )  # fmt: skip


def _layers(network: nn.Module, conditional: bool, access: Access) -> Layers:
    call = BestLayout(network, access.device)
    return call if conditional else lambda x, labels: call(x)


def by_rows(synthesis: Layers, rows: int, repeat: bool) -> Layers:
    """A synthesis that takes (n, rows, w), fed from one row for all of them or from all rows side by side."""

    def call(x: Tensor, labels: Labels) -> Tensor:
        stacked = x[:, None].expand(-1, rows, -1) if repeat else x.unflatten(1, (rows, -1))
        return synthesis(stacked, labels)

    return call


def _mapped_shape(mapping: Layers, options: LatentOptions, access: Access, space: str) -> tuple[int, int | None]:
    """The size of the space walked, and the rows of a mapping that gives (n, rows, w)."""
    z = draw(MEAN_SEEDS[:2], options.latent_dim, options.latent).to(access.device)
    try:
        with torch.no_grad():
            w = mapping(z, torch.zeros(2, dtype=torch.long, device=access.device))
    # Somebody else's network: whatever it raises is shown as its own.
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise ModelError(
            f"generator.mapping failed on latents of size {options.latent_dim}: {type(error).__name__}: {reason[-1] if reason else ''}"
        ) from error
    if not isinstance(w, Tensor) or w.ndim not in (2, 3) or len(w) != 2:
        seen = tuple(w.shape) if isinstance(w, Tensor) else type(w).__name__
        raise ModelError(f"generator.mapping gives {seen} for 2 latents; (n, w) or (n, rows, w) is needed")
    if w.ndim == 2:
        if space == "w+":
            raise ModelError("space w+ needs a mapping that gives (n, rows, w); this one gives (n, w)")
        return (w.shape[1] if space == "w" else options.latent_dim), None
    if space == "w" and not torch.equal(w, w[:, :1].expand_as(w)):
        raise ModelError("space w needs a mapping whose rows are equal; these differ: choose space w+")
    sizes = {"z": options.latent_dim, "w": w.shape[2], "w+": w.shape[1] * w.shape[2]}
    return sizes[space], w.shape[1] if space != "z" else None
