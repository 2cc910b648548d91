"""State dicts of BigGAN-PyTorch, with the settings that they were trained with.

Spectral norms and the statistics of normalisations are multiplied in.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.models.checkpoints.family import Contents, Family, Settings
from reds_core.models.checkpoints.identify import NotSupportedError
from reds_core.models.checkpoints.tensors import State, Tensors, scaled
from reds_core.models.published.biggan import BigGan

NEEDED = ("resolution", "n_classes", "dim_z", "hier", "G_shared", "BN_eps", "SN_eps")
RELUS = ("relu", "inplace_relu")
OUTPUT_EPSILON = 1e-5  # of the last normalisation, whatever BN_eps says


def convert(found: Contents, settings: Settings | None) -> tuple[BigGan, State]:
    """Returns the architecture and weights of a state dict of BigGAN-PyTorch, trained with `settings`."""
    if settings is None:
        raise ModelError(
            "this is a state dict of BigGAN-PyTorch, which needs the configuration that it was trained with: the state_dict.pth "
            "that lies beside it, or the same as JSON",
            parameter="config",
        )
    _check(settings)
    t = Tensors(found)
    architecture = _architecture(t, settings)
    eps = settings["SN_eps"]
    state = {"shared.weight": _shared(t, settings), "linear.weight": _normed(t, "linear", eps), "linear.bias": t["linear.bias"]}
    for k in range(len(architecture.channels) - 1):
        state |= _block(t, k, settings)
    mean, var = _statistics(t, "output_layer.0")
    scale = scaled((var + OUTPUT_EPSILON).rsqrt(), t["output_layer.0.gain"])
    state |= {"scale": scale[:, None, None], "shift": (t["output_layer.0.bias"] - scaled(scale, mean))[:, None, None]}
    state |= {"rgb.weight": _normed(t, "output_layer.2", eps), "rgb.bias": t["output_layer.2.bias"]}
    if not settings["G_shared"]:
        t.unused.discard("shared.weight")
    t.check_all_used(".u0", ".sv0", ".accumulation_counter", ".num_batches_tracked")
    return architecture, state


def _check(settings: Settings) -> None:
    """Raises ModelError if the settings are not BigGAN-PyTorch's, or ask for what the architecture here does not do."""
    lacking = [key for key in NEEDED if key not in settings]
    if lacking:
        raise ModelError(f"the configuration lacks {', '.join(lacking)}: it is not one that BigGAN-PyTorch trained with")
    plain = settings.get("model", "BigGAN") == "BigGAN" and settings.get("norm_style", "bn") == "bn"
    if not plain or settings.get("G_nl", "relu") not in RELUS:
        raise NotSupportedError("only the model BigGAN with norm_style bn and a relu is supported; this configuration has another")


def _architecture(t: Tensors, settings: Settings) -> BigGan:
    count = len({name.split(".")[1] for name in t if name.startswith("blocks.")})
    bottom, resolution = settings.get("bottom_width", 4), settings["resolution"]
    parts = count + 1 if settings["hier"] else 1
    part = settings["dim_z"] // parts
    channels = [t["linear.bias"].numel() // bottom**2, *(t[f"blocks.{k}.0.conv1.bias"].numel() for k in range(count))]
    attention = tuple(bottom * 2 ** (k + 1) for k in range(count) if f"blocks.{k}.1.theta.weight" in t)
    shared = _shared(t, settings)
    architecture = BigGan(
        kind="biggan", z_dim=part * parts, classes=len(shared), shared_dim=shared.shape[1], z_parts=parts, bottom=bottom,
        channels=tuple(channels), attention=attention, colours=t["output_layer.2.bias"].numel(),
    )  # fmt: skip
    if architecture.resolution != resolution or t["linear.weight"].shape[1] != part:
        raise ModelError(
            f"the configuration has {resolution} pixels and a first part of {part} latents; the file holds {count} blocks, which "
            f"make {architecture.resolution} pixels, and takes {t['linear.weight'].shape[1]} latents: they do not belong together"
        )
    return architecture


def _shared(t: Tensors, settings: Settings) -> Tensor:
    """Returns the classes' vectors, (classes, size): without shared ones, each class is a unit vector."""
    return t["shared.weight"] if settings["G_shared"] else torch.eye(settings["n_classes"])


def _block(t: Tensors, k: int, settings: Settings) -> State:
    theirs, ours, eps = f"blocks.{k}.0", f"blocks.{k}", settings["SN_eps"]
    state: State = {}
    for a, b in (("conv1", "conv1"), ("conv2", "conv2"), ("skip", "conv_sc")):
        state |= {f"{ours}.{a}.weight": _normed(t, f"{theirs}.{b}", eps), f"{ours}.{a}.bias": t[f"{theirs}.{b}.bias"]}
    for n in "12":
        state |= _norm(t, f"{ours}.norm{n}", f"{theirs}.bn{n}", settings)
    if f"blocks.{k}.1.theta.weight" in t:
        state |= {f"attention.{k}.{n}.weight": _normed(t, f"blocks.{k}.1.{n}", eps) for n in ("theta", "phi", "g", "o")}
        state[f"attention.{k}.o.weight"] *= t[f"blocks.{k}.1.gamma"].reshape(())
    return state


def _norm(t: Tensors, ours: str, theirs: str, settings: Settings) -> State:
    gain, bias = (_normed(t, f"{theirs}.{name}", settings["SN_eps"]) for name in ("gain", "bias"))
    if not settings["G_shared"]:
        gain, bias = gain.T, bias.T  # without shared vectors these are tables with a row for each class
    mean, var = _statistics(t, theirs)
    return {
        f"{ours}.gain.weight": gain, f"{ours}.gain.bias": torch.ones(len(gain)), f"{ours}.bias.weight": bias,
        f"{ours}.mean": mean, f"{ours}.var": var + settings["BN_eps"],
    }  # fmt: skip


def _statistics(t: Tensors, name: str) -> tuple[Tensor, Tensor]:
    """Returns a normalisation's mean and variance."""
    for inner, kind in (("", "stored"), ("bn.", "stored"), ("bn.", "running")):
        if f"{name}.{inner}{kind}_mean" in t:
            return t[f"{name}.{inner}{kind}_mean"], t[f"{name}.{inner}{kind}_var"]
    raise KeyError(f"{name}.stored_mean")


def _normed(t: Tensors, name: str, eps: float) -> Tensor:
    """Returns a weight over its spectral norm, found as in the published code: by one power step from the stored vector."""
    weight = t[f"{name}.weight"]
    if f"{name}.u0" not in t:
        return weight
    matrix = weight.flatten(1)
    v = F.normalize(t[f"{name}.u0"] @ matrix, eps=eps)
    u = F.normalize(v @ matrix.T, eps=eps)
    return weight / (v @ matrix.T @ u.T).squeeze()


BIGGAN = Family(
    name="biggan-pytorch",
    files="BigGAN-PyTorch's G_ema state dicts",
    licence="The code is MIT; its checkpoints name no licence of their own, and ImageNet's terms may bear on what is made of them.",
    recognises=lambda found: "blocks.0.0.conv1.weight" in found,
    convert=convert,
)
