"""Checkpoints of real sizes, as shapes only: what is published must fit at the first try, though none of it is here."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from reds_core.models.checkpoints import converted
from reds_core.models.checkpoints.stand_ins import Record, Stored
from reds_core.models.imported import check_fit
from reds_core.models.published import (
    Architecture,
    BigGan,
    BigGanDeep,
    DcGan,
    FastGan,
    PgGan,
    R3Gan,
    StyleGan2,
    StyleGan3,
)
from reds_core.models.published.biggan_deep import DeepBlock


def described(kind: str, **changes: Any) -> Any:
    """The architecture of a published network; FFHQ at 1024 unless changed."""
    base: dict[str, Any]
    if kind == "stylegan2":
        base = dict(channels=(512, 512, 512, 512, 512, 256, 128, 64, 32), form="skip", clamp=None, mapping_layers=8)
    else:
        base = dict(
            mapping_layers=2, resolution=1024, layers=14, critical=2, channel_base=32768, channel_max=512, first_cutoff=2.0,
            first_stopband=2**2.1, last_stopband_rel=2**0.3, margin=10, kernel=3, filter_size=6, oversampling=2, radial=False,
            output_scale=0.25, clamp=256,
        )  # fmt: skip
    common = dict(kind=kind, z_dim=512, w_dim=512, classes=0, colours=3)
    return TypeAdapter(Architecture).validate_python(common | base | changes)


BIGGAN = dict(kind="biggan", classes=1000, shared_dim=128, bottom=4, attention=(64,), colours=3)
BIGGAN_128 = BigGan(z_dim=120, z_parts=6, channels=(1536, 1536, 768, 384, 192, 96), **BIGGAN)  # type: ignore[arg-type]
BIGGAN_256 = BigGan(z_dim=140, z_parts=7, channels=(1536, 1536, 768, 768, 384, 192, 96), **BIGGAN)  # type: ignore[arg-type]
DEEP = BigGanDeep(
    kind="biggan-deep", z_dim=128, classes=1000, class_dim=128, attention=8, levels=51, colours=3,
    blocks=tuple(
        DeepBlock(fan_in=128 * i, middle=32 * i, fan_out=128 * o, doubles=k % 2 == 1)
        for k, (i, o) in enumerate(pairwise((16, 16, 16, 16, 8, 8, 8, 8, 4, 4, 2, 2, 1)))
    ),
)  # fmt: skip
FACES_256 = R3Gan(
    kind="r3gan", z_dim=64, classes=0, class_dim=0, channels=(768, 768, 768, 768, 384, 192, 96), blocks=(2,) * 7, colours=3,
    expanded=(1536, 1536, 1536, 1536, 768, 384, 192), groups=(96, 96, 96, 96, 48, 24, 12),
)  # fmt: skip
FAST_1024 = FastGan(
    kind="fastgan", z_dim=256, classes=0, channels=(2048, 1024, 512, 256, 256, 128, 64, 32, 16), convolutions=2, colours=3
)
DCGAN = DcGan(kind="dcgan", z_dim=100, channels=(512, 256, 128, 64), colours=3)
PGGAN = PgGan(kind="pggan", z_dim=512, channels=(512, 512, 512, 512, 256, 128, 64, 32, 16), colours=3, tanh=False)
SIZES = {
    # The number of parameters that the published code prints, and those that are multiplied in here: noise strengths, gammas.
    "ffhq 1024, config-f": (described("stylegan2"), 30_370_060, -17),
    "afhq or lsun 512": (described("stylegan2", channels=(512, 512, 512, 512, 512, 256, 128, 64)), 30_276_583, -15),
    "ffhq 1024, T": (described("stylegan3"), 22_313_167, 0),
    "imagenet 128": (BIGGAN_128, 70_433_988, -1),
    "the tutorial's DCGAN": (DCGAN, 3_576_704, -957),  # a bias for each of its normalisations' two numbers, and for colours
}


def parameters(network: nn.Module) -> int:
    """The number of parameters, without the ones that are added to a class's gains."""
    return sum(p.numel() for name, p in network.named_parameters() if not name.endswith("gain.bias"))


@pytest.mark.parametrize("size", SIZES)
def test_a_network_of_real_size_has_the_published_number_of_parameters(size: str) -> None:
    architecture, published, folded = SIZES[size]
    with torch.device("meta"):
        assert parameters(architecture.build()) == published + folded


@pytest.mark.parametrize(
    ("architecture", "pixels"),
    [
        (described("stylegan2"), 1024),
        (described("stylegan2", channels=(512, 512, 512, 512, 512, 256, 128, 64), classes=3), 512),
        (described("stylegan2", channels=(512, 512, 512, 512, 512, 256, 128), form="resnet"), 256),
        (described("stylegan3"), 1024),
        (described("stylegan3", radial=True, kernel=1, channel_base=65536, channel_max=1024), 1024),
        (described("stylegan3", resolution=512, radial=True, kernel=1, channel_base=32768, channel_max=1024), 512),
        (described("stylegan3", resolution=256, channel_base=16384), 256),
        (BIGGAN_128, 128),
        (BIGGAN_256, 256),
        (DEEP, 256),
        (FACES_256, 256),
        (FAST_1024, 1024),
        (DCGAN, 64),
        (PGGAN, 1024),
        (described("stylegan2", base=(4, 2)), 1024),
    ],
)
def test_a_network_of_real_size_gives_images_of_its_size(architecture: Any, pixels: int) -> None:
    assert architecture.resolution == pixels
    with torch.device("meta"):
        network, labels = architecture.build(), torch.zeros(2, dtype=torch.long)
        if not isinstance(architecture, StyleGan2 | StyleGan3):
            images = network(torch.empty(2, architecture.z_dim), labels)
        else:
            w = network.get_submodule("mapping")(torch.empty(2, 512), labels)
            images = network.get_submodule("synthesis")(w[:, None].expand(-1, architecture.rows, -1))
    wide = architecture.size[1] if isinstance(architecture, StyleGan2) else pixels
    assert images.shape == (2, 3, pixels, wide)


class Meta(Stored):
    """A tensor of a checkpoint that is only its shape."""

    def __init__(self, *size: int) -> None:
        object.__setattr__(self, "size", size)

    def tensor(self) -> Tensor:
        return torch.empty(self.size, device="meta")


class Real(Meta):
    """One that has to have its value."""

    value: Tensor

    def __init__(self, value: Tensor) -> None:
        object.__setattr__(self, "value", value)

    def tensor(self) -> Tensor:
        return self.value


def module(
    parameters: dict[str, Any], buffers: dict[str, Any] | None = None, modules: dict[str, Any] | None = None, **fields: Any
) -> Record:
    return Record({"_parameters": parameters, "_buffers": buffers or {}, "_modules": modules or {}} | fields)


def linear(fan_in: int, fan_out: int, activation: str = "linear") -> Record:
    return module({"weight": Meta(fan_out, fan_in), "bias": Meta(fan_out)}, activation=activation, weight_gain=1.0, bias_gain=1.0)


def mapping(layers: int, classes: int) -> Record:
    first = 1024 if classes else 512
    fc = {f"fc{k}": linear(first if k == 0 else 512, 512, "lrelu") for k in range(layers)}
    return module({}, {"w_avg": Meta(512)}, fc | ({"embed": linear(classes, 512)} if classes else {}), num_layers=layers)


def ada(size: int, base: int, classes: int) -> dict[str, Any]:
    """What a network pickle of stylegan2-ada-pytorch holds, by its published constructors."""
    taps = torch.tensor([1.0, 3, 3, 1])
    kernel = Real(taps.outer(taps) / 64)
    widths = {4 * 2**k: min(base // (4 * 2**k), 512) for k in range(20) if 4 * 2**k <= size}

    def conv(fan_in: int, fan_out: int, at: int) -> Record:
        return module(
            {"weight": Meta(fan_out, fan_in, 3, 3), "bias": Meta(fan_out), "noise_strength": Meta()},
            {"noise_const": Meta(at, at), "resample_filter": kernel}, {"affine": linear(512, fan_in)},
            activation="lrelu", use_noise=True, resolution=at, conv_clamp=256,
        )  # fmt: skip

    blocks = {}
    for at, width in widths.items():
        convs = {"conv1": conv(width, width, at)} | ({"conv0": conv(widths[at // 2], width, at)} if at > 4 else {})
        rgb = module({"weight": Meta(3, width, 1, 1), "bias": Meta(3)}, {}, {"affine": linear(512, width)}, weight_gain=1.0)
        const = {"const": Meta(width, 4, 4)} if at == 4 else {}
        blocks[f"b{at}"] = module(const, {}, convs | {"torgb": rgb}, architecture="skip")
    synthesis = module({}, {}, blocks, block_resolutions=list(widths))
    g = module(
        {}, {}, {"synthesis": synthesis, "mapping": mapping(8, classes)}, z_dim=512, w_dim=512, c_dim=classes, img_channels=3
    )
    g.kind = "Generator"
    return {"G_ema": g}


def alias_free(size: int, radial: bool, classes: int) -> dict[str, Any]:
    """What a network pickle of stylegan3 holds, T or R: the plan of its layers is the paper's, in its published form."""
    double = 2 if radial else 1
    exponents = [min(k / 12, 1) for k in range(15)]
    cutoffs = [2 * (size / 4) ** e for e in exponents]
    stops = [2**2.1 * (size / 2 * 2**0.3 / 2**2.1) ** e for e in exponents]
    rates = [2 ** math.ceil(math.log2(min(2 * s, size))) for s in stops]
    sizes = [r + 20 for r in rates[:-2]] + [size, size]
    widths = [round(min(32768 * double / 2 / c, 512 * double)) for c in cutoffs[:-1]] + [3]
    kernel = 1 if radial else 3
    layers = {}
    for k in range(15):
        before, last = max(0, k - 1), k == 14
        inner = max(rates[before], rates[k]) * (1 if last else 2)
        up, down = inner // rates[before], inner // rates[k]
        taps = [6 * f if f > 1 and not last else 1 for f in (up, down)]
        around = (sizes[k] - 1) * down + 1 - (sizes[before] + (1 if last else kernel) - 1) * up + sum(taps) - 2
        low = (around + up) // 2
        square = radial and k < 12
        filters = {
            "up_filter": Meta(taps[0]) if taps[0] > 1 else None,
            "down_filter": Meta(*[taps[1]] * (2 if square else 1)) if taps[1] > 1 else None,
        }
        window = 1 if last else kernel
        layers[f"L{k}_{sizes[k]}_{widths[k]}"] = module(
            {"weight": Meta(widths[k], widths[before], window, window), "bias": Meta(widths[k])},
            filters | {"magnitude_ema": Meta()},
            {"affine": linear(512, widths[before])}, in_channels=widths[before], out_channels=widths[k], up_factor=up,
            down_factor=down, in_size=sizes[before], out_size=sizes[k], conv_kernel=window, down_radial=square,
            padding=[low, around - low] * 2,
        )  # fmt: skip
    waves = module(
        {"weight": Meta(widths[0], widths[0])},
        {"transform": Real(torch.eye(3)), "freqs": Meta(widths[0], 2), "phases": Meta(widths[0])},
        {"affine": linear(512, 4)},
        channels=widths[0],
    )
    chosen = {"conv_kernel": 1, "use_radial_filters": True, "channel_base": 65536, "channel_max": 1024} if radial else {}
    synthesis = module({}, {}, {"input": waves} | layers, layer_names=list(layers), _init_kwargs=chosen)
    g = module(
        {}, {}, {"synthesis": synthesis, "mapping": mapping(2, classes)}, z_dim=512, w_dim=512, c_dim=classes, img_channels=3,
        img_resolution=size
    )  # fmt: skip
    g.kind = "Generator"
    return {"G_ema": g}


def resolved(size: int, classes: int) -> dict[str, Any]:
    """What a pickle of StyleGAN-XL holds: twice the images of a smaller network, whose critical layers new ones replaced."""
    found = alias_free(size // 2, False, classes)
    g = found["G_ema"]
    layers = g["_modules"]["synthesis"]["_modules"]
    kept = g["_modules"]["synthesis"]["layer_names"][:12]
    for name in [name for name in layers if name not in ("input", *kept)]:
        del layers[name]
    before = layers[kept[-1]]
    plan = [(before["out_channels"], size // 2 + 20, size // 2 + 20, 1), (64, size // 2 + 20, size + 20, 2)]
    plan += [(48, size + 20, size + 20, 1), (32, size + 20, size, 1), (3, size, size, 1)]
    fan_in = before["out_channels"]
    for k, (fan_out, into, out, doubled) in enumerate(plan):
        last = k == len(plan) - 1
        up, down = (1, 1) if last else (2 * doubled, 2)
        width, taps = (1, 0) if last else (3, 6 * up + 6 * down - 2)
        around = 0 if last else (out - 1) * down + 1 - (into + 2) * up + taps
        low = (around + up) // 2
        kept.append(f"L{k + 12}_{out}_{fan_out}")
        layers[kept[-1]] = module(
            {"weight": Meta(fan_out, fan_in, width, width), "bias": Meta(fan_out)},
            {"magnitude_ema": Meta()} | ({} if last else {"up_filter": Meta(6 * up), "down_filter": Meta(6 * down)}),
            {"affine": linear(512, fan_in)}, in_channels=fan_in, out_channels=fan_out, up_factor=up, down_factor=down,
            padding=[low, around - low] * 2, in_size=into, out_size=out, conv_kernel=width, down_radial=False,
        )  # fmt: skip
        fan_in = fan_out
    layers["input"] |= {"sampling_rate": 16.0, "bandwidth": 2.0}
    g["_modules"]["synthesis"]["layer_names"] = kept
    return {"G_ema": Record(g | {"img_resolution": size, "head_layer_names": kept[-5:]})}


def biggan(size: int, parts: int, attention: int) -> dict[str, Any]:
    """What G_ema.pth of BigGAN-PyTorch holds, with ch 96 and a thousand classes."""
    widths = {128: (16, 16, 8, 4, 2, 1), 256: (16, 16, 8, 8, 4, 2, 1)}[size]
    state: dict[str, Any] = {"shared.weight": Meta(1000, 128)}

    def normed(name: str, *shape: int, bias: bool = True) -> None:
        state.update({f"{name}.weight": Meta(*shape), f"{name}.u0": Meta(1, shape[0]), f"{name}.sv0": Meta(1)})
        state.update({f"{name}.bias": Meta(shape[0])} if bias else {})

    normed("linear", 16 * 96 * 16, 20)
    for k, (i, o) in enumerate(pairwise(96 * w for w in widths)):
        block = f"blocks.{k}.0"
        normed(f"{block}.conv1", o, i, 3, 3)
        normed(f"{block}.conv2", o, o, 3, 3)
        normed(f"{block}.conv_sc", o, i, 1, 1)
        for n, width in (("1", i), ("2", o)):
            state.update({f"{block}.bn{n}.stored_mean": Meta(width), f"{block}.bn{n}.stored_var": Meta(width)})
            for part in ("gain", "bias"):
                normed(f"{block}.bn{n}.{part}", width, 148, bias=False)
        if 4 * 2 ** (k + 1) == attention:
            for name, out, into in (("theta", o // 8, o), ("phi", o // 8, o), ("g", o // 2, o), ("o", o, o // 2)):
                normed(f"blocks.{k}.1.{name}", out, into, 1, 1, bias=False)
            state[f"blocks.{k}.1.gamma"] = Meta()
    for name in ("gain", "bias", "stored_mean", "stored_var"):
        state[f"output_layer.0.{name}"] = Meta(96)
    normed("output_layer.2", 3, 96, 3, 3)
    assert len(widths) == parts
    return state


CONFIG = {
    "model": "BigGAN",
    "hier": True,
    "G_shared": True,
    "SN_eps": 1e-6,
    "BN_eps": 1e-5,
    "n_classes": 1000,
    "G_nl": "inplace_relu",
}
CHECKPOINTS = {
    "ffhq 1024": (ada(1024, 32768, 0), None, 1024, 0),
    "afhq or lsun 512": (ada(512, 32768, 0), None, 512, 0),
    "conditional 512": (ada(512, 32768, 3), None, 512, 3),
    "256": (ada(256, 16384, 0), None, 256, 0),
    "ffhq 1024, T": (alias_free(1024, False, 0), None, 1024, 0),
    "ffhq 1024, R": (alias_free(1024, True, 0), None, 1024, 0),
    "afhq 512, R": (alias_free(512, True, 0), None, 512, 0),
    "conditional 256, T": (alias_free(256, False, 10), None, 256, 10),
    "super-resolution 512": (resolved(512, 0), None, 512, 0),
    "imagenet 128": (biggan(128, 6, 64), CONFIG | {"resolution": 128, "dim_z": 120}, 128, 1000),
    "imagenet 256": (biggan(256, 7, 64), CONFIG | {"resolution": 256, "dim_z": 140}, 256, 1000),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_of_real_size_fits_the_architecture_found_in_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found, config, size, classes = CHECKPOINTS[name]
    _, architecture, state = converted(found, config)
    assert architecture.resolution == size and architecture.classes == classes
    # A shape has no values that could be NaN.
    monkeypatch.setattr(torch, "isfinite", lambda x: torch.ones(1, dtype=torch.bool))
    check_fit(architecture, state)
