"""YAML without its traps: a key given twice is an error, and so is a key that is not text; 1e-3 is a number; dates and 01 are text.

`parse` returns what JSON could hold, and never more than the largest text that is read: tags, integers beyond 64 bits, halves of
characters, and aliases that unfold to more than that size are errors. `parse` returns what `dump` was given, unchanged.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

MOST_CHARACTERS = 200_000  # in a document, with its aliases written out
DEEPEST = 100  # levels of values inside values
TOO_DEEP = f"is nested more than {DEEPEST} deep"
INTEGERS = range(-(2**63), 2**63)
INTEGER = ("tag:yaml.org,2002:int", re.compile(r"^[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)$"), list("-+0123456789"))
# Read as text, since JSON has no type for them; and integers by INTEGER alone, for which 010 is not 8, nor 1:30 90.
UNTYPED = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value", "tag:yaml.org,2002:int")
FLOAT = ("tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+0123456789."))


def parse(text: str, around: int = 0) -> Any:
    """Returns the value of a document.

    Args:
        text: the document.
        around: how many levels deep the value will be put into another one; they count towards the limit.

    Raises:
        ValueError: says what is wrong, and where.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"has {len(text)} characters; at most {MOST_CHARACTERS} are read")
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
    """Returns a value as a document, its keys in their order."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


class _Loader(yaml.SafeLoader):
    """The safe loader, stricter with mappings and more generous with floats."""

    around: int

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()  # type: ignore[no-untyped-call]
        if node is not None:
            _measure(node, {}, self.around)
        return node

    def fetch_tag(self) -> None:
        raise _mistake("tags are not allowed; quote a text that begins with !", self.get_mark())  # type: ignore[no-untyped-call]


class _Dumper(yaml.SafeDumper):
    """The safe dumper, which also quotes a text that `_Loader` would take for a number."""


def _mistake(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, mark)


def _measure(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """Returns the characters and values of a node, aliases written out. Raises if it is too large, too deep, or not text."""
    if id(node) in known:
        return known[id(node)]
    if depth > DEEPEST:
        raise _mistake(TOO_DEEP, node.start_mark)
    known[id(node)] = 0  # for a node inside itself, which the constructor will refuse
    size = 1
    if isinstance(node, yaml.ScalarNode):
        size += len(node.value)
        if re.search("[\ud800-\udfff]", node.value):
            raise _mistake("holds half of a surrogate pair, which is not a character", node.start_mark)
    for part in node.value if isinstance(node, yaml.CollectionNode) else ():
        for inner in part if isinstance(part, tuple) else (part,):
            size += _measure(inner, known, depth + 1)
    if size > MOST_CHARACTERS:
        raise _mistake(f"its aliases unfold to more than {MOST_CHARACTERS} characters", node.start_mark)
    known[id(node)] = size
    return size


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    seen: dict[str, yaml.Mark] = {}
    loader.flatten_mapping(node)
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
        if not isinstance(key, str):
            raise _mistake(f"the key {key!r} is not text; quote it", key_node.start_mark)
        if key in seen:
            raise _mistake(f"the key {key!r} is given twice, first on line {seen[key].line + 1}", key_node.start_mark)
        seen[key] = key_node.start_mark
    values = [loader.construct_object(v, deep=True) for _, v in node.value]  # type: ignore[no-untyped-call]
    return dict(zip(seen, values, strict=True))


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    try:
        value: int = loader.construct_yaml_int(node)  # type: ignore[no-untyped-call]
    except ValueError:  # no digits, or thousands of them
        value = INTEGERS.stop
    if value not in INTEGERS:
        raise _mistake("is not an integer of at most 64 bits; quote it if it is text", node.start_mark)
    return value


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML would write this line break unescaped, and read it back as another one.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\x85" in text else None)


_Dumper.add_representer(str, _text)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in UNTYPED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(*INTEGER)
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(*FLOAT)
