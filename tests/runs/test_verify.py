"""Verify: no damage to a run goes unseen, unnamed, or in the way of making it good."""

from __future__ import annotations

import ast
import errno
import hashlib
import io
import itertools
import json
import os
import random
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reds_core.errors import OutputError
from reds_core.runs.manifest import is_intact, read_manifest, seal
from reds_core.runs.run_folder import opened, pending
from reds_core.runs.verify import STRAY, _sample_problems, verify_run, verify_shard
from reds_core.storage.places import folder_at
from tests.support.shards import KINDS, TIME, contents, make_run, spec_of, totals_of
from tests.support.worlds import world


@pytest.fixture(scope="module")
def spec_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world(tmp_path_factory.mktemp("world"))


def flips(data: bytes, draw: random.Random, count: int) -> Iterator[tuple[str, bytes]]:
    for at in draw.sample(range(len(data)), count):
        yield f"bit flipped in byte {at}", data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


def cuts_and_moves(data: bytes, draw: random.Random) -> Iterator[tuple[str, bytes]]:
    size = len(data)
    for at in (0, 1, 512, size // 2, size - 512, size - 1):
        yield f"cut at {at}", data[:at]
    for at in (draw.randrange(size // 512 - 1) * 512 for _ in range(6)):
        block, following = data[at : at + 512], data[at + 512 : at + 1024]
        if any(block):
            yield f"block zeroed at {at}", data[:at] + bytes(512) + data[at + 512 :]
        if block != following:
            yield f"blocks swapped at {at}", data[:at] + following + block + data[at + 1024 :]
            yield f"block doubled at {at}", data[:at] + block + data[at:]
    yield "a byte appended", data + b"\0"
    yield "replaced by zeros", bytes(size)


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_every_damage_to_a_file_is_found_and_named(spec_path: Path, tmp_path: Path, kind: str) -> None:
    spec = spec_of(spec_path, 2)
    folder = make_run(spec, tmp_path)
    path, draw = folder / f"shard-00000.{kind}", random.Random(0)
    data = path.read_bytes()
    for what, damaged in (*flips(data, draw, 60), *cuts_and_moves(data, draw)):
        path.write_bytes(damaged)
        problems = verify_shard(folder_at(folder), 0)
        assert problems and all(p.startswith(f"shard-00000.{kind}: ") for p in problems), what
        manifest = read_manifest(folder_at(folder), 0)
        assert manifest and not is_intact(folder_at(folder), folder_at(folder).files(), manifest), what
    path.write_bytes(data)
    assert verify_shard(folder_at(folder), 0) == []


LIES: dict[str, Any] = {
    "schema": "1", "digest": "f" * 16, "index": 1, "samples": 8, "accepted": 8, "rejected": {"held:class": 1}, "seeds": 3,
    "bytes": 9,
    "sha256": "0" * 64, "parquet_sha256": "0" * 64, "labels": None, "spreads": [1.5],
}  # fmt: skip


@pytest.mark.parametrize("field", LIES)
def test_a_manifest_that_contradicts_its_files_is_found_even_if_it_is_sealed(spec_path: Path, tmp_path: Path, field: str) -> None:
    folder = make_run(spec_of(spec_path, 2), tmp_path)
    path = folder / "shard-00000.json"
    manifest = json.loads(path.read_text()) | {field: LIES[field]}
    path.write_text(json.dumps(manifest | {"manifest_sha256": seal(manifest)}))
    assert verify_shard(folder_at(folder), 0)


def test_no_bit_of_a_manifest_changes_unseen(spec_path: Path, tmp_path: Path) -> None:
    spec = spec_of(spec_path, 2)
    folder = make_run(spec, tmp_path)
    path, draw = folder / "shard-00000.json", random.Random(0)
    data = path.read_bytes()
    true = json.loads(data)
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :])
        manifest = read_manifest(folder_at(folder), 0)
        # White space, and the one figure in which equal runs may differ.
        assert manifest is None or manifest.as_dict() | {TIME: 0} == true | {TIME: 0}, at
        assert totals_of(folder).shards == int(manifest is not None)
    path.write_bytes(data)
    found = read_manifest(folder_at(folder), 0)
    assert found and found.as_dict() == true


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"schema": 1}', b"\0" * 900], ids=lambda c: repr(c[:12])
)
def test_what_is_no_manifest_makes_no_shard(spec_path: Path, tmp_path: Path, content: bytes) -> None:
    spec = spec_of(spec_path)
    folder = make_run(spec, tmp_path)
    expected = contents(folder)
    (folder / "shard-00001.json").write_bytes(content)
    assert pending(folder_at(folder), spec) == [1] and totals_of(folder).shards == 2
    assert verify_run(folder_at(folder)) == {
        0: [],
        1: ["shard-00001.json: is damaged, or the manifest of another shard or run"],
        2: [],
    }
    assert contents(make_run(spec, tmp_path)) == expected


def test_a_manifest_cut_anywhere_is_found(spec_path: Path, tmp_path: Path) -> None:
    folder = make_run(spec_of(spec_path, 2), tmp_path)
    path = folder / "shard-00000.json"
    data = path.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        assert read_manifest(folder_at(folder), 0) is None and verify_shard(folder_at(folder), 0)


def all_gone(folder: Path) -> None:
    for path in folder.glob("shard-00001.*"):
        path.unlink()


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "tar missing": (lambda f: (f / "shard-00001.tar").unlink(), "shard-00001.tar: is missing"),
    "table missing": (lambda f: (f / "shard-00001.parquet").unlink(), "shard-00001.parquet: is missing"),
    "manifest missing": (lambda f: (f / "shard-00001.json").unlink(), "shard-00001: has no manifest, so it is not finished"),
    "all missing": (all_gone, "shard-00001: is missing"),
    "another's tar": (lambda f: shutil.copy(f / "shard-00000.tar", f / "shard-00001.tar"), "shard-00001.tar: its hash differs"),
    "another's manifest": (lambda f: shutil.copy(f / "shard-00000.json", f / "shard-00001.json"), "the manifest of another shard"),
    "tar emptied": (lambda f: (f / "shard-00001.tar").write_bytes(b""), "shard-00001.tar: has 0 bytes, the manifest says"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_or_missing_shard_is_named_and_made_anew(spec_path: Path, tmp_path: Path, name: str) -> None:
    spec = spec_of(spec_path)
    folder = make_run(spec, tmp_path)
    expected = contents(folder)
    damage, message = DAMAGES[name]
    damage(folder)
    found = verify_run(folder_at(folder))
    assert message in found[1][0] and found[0] == found[2] == [] and pending(folder_at(folder), spec) == [1]
    assert contents(make_run(spec, tmp_path)) == expected


def test_a_header_that_its_decoder_stumbles_over_is_named(spec_path: Path, tmp_path: Path) -> None:
    folder = make_run(spec_of(spec_path, 2), tmp_path)
    path = folder / "shard-00000.tar"
    data = path.read_bytes()
    at = data.index(b"NUMPY")
    for offset, byte in itertools.product(range(5, 80, 2), (b"(", b"9")):
        path.write_bytes(data[: at + offset] + byte + data[at + offset + 1 :])
        problems = verify_shard(folder_at(folder), 0)
        assert problems or path.read_bytes() == data
        assert all(p.startswith("shard-00000.tar: ") for p in problems)
    assert "its hash differs" in problems[0]
    path.write_bytes(data.replace(b"'shape': (6,)", b"'shape': (6 ("))
    assert "s00000000: its .latent.npy cannot be read" in verify_shard(folder_at(folder), 0)[1]


def test_a_file_that_the_disk_cannot_read_is_named(spec_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(spec_path, 2)
    folder = make_run(spec, tmp_path)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(hashlib, "file_digest", fail)
    problems = [f"shard-00000.{kind}: cannot be read: Input/output error" for kind in ("tar", "parquet", "zip")]
    assert verify_run(folder_at(folder)) == {0: problems} and pending(folder_at(folder), spec) == [0]


def test_a_last_shard_that_a_longer_run_has_not_come_to_is_named(spec_path: Path, tmp_path: Path) -> None:
    folder = make_run(spec_of(spec_path, 3), tmp_path)
    with opened(spec_of(spec_path, 4), folder_at(tmp_path)):
        pass
    assert verify_run(folder_at(folder)) == {0: [], 1: ["shard-00001: holds 1 seed from 2, not 2 from 2"]}


def test_a_tar_that_is_no_shard_is_named(spec_path: Path, tmp_path: Path) -> None:
    folder = make_run(spec_of(spec_path, 2), tmp_path)
    for name in ("shard-00000 copy.tar", "shard-0.tar", "extra.tar"):
        shutil.copy(folder / "shard-00000.tar", folder / name)
    found = verify_run(folder_at(folder))
    assert found[0] == [] and [p.partition(": ")[0] for p in found[STRAY]] == ["extra.tar", "shard-0.tar", "shard-00000 copy.tar"]


def test_shards_that_were_never_made_are_missing(spec_path: Path, tmp_path: Path) -> None:
    folder = make_run(spec_of(spec_path, 2), tmp_path)
    with opened(spec_of(spec_path, 6), folder_at(tmp_path)):
        pass  # a longer run that was stopped at once
    assert verify_run(folder_at(folder)) == {0: [], 1: ["shard-00001: is missing"], 2: ["shard-00002: is missing"]}


def test_a_shard_of_another_run_is_named_and_made_anew(spec_path: Path, tmp_path: Path) -> None:
    spec = spec_of(spec_path, 4)
    folder, other = make_run(spec, tmp_path), make_run(spec_of(spec_path, 4, "held.class=0.3"), tmp_path)
    expected = contents(folder)
    for kind in KINDS:
        shutil.copy(other / f"shard-00001.{kind}", folder)
    assert verify_run(folder_at(folder))[1] == ["shard-00001.json: is damaged, or the manifest of another shard or run"]
    assert pending(folder_at(folder), spec) == [1]
    assert contents(make_run(spec, tmp_path)) == expected


def test_a_shard_of_another_run_is_named_in_a_renamed_folder_too(spec_path: Path, tmp_path: Path) -> None:
    folder, other = (make_run(spec_of(spec_path, 6, f"held.class={t}"), tmp_path) for t in (0.2, 0.3))
    for kind in KINDS:
        shutil.copy(other / f"shard-00001.{kind}", folder)
    shutil.move(folder, tmp_path / "renamed")
    found = verify_run(folder_at(tmp_path / "renamed"))
    assert found == {0: [], 1: [f"shard-00001: is of the run {other.name}, most are of {folder.name}"], 2: []}


def test_a_run_that_was_moved_and_renamed_is_still_intact(spec_path: Path, tmp_path: Path) -> None:
    folder = make_run(spec_of(spec_path), tmp_path)
    shutil.move(folder, tmp_path / "for a friend")
    assert verify_run(folder_at(tmp_path / "for a friend")) == {0: [], 1: [], 2: []}


@pytest.mark.parametrize("spec_text", [None, "name: [", "name: tiny\n"])
def test_a_folder_that_is_no_run_is_the_users_mistake(tmp_path: Path, spec_text: str | None) -> None:
    if spec_text is not None:
        (tmp_path / "spec.yaml").write_text(spec_text)
    with pytest.raises(OutputError, match="is not a run"):
        verify_run(folder_at(tmp_path))


def test_a_folder_of_runs_names_them(spec_path: Path, tmp_path: Path) -> None:
    folder = make_run(spec_of(spec_path), tmp_path / "outputs")
    for above in (folder.parent, folder.parent.parent):
        with pytest.raises(OutputError, match=r"is not a run, but holds 1 run; name one of them:\n  ") as caught:
            verify_run(folder_at(above))
        assert str(caught.value).endswith(f"  {folder}")


def test_checking_a_large_tar_takes_little_memory(tmp_path: Path) -> None:
    (tmp_path / "shard-00000.parquet").write_bytes(b"")
    with (tmp_path / "shard-00000.tar").open("wb") as file:
        file.truncate(64 * 2**20)
    tracemalloc.start()
    try:
        assert not folder_at(tmp_path).holds("shard-00000.tar", "")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_a_latent_is_checked_without_pythons_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where threads use it at once, Python 3.11 raises SystemError now and then, and an intact shard would seem damaged."""

    def fails(*_: Any) -> None:
        raise SystemError("AST constructor recursion depth mismatch (before=36, after=35)")

    content = io.BytesIO()
    np.save(content, np.zeros(128, np.float32))
    monkeypatch.setattr(ast, "literal_eval", fails)
    assert not list(_sample_problems({"latent.npy": content.getvalue()}))


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-1], lambda c: c + b"0", lambda c: c[:9], lambda c: c.replace(b"<f4", b"<i4"), lambda c: b""]
)
def test_a_damaged_latent_is_found(damage: Callable[[bytes], bytes]) -> None:
    for shape in ((), (4,), (2, 3)):
        content = io.BytesIO()
        np.save(content, np.zeros(shape, np.float32))
        assert not list(_sample_problems({"latent.npy": content.getvalue()}))
        (problem,) = _sample_problems({"latent.npy": damage(content.getvalue())})
        assert problem.startswith("its .latent.npy cannot be read: ")
