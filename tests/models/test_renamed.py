"""StyleGAN2 in its three forms, under the names of other libraries, and in what surrounds it: the same images."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from reds_core.models.checkpoints import NotSupportedError, converted, notes_of, read_checkpoint
from reds_core.models.checkpoints.modules import Modules
from tests.models.test_families import ada, close, images
from tests.models.test_import import expected
from tests.support import DATA, stylegan2_ada
from tests.support.published import stored


def genforce(name: str) -> dict[str, Any]:
    """A generator by genforce's names, made of those in PyTorch's."""
    t, found = Modules(ada(name)), {"truncation.w_avg": stored(Modules(ada(name))["mapping.w_avg"])}
    for theirs in t:
        value, ours = t[theirs], theirs.split(".")
        if ours[0] == "mapping" and ours[1].startswith("fc"):
            found[f"mapping.dense{ours[1][2:]}.{ours[2]}"] = stored(value)
        elif ours[-1] == "const":
            found["synthesis.early_layer.const"] = stored(value[None])
        elif ours[0] == "synthesis" and ours[-1] != "resample_filter":
            k = int(ours[1][1:]).bit_length() - 3
            layer = {"torgb": f"output{k}", "conv0": f"layer{2 * k - 1}", "conv1": f"layer{2 * k}"}[ours[2]]
            part = {"affine.weight": "style.weight", "affine.bias": "style.bias", "noise_const": "noise"}
            at = ".".join(ours[3:])
            value = value - 1 if at == "affine.bias" else value[None, None] if at == "noise_const" else value
            value = value.flip(2, 3) if at == "weight" and ours[2] == "conv0" else value
            found[f"synthesis.{layer}.{part.get(at, at)}"] = stored(value)
    kernel = torch.tensor([1.0, 3, 3, 1])
    return found | {"synthesis.upsample.kernel": stored(kernel.outer(kernel)[None, None] / 16)}


@pytest.mark.parametrize("psi", [1.0, 0.7])
@pytest.mark.parametrize("container", [lambda g: g, lambda g: {"generator_smooth": g}])
def test_genforce_s_names_draw_the_same_images(container: Callable[[Any], Any], psi: float) -> None:
    z, classes, arrays = expected("sg2ada")
    close(images(container(genforce("sg2ada")), z, classes, psi=psi), arrays[f"image_psi{psi}"])
    with pytest.raises(NotSupportedError, match="filter"):
        converted(genforce("sg2ada") | {"synthesis.upsample.kernel": stored(torch.ones(1, 1, 4, 4))}, None)


def mmagic() -> dict[str, Any]:
    """A generator by MMagic's names, with blue first, made of rosinality's."""
    names = (
        (r"style\.(\d+)\.weight", r"style_mapping.\1.linear.weight_orig"), (r"style\.(\d+)\.bias", r"style_mapping.\1.bias"),
        (r"input\.input", "constant_input.input"), (r"noises\.noise_(\d+)", r"injected_noise_\1"),
        (r"(.+)\.noise\.weight", r"\1.noise_injector.weight"), (r"(.+)\.modulation\.bias", r"\1.style_modulation.bias"),
        (r"(.+)\.modulation\.weight", r"\1.style_modulation.linear.weight_orig"), (r"(.+\.conv)\.weight", r"\1.weight_orig"),
    )  # fmt: skip
    found = {}
    for name, value in read_checkpoint(DATA / "rosinality-tiny.pt")["g_ema"].items():
        fitting = [re.sub(f"^{theirs}$", ours, name) for theirs, ours in names if re.fullmatch(theirs, name)]
        colours = name.startswith("to_rgb") and (name.endswith("conv.weight") or name.endswith("rgb1.bias") or name.count(".") == 2)
        found[fitting[0] if fitting else name] = stored(value.tensor().flip(1)) if colours and "upsample" not in name else value
    return found


@pytest.mark.parametrize("prefix", ["", "generator.", "generator_ema.", "generator_ema.module."])
def test_mmagic_s_names_draw_the_same_images_with_red_first(prefix: str) -> None:
    z, classes, arrays = expected("rosinality")
    state = {f"{prefix}{k}": v for k, v in mmagic().items()} | (
        {"discriminator.final.bias": stored(torch.ones(1))} if prefix else {}
    )
    found = {"meta": {"epoch": 1}, "state_dict": state} if prefix else state
    close(images(found, z, classes), arrays["image_psi1.0"])
    family, _, _ = converted(found, None)
    assert ["not their average" in note for note in family.notes(found)] == [False, *[True] * (prefix == "generator.")]
    with pytest.raises(NotSupportedError, match="tensor that this architecture does not have"):
        state[f"{prefix}attention.weight"] = stored(torch.ones(1))
        converted(found, None)


OPTIMISER = {"state": {0: {"step": stored(torch.ones(1))}}, "param_groups": [{"lr": 0.002}]}


@pytest.mark.parametrize(
    ("contain", "note"),
    [
        (lambda g: {f"_orig_mod.{k}": v for k, v in g.items()}, ""),
        (lambda g: {f"module._orig_mod.{k}": v for k, v in g.items()}, ""),
        (lambda g: {"state_dict": g, "optimizer": OPTIMISER, "epoch": 3}, ""),
        (lambda g: {"state_dict": {f"generator.{k}": v for k, v in g.items()} | {"discriminator.a": g["convs.0.activate.bias"]}},
         "it holds only generator, "),
        (lambda g: {"g": g, "d": {"a": g["convs.0.activate.bias"]}, "g_optim": OPTIMISER}, "it holds only g, "),
        (lambda g: {"g": {k: stored(v.tensor() + 1) for k, v in g.items()}, "g_ema": {f"module.{k}": v for k, v in g.items()}}, ""),
        (lambda g: {"params": {}, "params_ema": g}, ""),
    ],
)  # fmt: skip
def test_what_surrounds_a_state_dict_does_not_matter(contain: Callable[[Any], Any], note: str) -> None:
    z, classes, arrays = expected("rosinality")
    found = read_checkpoint(DATA / "rosinality-tiny.pt")
    state, mean = dict(found["g_ema"]), found["latent_avg"]
    contained = contain(state)
    close(images(contained, z, classes), arrays["image_psi1.0"])
    assert [text[: len(note)] for text in notes_of(contained)] == [note] * bool(note)
    if not any(name.endswith(("style.1.weight", "discriminator.a")) for name in contained):
        close(images({**contained, "latent_avg": mean}, z, classes, psi=0.7), arrays["image_psi0.7"])


def test_a_damaged_average_is_not_replaced_by_what_was_trained_last() -> None:
    state = dict(read_checkpoint(DATA / "rosinality-tiny.pt")["g_ema"])
    with pytest.raises(NotSupportedError, match="g_ema, g"):
        converted({"g_ema": {"style.1.weight": state["style.1.weight"]}, "g": state}, None)


@pytest.mark.parametrize("psi", [1.0, 0.7])
@pytest.mark.parametrize(("channels", "classes", "colours"), [((16, 12, 8), 0, 3), ((8, 12, 8, 4), 4, 1)])
@pytest.mark.parametrize("form", ["skip", "resnet", "orig"])
def test_every_form_draws_what_its_definition_says(
    form: str, channels: tuple[int, ...], classes: int, colours: int, psi: float
) -> None:
    state = stylegan2_ada.random_state(form, channels, classes, colours)
    z, labels = (
        torch.randn(3, stylegan2_ada.Z, generator=torch.Generator().manual_seed(1)),
        torch.tensor([0, 2, 1]) % max(1, classes),
    )
    found = {k: stored(v) for k, v in state.items()}
    close(images(found, z, labels, psi=psi), stylegan2_ada.images(state, z, labels, psi))
