"""Network pickles of R3GAN: plain modules, of a package that is not needed here."""

from __future__ import annotations

from typing import Any

from reds_core.models.checkpoints.family import Contents, Family, Settings, generator_of
from reds_core.models.checkpoints.identify import NotSupportedError
from reds_core.models.checkpoints.modules import Modules
from reds_core.models.checkpoints.tensors import State, check_filter
from reds_core.models.published.r3gan import R3Gan

BLOCKS = "Model.MainLayers"


def convert(found: Contents, settings: Settings | None) -> tuple[R3Gan, State]:
    """Returns the architecture and weights of a network pickle of R3GAN."""
    g = generator_of(found)
    if g is None:
        raise KeyError("G_ema")
    t = Modules(g)
    architecture = _architecture(t)
    state = {"basis": t[f"{BLOCKS}.0.Layers.0.Basis"], "linear.weight": t[f"{BLOCKS}.0.Layers.0.LinearLayer.weight"]}
    if architecture.classes:
        state["embed.weight"] = t["Model.EmbeddingLayer.weight"].T
    for k, count in enumerate(architecture.blocks):
        stage = f"{BLOCKS}.{k}.Layers"
        if k:
            check_filter(t[f"{stage}.0.Resampler.Kernel"], 1.0)
        if f"{stage}.0.LinearLayer.Layer.weight" in t:
            state[f"between.{k - 1}.weight"] = t[f"{stage}.0.LinearLayer.Layer.weight"]
        for b in range(count):
            state |= _block(t, f"stages.{k}.{b}", f"{stage}.{b + 1}")
    state["rgb.weight"] = t["Model.AggregationLayer.Layer.weight"]
    t.check_all_used()
    return architecture, state


def _architecture(t: Modules) -> R3Gan:
    stages = [f"{BLOCKS}.{k}.Layers" for k in t.numbers(r"Model\.MainLayers\.(\d+)\.")]
    classes = t.setting("", "c_dim")
    class_dim = len(t["Model.EmbeddingLayer.weight"]) if classes else 0
    convs = [t[f"{stage}.1.LinearLayer2.Layer.weight"] for stage in stages]
    if any(conv.shape[2:] != (3, 3) for conv in convs):
        raise NotSupportedError(f"its blocks have kernels of {tuple(convs[0].shape[2:])}; only 3x3 is supported")
    return R3Gan(
        kind="r3gan", z_dim=t.setting("", "z_dim"), classes=classes, class_dim=class_dim,
        channels=tuple(len(t[f"{stage}.1.LinearLayer3.Layer.weight"]) for stage in stages),
        expanded=tuple(len(conv) for conv in convs), groups=tuple(len(conv) // conv.shape[1] for conv in convs),
        blocks=tuple(len(t.children(stage)) - 1 for stage in stages), colours=len(t["Model.AggregationLayer.Layer.weight"]),
    )  # fmt: skip


def _block(t: Modules, ours: str, theirs: str) -> State:
    # Their biases belong to the activations that follow.
    return {
        f"{ours}.widen.weight": t[f"{theirs}.LinearLayer1.Layer.weight"], f"{ours}.widen.bias": t[f"{theirs}.NonLinearity1.Bias"],
        f"{ours}.conv.weight": t[f"{theirs}.LinearLayer2.Layer.weight"], f"{ours}.conv.bias": t[f"{theirs}.NonLinearity2.Bias"],
        f"{ours}.narrow.weight": t[f"{theirs}.LinearLayer3.Layer.weight"],
    }  # fmt: skip


def _recognises(found: Contents) -> bool:
    g: Any = generator_of(found)
    model = g and g["_modules"].get("Model")
    return bool(model) and "MainLayers" in model.get("_modules", {})


R3GAN = Family(
    name="r3gan",
    files="network pickles of R3GAN",
    licence="Its code and checkpoints are published with terms of their own (see its repository); FFHQ and ImageNet add theirs.",
    recognises=_recognises,
    convert=convert,
)
