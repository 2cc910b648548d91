"""Checkpoints of pytorch_GAN_zoo's Progressive GAN: state dicts of the average and of the trained network, and their settings.

Its layers multiply their output, bias included, by the factor of He's initialisation.
"""

from __future__ import annotations

import math

from reds_core.models.checkpoints.family import Contents, Family, Settings
from reds_core.models.checkpoints.identify import NotSupportedError
from reds_core.models.checkpoints.tensors import State, Tensors
from reds_core.models.published.pggan import PgGan

AVERAGE, TRAINED = "avgG", "netG"
# Settings that the architecture here has only in this form.
ONLY = {"perChannelNormalization": True, "equalizedlR": True, "leakyReluLeak": 0.2, "alpha": 0, "attribKeysOrder": None}
LOSS, LINEAR = "lossCriterion", "WGANGP"  # the loss whose generators do not squash their colours

UNSAID = "it does not say which loss trained it; its colours are brought to [-1, 1] by tanh, as after every loss but WGANGP"


def convert(found: Contents, settings: Settings | None) -> tuple[PgGan, State]:
    """Returns the architecture and weights of a checkpoint of a Progressive GAN, its average if it has one."""
    told = found.get("config") or {}
    for key, only in ONLY.items():
        if told.get(key, only) != only:
            raise NotSupportedError(f"its setting {key} is {ascii(told[key])[:60]}; only {only} is supported")
    t = Tensors(found.get(AVERAGE) or found[TRAINED])
    scales = t.numbers(r"scaleLayers\.(\d+)\.")
    last = f"toRGBLayers.{len(scales)}"
    channels = [t["groupScale0.0.module.bias"].numel(), *(t[f"scaleLayers.{k}.1.module.bias"].numel() for k in scales)]
    state = _layer(t, "linear", "formatLayer") | _layer(t, "first", "groupScale0.0") | _layer(t, "rgb", last)
    for k in scales:
        for n in (0, 1):
            state |= _layer(t, f"scales.{k}.{n}", f"scaleLayers.{k}.{n}")
    # What made colours of the smaller sizes while it grew.
    t.ignore(*(f"toRGBLayers.{k}.module.{part}" for k in range(len(scales)) for part in ("weight", "bias")))
    t.check_all_used()
    architecture = PgGan(
        kind="pggan", z_dim=state["linear.weight"].shape[1], channels=tuple(channels), colours=len(state["rgb.bias"]),
        tanh=told.get(LOSS) != LINEAR,
    )  # fmt: skip
    return architecture, state


def _layer(t: Tensors, ours: str, theirs: str) -> State:
    weight = t[f"{theirs}.module.weight"]
    factor = math.sqrt(2 / weight[0].numel())
    return {f"{ours}.weight": weight * factor, f"{ours}.bias": t[f"{theirs}.module.bias"] * factor}


def _recognises(found: Contents) -> bool:
    state = found.get(AVERAGE) or found.get(TRAINED)
    return isinstance(state, dict) and "formatLayer.module.weight" in state


PGGAN = Family(
    name="pytorch-gan-zoo",
    files="Progressive GANs of pytorch_GAN_zoo (netG, avgG)",
    licence="The code is BSD; its checkpoints name no licence of their own, and the terms of their images may bear on them.",
    recognises=_recognises,
    convert=convert,
    notes=lambda found: [] if LOSS in (found.get("config") or {}) else [UNSAID],
)
