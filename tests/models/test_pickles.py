"""A checkpoint is data: what would run code is refused by name before it can, and what lies about its size costs no memory."""

from __future__ import annotations

import argparse
import collections
import io
import os
import pickle
import pickletools
import resource
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reds_core.errors import ModelError
from reds_core.models.checkpoints.pickles import read_checkpoint
from reds_core.models.checkpoints.stand_ins import Code, Record, Stored
from tests.support import DATA


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


def saved(value: Any, path: Path, new: bool) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=new)
    return path


def refused(path: Path, *names: str) -> None:
    with pytest.raises(ModelError) as caught:
        read_checkpoint(path)
    assert all(name in str(caught.value) for name in names), caught.value
    assert "MemoryError" not in str(caught.value), "it asked for the memory, and did not get it"


# What is read


@pytest.mark.parametrize("new", [True, False])
def test_tensors_of_every_type_and_view_are_read_as_torch_reads_them(tmp_path: Path, new: bool) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    value = {
        "views": [base.T, base[1:3, ::2], base[0, 0]],
        "types": {
            str(t): torch.tensor([0, 1, 1], dtype=t)
            for t in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool)
        },
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "ordered": collections.OrderedDict(a=1),
        "plain": (1, 2.5, "text", None, True, {3}),
    }
    found: Any = read_checkpoint(saved(value, tmp_path / "c.pt", new))
    expected: Any = value
    for a, b in zip(found["views"], expected["views"], strict=True):
        assert torch.equal(a.tensor(), b)
    for name, tensor in expected["types"].items():
        assert found["types"][name].tensor().dtype == tensor.dtype and torch.equal(found["types"][name].tensor(), tensor)
    assert found["empty"].tensor().shape == (0, 3)
    assert torch.equal(found["parameter"].tensor(), torch.ones(2))
    assert found["ordered"] == {"a": 1} and found["plain"] == value["plain"]


@pytest.mark.parametrize("new", [True, False])
def test_a_state_dict_is_the_one_that_torch_loads(new: bool, tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    path = saved(network.state_dict(), tmp_path / "n.pt", new)
    found = read_checkpoint(path)
    for name, tensor in torch.load(path, weights_only=True).items():
        assert torch.equal(found[name].tensor(), tensor)


def test_a_training_checkpoint_s_arguments_are_data(tmp_path: Path) -> None:
    found = read_checkpoint(saved({"args": argparse.Namespace(size=256, path="x")}, tmp_path / "c.pt", True))
    assert found["args"] == {"size": 256, "path": "x"}


def test_a_network_pickle_is_a_tree_of_records_whose_source_text_is_left_behind() -> None:
    g = read_checkpoint(DATA / "sg2ada-tiny.pkl")["G_ema"]
    assert isinstance(g, Record) and g.kind == "Generator" and g["img_resolution"] == 32
    assert isinstance(g["_modules"]["mapping"]["_buffers"]["w_avg"], Stored)
    assert "module_src" not in g


# What is refused


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch {ran}",), "system"),
        (eval, ("open({ran!r}, 'w')",), "builtins.eval"),
        (exec, ("open({ran!r}, 'w')",), "builtins.exec"),
        (getattr, (1, "real"), "builtins.getattr"),
        (torch.load, ("{ran}",), "torch.serialization.load"),
        (pickle.loads, (b"cos\nsystem\n(S'x'\ntR.",), "loads"),
    ],
)
def test_a_name_outside_the_list_is_refused_and_nothing_has_run(
    tmp_path: Path, function: Any, arguments: tuple[Any, ...], name: str, protocol: int
) -> None:
    ran = tmp_path / "ran"
    filled = tuple(a.format(ran=str(ran)) if isinstance(a, str) else a for a in arguments)
    path = tmp_path / "hostile.pkl"
    path.write_bytes(pickle.dumps({"G_ema": Calls(function, *filled)}, protocol).replace(b"__builtin__", b"builtins"))
    refused(path, name, "Nothing of it was run")
    assert not ran.exists()


def built(name: str, state: Any) -> Any:
    """Something that pickles as an object of a class that is not here."""
    module, _, short = name.rpartition(".")
    return type(short, (), {"__module__": module, "__getstate__": lambda self: state})()


class Foreign(pickle._Pickler):  # type: ignore[name-defined,misc]  # the one in Python, whose look-up of names can be left out
    """Writes classes by their names, whether or not they can be found."""

    write: Callable[[bytes], None]
    memoize: Callable[[Any], None]

    def save_global(self, obj: Any, name: str | None = None) -> None:
        self.write(f"c{obj.__module__}\n{name or obj.__name__}\n".encode())
        self.memoize(obj)


def foreign(value: Any, path: Path) -> Path:
    with path.open("wb") as file:
        Foreign(file, 2).dump(value)
    return path


@pytest.mark.parametrize("name", ["dnnlib.tflib.network.Network", "torch.nn.modules.linear.Linear", "timm.models.vit.Block"])
def test_what_lies_in_a_network_of_another_library_is_read_with_the_same_care(tmp_path: Path, name: str) -> None:
    ran = tmp_path / "ran"
    path = foreign({"G": built(name, {"variables": [("w", Calls(os.system, f"touch {ran}"))]})}, tmp_path / "x.pkl")
    refused(path, "system", "Nothing of it was run")
    assert not ran.exists()
    found = read_checkpoint(foreign({"G": built(name, {"variables": [1]})}, tmp_path / "y.pkl"))["G"]
    assert found == {"variables": [1]} and found.kind == name


@pytest.mark.parametrize("name", ["dnnlib.tflib.tfutil.run", "dnnlib.util.call_func_by_name", "dnnlib.tflib.network.import_x"])
def test_functions_of_the_library_that_writes_a_container_are_refused(tmp_path: Path, name: str) -> None:
    module, _, short = name.rpartition(".")
    (tmp_path / "tf.pkl").write_bytes(f"c{module}\n{short}\n(S'x'\ntR.".encode())
    refused(tmp_path / "tf.pkl", name, "Nothing of it was run")


@pytest.mark.parametrize("name", ["_import_module", "_eval_repr", "_create_type", "_setattr", "_get_attr", "loads"])
def test_what_dill_would_run_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "d.pkl").write_bytes(f"cdill._dill\n{name}\n(S'os'\ntR.".encode())
    refused(tmp_path / "d.pkl", f"dill._dill.{name}")


def test_more_names_than_any_checkpoint_has_are_refused(tmp_path: Path) -> None:
    program = b"(" + b"".join(f"ctimm.layers\nLayer{k}\n".encode() for k in range(5000)) + b"t."
    (tmp_path / "n.pkl").write_bytes(program)
    within(100, lambda: refused(tmp_path / "n.pkl", "more than 2000 different things"), seconds=30)


def test_code_that_dill_saved_is_left_behind(tmp_path: Path) -> None:
    """A function is made of code, and called: what comes of it is nothing that could run, nor be told from other such things."""
    program = b"cdill._dill\n_create_function\n(cdill._dill\n_create_code\n(S'x'\ntR}tR(S'y'\ntR}b."
    (tmp_path / "d.pkl").write_bytes(program)
    assert isinstance(read_checkpoint(tmp_path / "d.pkl"), Code)


def test_an_array_of_dill_is_made_of_nothing_but_its_numbers(tmp_path: Path) -> None:
    def array(make: bytes) -> bytes:
        state = b"(K\1K\3\x85cnumpy\ndtype\n(" + text("i1") + b"tR\x89C\3\1\2\3t"
        return HEAD + b"cdill._dill\n_create_array\n(" + make + b"(cnumpy\nndarray\nK\0\x85C\1bt" + state + b"NtR."

    (tmp_path / "a.pkl").write_bytes(array(g("numpy.core.multiarray", "_reconstruct")))
    assert read_checkpoint(tmp_path / "a.pkl").tensor().tolist() == [1, 2, 3]
    (tmp_path / "b.pkl").write_bytes(array(g("torch._utils", "_rebuild_parameter")))
    refused(tmp_path / "b.pkl", "made by something else")


@pytest.mark.parametrize("name", ["fromfile", "frombuffer", "fromstring"])
def test_other_functions_of_numpy_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "n.pkl").write_bytes(f"cnumpy.core.multiarray\n{name}\n(S'/etc/hostname'\ntR.".encode())
    refused(tmp_path / "n.pkl", name)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("new", [True, False])
def test_a_storage_inside_is_read_with_the_same_care(tmp_path: Path, depth: int, new: bool) -> None:
    ran = tmp_path / "ran"
    value: Any = Calls(os.system, f"touch {ran}")
    for _ in range(depth):
        content = io.BytesIO()
        torch.save(value, content, _use_new_zipfile_serialization=new)
        value = Calls(torch.storage._load_from_bytes, content.getvalue())
    (tmp_path / "nested.pkl").write_bytes(pickle.dumps(value))
    refused(tmp_path / "nested.pkl", "system", "a storage in it")
    assert not ran.exists()


def test_files_in_files_end_somewhere(tmp_path: Path) -> None:
    value: Any = 1
    for _ in range(9):
        value = Calls(torch.storage._load_from_bytes, pickle.dumps(value))
    (tmp_path / "deep.pkl").write_bytes(pickle.dumps(value))
    refused(tmp_path / "deep.pkl", "deep")


def test_what_stands_in_for_a_function_cannot_be_changed(tmp_path: Path) -> None:
    """BUILD with slots would set `__defaults__` or `__code__` of a plain function."""
    program = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x05\x00\x00\x00_callK\x01s\x86b."
    assert "BUILD" in [op.name for op, _, _ in pickletools.genops(program)]
    (tmp_path / "b.pkl").write_bytes(program)
    refused(tmp_path / "b.pkl", "cannot be set")
    (tmp_path / "c.pkl").write_bytes(b"\x80\x02ccollections\nOrderedDict\n}X\x04\x00\x00\x00kindK\x01sb.")
    refused(tmp_path / "c.pkl", "cannot be read")
    assert Record.kind == ""


@pytest.mark.parametrize("name", ["../data.pkl", "/etc/data.pkl", "a\\..\\b"])
def test_a_path_that_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = saved({"a": torch.ones(2)}, tmp_path / "c.pt", True)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"x")
    refused(path, repr(name))


# What misleads about its size


def within(megabytes: int, call: Callable[[], Any], seconds: int = 60) -> None:
    """Runs a call in a process of its own that may not take much more memory than this one has, nor more time."""
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + megabytes * 2**20,) * 2)
        try:
            call()
            os._exit(0)
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


TEN_GB = 10 * 2**30
CLAIMS = {
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", TEN_GB) + b"x.",
    "text": b"\x80\x04\x8d" + struct.pack("<Q", TEN_GB) + b"x.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", TEN_GB) + b"N.",
    "memo": b"\x80\x02Nr" + struct.pack("<I", 2**31 - 1) + b".",
    "put": b"Np2000000000\n.",
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", TEN_GB) + b"x.",
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_of_gigabytes_in_a_small_pickle_costs_no_memory(tmp_path: Path, claim: str) -> None:
    (tmp_path / "c.pkl").write_bytes(CLAIMS[claim])
    within(300, lambda: refused(tmp_path / "c.pkl", "c.pkl"))


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("stride", [0, 1])
def test_a_tensor_that_claims_more_than_its_storage_is_refused(tmp_path: Path, new: bool, stride: int) -> None:
    view = torch.ones(4).as_strided((2**20,), (0,))
    path = saved({"a": view}, tmp_path / "c.pt", new)
    content = path.read_bytes()
    if stride:
        with pytest.raises(ModelError, match="4"):
            Stored(read_checkpoint(path)["a"].storage, 0, (2**31,), (1,)).tensor()
    assert len(content) < 10_000

    def claim() -> None:
        with pytest.raises(ModelError, match="claims"):
            read_checkpoint(path)["a"].tensor()

    within(300, claim)


def test_an_archive_that_unpacks_to_gigabytes_is_refused_before_it_does(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("bomb/data.pkl", b"\x80\x02N.")
        archive.writestr("bomb/data/0", b"\0" * (64 * 2**20))
    within(300, lambda: refused(path, "does not compress"))


def test_an_old_file_s_storage_is_no_longer_than_the_file(tmp_path: Path) -> None:
    path = saved({"a": torch.ones(4)}, tmp_path / "c.pt", False)
    content = path.read_bytes()
    at = content.rindex(struct.pack("<q", 4))
    path.write_bytes(content[:at] + struct.pack("<q", TEN_GB) + content[at + 8 :])
    within(300, lambda: read_checkpoint(path)["a"].tensor())


def g(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


BIG = b"B" + struct.pack("<I", 400_000) + b"x" * 400_000
HEAD = b"\x80\x04"
BOMBS = {
    "a deep tuple as a key": HEAD + b"}N" + b"\x85" * 450_000 + b"Ns.",
    "a shared tuple as a key": HEAD + b"}N" + b"2\x86" * 45 + b"Ns.",
    "a shared tuple in a set": HEAD + b"\x8f(N" + b"2\x86" * 45 + b"\x90.",
    "a frozen set": HEAD + b"(N" + b"2\x86" * 45 + b"\x91.",
    "a shared tuple as a device": HEAD + g("torch", "device") + b"N" + b"2\x86" * 40 + b"\x85R.",
    "copies of bytes": HEAD + BIG + b"q\0" + g("torch", "Size") + b"q\1(" + b"h\1h\0\x85R" * 20_000 + b"t.",
    "bytes by their number": HEAD + g("_codecs", "encode") + b"\x8a\x05" + (10**10).to_bytes(5, "little") + b"N\x86R.",
    "dtypes that are structures": HEAD + g("numpy", "dtype") + b"X" + struct.pack("<I", 300_000) + b"i1," * 100_000 + b"\x85R.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_unfolds_without_end_is_refused_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "bomb.pkl").write_bytes(BOMBS[name])
    # Devices and dtypes are looked at no closer than they need to be.
    harmless = "device" in name or "dtypes" in name
    call = (lambda: read_checkpoint(tmp_path / "bomb.pkl")) if harmless else (lambda: refused(tmp_path / "bomb.pkl"))
    within(300, call, seconds=30)


def test_the_same_storage_file_again_and_again_is_refused(tmp_path: Path) -> None:
    inner = pickle.dumps(b"x" * 50_000)
    calls = b"".join(b"h\1h\0\x85R" for _ in range(5000))
    outer = (
        HEAD
        + b"B"
        + struct.pack("<I", len(inner))
        + inner
        + b"q\0"
        + g("torch.storage", "_load_from_bytes")
        + b"q\1("
        + calls
        + b"t."
    )
    (tmp_path / "again.pkl").write_bytes(outer)
    within(300, lambda: refused(tmp_path / "again.pkl", "again and again"), seconds=30)


def test_a_false_size_in_a_compressed_archive_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("c/data.pkl", HEAD + b"N.")
        archive.writestr("c/data/0", b"\0" * 2**26)
    content = path.read_bytes().replace(struct.pack("<I", 2**26), struct.pack("<I", 8))
    path.write_bytes(content)
    within(300, lambda: refused(path, "compress"), seconds=30)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def test_what_was_read_cannot_be_changed_by_the_file(tmp_path: Path) -> None:
    storage = b"(" + text("storage") + g("torch", "FloatStorage") + text("k") + text("cpu") + b"K\4tQ"
    view = g("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + b"K\0K\4\x85K\1\x85tR"
    for made, name in ((storage, "data"), (view, "offset")):
        (tmp_path / "c.pkl").write_bytes(HEAD + made + b"}" + text(name) + b"K\7sb.")
        refused(tmp_path / "c.pkl", "cannot be changed")


# What is damaged


@pytest.mark.parametrize("name", ["sg2ada-tiny.pkl", "rosinality-tiny.pt"])
def test_a_cut_file_is_named_and_never_a_traceback_of_another_kind(tmp_path: Path, name: str) -> None:
    content = (DATA / name).read_bytes()
    for share in (0, 0.001, 0.1, 0.5, 0.9, 0.999):
        (tmp_path / name).write_bytes(content[: int(share * len(content))])
        refused(tmp_path / name, name)


def test_flipped_bytes_are_an_error_or_other_numbers_but_nothing_else(tmp_path: Path) -> None:
    content = (DATA / "sg2ada-tiny.pkl").read_bytes()
    draw = torch.Generator().manual_seed(0)
    for at in torch.randint(len(content), (75,), generator=draw).tolist():
        (tmp_path / "f.pkl").write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        try:
            read_checkpoint(tmp_path / "f.pkl")
        except ModelError as error:
            assert "f.pkl" in str(error)


@pytest.mark.parametrize("content", [b"", b"\x89PNG", b"{}", b"PK\x03\x04 no archive"])
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pkl").write_bytes(content)
    refused(tmp_path / "x.pkl", "x.pkl")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "none.pkl", "none.pkl", "No such file")
