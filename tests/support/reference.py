"""docs/spec.md, from the models of the spec: `python -m tests.support.reference` writes it.

Types, limits, defaults and meanings come from the models; units and examples are here. Fields that several kinds share have a table
of their own. A kind without an example, or a number without a unit, is a KeyError: whoever adds one adds it here.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel

from reds_core.features import AnyFeature, Region
from reds_core.features.input import Preprocessing
from reds_core.features.mask import MaskInput
from reds_core.features.region import Segment
from reds_core.generators import AnyGenerator, LatentOptions
from reds_core.generators.imported import ImportedGenerator
from reds_core.models import AnyNetwork
from reds_core.models.config import FromFile
from reds_core.spec.fields import Decision, Fit, Goal, Seeds, Shards, Spec
from reds_core.spec.trajectory import Trajectory
from tests.support import ROOT

PAGE = ROOT / "docs/spec.md"

UNITS = {
    "first": "seed", "count": "seeds", "truncation": "psi", "classes": "names", "names": "names", "seeds": "seeds",
    "quality": "1 to 100",
    "latent_dim": "numbers", "output_range": "pixel values", "image_shape": "pixels", "resolution": "pixels",
    "walk_resolution": "pixels",
    "lowpass": "pixels", "highpass": "pixels", "low": "cycles per pixel", "high": "cycles per pixel", "channels": "channels",
    "input_range": "pixel values", "input_size": "pixels", "mean": "pixel values", "std": "pixel values", "points": "indices",
    "confidence": "the network's", "box": "fractions of the image", "erode": "pixels", "minimum": "spreads",
    "held": "spreads, or a probability", "varied": "spreads",
    "weight": "a ratio", "duplicates": "spreads", "directions": "directions", "waypoints": "waypoints", "step": "latent spreads",
    "beta": "a share", "beta_varied": "a share", "tau": "a ratio", "tangent_size": "components", "subspace": "directions",
    "decision": "a probability", "keep": "variants of a seed", "distance": "spreads", "passes": "forward equivalents",
}  # fmt: skip
UNITS_OF: dict[tuple[type[BaseModel], str], str] = {
    (MaskInput, "classes"): "indices",
    (LatentOptions, "classes"): "a count or names",
    (Seeds, "classes"): "names or indices",
}  # where one model differs

MEANINGS = {"model": "The network."}  # of fields whose models have no description
LINKS = {
    name: f" See [{name}](#{name.lower()})." for name in ("attributes", "trajectory", "judge", "shards", "region", "segment", "fit")
}
LINKS |= {"generator": " See [generators](#generators).", "model": " See [networks](#networks)."}
UNIONS = {"timm": "a network", "stylegan2": "a generator", "pixels": "an attribute"}  # a kind of each -> its name
NUMBER = re.compile(r"\b(number|integer)\b")
MANY = 4  # alternatives


class Shared(NamedTuple):
    """Fields that several kinds share, and that have a table of their own."""

    title: str
    link: str
    model: type[BaseModel]
    without: tuple[type[BaseModel], ...] = ()  # models whose fields the table leaves out


SHARED = (
    Shared("A file", "a-file", FromFile),
    Shared("A generator of your own", "a-generator-of-your-own", LatentOptions),
    Shared("An imported generator", "an-imported-generator", ImportedGenerator, (FromFile,)),
    Shared("What a network sees", "what-a-network-sees", Preprocessing),
    Shared("An object's mask", "an-objects-mask", MaskInput, (Preprocessing,)),
)

# A line or a block of YAML for every kind and every part of a spec; tests load each of them.
EXAMPLES = {
    "decision": "held: {class: {decision: 0.9}}\nkeep: 16",
    "seeds": "seeds: {first: 1000, count: 500, truncation: 0.7}",
    "fit": "seeds: {images: photographs, fit: {distance: 0.3, passes: 300, residual: true}}",
    "generator builtin": "generator: {kind: builtin, name: fashion-mnist}",
    "generator torchscript": "generator: {kind: torchscript, path: generator.pt, latent_dim: 512, output_range: [-1, 1]}",
    "generator exported": "generator: {kind: exported, path: generator.pt2, latent_dim: 128, output_range: [0, 1], classes: 10}",
    "generator factory": """\
generator:
  kind: factory
  target: "my_project:generator"
  weights: generator.safetensors
  options: {size: 256}
  latent_dim: 512
  output_range: [-1, 1]""",
    "generator stylegan1": "generator: {kind: stylegan1, path: ffhq-2018.safetensors}",
    "generator stylegan2": "generator: {kind: stylegan2, path: ffhq.safetensors, resolution: 256}",
    "generator stylegan3": "generator: {kind: stylegan3, path: afhq.safetensors, space: w+}",
    "generator biggan": "generator: {kind: biggan, path: biggan.safetensors}",
    "generator biggan-deep": "generator: {kind: biggan-deep, path: biggan-deep-256.safetensors}",
    "generator r3gan": "generator: {kind: r3gan, path: imagenet-64.safetensors}",
    "generator fastgan": "generator: {kind: fastgan, path: pokemon.safetensors}",
    "generator dcgan": "generator: {kind: dcgan, path: netG.safetensors}",
    "generator diffusers": "generator: {kind: diffusers, path: cd_imagenet64, subspace: 128}",
    "generator pggan": "generator: {kind: pggan, path: celebahq.safetensors}",
    "A generator of your own": """\
generator:
  kind: torchscript
  path: synthesis.pt
  latent_dim: 512
  output_range: [-1, 1]
  mapping: {kind: torchscript, path: mapping.pt, mean: w_avg}
  classes: [cat, dog, wild]""",
    "An imported generator": "generator: {kind: stylegan2, path: afhq.safetensors, classes: [cat, dog, wild]}",
    "attribute pixels": "attributes: {sky: {kind: pixels, region: {box: [0, 0, 0.4, 1]}, lowpass: 2}}",
    "attribute object": "attributes: {sofa: {kind: object, model: {kind: builtin, name: rooms-segmenter}, classes: [3]}}",
    "attribute segmentation": (
        "attributes: {place: {kind: segmentation, model: {kind: builtin, name: rooms-segmenter}, classes: [3]}}"
    ),
    "attribute landmarks": """\
attributes:
  eyes:
    kind: landmarks
    model: {kind: torchscript, path: landmarks.pt}
    points: [36, 39, 42, 45]
    input_size: [112, 112]""",
    "attribute frequency": "attributes: {fine: {kind: frequency, low: 0.1, high: 0.5}}",
    "attribute classifier": "attributes: {class: {kind: classifier, model: {kind: builtin, name: fashion-mnist-classifier}}}",
    "attribute embedding": """\
attributes:
  identity:
    kind: embedding
    normalize: true
    model: {kind: torchscript, path: identity.pt}
    input_size: [160, 160]
    mean: [0.5, 0.5, 0.5]
    std: [0.502, 0.502, 0.502]""",
    "attribute colour": "attributes: {ground: {kind: colour, region: {box: [0, 0, 0.4, 1]}, negate: true}}",
    "attribute callable": 'attributes: {hue: {kind: callable, target: "my_module:hue"}}',
    "An object's mask": """\
attributes:
  car:
    kind: object
    model: {kind: torchscript, path: segmenter.pt}
    classes: [13, 14]
    scores: sigmoid""",
    "region": "attributes: {look: {kind: pixels, region: {mask: mask.png}, negate: true}}",
    "segment": """\
attributes:
  hair:
    kind: pixels
    region:
      segment:
        model: {kind: torchscript, path: face-parts.pt}
        classes: [17]
        recompute: true""",
    "network builtin": "judge: {model: {kind: builtin, name: fashion-mnist-judge}}",
    "network torchscript": "judge: {model: {kind: torchscript, path: judge.pt}}",
    "network exported": "judge: {model: {kind: exported, path: judge.pt2}}",
    "network factory": 'judge: {model: {kind: factory, target: "my_project:judge", weights: judge.pt}}',
    "network timm": """\
judge:
  model: {kind: timm, architecture: resnet18, path: weights.safetensors}
  input_size: [224, 224]
  mean: [0.485, 0.456, 0.406]
  std: [0.229, 0.224, 0.225]""",
    "network torchvision": """\
judge:
  model: {kind: torchvision, architecture: resnet50, path: weights.pth}
  input_size: [224, 224]
  mean: [0.485, 0.456, 0.406]
  std: [0.229, 0.224, 0.225]""",
    "What a network sees": """\
judge:
  model: {kind: torchscript, path: judge.pt}
  input_size: [224, 224]
  input_range: [-1, 1]""",
    "roles": """\
label: class
held: {class: 0.05}
varied: {look: {minimum: 0.2, weight: 1}}""",
    "trajectory": "trajectory: {method: corrected, directions: 4, waypoints: 3, step: 0.1}",
    "judge": "judge: {model: {kind: torchscript, path: judge.pt}, mean: [0.5], std: [0.5]}",
    "shards": "shards: {seeds: 32, image: webp, quality: 95}",
}


def page() -> str:
    """Returns docs/spec.md."""
    return "\n".join(
        [
            "<!-- Written by `python -m tests.support.reference`. Change the models, or that file, not this one. -->",
            *_text(
                "# The spec",
                "A spec is one YAML file. Unknown keys, keys given twice, NaN and infinities are errors, and all are reported "
                "together. Relative paths start at the spec's own folder. Where a table shows no default, the key may be left "
                "out. Code of your own runs only with `--allow-code`.",
                "`reds kinds NAME` prints these tables in a terminal; `reds schema` prints the JSON Schema, for editors.",
                "Most numbers are in *spreads*: the median distance between unrelated images in an attribute or, for a step, "
                "between unrelated latents. 0 is identical, 1 is as different as two unrelated images. [Method](method.md) has "
                "the details.",
            ),
            *_section("All keys", Spec, None),
            *_text("## Seeds", "A seed is an integer. It names one latent, and so one generated image."),
            *_fence("seeds"),
            *_table(Seeds),
            *_section("`fit`", Fit, "fit", "###"),
            *_text("## Generators", "`generator` is one of these kinds. [Checkpoints](checkpoints.md) has the recipes."),
            *_each(AnyGenerator, "generator"),
            *_shared(LatentOptions),
            *_shared(ImportedGenerator),
            *_text(
                "## Attributes",
                "An attribute has a name of your choice and one of these kinds. [Attributes](attributes.md) compares them.",
            ),
            *_each(AnyFeature, "attribute"),
            *_shared(MaskInput),
            *_section("`region`", Region, "region", "###"),
            *_section("`segment`", Segment, "segment", "###"),
            *_text("## Networks", "The `model` of an attribute, and of the judge, is one of these kinds."),
            *_each(AnyNetwork, "network"),
            *_shared(FromFile),
            *_shared(Preprocessing),
            *_text(
                "## Label, held and varied",
                "`label` is `condition` (the class given to the generator), the name of a classifier attribute (its decision on "
                "the seed's own image), `given` (yours, with own images), or `none`.",
                "`held` gives each held attribute its limit, in one of two forms: a number holds it at the seed's level, and is "
                "the largest drift allowed, in spreads; `{decision: 0.9}` holds the decision of a classifier, and nothing else. "
                "The class held is the sample's label if the classifier knows it, else its own decision on the seed's image. "
                "See [a level, or a decision](method.md#a-level-or-a-decision). `varied` gives each varied attribute the smallest "
                "effect wanted; `look: 0.2` is short for `look: {minimum: 0.2}`. An attribute may be in neither.",
            ),
            *_fence("roles"),
            *_table(Goal),
            *_fence("decision"),
            *_table(Decision),
            *_section("Trajectory", Trajectory, "trajectory"),
            *_text(
                "## Judge",
                "A classifier that had no part in holding anything. It takes a `model` and the keys of "
                "[what a network sees](#what-a-network-sees). Without a judge, nothing checks the labels.",
            ),
            *_fence("judge"),
            *_section("Shards", Shards, "shards"),
        ]
    )


def _text(*paragraphs: str) -> Iterator[str]:
    for paragraph in paragraphs:
        yield from ("", *textwrap.wrap(paragraph, 130, break_long_words=False, break_on_hyphens=False))


def _fence(example: str) -> Iterator[str]:
    yield from ("", "<!-- fragment -->", "```yaml", EXAMPLES[example], "```")


def _section(title: str, model: type[BaseModel], example: str | None, level: str = "##") -> Iterator[str]:
    yield from _text(f"{level} {title}", inspect.cleandoc(model.__doc__ or ""))
    if example:
        yield from _fence(example)
    yield from _table(model)


def _each(union: Any, what: str) -> Iterator[str]:
    """A section for every kind of a discriminated union."""
    for model in get_args(get_args(union)[0]):
        (kind,) = get_args(model.model_fields["kind"].annotation)
        yield from _section(f"{what.capitalize()} `{kind}`", model, f"{what} {kind}", "###")


def _shared(model: type[BaseModel]) -> Iterator[str]:
    """A section for one of SHARED."""
    (title,) = (s.title for s in SHARED if s.model is model)
    yield from _section(title, model, title if title in EXAMPLES else None, "###")


def _table(model: type[BaseModel]) -> Iterator[str]:
    """A model's fields; those that have a table of their own are linked."""
    schema = model.model_json_schema()
    properties: Mapping[str, Any] = schema["properties"]
    shared = [s for s in SHARED if s.model is not model and issubclass(model, s.model)]
    elsewhere = {
        name
        for s in shared
        for name, field in s.model.model_fields.items()
        if model.model_fields[name].description == field.description
    }
    own = {n: p for n, p in properties.items() if n not in elsewhere and n != "kind" and (model, n) != (FromFile, "path")}
    if own:
        yield from ("", "| key | value | default | unit | meaning |", "|---|---|---|---|---|")
    for name, p in own.items():
        default = "required" if name in schema.get("required", ()) else _default(model, name)
        meaning = (model.model_fields[name].description or MEANINGS[name]) + LINKS.get(name, "")
        value = _value(p)
        unit = (UNITS_OF.get((model, name)) or UNITS[name]) if NUMBER.search(value) else ""
        yield f"| `{name}` | {value} | {default} | {unit} | {meaning} |"
    if shared:
        links = " and ".join(f"[{s.title[0].lower()}{s.title[1:]}](#{s.link})" for s in shared)
        yield from _text(f"{'Also takes' if own else 'Takes'} the keys of {links}.")


def _default(model: type[BaseModel], name: str) -> str:
    value = model.model_fields[name].get_default(call_default_factory=True)
    if value is None or isinstance(value, BaseModel):
        return ""
    if isinstance(value, tuple):
        return f"`[{', '.join(f'{v:g}' for v in value)}]`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _value(p: Mapping[str, Any]) -> str:
    """A JSON Schema type in words."""
    if choices := p.get("anyOf") or ("discriminator" not in p and p.get("oneOf")):
        found = list(dict.fromkeys(_value(v) for v in choices if v.get("type") != "null"))
        return " or ".join(found) if len(found) < MANY else "any plain value"
    if "discriminator" in p:
        kinds = p["discriminator"]["mapping"]
        return next((word for kind, word in UNIONS.items() if kind in kinds), f"a network: {', '.join(f'`{k}`' for k in kinds)}")
    if "const" in p or "enum" in p:
        return ", ".join(f"`{v}`" for v in p.get("enum", [p.get("const")]))
    if p.get("type") == "array":
        items = p.get("prefixItems") or [p["items"]]
        count = f"{len(items)} values, each" if "prefixItems" in p else "list, each"
        return f"{count} {_value(items[0])}"
    if p.get("type") == "object":
        inner: Any = p.get("additionalProperties") or next(iter(p.get("patternProperties", {}).values()), {})
        return f"names, each with {_value(inner)}" if isinstance(inner, Mapping) and inner else "names, each with any value"
    if p.get("format") == "path":
        return "file"
    words = {"string": "text", "number": "number", "integer": "integer", "boolean": "`true`, `false`"}
    return (words[p["type"]] if "type" in p else "keys" if "$ref" in p else "any value") + _limits(p)


def _limits(p: Mapping[str, Any]) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    found = [f"{sign} {f'{p[key]:g}' if p[key] < 1e6 else p[key]}" for key, sign in signs.items() if key in p]
    return f" {' and '.join(found)}" if found else ""


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page() + "\n", encoding="utf-8")
