"""What can be wrong with a spec, found in one go: mistakes of shape, mistakes of reference, and what is allowed but doubtful.

Shape is checked by pydantic, whose errors are put into words here. References (a held name that no attribute has) are checked in
the raw mapping, so that they are found whatever else is wrong with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reds_core.models.config import Config
from reds_core.spec.digest import canonical
from reds_core.spec.fields import NEEDED_TO_WALK, Spec
from reds_core.spec.keys import form, nearest

LABELS_BESIDE_ATTRIBUTES = ("condition", "given", "none")
LIMIT_FORMS = "give a number of spreads, or {decision: 0.9} to hold a classifier's decision"


def shape_mistake(error: Any, raw: Any) -> str:
    """Returns one of pydantic's errors about a raw mapping as "where: what"."""
    keys: list[str] = []
    for at, part in enumerate(error["loc"]):
        # Of the two forms of a limit, pydantic names the one that it chose.
        if at == 2 and keys == ["held", str(error["loc"][1])]:
            continue
        # Pydantic names the kind that it chose as if it were a key.
        if isinstance(raw, Mapping) and part not in raw and part == raw.get("kind"):
            continue
        # Of a value that may be a number or a list, pydantic names both types as if they were keys.
        if isinstance(part, str) and isinstance(raw, list | int | float | str):
            continue
        keys.append(str(part))
        raw = (
            raw.get(part) if isinstance(raw, Mapping) else raw[part] if isinstance(raw, list) and part in range(len(raw)) else None
        )
    where = ".".join(keys)
    what = error["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list")
    if error["type"] == "extra_forbidden":
        what = f"unknown key; {nearest(error['loc'][:-1], keys[-1])}"
    elif error["type"] == "missing":
        what = "is required"
    elif error["type"] in ("finite_number", "literal_error", "union_tag_invalid") or "type" in error["type"]:
        value = repr(error["input"])
        what += f", not {value if len(value) <= 60 else value[:57] + '...'}"
    if error["type"] == "string_type" and isinstance(error["input"], bool | float):
        what += "; put it in quotes if it is text"
    if error["type"] in ("tuple_type", "too_long", "missing") and (written := form(_listed_at(error["loc"]))):
        what += f"; write it as {written}"
    if keys[:1] == ["held"] and error["type"] in ("float_type", "missing") and keys[2:] in ([], ["decision"]):
        what += f"; {LIMIT_FORMS if error['type'] == 'missing' or len(keys) == 2 else 'give a probability'}"
    return f"{where}: {what}"


def _listed_at(loc: Sequence[Any]) -> Sequence[Any]:
    """Returns where the list is that an error is about, or about a number in."""
    return loc[:-1] if loc and isinstance(loc[-1], int) else loc


def reference_mistakes(raw: Mapping[str, Any]) -> list[str]:
    """Returns the names in a raw mapping, of whatever shape, that refer to nothing or to the wrong thing."""

    def mapping(key: str, of: Mapping[str, Any] = raw) -> Mapping[str, Any]:
        value = of.get(key)
        return value if isinstance(value, Mapping) else {}

    attributes, held, varied = mapping("attributes"), mapping("held"), mapping("varied")
    known = ", ".join(attributes) or "none are defined"
    mistakes = _mistakes_of_walking(raw, mapping("trajectory"))
    mistakes += [
        f"{role}.{name}: no attribute has this name; there are: {known}"
        for role, names in (("held", held), ("varied", varied))
        for name in names
        if name not in attributes
    ]
    mistakes += [
        f"held.{name}.decision: {name!r} is of kind {kind}, which decides on nothing; give a number of spreads, or hold a "
        "classifier"
        for name, limit in held.items()
        if isinstance(limit, Mapping) and (kind := mapping(name, attributes).get("kind", "classifier")) != "classifier"
    ]
    mistakes += [f"{name}: is both held and varied; it can only be one of them" for name in held if name in varied]
    beta = mapping("beta", mapping("trajectory"))
    mistakes += [f"trajectory.beta.{name}: not a held attribute" for name in beta if name not in held]
    label = raw.get("label")
    own = mapping("seeds").get("images") is not None
    if "label" not in raw and not own:
        mistakes.append("label: is required")
    if label == "given" and not own:
        mistakes.append("label: `given` is the label of the user's own images; give them as seeds.images, or label otherwise")
    if label == "condition" and own:
        mistakes.append("label: own images have their labels from the user; leave `label` out, or label otherwise")
    if own and mapping("generator").get("walk_resolution") is not None:
        mistakes.append("seeds.images: own images cannot be walked by smaller ones; leave generator.walk_resolution out")
    if isinstance(label, str) and label not in LABELS_BESIDE_ATTRIBUTES:
        kind = mapping(label, attributes).get("kind")
        if label not in attributes:
            mistakes.append(f"label: no attribute is named {label!r}; name a classifier attribute, `condition`, `given` or `none`")
        elif kind != "classifier":
            mistakes.append(f"label: {label!r} is of kind {kind}, which does not decide on a class; name a classifier attribute")
    shards = mapping("shards")
    if shards.get("quality") is not None and shards.get("image", "png") == "png":
        mistakes.append("shards.quality: png is lossless and has no quality; choose jpg or webp, or leave it out")
    return mistakes


def _mistakes_of_walking(raw: Mapping[str, Any], trajectory: Mapping[str, Any]) -> list[str]:
    """Returns what a run that follows directions lacks, or what has no meaning in one that follows none."""
    if trajectory.get("directions") != 0:
        missing = [f"{name}: is required" for name in NEEDED_TO_WALK if name not in raw]
        return missing + [
            f"{name}: needs at least one attribute, unless trajectory.directions is 0 (seeds alone)"
            for name in NEEDED_TO_WALK
            if raw.get(name) == {}
        ]
    about_walking = {f"trajectory.{name}": "'trajectory={directions: 0}'" for name in trajectory if name != "directions"}
    about_walking |= {name: f"{name}=null" for name in ("duplicates", "keep") if raw.get(name) is not None}
    return [
        f"{name}: says something of trajectories, but with `trajectory: {{directions: 0}}` there are none; leave it out "
        f"(--set {without})"
        for name, without in about_walking.items()
    ]


def field_mistakes(spec: Spec) -> list[str]:
    """Returns each config's own mistakes, and the fields in pixels that `walk_resolution` rules out."""
    found = [f"{key.removesuffix('.')}: {mistake}" for key, config in configs_in(spec) for mistake in config.mistakes()]
    walked, possible = spec.trajectory, spec.most_variants
    if spec.keep is not None and spec.walks and spec.keep > possible:
        found.append(
            f"keep: {spec.keep} is more than the {possible} variants that a seed can have, by {walked.directions} directions both "
            f"ways and {walked.waypoints} waypoints; keep fewer, or leave it out to keep all"
        )
    if not getattr(spec.generator, "walk_resolution", None):
        return found
    return found + [
        f"attributes.{name}.{key}{field}: counts in pixels, which are larger in images of generator.walk_resolution; leave one of "
        "the two out"
        for name in (*spec.held, *spec.varied)
        for key, config in configs_in(spec.attributes.get(name))
        for field in config.in_pixels
        if getattr(config, field)
    ]


def not_finite(value: Any, where: str = "") -> Iterator[str]:
    """Yields a mistake for each NaN and infinity that no field's type has refused: those inside `options`."""
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{where.removesuffix('.')}: Input should be a finite number, not {value}"
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from not_finite(item, f"{where}{key}.")


def doubts(spec: Spec) -> list[str]:
    """Returns what is allowed but hardly meant, such as a judge that is the network of a held attribute.

    Raises:
        ModelError: a file that the judge or a held attribute names cannot be read.
    """
    found = [f"{key.removesuffix('.')}: {doubt}" for key, config in configs_in(spec) for doubt in config.doubts()]
    found += [
        f"held.{name}: a tolerance of {tolerance:g} spreads holds nothing: 1 is the distance between two unrelated images"
        for name, tolerance in spec.levels.items()
        if tolerance > 1
    ]
    if spec.judge is None:
        return found
    judge = canonical(spec.judge)["model"]
    return found + [
        f"judge: it is the network of the held attribute {name}, so it is not independent: it sees what is held, and nothing else"
        for name in spec.held
        if canonical(spec.attributes[name]).get("model") == judge
    ]


def configs_in(value: Any, where: str = "") -> Iterator[tuple[str, Config]]:
    """Yields a config and every config inside it, each with its key followed by a dot."""
    if isinstance(value, Config):
        yield where, value
        for name in type(value).model_fields:
            yield from configs_in(getattr(value, name), f"{where}{name}.")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from configs_in(item, f"{where}{name}.")
