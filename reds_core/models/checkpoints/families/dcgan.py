"""State dicts of DCGAN by the names of PyTorch's tutorial: a sequence of transposed convolutions and batch normalisations."""

from __future__ import annotations

import torch

from reds_core.models.checkpoints.family import Contents, Family, Settings
from reds_core.models.checkpoints.identify import NotSupportedError
from reds_core.models.checkpoints.tensors import State, Tensors, added, batch_norm, scaled
from reds_core.models.published.dcgan import DcGan

EPSILON = 1e-5  # PyTorch's own


def convert(found: Contents, settings: Settings | None) -> tuple[DcGan, State]:
    """Returns the architecture and weights of a state dict of the tutorial's generator."""
    t = Tensors(found)
    convs = [k for k in t.numbers(r"main\.(\d+)\.weight$") if t[f"main.{k}.weight"].ndim == 4]
    weights = [t[f"main.{k}.weight"] for k in convs]
    odd = [tuple(w.shape) for w in weights if w.shape[2:] != (4, 4)]
    if odd or len(weights) < 2:
        raise NotSupportedError(
            f"a DCGAN has two or more convolutions, all with kernels of 4x4; this one has {odd or len(weights)}"
        )
    architecture = DcGan(
        kind="dcgan", z_dim=len(weights[0]), channels=tuple(w.shape[1] for w in weights[:-1]), colours=weights[-1].shape[1]
    )
    state: State = {}
    for n, (k, weight) in enumerate(zip(convs, weights, strict=True)):
        bias = t[f"main.{k}.bias"] if f"main.{k}.bias" in t else torch.zeros(weight.shape[1])
        if f"main.{k + 1}.running_mean" in t:
            scale, shift = batch_norm(t, f"main.{k + 1}", EPSILON)
            weight, bias = scaled(weight, scale[:, None, None]), added(scaled(bias, scale), shift)
        ours = f"layers.{n - 1}" if n else "first"
        state |= {f"{ours}.weight": weight, f"{ours}.bias": bias}
    t.check_all_used()
    return architecture, state


def _recognises(found: Contents) -> bool:
    return "main.0.weight" in found and "main.1.running_mean" in found and all(str(k).startswith("main.") for k in found)


DCGAN = Family(
    name="dcgan-tutorial",
    files="DCGAN by the names of PyTorch's tutorial: state dicts",
    licence="The tutorial's code is BSD; its checkpoints are their trainers' to license.",
    recognises=_recognises,
    convert=convert,
)
