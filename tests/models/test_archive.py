"""A .pt2 that could run code is refused before any of it has run; an honest one is not."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reds_core.errors import ModelError
from reds_core.models.archive import computes_only
from reds_core.models.shipped.fashion import Classifier, Generator
from tests.support.networks import SAFE, Hostile, exported, network
from tests.support.worlds import D, TinyGenerator

Members = dict[str, bytes]
Edit = Callable[[dict[str, Any], str], None]


@pytest.fixture
def good(tmp_path: Path) -> Members:
    """The members of an honest archive, below its own folder."""
    with zipfile.ZipFile(exported(TinyGenerator(), (torch.randn(2, D),), tmp_path / "good.pt2", True)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def packed(path: Path, members: Members, how: int = zipfile.ZIP_STORED) -> Any:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(f"n/{name}", content)
    return network(kind="exported", path=path)


def signatures(program: dict[str, Any]) -> list[dict[str, Any]]:
    return [call["signature"] for call in program["graph_module"]["module_call_graph"] if call["signature"]]


def every_size(value: Any, code: str) -> None:
    if isinstance(value, dict):
        if "expr_str" in value:
            value["expr_str"] = f"({code} or {value['expr_str']})"
        for v in value.values():
            every_size(v, code)
    elif isinstance(value, list):
        for v in value:
            every_size(v, code)


def a_call(program: dict[str, Any], target: str) -> None:
    graph = program["graph_module"]["graph"]
    node = copy.deepcopy(graph["nodes"][-1]) | {"target": target, "name": "more"}
    node["outputs"] = [{"as_tensor": {"name": "more"}}]
    graph["tensor_values"]["more"] = graph["tensor_values"]["tanh"]
    graph["nodes"].insert(1, node)


def a_text_input(program: dict[str, Any], code: str) -> None:
    spec = {"constant_input": {"name": "z", "value": {"as_string": f"' or {code} or '"}}}
    program["graph_module"]["signature"]["input_specs"].append(spec)


def a_tree(program: dict[str, Any], context: Any) -> None:
    leaf: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
    tree = {"type": "collections.defaultdict", "context": json.dumps(context), "children_spec": [leaf]}
    signatures(program)[0]["out_spec"] = json.dumps([1, tree])


PROGRAMS: dict[str, Edit] = {
    "a guard": lambda p, code: p["guards_code"].append(f"({code} or True)"),
    "a size": every_size,
    "an operator": lambda p, code: a_call(p, "torch.os.system"),
    "a caller": lambda p, code: a_call(p, "_operator.call"),
    "an argument's name": lambda p, code: signatures(p)[0].update(forward_arg_names=[f"z:({code})"]),
    "a parameter's name": lambda p, code: p["graph_module"]["signature"]["input_specs"][0]["parameter"].update(
        parameter_name=f'basis"), {code}, ("'
    ),
    "a text input": a_text_input,
    "a default factory": lambda p, code: a_tree(
        p, {"default_factory_module": "this", "default_factory_name": "s", "dict_context": []}
    ),
    "an enum": lambda p, code: a_tree(p, [{"__enum__": True, "fqn": "this:s", "name": "s"}]),
}


@pytest.mark.parametrize("where", PROGRAMS)
def test_code_in_the_program_itself_is_refused(tmp_path: Path, good: Members, where: str) -> None:
    touched = tmp_path / "touched"
    program = json.loads(good["models/model.json"])
    PROGRAMS[where](program, f"__import__('pathlib').Path('{touched}').touch()")
    config = packed(tmp_path / "bad.pt2", good | {"models/model.json": json.dumps(program).encode()})
    with pytest.raises(ModelError, match=r"bad\.pt2: its program holds .*Allow code to run"):
        config.load(SAFE)
    assert not touched.exists()


@pytest.mark.parametrize("name", ["opaque_obj_0", "custom_obj_0", "TENSOR_0"])
def test_an_object_among_the_constants_is_refused_whatever_the_table_says(tmp_path: Path, good: Members, name: str) -> None:
    touched = tmp_path / "touched"
    content = pickle.dumps(Hostile(touched))
    meta = {"dtype": 1, "sizes": [{"as_int": len(content)}], "requires_grad": False, "device": {"type": "cpu", "index": None}}
    meta |= {"strides": [{"as_int": 1}], "storage_offset": {"as_int": 0}, "layout": 7}
    table = {"config": {"k": {"path_name": name, "is_param": False, "use_pickle": False, "tensor_meta": meta}}}
    more = {"data/constants/model_constants_config.json": json.dumps(table).encode(), f"data/constants/{name}": content}
    with pytest.raises(ModelError, match="llow code to run"):
        packed(tmp_path / "bad.pt2", good | more).load(SAFE)
    assert not touched.exists()


@pytest.mark.parametrize("table", [b"[]", b"{}", b'{"config": {"a": "b"}}', b'{"config": [1]}', b"\xff", b"[" * 100_000, b""])
@pytest.mark.parametrize("member", ["data/weights/model_weights_config.json", "models/model.json"])
def test_a_broken_table_is_an_error_without_a_traceback(tmp_path: Path, good: Members, table: bytes, member: str) -> None:
    with pytest.raises(ModelError, match=r"bad\.pt2"):
        packed(tmp_path / "bad.pt2", good | {member: table}).load(SAFE)


@pytest.mark.parametrize("member", ["models/model.json", "data/weights/weight_0", "data/sample_inputs/model.pt", "archive_version"])
def test_a_missing_member_is_an_error_without_a_traceback_and_torch_says_nothing(
    tmp_path: Path, good: Members, member: str, caplog: pytest.LogCaptureFixture
) -> None:
    del good[member]
    with pytest.raises(ModelError, match=r"bad\.pt2 is not a torch\.export archive"):
        packed(tmp_path / "bad.pt2", good).load(SAFE)
    assert not caplog.records


def test_what_unpacks_to_far_more_than_the_file_is_refused(tmp_path: Path, good: Members) -> None:
    config = packed(tmp_path / "bomb.pt2", good | {"data/sample_inputs/model.pt": b"\0" * 2**24}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelError, match=r"bomb\.pt2 unpacks to 167\d+ bytes"):
        config.load(SAFE)


def test_torch_reads_the_members_that_were_checked(tmp_path: Path, good: Members) -> None:
    """Of two members with one name, or beside what is before the archive, nothing but the checked one reaches torch."""
    path, touched = tmp_path / "two.pt2", tmp_path / "touched"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("n/data/sample_inputs/model.pt", pickle.dumps(Hostile(touched)))
            for name, content in good.items():
                archive.writestr(f"n/{name}", content)
    z = torch.randn(3, D)
    torch.testing.assert_close(network(kind="exported", path=path).load(SAFE)(z), TinyGenerator()(z))
    assert not touched.exists()


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("(6*L['z'].size()[0]) % (4*(L['z'].size()[0] // 4)) == 0 or L['z'].stride()[1] != 1", True),
        ("Mul(Integer(4), FloorDiv(Symbol('s68', positive=True, integer=True), Integer(4)))", True),
        ("Max(Integer(3), Symbol('s68', positive=True))", True),
        ("4*s6", True),
        ("__import__('os')", False),
        ("open('f','w')", False),
        ("L.__class__", False),
        ("L['z'].size.__globals__", False),
        ("S('open(1)')", False),
        ("Mod('open(1)', 2)", False),
        ("(lambda: 1)()", False),
        ("[x for x in L]", False),
        ("f'{L}'", False),
        ("x := 1", False),
        ("1\nimport os", False),
        ("L['z'].size()()", False),
    ],
)
def test_an_expression_may_compute_and_nothing_else(text: str, harmless: bool) -> None:
    assert computes_only(text) is harmless


class Varied(nn.Module):
    """What many networks are made of, with names that are not identifiers."""

    gain: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"a-b": nn.Linear(64, 128), "3x3/x": nn.Linear(64, 128)})
        self.attention, self.norm = nn.MultiheadAttention(8, 2, batch_first=True), nn.LayerNorm(8)
        self.embed = nn.Embedding(10, 64)
        self.up = nn.Sequential(nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.GroupNorm(2, 4), nn.SiLU(), nn.PixelShuffle(2))
        self.register_buffer("gain", torch.ones(1))
        self.shift = torch.tensor(2.0)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        z = z + self.embed(label)
        x = (self.parts["a-b"](z) + self.parts["3x3/x"](z)).reshape(-1, 16, 8)
        x = self.norm(x + self.attention(x, x, x)[0]).transpose(1, 2).reshape(-1, 8, 4, 4)
        x = F.interpolate(self.up(x), size=(32, 32), mode="bicubic", antialias=True)
        return F.gelu(F.pad(x, (1, 1, 1, 1), mode="reflect"), approximate="tanh") * self.gain * self.shift


class Groups(nn.Module):
    """Sizes that depend on the batch's: guards and expressions."""

    def forward(self, z: Tensor) -> Tensor:
        n = z.shape[0]
        return torch.tanh(z.reshape(n // 4, 4, -1).mean(1, keepdim=True).expand(-1, 4, -1).reshape(n, -1))


@pytest.mark.parametrize("size", ["fixed", "any"])
@pytest.mark.parametrize("name", ["varied", "generator", "classifier", "groups"])
def test_an_honest_network_is_not_refused(tmp_path: Path, name: str, size: str) -> None:
    z, labels = torch.randn(8, 64), torch.arange(8)
    net, inputs = {
        "varied": (Varied(), (z, labels)),
        "generator": (Generator(), (z, labels)),
        "classifier": (Classifier(), (torch.rand(8, 1, 32, 32),)),
        "groups": (Groups(), (z,)),
    }[name]
    path = tmp_path / "n.pt2"
    shapes = tuple({0: torch.export.Dim.AUTO} for _ in inputs) if size == "any" else None
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(net.eval(), inputs, dynamic_shapes=shapes), path)
        found = network(kind="exported", path=path).load(SAFE)(*inputs)
        torch.testing.assert_close(found, net(*inputs), atol=1e-4, rtol=1e-4)
