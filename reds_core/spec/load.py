"""YAML -> spec, and back. A spec that is wrong is refused with every mistake of shape and of reference at once.

Files are looked at later, by `check_files` and when networks are loaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reds_core.errors import ModelError, SpecError, is_text
from reds_core.models.config import Config
from reds_core.sources import sources_of
from reds_core.spec import strict_yaml
from reds_core.spec.fields import NEEDED_TO_WALK, Spec
from reds_core.spec.problems import field_mistakes, not_finite, reference_mistakes, shape_mistake
from reds_core.words import counted

SHORT_FORMS = {"held": (), "varied": ("minimum",)}  # whose numbers may stand for a mapping -> the field that the number is
PATHS = ("path", "weights", "mask", "images")  # the fields that hold one


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> Spec:
    """Reads a spec.

    Args:
        path: of the YAML file.
        overrides: "key.path=value", the values YAML, paths in them relative to the working directory.

    Raises:
        SpecError: the file or an override cannot be read, or the spec is wrong; lists every mistake of shape and of reference.
    """
    path = Path(path)
    if not is_text(path.absolute()):
        raise SpecError(ascii(str(path))[1:-1], ["the path is not UTF-8, and no report could name it; rename the file or folder"])
    try:
        raw = strict_yaml.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(str(path), [f"cannot be read: {getattr(error, 'strerror', None) or error}"]) from error
    except ValueError as error:
        raise SpecError(str(path), [str(error)]) from error
    if not isinstance(raw, dict):
        raise SpecError(str(path), ["must map keys to values; see `reds schema`, and augment_specs/ for examples"])
    for override in overrides:
        _override(raw, override)
    mistakes = []
    spec = None
    try:
        spec = Spec.model_validate(raw, context={"base": path.absolute().parent})
    except ValidationError as error:
        mistakes = [shape_mistake(e, raw) for e in error.errors()]
    mistakes += reference_mistakes(raw)
    if spec is not None:
        mistakes += [*field_mistakes(spec), *not_finite(_plain(spec))]
    if spec is None or mistakes:
        raise SpecError(str(path), list(dict.fromkeys(mistakes)))
    return _counted(spec, str(path))


def _counted(spec: Spec, where: str) -> Spec:
    """Returns a spec whose own images are counted, if they can be read: `check_files` says why they cannot.

    What was counted once, as in a run's spec.yaml, needs no images any more.
    """
    seeds = spec.seeds
    if seeds.images is None or seeds.count is not None:
        return spec
    try:
        found = len(sources_of(seeds.images, seeds.classes).images)
    except ModelError:
        return spec
    if seeds.first >= found:
        raise SpecError(where, [f"seeds.first: {seeds.first}, but there are only {counted(found, 'image')}"])
    return spec.model_copy(update={"seeds": seeds.model_copy(update={"count": found - seeds.first})})


def dump(spec: Spec) -> str:
    """Returns the resolved spec as YAML: defaults filled in, paths absolute; without trajectories, only what counts then."""
    plain = _plain(spec)
    if not spec.walks:
        unused = {"duplicates", *(name for name in NEEDED_TO_WALK if not plain[name])}
        plain = {name: value for name, value in plain.items() if name not in unused} | {"trajectory": {"directions": 0}}
    return strict_yaml.dump(plain)


def absolute(override: str) -> str:
    """Returns an override whose paths no longer depend on the working directory, for a process that starts in another one."""
    key, _, value = override.partition("=")
    return f"{key}={json.dumps(_from_here(strict_yaml.parse(value), key.rpartition('.')[2]), ensure_ascii=False)}"


def _override(raw: dict[str, Any], text: str) -> None:
    """Sets one "key.path=value" in the raw spec."""
    key, equals, value = text.partition("=")
    keys = key.strip().split(".")
    if not equals or not all(k and k.isprintable() for k in keys):
        raise _override_error(f"{text!r} is not of the form key.path=value")
    try:
        parsed = strict_yaml.parse(value, around=len(keys))
    except ValueError as error:
        raise _override_error(f"{text!r}: {error}") from error
    target = raw
    for at, k in enumerate(keys[:-1]):
        if not isinstance(target.setdefault(k, {}), dict):
            if at != 1 or keys[0] not in SHORT_FORMS:
                raise _override_error(f"{text!r}: {k} is a value and has no keys below it")
            target[k] = {field: target[k] for field in SHORT_FORMS[keys[0]]}
        target = target[k]
    target[keys[-1]] = _from_here(parsed, keys[-1])


def _override_error(what: str) -> SpecError:
    return SpecError("overrides", [what], parameter="overrides")


def _from_here(value: Any, key: str) -> Any:
    """Returns an override's value with its paths absolute: they are relative to the working directory, not to the spec."""
    if isinstance(value, dict):
        return {k: _from_here(v, k) for k, v in value.items()}
    if isinstance(value, list) and key in PATHS:
        return [_from_here(v, key) for v in value]
    return str(Path(value).absolute()) if isinstance(value, str) and key in PATHS else value


def _plain(value: Any) -> Any:
    """Returns plain YAML values. A field that is None is left out; a None inside `options` is a value."""
    if isinstance(value, Config):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        return {name: _plain(v) for name, v in fields.items() if v is not None}
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value
