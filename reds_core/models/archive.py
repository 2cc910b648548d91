"""Reads what is inside a .pt2 archive, and checks it before torch opens it: nothing in it may run.

Such an archive holds pickles, tensors, and a program as JSON, and torch trusts all three. It unpickles sample inputs, custom
objects and some weights. Of the program, it runs the guards as Python, passes the sizes to sympy's `eval`, looks operators up by
name, and writes the names into source code. So each of these must be what `torch.export.save` writes for a plain network, and torch
is given a copy made of the checked members alone, since two readers can see two different archives in one file.
"""

from __future__ import annotations

import ast
import io
import json
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from reds_core.errors import ModelError

# Every member of a plain exported program, below the archive's own folder; the last line is what older versions wrote.
HARMLESS = re.compile(
    r"^([^/]+/)?(archive_(format|version)|byteorder|version|\.data/\w+|models/model\.json|extra/[\w.]+"
    r"|data/weights/(weight_\d+|model\.pt|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model\.pt|model_constants_config\.json)|data/sample_inputs/model\.pt"
    r"|serialized_\w+\.(json|pt))$"
)
PROGRAMS = ("models/model.json", "serialized_exported_program.json")
OPERATOR = re.compile(
    r"^(torch\.ops(\.[a-zA-Z]\w*|\._[a-zA-Z]\w*){2,3}|torch\.sym_\w+|math\.\w+"
    r"|_operator\.(?!call|attrgetter|itemgetter|methodcaller)\w+)$"
)
TREES = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
# What the sizes in a program are made of: sympy's own functions, and torch's.
WORDS = re.compile(
    "Symbol|Integer|Rational|Float|Add|Mul|Pow|Max|Min|Eq|Ne|Equality|Unequality|GreaterThan|LessThan|StrictGreaterThan"
    "|StrictLessThan|And|Or|Not|FloorDiv|ModularIndexing|Where|PythonMod|Mod|CleanDiv|CeilToInt|FloorToInt|CeilDiv|IntTrueDiv"
    "|FloatTrueDiv|LShift|RShift|TruncToFloat|TruncToInt|RoundToInt|RoundDecimal|ToFloat|FloatPow|PowByNatural|Identity"
)
METHODS = {"size", "stride", "storage_offset"}
ARITHMETIC = (
    ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Constant, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare,
    ast.Subscript, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
MOST_UNPACKED = 4  # times the file's size. torch does not compress: more than that was made to fill the memory


def checked_copy(path: Path) -> io.BytesIO:
    """Returns an archive made anew from the members of a checked one.

    Raises:
        ModelError: the file is broken, or could run code when opened.
    """
    try:
        members = _members(path)
        for name, content in members.items():
            if name.endswith(PROGRAMS):
                members[name] = _plain_program(path, content)
        for name in _pickles(members):
            _try_safely(path, name, members[name])
    except ModelError:
        raise
    # A broken archive breaks its readers in a dozen ways: errors of zlib, json and zipfile, missing members and fields.
    except Exception as error:
        raise ModelError(f"{path} is not a torch.export archive: {str(error) or type(error).__name__}") from error
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    copy.seek(0)
    return copy


def _members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not HARMLESS.search(name):
                raise _refusal(f"{path} holds {name}, which is not part of a plain exported program and may be code")
        unpacked = sum(info.file_size for info in archive.infolist())
        if unpacked > MOST_UNPACKED * path.stat().st_size:
            raise _refusal(
                f"{path} unpacks to {unpacked} bytes, from {path.stat().st_size}: torch.export.save does not compress, so it "
                "did not write this archive. Save the program again"
            )
        return {name: archive.read(name) for name in archive.namelist()}


def _pickles(members: dict[str, bytes]) -> list[str]:
    """Returns the members that torch would unpickle: by their names, or because the archive's own tables say so."""
    found = [name for name in members if name.endswith(".pt")]
    for name, content in members.items():
        if name.endswith("_config.json"):
            folder = name.rpartition("/")[0]
            entries = json.loads(content)["config"].values()
            # Under any other name than these is an object, which torch unpickles whatever its entry says.
            found += [
                f"{folder}/{e['path_name']}"
                for e in entries
                if e["use_pickle"] or not e["path_name"].startswith(("weight_", "tensor_"))
            ]
    return found


def _try_safely(path: Path, member: str, content: bytes) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unusual pickle protocols: only errors matter here
            torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(
            f"{path} holds a pickle, {member}, that names something other than tensors and could run code of its own"
        ) from error
    # torch raises anything for a broken pickle.
    except Exception as error:
        raise ModelError(f"{path}: its member {member} cannot be read: {type(error).__name__}: {error}") from error


def _plain_program(path: Path, content: bytes) -> bytes:
    """Returns the program without its notes for people, if every text in it that torch would run or evaluate is harmless."""
    try:
        program = json.loads(content)
        _check(program, "")
    except _Refused as error:
        raise _refusal(f"{path}: its program holds {str(error)[:200]}, which torch would run as code") from error
    except RecursionError as error:
        raise ModelError(f"{path} is not a torch.export archive: its program is nested too deeply") from error
    return json.dumps(program).encode()


def _refusal(what: str) -> ModelError:
    return ModelError(f"{what}. Allow code to run if you trust the file", parameter="allow_code")


class _Refused(Exception):
    """A text of a program that torch would run or evaluate."""


def _check(value: Any, key: str, in_node: bool = False) -> None:
    """Checks a program, part by part. `key` is the field that `value` is in; a list's items have their list's."""
    if isinstance(value, dict):
        if "target" in value and "metadata" in value:
            value["metadata"] = {}  # stack traces and the like
        for k, v in value.items():
            _check(k, "expr_str" if key == "range_constraints" else "a key")
            _check(v, k, in_node or k == "nodes")
    elif isinstance(value, list):
        for v in value:
            _check(v, key, in_node)
    elif isinstance(value, str) and not _is_plain(value, key, in_node):
        raise _Refused(f"{key} {value!r}")


def _is_plain(text: str, key: str, in_node: bool) -> bool:
    """Returns whether a text is harmless where torch uses it."""
    if key in ("guards_code", "expr_str"):
        return computes_only(text)
    if key in ("target", "as_operator"):
        return bool(OPERATOR.match(text)) and "__" not in text
    if key in ("in_spec", "out_spec"):
        return not text or _is_tree(json.loads(text)[1])
    if key in ("name", "as_name", "forward_arg_names", "graph_name"):
        return bool(re.fullmatch(r"\w*", text))
    # torch quotes an operator's text argument. All other texts may be pasted between quotes in code that it writes.
    return (in_node and key in ("as_string", "as_strings")) or not re.search(r"[\"'\\\x00-\x1f]", text)


def _is_tree(tree: dict[str, Any]) -> bool:
    """Returns whether the structure of inputs or outputs is made of tuples, lists and dicts; others name modules to import."""
    keys = json.loads(tree["context"]) if tree["context"] else None
    plain = keys is None or (isinstance(keys, list) and all(re.fullmatch(r"[\w.]*", str(k)) for k in keys))
    return tree["type"] in TREES and plain and all(_is_tree(child) for child in tree["children_spec"])


def computes_only(text: str) -> bool:
    """Returns whether an expression only computes with numbers and sizes: no other call, no attribute, no text to evaluate."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    methods = [n.func for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            known = isinstance(node.func, ast.Name) and bool(WORDS.fullmatch(node.func.id))
            if not known and node.func not in methods:
                return False
        elif isinstance(node, ast.Attribute):
            if node not in methods or node.attr not in METHODS:
                return False
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str) and not re.fullmatch(r"[\w.+-]*", node.value):
                return False
        elif not isinstance(node, ARITHMETIC):
            return False
    return True
