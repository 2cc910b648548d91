"""Checkpoints that are Python pickles, read as data: nothing in them runs.

A pickle is a program for a small machine, and what it may name decides what it can do. Here every name is looked up in one table of
inert stand-ins (stand_ins.py), and a name that is not in it stops the reading, at any depth: the storages inside an NVIDIA network
pickle are files of torch.save of their own, and go through the same reader.

What a file claims is checked against what it holds before memory is given to it: lengths, sizes of tensors, places in the memo.

    raw pickle              NVIDIA's network pickles
    torch.save, old format  five pickles, then the storages one after another (also inside an NVIDIA pickle)
    torch.save, zip         data.pkl and a member for each storage
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import torch

from reds_core.errors import ModelError
from reds_core.models.checkpoints.identify import by_bytes
from reds_core.models.checkpoints.stand_ins import KNOWN, Inert, Storage, stand_in

MOST_WORK = 8  # times a file's size: how much the calls in it may copy
OLD_MAGIC = 0x1950A86A20F9469CFC6C
MOST_NAMES = 2000  # of classes and functions
CUT = re.compile("exhausted|not enough data|only [0-9]+ remain|no newline found")  # how `pickletools` says that a pickle ends early
MOST_NESTED = 3  # a storage is a file inside a file; nothing published goes deeper


def read_checkpoint(path: Path) -> Any:
    """Returns a checkpoint's contents as dictionaries, lists, numbers, texts, `Record` and `Stored`.

    Raises:
        ModelError: it cannot be read, is damaged, or names anything that is not data.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    what = by_bytes(content)
    if what is not None:
        raise ModelError(f"{path} is {what}")
    return _opened(content, str(path), 0, Ration(MOST_WORK * len(content) + 2**20))


def _opened(content: bytes, where: str, depth: int, ration: Ration) -> Any:
    if depth > MOST_NESTED:
        raise ModelError(f"{where} holds files inside files, more than {MOST_NESTED} deep; no published checkpoint does")
    try:
        if content[:4] == b"PK\x03\x04":
            return _zip(content, where, depth, ration)
        stream = io.BytesIO(content)
        first = _Reader(stream, where, depth, ration).load()
        return _old_format(stream, where, depth, ration) if first == OLD_MAGIC else first
    except ModelError:
        raise
    # A damaged pickle fails in whatever way its instructions can: short reads, wrong types, an empty stack.
    except Exception as error:
        reason = str(error).strip() or "no reason given"
        raise ModelError(f"{where} cannot be read as a checkpoint: {type(error).__name__}: {reason}") from error


def _zip(content: bytes, where: str, depth: int, ration: Ration) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        for m in members:
            path = PurePosixPath(m.filename)
            if path.is_absolute() or ".." in path.parts or "\\" in m.filename:
                raise ModelError(
                    f"{where} holds a member {m.filename!r}, a path that leads out of its folder; torch.save writes no such path"
                )
        # torch does not compress: a file that unpacks to more than its own size was made to fill the memory.
        if sum(m.file_size for m in members) > len(content):
            raise ModelError(
                f"{where} unpacks to {sum(m.file_size for m in members)} bytes, from {len(content)}; torch.save does not compress"
            )
        if any(m.compress_type != zipfile.ZIP_STORED or m.compress_size != m.file_size for m in members):
            raise ModelError(f"{where} is compressed; torch.save does not compress")
        programs = [m.filename for m in members if m.filename.endswith("/data.pkl") and m.filename.count("/") == 1]
        if len(programs) != 1:
            raise ModelError(f"{where} is an archive with {len(programs)} members NAME/data.pkl; torch.save writes exactly one")
        folder = programs[0].removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise ModelError(f"{where} was written on a big-endian machine; save it again on a little-endian one")
        reader = _Reader(io.BytesIO(archive.read(programs[0])), where, depth, ration)
        found = reader.load()
        for key, storage in reader.storages.items():
            storage.data = archive.read(f"{folder}data/{key}")
        return found


def _old_format(stream: io.BytesIO, where: str, depth: int, ration: Ration) -> Any:
    """Reads what follows the magic number: protocol, machine, contents, keys; then each storage, with its length in front."""
    _Reader(stream, where, depth, ration).load()
    _Reader(stream, where, depth, ration).load()
    reader = _Reader(stream, where, depth, ration)
    found = reader.load()
    rest = stream.getbuffer()
    for key in _Reader(stream, where, depth, ration).load():
        storage = reader.storages[key]
        (count,) = struct.unpack("<q", stream.read(8))
        start = stream.tell()
        storage.data = rest[start : start + count * storage.dtype.itemsize]
        stream.seek(start + len(storage.data))
    return found


class Ration:
    """What reading a file, with everything in it, may cost: a few times its size."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.names: set[str] = set()

    def name(self, full: str) -> None:
        """Counts a name that stands for something. Raises ModelError for more different ones than any checkpoint has."""
        self.names.add(full)
        if len(self.names) > MOST_NAMES:
            raise ModelError(f"it names more than {MOST_NAMES} different things: it was made to fill the memory")

    def spend(self, value: Any) -> None:
        """Counts what copying a value costs. Raises ModelError once nothing is left."""
        self.left -= 64 + (len(value) if hasattr(value, "__len__") else 0)
        if self.left < 0:
            raise ModelError("the file uses the same part of itself again and again: it was made to fill the memory")


_Interpreter: Any = pickle._Unpickler


class _Reader(_Interpreter):  # type: ignore[misc]  # the typed interface leaves its steps out
    """Reads one pickle. `storages` are those that it refers to, by their keys.

    This is the interpreter written in Python, whose steps can be watched. Hashing a tuple costs as much as the tuple unfolds to,
    which a few bytes can make endless, and a call costs what it copies. So keys must be texts or numbers, and calls have a ration.
    """

    def __init__(self, stream: io.BytesIO, where: str, depth: int, ration: Ration) -> None:
        self.where, self.depth, self.ration = where, depth, ration
        self.storages: dict[str, Storage] = {}
        _check_claims(stream, where)
        super().__init__(stream, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return Inert(self._nested)
        full = f"{module}.{name}"
        self.ration.name(full)
        try:
            return stand_in(full)
        except KeyError as error:
            raise ModelError(
                f"{self.where} names {ascii(full)[1:-1][:200]}, which is not part of a checkpoint of tensors: reading it as Python "
                "does could run any code. Nothing of it was run. docs/checkpoints.md has a way round for files that you trust"
            ) from error

    def persistent_load(self, key: Any) -> Storage:
        if (
            type(key) is not tuple
            or len(key) < 5
            or key[0] != "storage"
            or type(key[1]) is not torch.dtype
            or type(key[2]) is not str
        ):
            raise ModelError(f"{self.where} refers to something that is not a storage")
        return self.storages.setdefault(key[2], Storage(key[1]))

    def _nested(self, content: bytes) -> Any:
        return _opened(content, f"{self.where}, a storage in it", self.depth + 1, self.ration)

    def _check_keys(self, keys: Any) -> None:
        if not all(type(k) in (str, int) for k in keys):
            raise ModelError(f"{self.where} has keys that are neither texts nor numbers; no checkpoint does")

    def _setitem(self) -> None:
        self._check_keys(self.stack[-2:-1])
        super().load_setitem()

    def _setitems(self) -> None:
        self._check_keys(self.stack[::2])
        super().load_setitems()

    def _additems(self) -> None:
        self._check_keys(self.stack)
        super().load_additems()

    def _reduce(self) -> None:
        for argument in self.stack[-1]:
            self.ration.spend(argument)
        if self.stack[-2] is KNOWN["builtins.set"] or self.stack[-2] is KNOWN["__builtin__.set"]:
            self._check_keys(*self.stack[-1])
        super().load_reduce()

    def _build(self) -> None:
        self.ration.spend(self.stack[-1])
        super().load_build()

    def _refused(self) -> None:
        raise ModelError(f"{self.where} uses an instruction that no checkpoint needs")

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        **_Interpreter.dispatch,
        pickle.SETITEM[0]: _setitem, pickle.SETITEMS[0]: _setitems, pickle.ADDITEMS[0]: _additems, pickle.REDUCE[0]: _reduce,
        pickle.BUILD[0]: _build, pickle.FROZENSET[0]: _refused, pickle.INST[0]: _refused, pickle.OBJ[0]: _refused,
        pickle.NEWOBJ_EX[0]: _refused,
    }  # fmt: skip


def _check_claims(stream: io.BytesIO, where: str) -> None:
    """Looks at one pickle's instructions without obeying any, and goes back to its start. Raises ModelError for absurd lengths."""
    start, whole = stream.tell(), len(stream.getbuffer())
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "FRAME" and argument is not None and argument > whole - stream.tell():
                raise ModelError(
                    f"{where} claims a frame of {argument} bytes in {whole}: an incomplete download, or made to mislead"
                )
            if opcode.name.endswith("PUT") and argument is not None and int(argument) > whole:
                raise ModelError(f"{where} claims a memo of {argument} entries in {whole} bytes: it was made to fill the memory")
    # This is how `pickletools` reports lengths beyond the end and unknown instructions.
    except ValueError as error:
        cut = CUT.search(str(error)) is not None
        raise ModelError(
            f"{where} ends in the middle: it is an incomplete download, or damaged"
            if cut else f"{where} cannot be read as a checkpoint: {error}"
        ) from error  # fmt: skip
    stream.seek(start)
