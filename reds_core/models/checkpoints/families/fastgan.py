"""Network pickles of Projected GAN's FastGAN, lite or not, with or without classes: plain modules, written by dill."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from reds_core.errors import ModelError
from reds_core.models.checkpoints.family import Contents, Family, Settings, generator_of
from reds_core.models.checkpoints.modules import Modules
from reds_core.models.checkpoints.tensors import State, added, affine, batch_norm, scaled, spectral
from reds_core.models.published.fastgan import FIRST_SCALED, LAST_SCALED, FastGan

EPSILON = 1e-5  # PyTorch's own
# The name of every convolution in a block, and of its normalisation, by classes or not and by the number of convolutions.
LAYERS = {
    (False, 1): [("1", "2")], (False, 2): [("1", "3"), ("5", "7")],
    (True, 1): [("conv", "bn")], (True, 2): [("conv1", "bn1"), ("conv2", "bn2")],
}  # fmt: skip


def convert(found: Contents, settings: Settings | None) -> tuple[FastGan, State]:
    """Returns the architecture and weights of a network pickle of Projected GAN."""
    g = generator_of(found)
    if g is None:
        raise KeyError("G_ema")
    t = Modules(g)
    resolution = t.setting("", "img_resolution")
    sizes = [size for size in t.numbers(r"synthesis\.feat_(\d+)\.") if size <= resolution]
    classes = t.setting("", "c_dim") if "synthesis.embed.weight" in t else 0
    layers = LAYERS[classes > 0, 2 if "synthesis.feat_8.5.weight_orig" in t or t.has("synthesis.feat_8.conv2") else 1]
    state = _first(t)
    channels = [state["first.bias"].numel() // 2]
    for k, size in enumerate(sizes):
        for n, (conv, norm) in enumerate(layers):
            state |= _gated(t, f"blocks.{k}.layers.{n}", f"synthesis.feat_{size}", conv, norm, classes)
        channels.append(len(state[f"blocks.{k}.layers.0.conv.weight"]) // 2)
        if FIRST_SCALED <= size <= LAST_SCALED:
            state |= {
                f"scales.{k}.{ours}.weight": spectral(t, f"synthesis.se_{size}.main.{n}") for ours, n in (("conv", 1), ("mix", 3))
            }
    state |= {"rgb.weight": spectral(t, "synthesis.to_big"), "rgb.bias": t["synthesis.to_big.bias"]}
    architecture = FastGan(
        kind="fastgan", z_dim=t.setting("", "z_dim"), classes=classes, channels=tuple(channels), convolutions=len(layers),  # type: ignore[arg-type]
        colours=len(state["rgb.bias"]),
    )  # fmt: skip
    if architecture.resolution != resolution:
        raise ModelError(f"its blocks make {architecture.resolution} pixels; it says {resolution}")
    _check_used(t, resolution)
    return architecture, state


def _first(t: Modules) -> State:
    scale, shift = batch_norm(t, "synthesis.init.init.1", EPSILON)
    return {"first.weight": scaled(spectral(t, "synthesis.init.init.0"), scale[:, None, None]), "first.bias": shift}


def _gated(t: Modules, ours: str, block: str, conv: str, norm: str, classes: int) -> State:
    if classes:
        scale, shift = _by_class(t, f"{block}.{norm}")
    else:
        scale, shift = (x[None] for x in batch_norm(t, f"{block}.{norm}", EPSILON))
    return {
        f"{ours}.conv.weight": spectral(t, f"{block}.{conv}"), f"{ours}.scale.weight": scale, f"{ours}.shift.weight": shift,
    }  # fmt: skip


def _by_class(t: Modules, name: str) -> tuple[Tensor, Tensor]:
    """Returns what a normalisation multiplies by and then adds, (classes, channels) each."""
    vectors = t["synthesis.embed.weight"]
    gain, bias = (affine(vectors, spectral(t, f"{name}.{part}"), t[f"{name}.{part}.bias"]) for part in ("gain", "bias"))
    scale = scaled(1 + gain, (t[f"{name}.stored_var"] + EPSILON).rsqrt())
    return scale, added(bias, -scaled(scale, t[f"{name}.stored_mean"]))


def _check_used(t: Modules, resolution: int) -> None:
    """Raises ModelError for tensors that are not used, but for blocks beyond the image's size, which no image passes, and noise."""
    beyond = [f"synthesis.{part}_{size}." for part in ("feat", "se") for size in (256, 512, 1024) if size > resolution]
    noises = [f"{name}.weight" for name, module in t.modules.items() if module.kind.endswith(".NoiseInjection")]
    t.unused = {name for name in t.unused if not name.startswith(tuple(beyond)) and name not in noises}
    t.check_all_used()


def _recognises(found: Contents) -> bool:
    g: Any = generator_of(found)
    synthesis = g and g["_modules"].get("synthesis")
    return bool(synthesis) and {"init", "feat_8", "to_big"} <= synthesis.get("_modules", {}).keys()


FASTGAN = Family(
    name="projected-gan",
    files="network pickles of Projected GAN's FastGAN",
    licence="The code is MIT; its checkpoints name no licence of their own, and the terms of their images may bear on them.",
    recognises=_recognises,
    convert=convert,
)
