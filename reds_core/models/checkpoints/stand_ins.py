"""What the names in a checkpoint's pickles stand for here: inert data, in place of the classes and functions that they name.

Tensors become `Stored` or `Array`, modules and namespaces `Record`, and dictionaries of any class plain ones. `KNOWN` is the list
of names that may occur at all: a family of checkpoints that needs another name adds it there, with something inert to stand for it.
Layers of the packages that networks are made of need no line of their own: whatever they are called, they become a `Record`.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reds_core.errors import ModelError

DTYPES = {
    "Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16, "Long": torch.int64,
    "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8, "Bool": torch.bool,
}  # fmt: skip


@dataclass(slots=True)
class Storage:
    """The numbers of one or more tensors, as they lie in the file."""

    dtype: torch.dtype
    data: bytes | memoryview = b""  # filled later: in the old format, it comes after the pickle

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
        """Returns a copy of it. Raises ModelError if it claims more than its storage holds."""
        last = self.offset + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        numel = math.prod(self.size)
        held = len(self.storage.data) // self.storage.dtype.itemsize
        if numel and (last >= held or numel > held):
            raise ModelError(
                f"a tensor claims {numel} numbers, but its storage holds {held}: the file is damaged or made to mislead"
            )
        if not numel:
            return torch.empty(self.size, dtype=self.storage.dtype)
        # Only the view itself is copied: many views may share one large storage.
        each = self.storage.dtype.itemsize
        part = torch.frombuffer(bytearray(self.storage.data[self.offset * each : (last + 1) * each]), dtype=self.storage.dtype)
        return part.as_strided(self.size, self.stride).contiguous()


class Record(dict[str, Any]):
    """Any object, reduced to its state by name. `kind` is the class that the file names."""

    kind = ""

    def __setstate__(self, state: Any) -> None:
        # A dictionary's attributes, such as a state dict's versions, are not needed.
        if isinstance(state, dict) and self.kind:
            self.update(state)


class Code:
    """A function, or what makes one, that a pickle of dill holds. It is left behind: all that can be made of it is more of it."""

    __slots__ = ()

    def __call__(self, *_: Any) -> Code:
        return self

    def __setstate__(self, state: Any) -> None:
        pass  # the state of code is code


class Inert:
    """A function that a pickle may call. It cannot be changed: a pickle could change the defaults of a plain function."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name} cannot be set")


def _view(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Stored:
    """Returns a tensor. What a pickle passes may be of any type."""
    numbers = (offset, *size, *stride)
    if (
        not isinstance(storage, Storage)
        or len(size) != len(stride)
        or len(size) > 16
        or not all(type(n) is int and 0 <= n < 2**48 for n in numbers)
    ):
        raise ValueError("a tensor's place in its storage is not given in whole numbers")
    return Stored(storage, offset, tuple(size), tuple(stride))


def _same(value: Any, *_: Any) -> Any:
    return value


def _persistent(meta: dict[str, Any]) -> Record:
    """Returns an object of NVIDIA's `persistence`: its class's name and its state, without the source text that would be run."""
    found = Record(meta["state"])
    found.kind = _text(meta["class_name"])
    return found


@dataclass
class Array:
    """A NumPy array, filled by its state."""

    value: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        flat = np.frombuffer(_bytes(data), dtype.numpy())
        self.value = flat.reshape(shape, order="F" if fortran else "C")

    def tensor(self) -> Tensor:
        """Returns a copy of it, in float32."""
        return torch.from_numpy(self.value.astype(np.float32))


@dataclass
class _Dtype:
    """A NumPy dtype: a code such as f4, and its byte order."""

    code: str
    order: str = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = _text(state[1])

    def numpy(self) -> np.dtype:
        if not re.fullmatch("[fiub][1248]", self.code) or self.order not in "<>|=":
            raise ModelError("it holds an array of something other than numbers")
        return np.dtype(self.order.replace("|", "") + self.code)


def _dill_array(make: Any, arguments: Any, state: Any, *_: Any) -> Array:
    """Returns an array as dill writes it: in one call, with the function that would make it."""
    if make not in ARRAYS:
        raise TypeError("an array is made by something else")
    found = Array()
    found.__setstate__(state)
    return found


def _bytes(data: Any) -> bytes:
    if not isinstance(data, str | bytes | bytearray):
        raise TypeError(f"bytes are made of a {type(data).__name__}")
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"a name is a {type(value).__name__}")
    return value


def _numpy(name: str) -> tuple[str, str]:
    return f"numpy.core.multiarray.{name}", f"numpy._core.multiarray.{name}"


@functools.lru_cache(maxsize=4096)
def _record(full: str) -> type[Record]:
    """Returns the class of records whose `kind` is a name."""
    return type("Record", (Record,), {"kind": full, "__slots__": ()})


ARRAYS = tuple(Inert(lambda *_: Array()) for _ in range(2))  # _reconstruct, of both versions of NumPy
CODE = Code()

KNOWN: dict[str, Any] = {
    "collections.OrderedDict": Record,
    "dnnlib.util.EasyDict": Record,
    "argparse.Namespace": _record("argparse.Namespace"),
    "models.utils.config.BaseConfig": _record("models.utils.config.BaseConfig"),
    "builtins.set": Inert(set),
    "__builtin__.set": Inert(set),
    "torch.Size": Inert(tuple),
    "torch.device": Inert(lambda *a: ":".join(str(p) for p in a if type(p) in (str, int))),
    "torch._utils._rebuild_tensor": Inert(_view),
    "torch._utils._rebuild_tensor_v2": Inert(_view),
    "torch._utils._rebuild_parameter": Inert(_same),
    "torch_utils.persistence._reconstruct_persistent_obj": Inert(_persistent),
    "dnnlib.tflib.network.Network": _record("dnnlib.tflib.network.Network"),
    "numpy.ndarray": None,  # only an argument of _reconstruct
    "numpy.dtype": Inert(lambda code, *_: _Dtype(_text(code))),
    "_codecs.encode": Inert(lambda text, _: _bytes(text)),
    "dill._dill._create_array": Inert(_dill_array),
    **{f"dill._dill.{name}": CODE for name in ("_create_function", "_create_code", "_create_cell", "_load_type")},
    **{f"torch.{name}Storage": dtype for name, dtype in DTYPES.items()},
    **{str(dtype): dtype for dtype in DTYPES.values()},
    **dict(zip(_numpy("_reconstruct"), ARRAYS, strict=True)),
    **{name: Inert(lambda dtype, data: np.frombuffer(_bytes(data), dtype.numpy())[0].item()) for name in _numpy("scalar")},
}

# The packages that published networks are made of. Of these, a class is a layer, and anything else code.
LAYERS = re.compile(r"(torch\.nn\.(modules|utils)|training|R3GAN|pg_modules|feature_networks|timm)(\.\w+)+")


def stand_in(full: str) -> Any:
    """Returns what stands for a name. Raises KeyError for a name that does not belong in a checkpoint."""
    if full not in KNOWN and LAYERS.fullmatch(full):
        return _record(full) if full.rpartition(".")[2].lstrip("_")[:1].isupper() else CODE
    return KNOWN[full]
