"""Consistency models in diffusers' format, as networks from noise to images: of one step, the image is a function.

    x = sigma_max z
    f(x) = c_skip x + c_out F(x / sqrt(sigma_max^2 + sigma_data^2), 250 log sigma_max [, class])
    c_skip = sigma_data^2 / ((sigma_max - sigma_min)^2 + sigma_data^2)
    c_out = (sigma_max - sigma_min) sigma_data / sqrt(sigma_max^2 + sigma_data^2)

with the U-Net F (Song, Dhariwal, Chen and Sutskever, "Consistency Models", ICML 2023, appendix C; ConsistencyModelPipeline and
CMStochasticIterativeScheduler of diffusers).

    model_index.json                  that it is a consistency model; not needed beside a U-Net alone
    scheduler/scheduler_config.json   the sigmas; those of the publication if absent
    unet/config.json                  the U-Net's architecture
    unet/*.safetensors                its weights

The folder is read as data. Nothing is fetched.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reds_core.errors import ModelError, described
from reds_core.models.config import Access, check_file, frozen
from reds_core.models.states import fill, read_state_dict
from reds_core.models.zoo import library
from reds_core.types import Labels
from reds_core.words import counted

PIPELINE, SCHEDULER, UNET = "ConsistencyModelPipeline", "CMStochasticIterativeScheduler", "UNet2DModel"
WEIGHTS = "diffusion_pytorch_model"
SIGMAS = {"sigma_max": 80.0, "sigma_min": 0.002, "sigma_data": 0.5, "clip_denoised": True}
COUNTS = ("in_channels", "out_channels", "layers_per_block", "num_class_embeds")
MOST_PIXELS = 2**22  # numbers in a noise


@dataclass(frozen=True)
class Plan:
    """What the files beside a U-Net's weights say."""

    unet: Mapping[str, Any]  # arguments of UNet2DModel
    shape: tuple[int, int, int]  # (c, h, w) of the noise, and of the image
    classes: int  # 0: it takes none
    sigma_max: float
    sigma_min: float
    sigma_data: float
    clip: bool  # whether the image is clamped to [-1, 1]

    @property
    def size(self) -> int:
        """How many numbers a noise has."""
        return math.prod(self.shape)


class OneStep(nn.Module):
    """The consistency function at the largest noise: z (n, c * h * w), standard normal [, (n,) classes] -> (n, c, h, w) images."""

    time: Tensor

    def __init__(self, unet: nn.Module, plan: Plan) -> None:
        super().__init__()
        self.unet, self.plan = unet, plan
        self.register_buffer("time", torch.tensor(250 * math.log(plan.sigma_max)), persistent=False)

    def forward(self, z: Tensor, labels: Labels) -> Tensor:
        plan = self.plan
        x = plan.sigma_max * z.unflatten(1, plan.shape)
        scale = math.hypot(plan.sigma_max, plan.sigma_data)
        found = self.unet(x / scale, self.time, class_labels=labels if plan.classes else None, return_dict=False)[0]
        skip = plan.sigma_data**2 / ((plan.sigma_max - plan.sigma_min) ** 2 + plan.sigma_data**2)
        out: Tensor = skip * x + (plan.sigma_max - plan.sigma_min) * plan.sigma_data / scale * found
        return out.clamp(-1, 1) if plan.clip else out


def weights_in(path: Path) -> Path:
    """Returns the file with the U-Net's weights in a pipeline's or a U-Net's folder; anything but a folder as it is.

    Raises:
        ValueError: there are none, or several.
    """
    if not path.is_dir():
        return path
    folder = path / "unet" if (path / "unet").is_dir() else path
    for pattern in (f"{WEIGHTS}.safetensors", f"{WEIGHTS}.*.safetensors", f"{WEIGHTS}.bin"):
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{folder} holds {len(found)} files {pattern}; name one of them instead of the folder")
    raise ValueError(f"{folder} holds no {WEIGHTS}.safetensors; it is no folder of a U-Net in diffusers' format")


def read_plan(weights: Path) -> Plan:
    """Returns what the files beside a U-Net's weights say. Raises ModelError if they are missing, or describe another model."""
    config = _json(weights.parent / "config.json")
    _check_class(config, UNET, weights.parent)
    pipeline = weights.parent.parent
    if weights.parent.name == "unet" and (pipeline / "model_index.json").is_file():
        _check_class(_json(pipeline / "model_index.json"), PIPELINE, pipeline)
    scheduler, said = pipeline / "scheduler/scheduler_config.json", SIGMAS
    if weights.parent.name == "unet" and scheduler.is_file():
        told = _json(scheduler)
        _check_class(told, SCHEDULER, scheduler)
        said = SIGMAS | {k: told[k] for k in SIGMAS if k in told}
    numbers = [said[k] for k in ("sigma_max", "sigma_min", "sigma_data")]
    if not all(type(n) in (int, float) and 0 < n < 1e6 for n in numbers) or numbers[1] >= numbers[0]:
        raise ModelError(f"{scheduler} has the sigmas {numbers} (largest, smallest, of the data); they are no noise levels")
    high, low, data = map(float, numbers)
    for key in COUNTS:
        if type(config.get(key, 1)) is not int and config[key] is not None:
            raise ModelError(f"{weights.parent}/config.json has {key}: {config[key]!r}; it is a whole number")
    if config.get("class_embed_type") is not None:
        raise ModelError(
            f"{weights.parent} has classes of the type {config['class_embed_type']!r}; only a table of them is supported"
        )
    shape = _shape(config, weights.parent)
    # Names with an underscore tell who saved it, and from where.
    unet = {k: v for k, v in config.items() if not k.startswith("_")}
    return Plan(unet, shape, config.get("num_class_embeds") or 0, high, low, data, bool(said["clip_denoised"]))


def _shape(config: Mapping[str, Any], folder: Path) -> tuple[int, int, int]:
    size, channels = config.get("sample_size"), config.get("in_channels", 3)
    sides = [size, size] if type(size) is int else size
    if not isinstance(sides, list) or len(sides) != 2 or not all(type(s) is int and s > 0 for s in sides):
        raise ModelError(f"{folder}/config.json has sample_size: {size!r}; it is needed, in pixels")
    if channels != config.get("out_channels", 3):
        raise ModelError(
            f"{folder} takes {channels} channels and returns {config.get('out_channels', 3)}; a consistency model returns as "
            "many as it takes"
        )
    if math.prod(sides) * channels > MOST_PIXELS:
        raise ModelError(f"{folder}/config.json has a noise of {channels}x{sides[0]}x{sides[1]}, more than {MOST_PIXELS} numbers")
    return channels, sides[0], sides[1]


def open_consistency(weights: Path, pinned: str | None, access: Access) -> OneStep:
    """Returns a consistency model, ready to run.

    Raises:
        ModelError: diffusers is not installed, the weights are not what they are pinned to, or they do not fit the U-Net.
    """
    check_file(weights, pinned)
    plan, build = read_plan(weights), library("diffusers").UNet2DModel
    state = {k: v.float() for k, v in read_state_dict(weights).items()}
    known = inspect.signature(build.__init__).parameters
    arguments = {k: v for k, v in plan.unet.items() if k in known}
    # Absurd sizes must not take memory before they are compared with what the file holds.
    blocks = arguments.get("down_block_types") or ()
    if len(blocks) * (arguments.get("layers_per_block") or 1) > len(state):
        raise ModelError(f"{weights} does not fit its config.json, which has more layers than the file has tensors")
    try:
        with torch.device("meta"):
            sizes = sum(v.numel() for v in build(**arguments).state_dict().values())
        unet = build(**arguments) if sizes <= 2 * sum(v.numel() for v in state.values()) else None
    # What stands in the file's JSON is anyone's, and diffusers may raise anything for it.
    except Exception as error:
        raise ModelError(f"{weights.parent}/config.json builds no U-Net: {described(error)}") from error
    if unet is None:
        raise ModelError(f"{weights} does not fit its config.json, whose U-Net is more than twice as large")
    fill(unet, state, weights, "the U-Net of its config.json")
    odd = [k for k, v in state.items() if not bool(torch.isfinite(v).all())]
    if odd:
        raise ModelError(f"{weights} holds NaN or infinity in {counted(len(odd), 'tensor')}, {odd[0]} among them")
    network = frozen(OneStep(unet, plan), access.device)
    if not isinstance(network, OneStep):
        raise TypeError(f"a network became a {type(network).__name__}")
    return network


def _check_class(config: Mapping[str, Any], wanted: str, where: Path) -> None:
    found = config.get("_class_name")
    if found != wanted:
        raise ModelError(
            f"{where} is a {ascii(found)[1:-1][:80]}, not a {wanted}: only consistency models make an image in one step, as a "
            "function of the noise. One that takes many steps, or a text, is not walked; distil it into a consistency model first"
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}; it belongs beside the weights") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {described(error)}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} must map names to values")
    return found
