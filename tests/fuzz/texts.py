"""YAML that nobody would write: values that stand in the way of a loader, and mutations of a spec's text.

TEXTS       change the YAML, or its bytes: (draw, text) -> bytes
OVERRIDES   are given beside it, by --set: (draw) -> str
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

# Every kind that no shipped spec has, and all that takes free values.
ALL_KINDS = """
name: all-kinds
generator:
  {kind: factory, target: "m:f", options: {a: 1, b: [x, {c: ~}]}, latent_dim: 8, output_range: [0, 1], classes: [a, b],
   mapping: {kind: exported, path: ~/m.pt2}, space: w+}
seeds: {count: 3, classes: [a, 1]}
attributes:
  class:
    {kind: classifier, model: {kind: timm, architecture: resnet18, path: c.pth, options: {act: relu}}, names: [x, y],
     mean: [0], std: [1]}
  sort: {kind: classifier, model: {kind: exported, path: s.pt2}}
  points: {kind: landmarks, target: "m.n:points", options: {threshold: 0.5}, points: [0, 3]}
  hue: {kind: callable, target: "m:hue", options: {deep: {er: [1, 2.5, yes, "1e5"]}}}
  part: {kind: segmentation, model: {kind: factory, target: "m:s"}, classes: [1]}
  seen: {kind: pixels, region: {mask: mask.png, sha256: "%s"}, highpass: 1.5, gray: true}
label: class
held: {class: 1e-1, sort: {decision: 0.9}, points: 1, part: 0.5}
varied: {hue: {minimum: 0.1, weight: 2}, seen: 0.3}
trajectory: {method: local, directions_by: rayleigh, beta: {class: 0.9}, tau: 1.0e-4, jacobian: reverse}
keep: 3
judge:
  {model: {kind: torchvision, architecture: resnet50, path: j.pth, options: {x: [1, null]}}, channels: 3,
   mean: [0, 0, 0], std: [1, 1, 1]}
shards: {seeds: 2, image: jpg, quality: 90}
""" % ("0" * 64)  # fmt: skip

# As they would stand in a file.
HOSTILE = (
    "1e400", "-1e400", "1e-400", "-0.0", "-0", ".nan", ".inf", "-.inf", "NaN", "9" * 30, "-" + "9" * 30, "9" * 5000,
    "0x" + "f" * 5000,
    "9223372036854775807", "9223372036854775808", "2147483648", "0", "-1", "1", "1e9", "0o17", "017", "1_000", "190:20:30",
    "1:2.5", "+.5",
    "1.", "0b_", "0x_", "1e5", "'1e5'", "'1'", "'.nan'", "1e-3", "0.5", "2024-01-01", "'2024-01-01'", "2024-13-45",
    "0001-01-01T00:00:00+10:00",
    "=", "'='", "<<", "'<<'", "~", "'~'", "yes", "'yes'", "''", "' '", '"\\uD800"', '"\\uDC80/\\0"', '"\\0"', '"\\x1b[2J\\x07"',
    '"\\u2028\\x85\\ufeff"', '"\\U0010FFFF"', '"\\x85"', '"a\\x85\\u2029 b\\r\\n"', "a" * 50_000, f"'{'é ' * 3000}'", "*nowhere",
    "&a [*a]", "&a {b: *a}", "{<<: {a: 1}}", "{<<: 3}",
    "{? [a] : b}", "{? {a: b} : c}", "{a: 1, a: 2}", "{1: a}", "{~: a}", "!!timestamp x", "!!int ''", "!!int _", "!!float ''",
    "!!bool x",
    "!!map [a]", "!!map a", "!!binary é", "!!set {a}", "!!omap [a: b]", "!!python/object/apply:os.getcwd []", "!", "!<x> y", "|",
    ">-", "%", "@",
    "`", '"', "'", "[", "{", "]", "}", ":", "?", "-", ",", "#", "../../etc/passwd", "~root/x", "~nobody-is-this/x", "m:f",
    "a" * 300 + ":f",
    "condition", "none", "f" * 64, "[]", "{}", "[[]]", "[1, 2]", "[0.1, 0.2, 0.3, 0.4]", "{kind: pixels}", "{kind: [a]}",
    "{kind: {a: b}}", "null",
)  # fmt: skip


TYPES = (
    "str", "int", "float", "bool", "null", "map", "seq", "set", "omap", "pairs", "binary", "timestamp", "merge", "value",
    "python/tuple",
)  # fmt: skip


def spans(draw: Random, size: int) -> tuple[int, int]:
    """Returns where a part begins and ends."""
    first, last = sorted((draw.randrange(size + 1), draw.randrange(size + 1)))
    return first, last


def at_value(draw: Random, text: str, new: str) -> str:
    """Returns the text with another one put before one of its values."""
    at = draw.choice([m.end() for m in re.finditer(r"[:,\[{-] ?", text)])
    return f"{text[:at]}{new}{text[at:]}"


def bytes_flipped(draw: Random, text: str) -> bytes:
    data = bytearray(text.encode())
    for _ in range(draw.choice((1, 2, 8))):
        data[draw.randrange(len(data))] = draw.choice((draw.randrange(256), draw.choice(b"\n\t :-[]{}&*!|>'\"%@`#?,\\\0\xff")))
    return bytes(data)


def cut(draw: Random, text: str) -> bytes:
    first, last = spans(draw, len(text))
    return draw.choice((text[:first], text[first:], text[:first] + text[last:])).encode()


def spliced(draw: Random, text: str) -> bytes:
    first, last = spans(draw, len(text))
    at = draw.randrange(len(text) + 1)
    return (text[:at] + text[first:last] + text[at:]).encode()


def lines_moved(draw: Random, text: str) -> bytes:
    lines = text.splitlines(keepends=True)
    for _ in range(draw.randrange(1, 4)):
        i, j = draw.randrange(len(lines)), draw.randrange(len(lines))
        line = lines.pop(j) if draw.randrange(2) else lines[j]
        lines.insert(i, draw.choice((line, " " * draw.randrange(6) + line.lstrip())))
    return "".join(lines).encode()


def respaced(draw: Random, text: str) -> bytes:
    old, new = draw.choice(
        (("\n", "\r\n"), ("\n", "\r"), ("\n", "\x85"), ("\n", "\u2028"), ("  ", "\t"), (" ", "\t"), (" ", "\xa0"), (" ", ""))
    )
    return text.replace(old, new, draw.choice((-1, 1, draw.randrange(1, 20)))).encode()


def encoded(draw: Random, text: str) -> bytes:
    if draw.randrange(4):
        text = text.replace("name: ", "name: é", 1)
    prefix = draw.choice((b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\0", b"\xef\xbb\xbf\xef\xbb\xbf"))
    return prefix + text.encode(draw.choice(("utf-8", "utf-16", "utf-16-be", "utf-32", "latin-1", "cp037", "utf-7")), "replace")


def value_inserted(draw: Random, text: str) -> bytes:
    return at_value(draw, text, draw.choice(HOSTILE) + draw.choice(("", " ", ", ", "\n", "\n  "))).encode()


def anchored(draw: Random, text: str) -> bytes:
    """Adds anchors and aliases that cross, merge, or name nothing."""
    for _ in range(draw.randrange(1, 5)):
        text = at_value(
            draw, text, draw.choice(("&a ", "&b ", "*a ", "*b ", "<<: *a, ", "{<<: *a}", "{<<: [*a, *b]}", "[*a, *b, *a]", "*a : "))
        )
    return text.encode()


def tagged(draw: Random, text: str) -> bytes:
    name = draw.choice(TYPES)
    tags = f"!!{name} ", f"!{name} ", f"!<tag:yaml.org,2002:{name}> ", "! ", "!!python/object/apply:os.getcwd "
    return at_value(draw, text, draw.choice(tags)).encode()


def nested(draw: Random, text: str) -> bytes:
    opening, closing = draw.choice(
        (("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", ""), ("[{a: [", "]}]"), ("&a [", "]"), ("{? ", "}"), ("\n a:", ""))
    )
    count = draw.choice((3, 20, 90, 97, 98, 99, 100, 101, 102, 250, 1000, 4000))
    deep = opening * count + draw.choice(("", "1", "*a")) + closing * draw.choice((count, count, 0, count - 1))
    return at_value(draw, text, deep + draw.choice(("", ", ", "\n"))).encode()


def laughing(draw: Random, text: str) -> bytes:
    """Adds a few lines of aliases that unfold to more than there is memory for: as lists, mappings, merges, keys or texts."""
    width, depth = draw.choice((2, 9, 30)), draw.choice((3, 5, 9, 40))
    first, level = draw.choice(
        (("[a]", "[{}]"), ("{a: 1}", "{{<<: [{}]}}"), ("{a: 1}", "{{a: [{}]}}"), ("[a]", "{{? [{}] : b}}"), ("x" * 9999, "[{}]"))
    )
    levels = [f"x{i}: &x{i} {level.format(', '.join([f'*x{i - 1}'] * width))}" for i in range(1, depth)]
    inside = f"options: {{{', '.join([f'x0: &x0 {first}', *levels])}, "
    if draw.randrange(2):
        text = ALL_KINDS
    elif draw.randrange(2):
        text = at_value(draw, ALL_KINDS, f"*x{depth - 1}")
    return text.replace("options: {", inside, 1).encode() if "options: {" in text else (inside + "}\n" + text).encode()


def lengthened(draw: Random, text: str) -> bytes:
    part = draw.choice(
        ("x", " ", "\n", "#", "k: 1\n", "- ", "'", '"', "\\", "é", "\t", "%", "---\n", "? ", ": ", "*a ", "1", "0.1, ", "'' : 1\n")
    )
    return at_value(draw, text, part * draw.choice((100, 1023, 1025, 5000, 60_000 // len(part), 200_001))).encode()


def with_documents(draw: Random, text: str) -> bytes:
    mark = draw.choice(
        ("---", "...", "%YAML 1.1\n---", "%YAML 9.9\n---", "%TAG ! tag:x:\n---", "%X\n---", "--- |", "--- >", "---\n...")
    )
    lines = text.splitlines(keepends=True)
    lines.insert(draw.choice((0, len(lines), draw.randrange(len(lines)))), f"{mark}\n")
    return "".join(lines).encode()


TEXTS: dict[str, Callable[[Random, str], bytes]] = {
    f.__name__: f
    for f in (
        bytes_flipped, cut, spliced, lines_moved, respaced, encoded, value_inserted, anchored, tagged, nested, laughing, lengthened,
        with_documents,
    )
}  # fmt: skip


# Overrides

KEYS = (
    "name", "held.class", "held", "held.class.decision", "held.sort.decision", "held.sort", "keep",
    "varied.look", "varied.look.minimum", "generator", "generator.path", "generator.options",
    "generator.options.a.b",
    "seeds.count", "seeds.classes", "trajectory.step", "judge", "judge.model.path", "attributes.class", "attributes.hue.options",
    "label", "shards.image",
    "attributes.look.region.mask", "new", "a." * 120 + "b", "generator.options." + "a." * 90 + "b", "é",
    "\x1b[31m", "held.\udcff", " held . class ",
    "", ".", "held..class", "<<", "generator.kind.x", "1", "null",
)  # fmt: skip


def overridden(draw: Random) -> str:
    """Returns a "key.path=value" of parts that are mostly hostile."""
    bad = draw.choice(HOSTILE)
    inner = draw.choice(
        (bad, bad, "0.5", "x", f"{'[' * 20}{bad}{']' * 20}", "{path: a, mask: [b]}", "a\nb", "\udcff", "&a [*a, *a]")
    )
    return f"{draw.choice(KEYS)}{draw.choice(('=', '=', '=', '=', ' = ', '', '=='))}{inner}"


OVERRIDES: dict[str, Callable[[Random], str]] = {"overridden": overridden}
