"""YAML without its traps: a key given twice is an error, so is a key that is no text, 1e-3 is a number, and a date is text.

What comes out is what JSON has, no larger than its text may be: no tags, no integers beyond 64 bits, no halves of characters,
and no aliases that unfold to more than a document's size. `dump` writes what `parse` reads back as it was.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

MOST_CHARACTERS = 200_000  # of a document, its aliases written out
DEEPEST = 100  # levels of values in values
TOO_DEEP = f"is nested more than {DEEPEST} deep"
INTEGERS = range(-(2**63), 2**63)
NO_TYPES = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")  # text, like all that JSON has no type for


FLOAT = ("tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+0123456789."))


def parse(text: str, around: int = 0) -> Any:
    """A document's value.

    Args:
        around: levels of the value that it becomes a part of.

    Raises:
        ValueError: what is wrong, and where.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"has {len(text)} characters; {MOST_CHARACTERS} is the most that is read")
    try:
        loader = _Loader(text)
        loader.around = around
        return loader.get_single_data()  # type: ignore[no-untyped-call]
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{where}{getattr(error, 'problem', None) or error}") from error


def dump(value: Any) -> str:
    """A value as a document, its keys in their order."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


class _Loader(yaml.SafeLoader):
    """The safe loader, with a stricter mapping and a more generous float."""

    around: int

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()  # type: ignore[no-untyped-call]
        if node is not None:
            _measure(node, {}, self.around)
        return node

    def fetch_tag(self) -> None:
        raise _mistake("tags have no place here; quote a text that begins with !", self.get_mark())  # type: ignore[no-untyped-call]


class _Dumper(yaml.SafeDumper):
    """The safe dumper, which quotes a text that the loader would take for a number."""


def _mistake(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, mark)


def _measure(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """The characters and values of a node, aliases written out. Stops at what is too large, too deep, or no text."""
    if id(node) in known:
        return known[id(node)]
    if depth > DEEPEST:
        raise _mistake(TOO_DEEP, node.start_mark)
    known[id(node)] = 0  # a node inside itself, which the constructor refuses
    size = 1
    if isinstance(node, yaml.ScalarNode):
        size += len(node.value)
        if re.search("[\ud800-\udfff]", node.value):
            raise _mistake("holds half of a surrogate pair, which is no character", node.start_mark)
    for part in node.value if isinstance(node, yaml.CollectionNode) else ():
        for inner in part if isinstance(part, tuple) else (part,):
            size += _measure(inner, known, depth + 1)
    if size > MOST_CHARACTERS:
        raise _mistake(f"its aliases unfold to more than {MOST_CHARACTERS} characters", node.start_mark)
    known[id(node)] = size
    return size


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    seen: dict[Any, yaml.Mark] = {}
    loader.flatten_mapping(node)
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
        if not isinstance(key, str):
            raise _mistake(f"the key {key!r} is no text; quote it", key_node.start_mark)
        if key in seen:
            raise _mistake(f"the key {key!r} is given twice, first in line {seen[key].line + 1}", key_node.start_mark)
        seen[key] = key_node.start_mark
    return {loader.construct_object(k, deep=True): loader.construct_object(v, deep=True) for k, v in node.value}  # type: ignore[no-untyped-call]


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    try:
        value: int = loader.construct_yaml_int(node)  # type: ignore[no-untyped-call]
    except ValueError:  # no digits, or thousands
        value = INTEGERS.stop
    if value not in INTEGERS:
        raise _mistake("is no integer of at most 64 bits; quote it if it is a text", node.start_mark)
    return value


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML writes this line break as it is, and reads it as another one.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\x85" in text else None)


_Dumper.add_representer(str, _text)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in NO_TYPES]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(*FLOAT)
