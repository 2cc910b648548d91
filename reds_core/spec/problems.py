"""What can be wrong with a spec, found in one go: pydantic's mistakes of shape in words, and mistakes of reference.

References (a held name that no attribute has) are looked for in the raw mapping, whatever else is wrong with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from reds_core.models.config import Config

SEPARATE_LABELS = ("condition", "none")


def shape_mistake(error: Any, raw: Any) -> str:
    """One of pydantic's errors as "where: what"."""
    keys = []
    for part in error["loc"]:
        # Pydantic names the kind that it chose as if it were a key.
        if isinstance(raw, Mapping) and part not in raw and part == raw.get("kind"):
            continue
        keys.append(str(part))
        raw = raw.get(part) if isinstance(raw, Mapping) else None
    where = ".".join(keys)
    what = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        what = "is no key here; `reds schema` lists them"
    elif error["type"] == "missing":
        what = "is required"
    elif error["type"] in ("finite_number", "literal_error", "union_tag_invalid") or "type" in error["type"]:
        value = repr(error["input"])
        what += f", not {value if len(value) <= 60 else value[:57] + '...'}"
    return f"{where}: {what}"


def references(raw: Mapping[str, Any]) -> list[str]:
    """Names that refer to nothing, or to the wrong thing. Must bear any raw mapping."""

    def mapping(key: str, of: Mapping[str, Any] = raw) -> Mapping[str, Any]:
        value = of.get(key)
        return value if isinstance(value, Mapping) else {}

    attributes, held, varied = mapping("attributes"), mapping("held"), mapping("varied")
    known = ", ".join(attributes) or "none are defined"
    mistakes = [
        f"{role}.{name}: no attribute has this name; there are: {known}"
        for role, names in (("held", held), ("varied", varied))
        for name in names
        if name not in attributes
    ]
    mistakes += [f"{name}: is both held and varied; it can only be one" for name in held if name in varied]
    mistakes += [
        f"trajectory.beta.{name}: is no held attribute" for name in mapping("beta", mapping("trajectory")) if name not in held
    ]
    label = raw.get("label")
    if isinstance(label, str) and label not in SEPARATE_LABELS:
        kind = mapping(label, attributes).get("kind")
        if label not in attributes:
            mistakes.append(f"label: no attribute is named {label!r}; give a classifier attribute, `condition` or `none`")
        elif kind != "classifier":
            mistakes.append(f"label: {label!r} is of kind {kind}, which decides no class; give a classifier attribute")
    shards = mapping("shards")
    if shards.get("quality") is not None and shards.get("image", "png") == "png":
        mistakes.append("shards.quality: png is lossless and has no quality; choose jpg or webp, or leave it out")
    return mistakes


def field_mistakes(spec: Config, where: str) -> list[str]:
    """What configs say of themselves, by their `mistakes` method."""
    return [
        f"{key.removesuffix('.') or 'spec'}: {mistake}"
        for key, value in walk(spec, where)
        for mistake in getattr(value, "mistakes", list)()
        if not mistake.startswith("region: ")  # the region says so itself
    ]


def no_numbers(value: Any, where: str) -> Iterator[str]:
    """NaN and infinities that no field's type has refused: those inside `options`."""
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{where.removesuffix('.')}: Input should be a finite number, not {value}"
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from no_numbers(item, f"{where}{key}.")


def walk(value: Any, where: str) -> Iterator[tuple[str, Config]]:
    """A config and every config inside it, each with its key followed by a dot."""
    if isinstance(value, Config):
        yield where, value
        for name in type(value).model_fields:
            yield from walk(getattr(value, name), f"{where}{name}.")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from walk(item, f"{where}{name}.")
