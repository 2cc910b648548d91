"""Checkpoints that are Python pickles, read as data: nothing in them runs.

A pickle is a program for a small machine, and what it may name decides what it can do. Here every name is looked up in one table of
inert stand-ins: tensors become `Stored`, persistent objects and namespaces `Record`, dictionaries of any class plain ones. A name that
is not in the table stops the reading, at any depth: the storages inside an NVIDIA network pickle are
files of torch.save of their own, and go through the same reader.

What a file claims is checked against what it holds before memory is given to it: lengths, sizes of tensors, places in the memo.

    raw pickle              NVIDIA's network pickles
    torch.save, old format  five pickles, then the storages one after another (also inside an NVIDIA pickle)
    torch.save, zip         data.pkl and a member for each storage
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from reds_core.errors import ModelError

MOST_WORK = 8  # times a file's size: what calls may copy
OLD_MAGIC = 0x1950A86A20F9469CFC6C
MOST_NESTED = 3  # a storage is a file inside a file; nothing published goes deeper

DTYPES = {
    "Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16, "Long": torch.int64,
    "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8, "Bool": torch.bool,
}  # fmt: skip


@dataclass(slots=True)
class Storage:
    """Numbers as they lie in the file."""

    dtype: torch.dtype
    data: bytes | memoryview = b""  # in the old format it follows later in the file

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a storage cannot be changed")


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a file: a view of a storage."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a tensor's place in its storage cannot be changed")

    def tensor(self) -> Tensor:
        """A copy of it. Raises ModelError if it claims more than its storage holds."""
        last = self.offset + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        numel = math.prod(self.size)
        held = len(self.storage.data) // self.storage.dtype.itemsize
        if numel and (last >= held or numel > held):
            raise ModelError(f"a tensor claims {numel} numbers, its storage holds {held}: the file is damaged or made to mislead")
        if not numel:
            return torch.empty(self.size, dtype=self.storage.dtype)
        # No more than the view itself: many views may share one large storage.
        each = self.storage.dtype.itemsize
        part = torch.frombuffer(bytearray(self.storage.data[self.offset * each : (last + 1) * each]), dtype=self.storage.dtype)
        return part.as_strided(self.size, self.stride).contiguous()


class Record(dict[str, Any]):
    """Any object, as what was known of it: its state by name. `kind` is the class that the file names."""

    kind = ""

    def __setstate__(self, state: Any) -> None:
        # What a dictionary carries beside its items (a state dict's versions) is of no use here.
        if isinstance(state, dict) and self.kind:
            self.update(state)


class Namespace(Record):
    kind = "argparse.Namespace"


def read_checkpoint(path: Path) -> Any:
    """A checkpoint's contents as dictionaries, lists, numbers, texts, `Record` and `Stored`.

    Raises:
        ModelError: it cannot be read, is damaged, or names anything that is not data.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    return _opened(content, str(path), 0, Ration(MOST_WORK * len(content) + 2**20))


def _opened(content: bytes, where: str, depth: int, ration: Ration) -> Any:
    if depth > MOST_NESTED:
        raise ModelError(f"{where} holds files within files, more than {MOST_NESTED} deep: no published checkpoint does")
    try:
        if content[:4] == b"PK\x03\x04":
            return _zip(content, where, depth, ration)
        stream = io.BytesIO(content)
        first = _Reader(stream, where, depth, ration).load()
        return _old_format(stream, where, depth, ration) if first == OLD_MAGIC else first
    except ModelError:
        raise
    # A damaged pickle fails in any way that its instructions can: short reads, wrong types, an empty stack.
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
                    f"{where} holds a member {m.filename!r}, a path out of its folder; torch.save writes no such thing"
                )
        # torch does not compress: a file that unpacks to more than it is was made to fill the memory.
        if sum(m.file_size for m in members) > len(content):
            raise ModelError(
                f"{where} unpacks to {sum(m.file_size for m in members)} bytes, from {len(content)}; torch.save does not compress"
            )
        if any(m.compress_type != zipfile.ZIP_STORED or m.compress_size != m.file_size for m in members):
            raise ModelError(f"{where} is compressed; torch.save does not compress")
        programs = [m.filename for m in members if m.filename.endswith("/data.pkl") and m.filename.count("/") == 1]
        if len(programs) != 1:
            raise ModelError(f"{where} is an archive with {len(programs)} members NAME/data.pkl; one of torch.save has just one")
        folder = programs[0].removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise ModelError(f"{where} was written on a big-endian machine; save it again on a common one")
        reader = _Reader(io.BytesIO(archive.read(programs[0])), where, depth, ration)
        found = reader.load()
        for key, storage in reader.storages.items():
            storage.data = archive.read(f"{folder}data/{key}")
        return found


def _old_format(stream: io.BytesIO, where: str, depth: int, ration: Ration) -> Any:
    """What follows the magic number: protocol, machine, contents, keys; then each storage with its length in front."""
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
    """What reading a file may cost, all that lies in it together: a few times its size."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, value: Any) -> None:
        self.left -= 64 + (len(value) if hasattr(value, "__len__") else 0)
        if self.left < 0:
            raise ModelError("the same part of the file is used again and again: it was made to fill the memory")


_Interpreter: Any = pickle._Unpickler


class _Reader(_Interpreter):  # type: ignore[misc]  # its steps are no part of the interface that has types
    """One pickle. `storages` are those that it refers to by a key.

    The interpreter written in Python, so that its steps can be watched: hashing a tuple costs what it unfolds to, which a few bytes
    can make endless, and a call costs what it copies. Keys are therefore texts or numbers, and calls have a ration.
    """

    def __init__(self, stream: io.BytesIO, where: str, depth: int, ration: Ration) -> None:
        self.where, self.depth, self.ration = where, depth, ration
        self.storages: dict[str, Storage] = {}
        _check_claims(stream, where)
        super().__init__(stream, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _Inert(self._nested)
        full = f"{module}.{name}"
        if module.startswith("dnnlib.tflib"):
            raise ModelError(
                f"{self.where} is a pickle of the TensorFlow versions of StyleGAN; legacy.py of stylegan3 converts it to one of PyTorch"
            )
        if full not in _KNOWN:
            raise ModelError(
                f"{self.where} names {ascii(full)[1:-1][:200]}, which is no part of a checkpoint of tensors: reading it as Python would, could run any "
                "code. Nothing of it was run"
            )
        return _KNOWN[full]

    def persistent_load(self, key: Any) -> Storage:
        if (
            type(key) is not tuple
            or len(key) < 5
            or key[0] != "storage"
            or type(key[1]) is not torch.dtype
            or type(key[2]) is not str
        ):
            raise ModelError(f"{self.where} refers to something that is no storage")
        return self.storages.setdefault(key[2], Storage(key[1]))

    def _nested(self, content: bytes) -> Any:
        return _opened(content, f"{self.where}, a storage in it", self.depth + 1, self.ration)

    def _check_keys(self, keys: Any) -> None:
        if not all(type(k) in (str, int) for k in keys):
            raise ModelError(f"{self.where} has keys that are neither texts nor numbers; no checkpoint has")

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
        if self.stack[-2] is _KNOWN["builtins.set"] or self.stack[-2] is _KNOWN["__builtin__.set"]:
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
    """Walks over one pickle's instructions without obeying any, and back to its start."""
    start, whole = stream.tell(), len(stream.getbuffer())
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "FRAME" and argument is not None and argument > whole - stream.tell():
                raise ModelError(f"{where} claims a frame of {argument} bytes in {whole}: it is cut off, or made to mislead")
            if opcode.name.endswith("PUT") and argument is not None and int(argument) > whole:
                raise ModelError(f"{where} claims a memo of {argument} entries in {whole} bytes: it was made to fill the memory")
    # Lengths beyond the end, unknown instructions: what `pickletools` says of them.
    except ValueError as error:
        raise ModelError(f"{where} cannot be read as a checkpoint: {error}") from error
    stream.seek(start)


class _Inert:
    """A function that a pickle may call. It cannot be changed, as a pickle could change a plain function's defaults."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name} cannot be set")


def _view(storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Stored:
    numbers = (offset, *size, *stride)
    if (
        not isinstance(storage, Storage)
        or len(size) != len(stride)
        or len(size) > 16
        or not all(type(n) is int and 0 <= n < 2**48 for n in numbers)
    ):
        raise ValueError("a tensor's place in its storage is not made of whole numbers")
    return Stored(storage, offset, tuple(size), tuple(stride))


def _same(value: Any, *_: Any) -> Any:
    return value


def _persistent(meta: dict[str, Any]) -> Record:
    """An object of NVIDIA's `persistence`: its class's name and its state, without the source text that would be run."""
    found = Record(meta["state"])
    found.kind = _text(meta["class_name"])
    return found


@dataclass
class _Array:
    """A NumPy array, filled by its state."""

    value: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        flat = np.frombuffer(_bytes(data), dtype.numpy())
        self.value = flat.reshape(shape, order="F" if fortran else "C")


@dataclass
class _Dtype:
    """A NumPy dtype: a code such as f4, and its byte order."""

    code: str
    order: str = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = _text(state[1])

    def numpy(self) -> np.dtype:
        if not re.fullmatch("[fiub][1248]", self.code) or self.order not in "<>|=":
            raise ModelError("an array of something else than numbers")
        return np.dtype(self.order.replace("|", "") + self.code)


def _bytes(data: Any) -> bytes:
    if not isinstance(data, str | bytes | bytearray):
        raise TypeError(f"bytes made of a {type(data).__name__}")
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"a name that is a {type(value).__name__}")
    return value


def _numpy(name: str) -> tuple[str, str]:
    return f"numpy.core.multiarray.{name}", f"numpy._core.multiarray.{name}"


_KNOWN: dict[str, Any] = {
    "collections.OrderedDict": Record,
    "dnnlib.util.EasyDict": Record,
    "argparse.Namespace": Namespace,
    "builtins.set": _Inert(set),
    "__builtin__.set": _Inert(set),
    "torch.Size": _Inert(tuple),
    "torch.device": _Inert(lambda *a: ":".join(str(p) for p in a if type(p) in (str, int))),
    "torch._utils._rebuild_tensor": _Inert(_view),
    "torch._utils._rebuild_tensor_v2": _Inert(_view),
    "torch._utils._rebuild_parameter": _Inert(_same),
    "torch_utils.persistence._reconstruct_persistent_obj": _Inert(_persistent),
    "numpy.ndarray": None,  # only ever an argument of _reconstruct
    "numpy.dtype": _Inert(lambda code, *_: _Dtype(_text(code))),
    "_codecs.encode": _Inert(lambda text, _: _bytes(text)),
    **{f"torch.{name}Storage": dtype for name, dtype in DTYPES.items()},
    **{str(dtype): dtype for dtype in DTYPES.values()},
    **{name: _Inert(lambda *_: _Array()) for name in _numpy("_reconstruct")},
    **{name: _Inert(lambda dtype, data: np.frombuffer(_bytes(data), dtype.numpy())[0].item()) for name in _numpy("scalar")},
}
