"""A user's own generator: any latent-to-image network from a file or a function, with or without a mapping of its own."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from reds_core.errors import ModelError, described
from reds_core.generators.latent import MEAN_SEEDS, Layers, PixelRange, Size, Walkable, by_rows, draw, range_mistakes
from reds_core.models import Exported, Factory, OwnNetwork, TorchScript
from reds_core.models.config import Access, ClassName, Config
from reds_core.models.layout import BestLayout
from reds_core.types import Labels

MOST_NAMED = 4  # tensors in a message


class WithMean(Config):
    """What a mapping's file may hold beside its layers."""

    mean: str | None = Field(
        None,
        min_length=1,
        description="The name of a tensor in the mapping, such as `w_avg`: the mean w, or one for each class, that truncation "
        "moves towards; measured if absent.",
    )


class TorchScriptMapping(TorchScript, WithMean):
    """A mapping saved by torch.jit.save."""


class ExportedMapping(Exported, WithMean):
    """A mapping saved by torch.export.save."""


class FactoryMapping(Factory, WithMean):
    """A mapping that a Python function of yours returns; it runs code of yours, which must be allowed."""


AnyMapping = Annotated[TorchScriptMapping | ExportedMapping | FactoryMapping, Field(discriminator="kind")]


class LatentOptions(Config):
    """What a network's file does not say: which latents it takes and which images it makes."""

    latent_dim: Size = Field(description="How many numbers the sampled latent z has.")
    latent: Literal["normal", "uniform"] = Field(
        "normal", description="How z is drawn: from a normal distribution, or uniformly from [-1, 1]."
    )
    output_range: PixelRange = Field(description="[lo, hi] of the network's pixel values, which become 0 and 1.")
    classes: Size | Annotated[tuple[ClassName, ...], Field(min_length=1)] | None = Field(
        None, description="For a conditional generator: how many classes it has, or their names; not conditional if absent."
    )
    image_shape: tuple[Size, Size, Size] | None = Field(
        None, description="[c, h, w] of the images of a network whose output is flat."
    )
    latent_axes: Literal[2, 4] = Field(2, description="4 for a network that takes latents as (n, d, 1, 1) instead of (n, d).")
    mapping: AnyMapping | None = Field(
        None,
        description="A second network z [, class] -> w, whose output the generator takes; the generator takes z if absent. "
        "Beside the keys of its kind, `mean` may name a tensor in it, such as `w_avg`: the mean w, or one for each class, that "
        "truncation moves towards. It is measured if absent.",
    )
    space: Literal["z", "w", "w+"] | None = Field(
        None, description="The latent space walked; w+ has a row of w for every layer. If absent, w with a mapping and z without."
    )

    def mistakes(self) -> list[str]:
        found = range_mistakes(self.output_range)
        if self.space in ("w", "w+") and not self.mapping:
            found.append(f"space {self.space} needs a mapping; without one the space is z")
        return found

    def class_names(self) -> tuple[str, ...]:
        """Returns the classes' names, which are their numbers if `classes` is a count."""
        if isinstance(self.classes, int):
            return tuple(str(c) for c in range(self.classes))
        return self.classes or ()

    def declared_classes(self) -> tuple[str, ...]:
        """Returns the names of its classes; none if it takes no class."""
        return self.class_names()


class TorchScriptGenerator(TorchScript, LatentOptions):
    """A generator saved by torch.jit.save: (n, d) latents [, (n,) classes] -> (n, c, h, w) images."""

    def load(self, access: Access) -> Walkable:  # type: ignore[override]
        return assemble(self.path.stem, TorchScript.load(self, access), self, self, access)


class ExportedGenerator(Exported, LatentOptions):
    """A generator saved by torch.export.save: (n, d) latents [, (n,) classes] -> (n, c, h, w) images."""

    def load(self, access: Access) -> Walkable:  # type: ignore[override]
        return assemble(self.path.stem, Exported.load(self, access), self, self, access)


class FactoryGenerator(Factory, LatentOptions):
    """A generator that a Python function of yours returns; it runs code of yours, which must be allowed."""

    def mistakes(self) -> list[str]:
        return [*Factory.mistakes(self), *LatentOptions.mistakes(self)]

    def load(self, access: Access) -> Walkable:  # type: ignore[override]
        return assemble(self.target.partition(":")[2], Factory.load(self, access), self, self, access)


def assemble(name: str, network: nn.Module, kind: OwnNetwork, options: LatentOptions, access: Access) -> Walkable:
    """Returns a network and its options as a walkable generator. Raises ModelError where they do not fit together."""
    names = options.class_names()
    conditional = kind.arity(network) >= 2 and bool(names)
    mapping, mapping_conditional, means = None, False, {}
    if options.mapping is not None:
        mapping_network = options.mapping.load(access)
        mapping_conditional = options.mapping.arity(mapping_network) >= 2 and bool(names)
        mapping = _layers(mapping_network, mapping_conditional, access, options.latent_axes)
        means = _means(options.mapping, mapping_network, len(names))
    if names and not (conditional or mapping_conditional):
        raise ModelError(f"generator.classes is set, but {kind.title()} takes no second input for them")
    # Of the two, the one that takes z takes it in as many axes as it wants.
    synthesis = _layers(network, conditional, access, 2 if mapping else options.latent_axes)
    space = options.space or ("w" if mapping else "z")
    dim, rows = options.latent_dim, None
    if mapping is not None:
        dim, rows = _mapped_shape(mapping, options, access, space, means)
        if rows:
            synthesis = by_rows(synthesis, rows, repeat=space == "w")
    return Walkable(
        name=name, space=space, z_dim=options.latent_dim, dim=dim, latent=options.latent, class_names=names,
        output_range=options.output_range, synthesis=synthesis, mapping=mapping, rows=(rows or 1) if space == "w+" else 1,
        image_shape=options.image_shape, means=means, device=access.device,
    )  # fmt: skip


def _layers(network: nn.Module, conditional: bool, access: Access, axes: Literal[2, 4]) -> Layers:
    call = BestLayout(network, access.device)

    def layers(x: Tensor, labels: Labels) -> Tensor:
        x = x[:, :, None, None] if axes == 4 else x
        out: Tensor = call(x, labels) if conditional else call(x)
        return out

    return layers


def _means(mapping: WithMean, network: nn.Module, classes: int) -> dict[int, Tensor]:
    """Returns the mean w of every class, as the mapping holds it; none if it is to be measured."""
    if mapping.mean is None:
        return {}
    held = dict(network.named_buffers()) | dict(network.named_parameters())
    if mapping.mean not in held:
        there = ", ".join(sorted(held, key=lambda name: held[name].numel())[:MOST_NAMED]) or "none"
        raise ModelError(f"generator.mapping has no tensor {mapping.mean!r}; the smallest of those that it has: {there}")
    mean = held[mapping.mean].detach().float()
    if mean.ndim not in (1, 2) or (mean.ndim == 2 and len(mean) not in (1, max(1, classes))):
        raise ModelError(
            f"generator.mapping: {mapping.mean} is of shape {tuple(mean.shape)}; a mean is (w,), or ({max(1, classes)}, w) with "
            "one for each class"
        )
    rows = mean[None] if mean.ndim == 1 else mean
    return {k: rows[k if len(rows) > 1 else 0] for k in range(max(1, classes))}


def _mapped_shape(
    mapping: Layers, options: LatentOptions, access: Access, space: str, means: dict[int, Tensor]
) -> tuple[int, int | None]:
    """Returns the size of the space walked, and the rows of w if the mapping returns (n, rows, w) and its output is walked.

    The means are brought to the shape of one output.
    """
    z = draw(MEAN_SEEDS[:2], options.latent_dim, options.latent).to(access.device)
    try:
        with torch.no_grad():
            w = mapping(z, torch.zeros(2, dtype=torch.long, device=access.device))
    except torch.OutOfMemoryError:
        raise
    # A user's network may raise anything.
    except Exception as error:
        raise ModelError(f"generator.mapping failed on latents of size {options.latent_dim}: {described(error, -1)}") from error
    if not isinstance(w, Tensor) or w.ndim not in (2, 3) or len(w) != 2:
        seen = tuple(w.shape) if isinstance(w, Tensor) else type(w).__name__
        raise ModelError(f"generator.mapping returns {seen} for 2 latents; (n, w) or (n, rows, w) is needed")
    for label, mean in means.items():
        if len(mean) != w.shape[-1]:
            raise ModelError(f"generator.mapping returns w of {w.shape[-1]} numbers; its mean has {len(mean)}")
        means[label] = mean.expand(w.shape[1:])
    if w.ndim == 2:
        if space == "w+":
            raise ModelError("space w+ needs a mapping that returns (n, rows, w); this one returns (n, w)")
        return (w.shape[1] if space == "w" else options.latent_dim), None
    if space == "w" and not torch.equal(w, w[:, :1].expand_as(w)):
        raise ModelError("space w needs a mapping whose rows are equal; these differ: choose space w+")
    sizes = {"z": options.latent_dim, "w": w.shape[2], "w+": w.shape[1] * w.shape[2]}
    return sizes[space], w.shape[1] if space != "z" else None
