"""State dicts of BigGAN-PyTorch, with the configuration that trained them: spectral norms and statistics of normalisations multiplied in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.models.checkpoints.common import State, Tensors, scaled
from reds_core.models.published.biggan import BigGan

NEEDED = ("resolution", "n_classes", "dim_z", "hier", "G_shared", "BN_eps", "SN_eps")
RELUS = ("relu", "inplace_relu")
OUTPUT_EPSILON = 1e-5  # of the last normalisation, whatever BN_eps says


def biggan(t: Tensors, config: Mapping[str, Any]) -> tuple[BigGan, State]:
    lacking = [key for key in NEEDED if key not in config]
    if lacking:
        raise ModelError(f"the configuration lacks {', '.join(lacking)}: it is not the one that BigGAN-PyTorch trained with")
    if (
        config.get("model", "BigGAN") != "BigGAN"
        or config.get("norm_style", "bn") != "bn"
        or config.get("G_nl", "relu") not in RELUS
    ):
        raise ModelError("only the model BigGAN with norm_style bn and a relu is supported; this configuration asks for another")
    count = len({name.split(".")[1] for name in t if name.startswith("blocks.")})
    bottom, resolution = config.get("bottom_width", 4), config["resolution"]
    parts = count + 1 if config["hier"] else 1
    part = config["dim_z"] // parts
    channels = [t["linear.bias"].numel() // bottom**2, *(t[f"blocks.{k}.0.conv1.bias"].numel() for k in range(count))]
    attention = tuple(bottom * 2 ** (k + 1) for k in range(count) if f"blocks.{k}.1.theta.weight" in t)
    shared = t["shared.weight"] if config["G_shared"] else torch.eye(config["n_classes"])
    architecture = BigGan(
        kind="biggan", z_dim=part * parts, classes=len(shared), shared_dim=shared.shape[1], z_parts=parts, bottom=bottom,
        channels=tuple(channels), attention=attention, colours=t["output_layer.2.bias"].numel(),
    )  # fmt: skip
    if architecture.resolution != resolution or t["linear.weight"].shape[1] != part:
        raise ModelError(
            f"the configuration asks for {resolution} pixels and a first part of {part} latents; the file holds {count} blocks, which make "
            f"{architecture.resolution} pixels, and takes {t['linear.weight'].shape[1]}: they do not belong together"
        )
    eps = config["SN_eps"]
    state = {"shared.weight": shared, "linear.weight": _normed(t, "linear", eps), "linear.bias": t["linear.bias"]}
    for k in range(count):
        theirs, ours = f"blocks.{k}.0", f"blocks.{k}"
        for a, b in (("conv1", "conv1"), ("conv2", "conv2"), ("skip", "conv_sc")):
            state |= {f"{ours}.{a}.weight": _normed(t, f"{theirs}.{b}", eps), f"{ours}.{a}.bias": t[f"{theirs}.{b}.bias"]}
        for n in "12":
            state |= _norm_biggan(t, f"{ours}.norm{n}", f"{theirs}.bn{n}", eps, config["BN_eps"], config["G_shared"])
        if f"blocks.{k}.1.theta.weight" in t:
            state |= {f"attention.{k}.{n}.weight": _normed(t, f"blocks.{k}.1.{n}", eps) for n in ("theta", "phi", "g", "o")}
            state[f"attention.{k}.o.weight"] *= t[f"blocks.{k}.1.gamma"].reshape(())
    mean, var = _statistics(t, "output_layer.0")
    scale = scaled((var + OUTPUT_EPSILON).rsqrt(), t["output_layer.0.gain"])
    state |= {"scale": scale[:, None, None], "shift": (t["output_layer.0.bias"] - scaled(scale, mean))[:, None, None]}
    state |= {"rgb.weight": _normed(t, "output_layer.2", eps), "rgb.bias": t["output_layer.2.bias"]}
    if not config["G_shared"]:
        t.unused.discard("shared.weight")
    t.check_all_used(".u0", ".sv0", ".accumulation_counter", ".num_batches_tracked")
    return architecture, state


def _norm_biggan(t: Tensors, ours: str, theirs: str, sn_eps: float, bn_eps: float, shared: bool) -> State:
    gain, bias = _normed(t, f"{theirs}.gain", sn_eps), _normed(t, f"{theirs}.bias", sn_eps)
    if not shared:
        gain, bias = gain.T, bias.T  # without shared vectors these are tables with a row for each class
    mean, var = _statistics(t, theirs)
    return {
        f"{ours}.gain.weight": gain, f"{ours}.gain.bias": torch.ones(len(gain)), f"{ours}.bias.weight": bias,
        f"{ours}.mean": mean, f"{ours}.var": var + bn_eps,
    }  # fmt: skip


def _statistics(t: Tensors, name: str) -> tuple[Tensor, Tensor]:
    """A normalisation's mean and variance."""
    for inner, kind in (("", "stored"), ("bn.", "stored"), ("bn.", "running")):
        if f"{name}.{inner}{kind}_mean" in t:
            return t[f"{name}.{inner}{kind}_mean"], t[f"{name}.{inner}{kind}_var"]
    raise KeyError(f"{name}.stored_mean")


def _normed(t: Tensors, name: str, eps: float) -> Tensor:
    """A weight over its spectral norm, as the published code finds it: by one step of the power method from the vector stored."""
    weight = t[f"{name}.weight"]
    if f"{name}.u0" not in t:
        return weight
    matrix = weight.flatten(1)
    v = F.normalize(t[f"{name}.u0"] @ matrix, eps=eps)
    u = F.normalize(v @ matrix.T, eps=eps)
    return weight / (v @ matrix.T @ u.T).squeeze()
