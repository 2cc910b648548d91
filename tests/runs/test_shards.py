"""Shards: samples that every reader reads, bytes that repeat, folders that grow and are never shared."""

from __future__ import annotations

import gc
import io
import json
import os
import shutil
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import webdataset as wds

from reds_core.errors import RunError, ShardDamaged
from reds_core.jobs.images import ImageFormat, decode
from reds_core.jobs.prepare import prepare
from reds_core.runs.manifest import read_manifest, stem
from reds_core.runs.plan import plan
from reds_core.runs.run_folder import grown, opened, pending, run_folder
from reds_core.runs.samples import files_of, read_samples
from reds_core.runs.shards import ComputedShard, write_shard
from reds_core.runs.totals import Totals, runs
from reds_core.runs.verify import verify_run, verify_shard
from reds_core.spec.digest import digest
from reds_core.spec.load import dump, load_spec
from reds_core.storage.places import folder_at
from reds_core.types import Passes, key_of
from reds_core.variants.run_seeds import run_seeds
from tests.support.shards import KINDS, candidates_of, contents, job_of, make_run, spec_of, totals_of, write
from tests.support.worlds import D, world

FORMATS: tuple[ImageFormat, ...] = ("png", "jpg", "webp")


@pytest.fixture(scope="module")
def spec_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world(tmp_path_factory.mktemp("world"))


def records(folder: Path, index: int = 0) -> list[dict[str, Any]]:
    return [json.loads(files["json"]) for _, files in read_samples(folder / f"{stem(index)}.tar")]


def shape_of(value: Any) -> Any:
    """A JSON value's keys and types."""
    return {k: shape_of(v) for k, v in value.items()} if isinstance(value, dict) else type(value).__name__


# Samples


def test_every_sample_has_the_contracts_keys_in_the_same_types(spec_path: Path, tmp_path: Path) -> None:
    spec = spec_of(spec_path, 4)
    folder = make_run(spec, tmp_path)
    found = [r for k in range(2) for r in records(folder, k)]
    assert {r["role"] for r in found} == {"seed", "variant"}
    assert found[0] == {
        "schema": 1, "role": "seed", "label": 0, "label_name": "a", "condition": -1,
        "held": {"class": {"drift": 0.0, "tolerance": 0.2}}, "varied": {"look": {"effect": 0.0, "minimum": 0.05}},
        "judge": {"label": 0, "confidence": 0.75, "agrees": True},
        "seed": 0, "direction": -1, "sign": 0, "waypoint": 0, "group": "s00000000",
        "source": "", "fit": 0.0, "method": "local", "space": "z",
        "truncation": 1.0, "generator": "g", "spec": "tiny", "digest": digest(spec), "reds_version": "0.1.0",
    }  # fmt: skip
    kinds = shape_of(found[0])
    assert kinds["held"] == {"class": {"drift": "float", "tolerance": "float"}} and kinds["truncation"] == "float"
    assert all(shape_of(r) == kinds and list(r) == list(found[0]) for r in found)


def test_whole_numbers_in_a_spec_are_floats_in_a_sample(spec_path: Path) -> None:
    spec = spec_of(spec_path, 1, "held.class=1", "varied.look=2", "seeds.truncation=1")
    text = files_of(candidates_of(spec, range(1))[0], job_of(spec), "d")["json"].decode()
    assert '"tolerance": 1.0' in text and '"minimum": 2.0' in text and '"truncation": 1.0' in text


def test_a_sample_without_a_label_has_no_cls(spec_path: Path) -> None:
    spec = spec_of(spec_path, 1)
    with_label, without = (candidates_of(spec, range(1), labelled)[0] for labelled in (True, False))
    assert files_of(with_label, job_of(spec), "d")["cls"] == b"0"
    files = files_of(without, job_of(spec), "d")
    assert set(files) == {"png", "json", "latent.npy"} and json.loads(files["json"])["label"] == -1


def test_the_latent_is_stored_to_the_last_bit(spec_path: Path) -> None:
    spec = spec_of(spec_path, 1)
    candidate = candidates_of(spec, range(1))[0]
    latent = np.load(io.BytesIO(files_of(candidate, job_of(spec), "d")["latent.npy"]), allow_pickle=False)
    assert latent.dtype == np.float32
    np.testing.assert_array_equal(latent, candidate.latent)


def test_a_sample_with_nan_is_refused_and_leaves_nothing(spec_path: Path, tmp_path: Path) -> None:
    spec = spec_of(spec_path, 1)
    bad = [replace(c, drifts={"class": float("nan")}) for c in candidates_of(spec, range(1))]
    with pytest.raises(ValueError, match="JSON"):
        write_shard(folder_at(tmp_path), "d", ComputedShard(job_of(spec), 0, range(1), bad, Passes(), 0.0))
    assert not list(tmp_path.iterdir())


# Shards


def test_equal_candidates_give_equal_bytes(spec_path: Path, tmp_path: Path) -> None:
    spec = spec_of(spec_path)
    one, two = (make_run(spec, tmp_path / name, seconds) for name, seconds in (("one", 1.0), ("two", 2.0)))
    assert contents(one) == contents(two) and len(contents(one)) == 13
    write(folder_at(one), spec, 1)  # over a finished one
    assert contents(one) == contents(two)


@pytest.mark.parametrize("image", FORMATS)
def test_a_real_job_gives_equal_bytes_twice(tmp_path: Path, image: ImageFormat) -> None:
    spec = load_spec(world(tmp_path), [f"shards.image={image}", "held.class=5"])
    job = prepare(spec, "cpu")
    for name in ("one", "two"):
        candidates, passes = run_seeds(job, range(2))
        (tmp_path / name).mkdir()
        write_shard(folder_at(tmp_path / name), digest(spec), ComputedShard(job, 0, range(2), candidates, passes, 0.0))
        assert verify_shard(folder_at(tmp_path / name), 0) == []
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert records(tmp_path / "one")[-1]["role"] == "variant"
    for key, files in read_samples(tmp_path / "one/shard-00000.tar"):
        assert set(files) == {image, "cls", "json", "latent.npy"}
        if key == key_of(0):  # a seed's latent is the published convention's
            latent = np.load(io.BytesIO(files["latent.npy"]))
            np.testing.assert_array_equal(latent, np.random.RandomState(0).randn(D).astype(np.float32))


def test_a_manifest_has_the_contracts_fields_and_counts(spec_path: Path, tmp_path: Path) -> None:
    folder = make_run(spec_of(spec_path), tmp_path)
    manifest = json.loads((folder / "shard-00002.json").read_text())  # seeds 4 and 5; the label of 4 is contradicted
    contract = (
        "schema digest index first_seed seeds samples accepted rejected labels spreads sha256 bytes passes seconds device versions"
    )
    assert set(manifest) >= set(contract.split()) | {"parquet_sha256"}
    for key, value in {
        "schema": 1, "digest": folder.name, "index": 2, "first_seed": 4, "seeds": 2, "samples": 9, "accepted": 8,
        "rejected": {"held:class": 4, "seed_label": 12}, "labels": {"c": 9}, "spreads": {"class": 1.5, "look": 4.0},
        "bytes": (folder / "shard-00002.tar").stat().st_size, "passes": {"forward": 70, "forward_mode": 8, "reverse": 9},
        "seconds": 1.5, "device": "cpu",
    }.items():  # fmt: skip
        assert manifest[key] == value, key
    assert set(manifest["versions"]) == {"reds", "python", "torch", "numpy", "webdataset", "pillow"}


def test_the_table_has_a_row_for_every_candidate(spec_path: Path, tmp_path: Path) -> None:
    spec = spec_of(spec_path)
    table = pd.read_parquet(make_run(spec, tmp_path) / "shard-00002.parquet")
    expected = candidates_of(spec, plan(spec)[2])
    assert list(table["key"]) == [c.key for c in expected]
    assert list(table["accepted"]) == [c.accepted for c in expected] and list(table["reason"]) == [c.reason for c in expected]
    np.testing.assert_array_equal(table["drift_class"], [c.drifts["class"] for c in expected])
    assert table["effect_look"].isna().sum() == 12 and table["drift_class"].dtype == table["effect_look"].dtype == np.float64
    columns = "key role seed direction sign waypoint accepted reason label label_name condition judge_label judge_confidence"
    measured = ["judge_agrees", "source", "fit", "drift_class", "effect_look", "tolerance_class"]
    assert list(table.columns) == [*columns.split(), *measured]


def test_a_tar_says_nothing_of_when_and_where_it_was_made(spec_path: Path, tmp_path: Path) -> None:
    with tarfile.open(make_run(spec_of(spec_path, 2), tmp_path) / "shard-00000.tar") as tar:
        members = tar.getmembers()
    assert {(m.mtime, m.uname, m.gname, m.uid, m.gid, m.mode) for m in members} == {(0, "bigdata", "bigdata", 0, 0, 0o444)}
    assert [m.name for m in members[:4]] == [f"s00000000.{e}" for e in ("cls", "json", "latent.npy", "png")]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves it to the collector
def test_webdataset_reads_every_sample(spec_path: Path, tmp_path: Path) -> None:
    spec = spec_of(spec_path)
    folder = make_run(spec, tmp_path)
    urls = [str(p) for p in sorted(folder.glob("*.tar"))]
    read = list(wds.WebDataset(urls, shardshuffle=False, empty_check=False).decode("rgb8"))
    gc.collect()
    expected = [c for c in candidates_of(spec, range(6)) if c.accepted]
    assert [s["__key__"] for s in read] == [c.key for c in expected] and len(expected) == totals_of(folder).samples
    for s, c in zip(read, expected, strict=True):
        assert s["cls"] == c.label and s["json"]["waypoint"] == c.waypoint
        np.testing.assert_array_equal(s["latent.npy"], c.latent)
        np.testing.assert_array_equal(s["png"][:, :, :1], decode(c.image, 1))


def test_hugging_face_datasets_reads_every_sample(spec_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    from datasets import load_dataset  # type: ignore[import-untyped]

    spec = spec_of(spec_path)
    folder = make_run(spec, tmp_path)
    data_files = {"train": [str(p) for p in sorted(folder.glob("*.tar"))]}
    read = list(load_dataset("webdataset", data_files=data_files, split="train", streaming=True, cache_dir=str(tmp_path / "cache")))
    expected = [c for c in candidates_of(spec, range(6)) if c.accepted]
    assert [r["__key__"] for r in read] == [c.key for c in expected]
    for r, c in zip(read, expected, strict=True):
        assert r["json"]["varied"]["look"]["effect"] == c.effects["look"] and r["cls"] == c.label
        np.testing.assert_array_equal(r["latent.npy"], c.latent)
        np.testing.assert_array_equal(np.asarray(r["png"]), decode(c.image, 1)[:, :, 0])


def test_a_shard_of_which_nothing_was_accepted_is_a_shard(spec_path: Path, tmp_path: Path) -> None:
    spec = spec_of(spec_path, 1, "seeds.first=4")
    folder = make_run(spec, tmp_path)
    manifest = read_manifest(folder_at(folder), 0)
    assert manifest and manifest.samples == 0 and manifest.rejected == {"seed_label": 12} and manifest.labels == {}
    assert (
        verify_run(folder_at(folder)) == {0: []}
        and pending(folder_at(folder), spec) == []
        and not (folder / "shard-00000.tar").exists()
    )


def test_a_doubled_key_never_becomes_a_shard(spec_path: Path, tmp_path: Path) -> None:
    spec = spec_of(spec_path, 2)
    candidates = candidates_of(spec, range(2))
    for doubled in ([*candidates, candidates[0]], [candidates[0], *candidates]):
        with pytest.raises(ShardDamaged, match="not what was written"):
            write_shard(folder_at(tmp_path), "d", ComputedShard(job_of(spec), 0, range(2), doubled, Passes(), 0.0))
        assert not list(tmp_path.iterdir())


def test_an_image_that_does_not_decode_never_becomes_a_shard(spec_path: Path, tmp_path: Path) -> None:
    spec = spec_of(spec_path, 2)
    candidates = candidates_of(spec, range(2))
    candidates[3] = replace(candidates[3], reason="", image=candidates[0].image[:60], latent=candidates[0].latent)
    with pytest.raises(RunError, match=rf"{candidates[3].key}: its \.png cannot be read"):
        write_shard(folder_at(tmp_path), "d", ComputedShard(job_of(spec), 0, range(2), candidates, Passes(), 0.0))
    assert not list(tmp_path.iterdir())


# Folders


def test_a_longer_run_extends_the_folder_and_remakes_only_the_short_shard(spec_path: Path, tmp_path: Path) -> None:
    folder = make_run(spec_of(spec_path, 3), tmp_path)
    before = contents(folder)
    longer = spec_of(spec_path, 6)
    assert run_folder(longer, folder_at(tmp_path)) == folder_at(folder) and pending(folder_at(folder), longer) == [1, 2]
    make_run(longer, tmp_path)
    after = contents(folder)
    assert all(after[f"shard-00000.{kind}"] == before[f"shard-00000.{kind}"] for kind in KINDS)
    assert after == contents(make_run(longer, tmp_path / "at once"))


def test_a_smaller_run_deletes_nothing(spec_path: Path, tmp_path: Path) -> None:
    folder = make_run(spec_of(spec_path, 6), tmp_path)
    before = contents(folder)
    make_run(spec_of(spec_path, 1), tmp_path)
    assert contents(folder) == before and load_spec(folder / "spec.yaml").seeds.count == 6


def test_a_mistyped_count_is_forgotten_once_less_is_asked_for(spec_path: Path, tmp_path: Path) -> None:
    folder = make_run(spec_of(spec_path, 3), tmp_path)
    with opened(spec_of(spec_path, 3000), folder_at(tmp_path)):
        pass
    assert len(verify_run(folder_at(folder))) == 1500 and load_spec(folder / "spec.yaml").seeds.count == 3000
    make_run(spec_of(spec_path, 2), tmp_path)
    assert load_spec(folder / "spec.yaml").seeds.count == 3 and not any(verify_run(folder_at(folder)).values())
    assert grown(spec_of(spec_path, 2), folder_at(tmp_path)).seeds.count == 5


def test_a_shard_that_is_missing_before_the_last_finished_one_is_missed(spec_path: Path, tmp_path: Path) -> None:
    folder = make_run(spec_of(spec_path, 6), tmp_path)
    for kind in KINDS:
        (folder / f"shard-00001.{kind}").unlink()
    (folder / "spec.yaml").write_text(dump(spec_of(spec_path, 1)))
    assert [index for index, problems in verify_run(folder_at(folder)).items() if problems] == [1]


def test_a_damaged_spec_in_the_folder_is_written_anew(spec_path: Path, tmp_path: Path) -> None:
    spec = spec_of(spec_path, 2)
    folder = make_run(spec, tmp_path)
    (folder / "spec.yaml").write_text("name: [")
    make_run(spec, tmp_path)
    assert load_spec(folder / "spec.yaml") == spec


def test_opening_removes_what_a_killed_run_left_and_nothing_else(spec_path: Path, tmp_path: Path) -> None:
    spec = spec_of(spec_path, 4)
    folder = make_run(spec, tmp_path)
    for name in (".part-shard-00001.tar", ".part-spec.yaml", "shard-00007.tar", "shard-00007.parquet"):
        (folder / name).write_bytes(b"unfinished")
    kept = ("report.html", "README.md", "notes.txt", "shard.tar", "more-shard-00001.tar")
    for name in kept:
        (folder / name).write_text("kept")
    before = contents(folder)
    with opened(spec, folder_at(tmp_path)):
        assert set(before) - set(contents(folder)) == {
            ".part-shard-00001.tar", ".part-spec.yaml", "shard-00007.tar", "shard-00007.parquet",
        }  # fmt: skip
    assert all((folder / name).read_text() == "kept" for name in kept)


def test_starting_afresh_waits_for_the_lock_and_then_removes_what_was_made(spec_path: Path, tmp_path: Path) -> None:
    spec = spec_of(spec_path, 6)
    folder = make_run(spec, tmp_path)
    before = contents(folder)
    with (
        opened(spec, folder_at(tmp_path)),
        pytest.raises(RunError, match="another run"),
        opened(spec, folder_at(tmp_path), fresh=True),
    ):
        pass
    assert contents(folder) == before
    shorter = spec_of(spec_path, 1)
    with opened(shorter, folder_at(tmp_path), fresh=True):
        assert set(contents(folder)) == {"spec.yaml"} and load_spec(folder / "spec.yaml") == shorter


def test_two_runs_do_not_write_to_one_folder_at_once(spec_path: Path, tmp_path: Path) -> None:
    spec = spec_of(spec_path)
    with opened(spec, folder_at(tmp_path)):
        with (
            pytest.raises(RunError, match=r"another run is writing to .*; wait for it, or stop it"),
            opened(spec, folder_at(tmp_path)),
        ):
            raise AssertionError("two runs are in the folder")
        with opened(spec, folder_at(tmp_path / "elsewhere")):
            pass
    with pytest.raises(ZeroDivisionError), opened(spec, folder_at(tmp_path)):
        _ = 1 / 0
    with opened(spec, folder_at(tmp_path)):  # an error releases it too
        pass


def test_runs_of_other_shards_write_to_one_folder_at_once(spec_path: Path, tmp_path: Path) -> None:
    spec = spec_of(spec_path)
    expected = contents(make_run(spec, tmp_path / "expected"))
    with opened(spec, folder_at(tmp_path), range(0, 1)) as folder:
        write(folder, spec, 0)
        unfinished = Path(f"{folder}/.part-shard-00000.tar")
        unfinished.write_bytes(b"being written")
        with opened(spec, folder_at(tmp_path), range(1, 3)):
            write(folder, spec, 1)
            with pytest.raises(RunError, match="another run"), opened(spec, folder_at(tmp_path), range(2, 3)):
                pass
            with pytest.raises(RunError, match="another run"), opened(spec, folder_at(tmp_path), range(1), fresh=True):
                pass
            assert unfinished.exists(), "a run took another one's unfinished file"
            write(folder, spec, 2)
    assert contents(make_run(spec, tmp_path)) == expected


def test_totals_are_sums_over_manifests_alone(spec_path: Path, tmp_path: Path) -> None:
    spec = spec_of(spec_path)
    folder = make_run(spec, tmp_path)
    for path in (*folder.glob("*.parquet"), *folder.glob("*.tar")):
        path.unlink()
    t = totals_of(folder)
    candidates = candidates_of(spec, range(6))
    variants = [c for c in candidates if c.role == "variant"]
    assert (t.shards, t.seeds, t.candidates, t.seconds) == (3, 6, len(variants), 4.5)
    assert t.samples == sum(c.accepted for c in candidates) and t.accepted == sum(c.accepted for c in variants)
    assert t.rejected == Counter(c.reason for c in variants if c.reason)
    assert t.labels == Counter(c.label_name for c in candidates if c.accepted)
    assert t.passes == Passes(210, 24, 27)
    assert totals_of(tmp_path) == Totals()


def test_a_copy_of_a_manifest_by_another_name_counts_for_nothing(spec_path: Path, tmp_path: Path) -> None:
    folder = make_run(spec_of(spec_path), tmp_path)
    before = totals_of(folder)
    for name in ("shard-00000 copy.json", "shard-0.json", "shard-000000.json", "shard-x.json", "shard-0\u00b2.json"):
        shutil.copy(folder / "shard-00000.json", folder / name)
    assert totals_of(folder) == before and [r.state for r in runs(folder_at(tmp_path))] == ["complete"]


def test_runs_are_listed_newest_first_with_their_state(spec_path: Path, tmp_path: Path) -> None:
    whole = make_run(spec_of(spec_path, 4), tmp_path)
    partial = make_run(spec_of(spec_path, 4, "held.class=0.3"), tmp_path)
    for k, path in enumerate((*sorted(partial.iterdir()), *sorted(whole.iterdir()))):
        os.utime(path, (1000 + k, 1000 + k))
    for kind in KINDS:
        (partial / f"shard-00001.{kind}").unlink()
    (tmp_path / "tiny/notes").mkdir()
    found = runs(folder_at(tmp_path))
    assert [(r.folder, r.state, r.totals.shards) for r in found] == [
        (folder_at(whole), "complete", 2),
        (folder_at(partial), "partial, 1 of 2 shards", 1),
    ]
    assert [r.folder for r in runs(folder_at(partial))] == [folder_at(partial)]
    assert runs(folder_at(tmp_path / "tiny/notes")) == []
    with opened(spec_of(spec_path, 5), folder_at(tmp_path)):
        pass
    assert runs(folder_at(whole))[0].state == "partial, 2 of 3 shards"


def test_a_run_whose_last_shard_is_still_short_is_partial(spec_path: Path, tmp_path: Path) -> None:
    make_run(spec_of(spec_path, 3), tmp_path)
    with opened(spec_of(spec_path, 4), folder_at(tmp_path)):
        pass
    assert [r.state for r in runs(folder_at(tmp_path))] == ["partial, 3 of 4 seeds"]


def test_one_damaged_run_does_not_hide_the_others(spec_path: Path, tmp_path: Path) -> None:
    damaged, whole = make_run(spec_of(spec_path, 2, "held.class=0.3"), tmp_path), make_run(spec_of(spec_path, 2), tmp_path)
    (damaged / "spec.yaml").write_text("name: [")
    assert {r.folder: r.state for r in runs(folder_at(tmp_path))} == {
        folder_at(whole): "complete",
        folder_at(damaged): "its spec.yaml is damaged",
    }


def test_starting_afresh_removes_a_runs_own_files_and_nothing_else(spec_path: Path, tmp_path: Path) -> None:
    spec = spec_of(spec_path, 2)
    folder = make_run(spec, tmp_path)
    for name in ("notes.txt", "shards.tar", "report.html", "README.md"):
        (folder / name).write_text("mine")
    with opened(spec, folder_at(tmp_path), fresh=True):
        assert set(contents(folder)) == {"notes.txt", "shards.tar", "spec.yaml"}
