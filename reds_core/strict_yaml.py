"""YAML without its traps: a key given twice is an error, so is a key that is no text, and 1e-3 is a number."""

from __future__ import annotations

import re
from typing import Any

import yaml


def parse(text: str) -> Any:
    """A document's value. Raises ValueError that says what is wrong and where."""
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{where}{getattr(error, 'problem', None) or error}") from error


class _Loader(yaml.SafeLoader):
    """The safe loader, with a stricter mapping and a more generous float."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    seen: dict[Any, yaml.Mark] = {}
    loader.flatten_mapping(node)
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is no text; quote it", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} is given twice, first in line {seen[key].line + 1}", key_node.start_mark
            )
        seen[key] = key_node.start_mark
    return {loader.construct_object(k, deep=True): loader.construct_object(v, deep=True) for k, v in node.value}  # type: ignore[no-untyped-call]


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789."))
