"""Shards: what readers see, what a kill leaves, and that no damage goes unseen."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import webdataset as wds

from reds_core.errors import OutputError, RunError
from reds_core.prepare import Job, prepare
from reds_core.seeds import plan
from reds_core.shards import opened, pending, totals, write_shard
from reds_core.spec import digest, load_spec
from reds_core.variants import run_seeds
from reds_core.verify import verify_run, verify_shard
from tests.worlds import world


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return prepare(load_spec(world(tmp_path_factory.mktemp("world"))), "cpu")


@pytest.fixture(scope="module")
def candidates(job: Job) -> list[Any]:
    return [run_seeds(job, seeds) for seeds in plan(job.spec)]


def write(job: Job, candidates: list[Any], folder: Path, which: list[int] | range) -> None:
    seeds = plan(job.spec)
    for k in which:
        write_shard(folder, job, digest(job.spec), k, seeds[k], *candidates[k], 1.0)


def make(job: Job, candidates: list[Any], out: Path) -> Path:
    with opened(job.spec, out) as folder:
        write(job, candidates, folder, pending(folder, job.spec))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.glob("shard-*"))}


def test_a_run_is_laid_out_as_promised(job: Job, candidates: list[Any], tmp_path: Path) -> None:
    folder = make(job, candidates, tmp_path)
    assert folder == tmp_path / "tiny" / digest(job.spec)
    manifest = json.loads((folder / "shard-00001.json").read_text())
    table = pd.read_parquet(folder / "shard-00001.parquet")
    variants = table[table.role == "variant"]
    assert (manifest["index"], manifest["first_seed"], manifest["seeds"], manifest["schema"]) == (1, 2, 2, 1)
    assert manifest["accepted"] == int(variants.accepted.sum()) and manifest["samples"] == int(table.accepted.sum())
    assert manifest["accepted"] + sum(manifest["rejected"].values()) == len(variants) == 24
    assert manifest["rejected"] == variants.reason[~variants.accepted].value_counts().sort_index().to_dict()
    assert set(manifest["passes"]) == {"forward", "forward_mode", "reverse"} and manifest["bytes"] > 0
    assert verify_run(folder) == {0: [], 1: [], 2: []}
    assert totals(folder).candidates == 72


# Both readers leave files to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_samples_that_all_look_alike(job: Job, candidates: list[Any], tmp_path: Path) -> None:
    folder = make(job, candidates, tmp_path)
    samples = list(wds.WebDataset(str(folder / "shard-{00000..00002}.tar"), shardshuffle=False).decode("pil"))
    assert len(samples) == totals(folder).samples

    def form(value: Any) -> Any:
        return {k: form(v) for k, v in value.items()} if isinstance(value, dict) else type(value)

    assert len({str(form(s["json"])) for s in samples}) == 1
    for s in samples:
        record = s["json"]
        assert s["cls"] == record["label"] and s["png"].size == (8, 8) and s["latent.npy"].shape == (6,)
        assert record["digest"] == folder.name and record["group"] == s["__key__"].partition("-")[0]
        if record["role"] == "seed":
            assert (record["direction"], record["sign"], record["waypoint"]) == (-1, 0, 0)
            assert record["held"]["class"] == {"drift": 0.0, "tolerance": 0.2}
        else:
            assert record["held"]["class"]["drift"] <= 0.2 and record["varied"]["look"]["effect"] >= 0.05


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_hugging_face_datasets_reads_them(job: Job, candidates: list[Any], tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    folder = make(job, candidates, tmp_path)
    files = sorted(str(p) for p in folder.glob("*.tar"))
    data = datasets.load_dataset("webdataset", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert len(data) == totals(folder).samples
    assert {"cls", "json", "png", "latent.npy"} <= set(data.column_names)


def test_equal_input_gives_equal_bytes(job: Job, candidates: list[Any], tmp_path: Path) -> None:
    assert contents(make(job, candidates, tmp_path / "a")) == contents(make(job, candidates, tmp_path / "b"))


def test_a_longer_run_keeps_whole_shards_and_remakes_the_short_one(job: Job, candidates: list[Any], tmp_path: Path) -> None:
    short = job.spec.model_copy(update={"seeds": job.spec.seeds.model_copy(update={"count": 5})})
    with opened(short, tmp_path) as folder:
        for k, seeds in enumerate(plan(short)):
            write_shard(folder, job, digest(short), k, seeds, *run_seeds(job, seeds), 1.0)
    before = contents(folder)
    with opened(job.spec, tmp_path) as folder:
        assert pending(folder, job.spec) == [2]
        write(job, candidates, folder, [2])
    after = contents(folder)
    assert after["shard-00001.tar"] == before["shard-00001.tar"] and after["shard-00002.tar"] != before["shard-00002.tar"]
    assert after == contents(make(job, candidates, tmp_path / "whole"))
    with opened(short, tmp_path) as folder:
        assert pending(folder, short) == [] and contents(folder) == after
        assert load_spec(folder / "spec.yaml").seeds.count == 6


@pytest.mark.parametrize("call", ["fsync", "replace", "unlink"])
def test_a_stop_at_any_instant_leaves_nothing_that_looks_finished(
    job: Job, candidates: list[Any], tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = contents(make(job, candidates, tmp_path / "whole"))
    real = getattr(os, call)
    for instant in range(40):
        left = [instant]

        def stop(*args: Any, left: list[int] = left, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == -1:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        out = tmp_path / f"{call}-{instant}"
        monkeypatch.setattr(os, call, stop)
        with contextlib.suppress(KeyboardInterrupt):
            make(job, candidates, out)
        monkeypatch.setattr(os, call, real)
        folder = out / "tiny" / digest(job.spec)
        for manifest in folder.glob("shard-*.json"):
            assert verify_shard(folder, int(manifest.stem[-5:])) == []
        assert contents(make(job, candidates, out)) == whole
        assert not list(folder.glob(".part-*"))
        if left[0] >= 0:
            break
    assert instant > 0 or call == "unlink"


WRITER = """
import sys
from pathlib import Path
from tests.test_shards import *
job = prepare(load_spec(sys.argv[1]), "cpu")
made = [run_seeds(job, s) for s in plan(job.spec)]
print("ready", flush=True)
while True:
    folder = make(job, made, Path(sys.argv[2]))
    _wipe(folder)
"""


def test_sigkill_at_random_moments_leaves_whole_shards_only(job: Job, candidates: list[Any], tmp_path: Path) -> None:
    whole = contents(make(job, candidates, tmp_path / "whole"))
    draw = random.Random(0)
    for attempt in range(3):
        out = tmp_path / str(attempt)
        command = [sys.executable, "-c", WRITER, str(world(tmp_path / "world")), str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent) as process:
            assert process.stdout and process.stdout.readline() == b"ready\n"
            time.sleep(draw.uniform(0.01, 0.3))
            process.send_signal(signal.SIGKILL)
        folder = out / "tiny" / digest(job.spec)
        for manifest in folder.glob("shard-*.json"):
            index = int(manifest.stem[-5:])
            # The writer may have been killed while it removed a run of its own: then files are missing, and said to be.
            problems = verify_shard(folder, index)
            assert all("is missing" in p for p in problems)
        assert contents(make(job, candidates, out)) == whole


@pytest.mark.parametrize(
    ("code", "kind", "message"), [(errno.ENOSPC, RunError, "the disk is full"), (errno.EROFS, OutputError, "--out")]
)
def test_a_full_or_read_only_disk_says_so_and_loses_nothing(
    job: Job, candidates: list[Any], tmp_path: Path, code: int, kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(job.spec, tmp_path) as folder:
        write(job, candidates, folder, [0])
        before = contents(folder)

        def full(handle: int) -> None:
            raise OSError(code, os.strerror(code))

        with monkeypatch.context() as patch, pytest.raises(kind, match=message):
            patch.setattr(os, "fsync", full)
            write(job, candidates, folder, [1])
        assert contents(folder) == before and not list(folder.glob(".part-*"))


def test_an_output_folder_that_is_a_file_is_the_users_mistake(job: Job, candidates: list[Any], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="choose another folder with --out"):
        make(job, candidates, tmp_path / "out")


def test_a_second_writer_is_turned_away(job: Job, tmp_path: Path) -> None:
    with opened(job.spec, tmp_path), pytest.raises(RunError, match="another run is writing"), opened(job.spec, tmp_path):
        pass


def test_every_damage_is_found_and_made_good(job: Job, candidates: list[Any], tmp_path: Path) -> None:
    folder = make(job, candidates, tmp_path)
    whole = contents(folder)
    draw = random.Random(1)
    for trial in range(240):
        name = draw.choice(["shard-00001.tar", "shard-00001.parquet", "shard-00001.json"])
        data = bytearray(whole[name])
        kind = draw.choice(["flip", "cut", "zero", "swap", "gone", "grow"])
        at = draw.randrange(len(data))
        if kind == "flip":
            data[at] ^= 1 << draw.randrange(8)
        elif kind == "cut":
            data = data[: at // 512 * 512] if draw.random() < 0.5 else data[:at]
        elif kind == "zero":
            data[at : at + 512] = bytes(len(data[at : at + 512]))
        elif kind == "swap":
            other = draw.randrange(len(data))
            data[at], data[other] = data[other], data[at]
        elif kind == "grow":
            data += b"\0" * 512
        (folder / name).write_bytes(data)
        if kind == "gone":
            (folder / name).unlink()
        same = kind != "gone" and (bytes(data) == whole[name] or (name.endswith("json") and _same_json(data, whole[name])))
        problems = verify_shard(folder, 1)
        assert bool(problems) != same, (trial, kind, name, at)
        assert verify_shard(folder, 0) == verify_shard(folder, 2) == []
        if problems and trial % 40 == 0:
            assert pending(folder, job.spec) == [1]
        (folder / name).write_bytes(whole[name])


def _same_json(data: bytearray, whole: bytes) -> bool:
    """Whether damage to a manifest left it saying what it said, but for what nothing can be checked against."""
    try:
        found, true = json.loads(data), json.loads(whole)
    except ValueError:
        return False
    checked = ("schema", "digest", "index", "seeds", "samples", "accepted", "sha256", "bytes", "parquet_sha256")
    return isinstance(found, dict) and all(found.get(k) == true[k] for k in checked) and _types(found) == _types(true)


def _types(value: dict[str, Any]) -> dict[str, type]:
    return {k: type(v) for k, v in value.items()}


def test_verify_names_what_is_missing_and_what_is_no_run(job: Job, candidates: list[Any], tmp_path: Path) -> None:
    folder = make(job, candidates, tmp_path)
    for path in folder.glob("shard-00001.*"):
        path.unlink()
    (folder / "shard-00002.json").unlink()
    found = verify_run(folder)
    assert found[1] == ["shard-00001: is missing"] and "has no manifest" in found[2][0]
    with pytest.raises(OutputError, match="is no run"):
        verify_run(tmp_path)
