"""Published generators, imported by `reds import`: what they have in common, and StyleGAN to StyleGAN3."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Annotated, Literal, TypeVar, get_args

import torch
from pydantic import Field
from torch import Tensor, nn

from reds_core.errors import ModelError
from reds_core.generators.latent import Layers, PixelRange, Size, Walkable, by_rows, range_mistakes
from reds_core.models.config import Access, ClassName, File, FromFile
from reds_core.models.imported import describe, open_imported
from reds_core.models.published import Architecture, stylegan2
from reds_core.models.published.style import Mapping
from reds_core.models.published.stylegan1 import StyleGan1
from reds_core.models.published.stylegan2 import StyleGan2
from reds_core.models.published.stylegan3 import StyleGan3
from reds_core.types import Labels

A = TypeVar("A", bound=Architecture)
Noise = Literal["const", "none"]
NOISE = "const: the fixed noise that the network was saved with; none: no noise."


class ImportedGenerator(FromFile):
    """A published generator, imported by `reds import`: two files, with its weights and its architecture."""

    path: File = Field(description="The .safetensors file that `reds import` wrote; its .json lies beside it.")
    classes: Annotated[tuple[ClassName, ...], Field(min_length=1)] | None = Field(
        None, description="The classes' names, in the network's order; their numbers if absent."
    )
    output_range: PixelRange = Field((-1.0, 1.0), description="[lo, hi] of the network's pixel values, which become 0 and 1.")

    def identity(self) -> dict[str, str]:
        # Without what is left at its default: a field that is added later does not change what is there already.
        text = describe(self.path).architecture.model_dump_json(exclude_defaults=True)
        return {"architecture_sha256": hashlib.sha256(text.encode()).hexdigest()}

    def mistakes(self) -> list[str]:
        return range_mistakes(self.output_range)

    def class_names(self, count: int) -> tuple[str, ...]:
        """Returns the names of a network's classes. Raises ModelError if `classes` does not name `count` of them."""
        if self.classes is not None and len(self.classes) != count:
            raise ModelError(f"generator.classes names {len(self.classes)} classes; {self.path.name} has {count or 'none'}")
        return self.classes or tuple(str(c) for c in range(count))

    def declared_classes(self) -> tuple[str, ...]:
        """Returns the names of its classes; none if it takes no class. Raises ModelError if its file does not say them."""
        return self.class_names(describe(self.path).architecture.classes)

    def opened(self, access: Access, kind: type[A]) -> tuple[A, nn.Module]:
        """Returns the architecture and the network. Raises ModelError if they are not of this kind."""
        found, network = open_imported(self.path, self.sha256, access)
        if not isinstance(found, kind):
            (wanted,) = get_args(kind.model_fields["kind"].annotation)
            raise ModelError(f"{self.path.name} is a {found.kind}; the spec says kind: {wanted}")
        return found, network


class StyleBasedGenerator(ImportedGenerator):
    """A published generator with a mapping and a synthesis."""

    space: Literal["z", "w", "w+"] = Field("w", description="The latent space walked; w+ has a row of w for every layer.")

    def walkable(
        self, network: nn.Module, synthesis: nn.Module, architecture: StyleGan1 | StyleGan2 | StyleGan3, rows: int, access: Access
    ) -> Walkable:
        """Returns the generator in the space walked, with a synthesis that takes `rows` rows of w."""
        mapping = network.get_submodule("mapping")
        if not isinstance(mapping, Mapping):
            raise TypeError(f"an imported mapping is a {type(mapping).__name__}")
        names = self.class_names(architecture.classes)
        affine = [
            m.weight.detach() for name, m in synthesis.named_modules() if name.endswith(".affine") and isinstance(m, nn.Linear)
        ]
        to_w = _in_rows(mapping, rows) if self.space == "w+" else mapping
        # One mean for all classes, or one for each.
        means = list(mapping.mean) if mapping.mean.ndim == 2 else [mapping.mean] * max(1, len(names))
        return Walkable(
            name=self.path.stem, space=self.space, z_dim=architecture.z_dim,
            dim={"z": architecture.z_dim, "w": architecture.w_dim, "w+": rows * architecture.w_dim}[self.space], latent="normal",
            class_names=names, output_range=self.output_range,
            synthesis=by_rows(_unlabelled(synthesis), rows, repeat=self.space != "w+"), mapping=to_w,
            rows=rows if self.space == "w+" else 1,
            means={k: m.expand(rows, -1) if self.space == "w+" else m for k, m in enumerate(means)},
            style_weight=torch.cat(affine) if self.space == "w" else None, device=access.device,
        )  # fmt: skip


class StyleGan1Generator(StyleBasedGenerator):
    """A StyleGAN, imported from NVIDIA's pickles of TensorFlow."""

    kind: Literal["stylegan1"]
    noise: Noise = Field("const", description=NOISE)

    def load(self, access: Access) -> Walkable:
        """Returns the generator, ready to use. Raises ModelError if the file or a field does not fit."""
        architecture, network = self.opened(access, StyleGan1)
        synthesis = network.get_submodule("synthesis")
        if self.noise == "none":
            _silence(synthesis)
        return self.walkable(network, synthesis, architecture, architecture.rows, access)


class StyleGan2Generator(StyleBasedGenerator):
    """A StyleGAN2 or StyleGAN2-ADA, imported from NVIDIA's, rosinality's or genforce's files, or an encoder's."""

    kind: Literal["stylegan2"]
    resolution: Size | None = Field(
        None,
        description="Render images of this many pixels, a power of two below the network's own size, at a fraction of the cost; "
        "its own size if absent.",
    )
    walk_resolution: Size | None = Field(
        None,
        description="Walk trajectories by images of this many pixels, for attributes that need no more; variants are still "
        "rendered and checked at `resolution`, which is used throughout if absent.",
    )
    noise: Noise = Field("const", description=NOISE)

    def load(self, access: Access) -> Walkable:
        """Returns the generator, ready to use. Raises ModelError if the file or a field does not fit."""
        architecture, network = self.opened(access, StyleGan2)
        synthesis = network.get_submodule("synthesis")
        if not isinstance(synthesis, stylegan2.Synthesis):
            raise TypeError(f"an imported synthesis is a {type(synthesis).__name__}")
        if self.noise == "none":
            _silence(synthesis)
        whole = self._upto("resolution", self.resolution, architecture, synthesis)
        rows = 2 * len(whole.blocks)
        found = self.walkable(network, whole, architecture, rows, access)
        if self.walk_resolution is None:
            return found
        coarse = self._upto("walk_resolution", self.walk_resolution, architecture, whole)
        if len(coarse.blocks) == len(whole.blocks):
            raise ModelError(f"generator.walk_resolution: {self.walk_resolution} is the size that is rendered anyway; leave it out")
        return replace(found, coarse=self.walkable(network, coarse, architecture, rows, access))

    def _upto(self, key: str, size: int | None, architecture: StyleGan2, synthesis: stylegan2.Synthesis) -> stylegan2.Synthesis:
        """Returns the synthesis without the blocks beyond a size. Raises ModelError that names `key` if it cannot end there."""
        sizes = [architecture.base[0] << k for k in range(len(synthesis.blocks))]
        if size is None or size == architecture.resolution == sizes[-1]:
            return synthesis
        if size not in sizes:
            raise ModelError(f"generator.{key}: {self.path.name} renders {', '.join(map(str, sizes))} pixels, not {size}")
        if architecture.form != "skip":
            raise ModelError(
                f"generator.{key}: {self.path.name} is of the form {architecture.form}, which has colours only at its end"
            )
        return synthesis.upto(sizes.index(size) + 1)


class StyleGan3Generator(StyleBasedGenerator):
    """A StyleGAN3 of configuration T or R, or a StyleGAN-XL, imported from its network pickles."""

    kind: Literal["stylegan3"]

    def load(self, access: Access) -> Walkable:
        """Returns the generator, ready to use. Raises ModelError if the file or a field does not fit."""
        architecture, network = self.opened(access, StyleGan3)
        return self.walkable(network, network.get_submodule("synthesis"), architecture, architecture.rows, access)


def _silence(synthesis: nn.Module) -> None:
    for name, buffer in synthesis.named_buffers():
        if name.endswith(".noise"):
            buffer.zero_()


def _unlabelled(synthesis: nn.Module) -> Layers:
    return lambda w, labels: synthesis(w)


def _in_rows(mapping: Mapping, rows: int) -> Layers:
    def call(z: Tensor, labels: Labels) -> Tensor:
        w: Tensor = mapping(z, labels)
        return w[:, None].expand(-1, rows, -1)

    return call
