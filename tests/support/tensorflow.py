"""Networks of dnnlib.tflib as `read_checkpoint` returns them, and what the first StyleGAN's code makes of its variables."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reds_core.models.checkpoints.stand_ins import Array, Record

GAIN = 2**0.5


def network(contents: dict[str, Any]) -> Record:
    """Returns a network, with no settings unless `contents` has some."""
    found = Record({"static_kwargs": {}} | contents)
    found.kind = "dnnlib.tflib.network.Network"
    return found


def stylegan1_variables(resolution: int, w: int, classes: int) -> dict[str, np.ndarray]:
    """Returns the variables of a StyleGAN, by the names that its code gives them, with random values."""
    draw = np.random.default_rng(0)
    widths = {4: 8, 8: 8, 16: 6, 32: 6, 64: 4, 128: 4}
    found: dict[str, np.ndarray] = {"lod": np.zeros(()), "dlatent_avg": draw.normal(size=w) * 0.1}
    for k in range(8):
        fan_in = w + (w if classes and not k else 0)
        found |= {
            f"mapping/Dense{k}/weight": draw.normal(size=(fan_in, w)) * 100,
            f"mapping/Dense{k}/bias": draw.normal(size=w) * 20,
        }
    if classes:
        found["mapping/LabelConcat/weight"] = draw.normal(size=(classes, w))
    before = widths[4]
    for size in [s for s in widths if s <= resolution]:
        for layer in ("Const", "Conv") if size == 4 else ("Conv0_up", "Conv1"):
            name, width = f"synthesis/{size}x{size}/{layer}", widths[size]
            if layer == "Const":
                found[f"{name}/const"] = draw.normal(size=(1, width, 4, 4))
            else:
                found[f"{name}/weight"] = draw.normal(size=(3, 3, before, width))
            found |= {f"{name}/Noise/weight": draw.normal(size=width) * 0.2, f"{name}/bias": draw.normal(size=width) * 0.2}
            found |= {
                f"{name}/StyleMod/weight": draw.normal(size=(w, 2 * width)),
                f"{name}/StyleMod/bias": draw.normal(size=2 * width) * 0.2,
            }
            k = 2 * int(np.log2(size)) - (4 if layer in ("Const", "Conv0_up") else 3)
            found[f"synthesis/noise{k}"] = draw.normal(size=(1, 1, size, size))
            before = width
        lod = int(np.log2(resolution // size))
        found |= {
            f"synthesis/ToRGB_lod{lod}/weight": draw.normal(size=(1, 1, before, 3)),
            f"synthesis/ToRGB_lod{lod}/bias": draw.normal(size=3) * 0.2,
        }
    return {name: value.astype(np.float32) for name, value in found.items()}


def stylegan1_network(variables: dict[str, np.ndarray], **told: Any) -> Record:
    """Returns the network that holds such variables."""

    def part(name: str) -> list[tuple[str, Array]]:
        return [(k.removeprefix(f"{name}/"), Array(v)) for k, v in variables.items() if k.startswith(f"{name}/")]

    own = [(k, Array(v)) for k, v in variables.items() if "/" not in k]
    components = {name: network({"variables": part(name), "static_kwargs": told}) for name in ("synthesis", "mapping")}
    return network({"variables": own, "components": components, "static_kwargs": told, "version": 3})


def stylegan1_images(variables: dict[str, np.ndarray], z: Tensor, labels: Tensor, psi: float) -> Tensor:
    """Returns the images of a StyleGAN, step by step as its code makes them: (n, 3, size, size)."""
    v = {name: torch.from_numpy(value) for name, value in variables.items()}
    if "mapping/LabelConcat/weight" in v:
        z = torch.cat([z, v["mapping/LabelConcat/weight"][labels]], 1)
    x = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for k in range(8):
        weight = v[f"mapping/Dense{k}/weight"]
        x = F.leaky_relu(x @ (weight * (GAIN / len(weight) ** 0.5 * 0.01)) + v[f"mapping/Dense{k}/bias"] * 0.01, 0.2)
    w = v["dlatent_avg"] + psi * (x - v["dlatent_avg"])
    x, k, size = v["synthesis/4x4/Const/const"].expand(len(z), -1, -1, -1), 0, 4
    x = _epilogue(v, "synthesis/4x4/Const", x, 0, w)
    x = _epilogue(v, "synthesis/4x4/Conv", F.conv2d(x, _weight(v["synthesis/4x4/Conv/weight"], GAIN), padding=1), 1, w)
    while f"synthesis/{2 * size}x{2 * size}/Conv1/weight" in v:
        size, k = 2 * size, k + 2
        up = _doubled(x, _weight(v[f"synthesis/{size}x{size}/Conv0_up/weight"], GAIN), fused=size >= 128)
        taps = torch.tensor([1.0, 2, 1]) / 4
        up = F.conv2d(up, taps.outer(taps).expand(up.shape[1], 1, 3, 3), padding=1, groups=up.shape[1])
        x = _epilogue(v, f"synthesis/{size}x{size}/Conv0_up", up, k, w)
        same = F.conv2d(x, _weight(v[f"synthesis/{size}x{size}/Conv1/weight"], GAIN), padding=1)
        x = _epilogue(v, f"synthesis/{size}x{size}/Conv1", same, k + 1, w)
    return F.conv2d(x, _weight(v["synthesis/ToRGB_lod0/weight"], 1.0), v["synthesis/ToRGB_lod0/bias"])


def _weight(found: Tensor, gain: float) -> Tensor:
    weight = found.permute(3, 2, 0, 1)
    return weight * float(gain / weight[0].numel() ** 0.5)


def _doubled(x: Tensor, weight: Tensor, fused: bool) -> Tensor:
    if not fused:
        return F.conv2d(F.interpolate(x, scale_factor=2.0), weight, padding=1)
    padded = F.pad(weight.transpose(0, 1), (1, 1, 1, 1))
    spread = padded[:, :, 1:, 1:] + padded[:, :, :-1, 1:] + padded[:, :, 1:, :-1] + padded[:, :, :-1, :-1]
    return F.conv_transpose2d(x, spread, stride=2, padding=1)


def _epilogue(v: dict[str, Tensor], name: str, x: Tensor, k: int, w: Tensor) -> Tensor:
    x = x + v[f"synthesis/noise{k}"] * v[f"{name}/Noise/weight"][:, None, None] + v[f"{name}/bias"][:, None, None]
    x = F.leaky_relu(x, 0.2)
    x = x - x.mean((2, 3), keepdim=True)
    x = x / (x.square().mean((2, 3), keepdim=True) + 1e-8).sqrt()
    weight = v[f"{name}/StyleMod/weight"]
    style = (w @ weight / len(weight) ** 0.5 + v[f"{name}/StyleMod/bias"]).unflatten(1, (2, -1))[..., None, None]
    out: Tensor = x * (style[:, 0] + 1) + style[:, 1]
    return out
