"""`reds export`, as a person uses it: counts, messages, exit codes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flows.cli.export import show_plan
from reds_core.exports.inputs import open_runs
from reds_core.exports.plan import planned
from reds_core.exports.request import Request
from reds_core.storage.places import folder_at
from tests.support.exports import hear_nothing, held, make, run_at, sample, spec_at
from tests.support.programs import Reds


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_at(tmp_path_factory.mktemp("run"))


def test_an_export_from_start_to_finish(here: Reds, run: Path, tmp_path: Path) -> None:
    words = ("export", run, "set", "--per-class", 30, "--split", "train=0.75,val=0.25", "--shards", 2)
    dry = here(*words, "--dry-run")
    assert dry.returncode == 0 and not (tmp_path / "set").exists(), dry.stderr
    assert re.search(r"Bag +18 +18 +\d+ +\d+", dry.stdout) and re.search(r"all +54 +54 +\d+ +\d+", dry.stdout)
    assert "Bag: 18 of 30; 1.5 a seed so far, so about 8 more seeds\n" in dry.stdout
    assert "These are the same seeds: about 8 more seeds of" in dry.stdout and "would do for all of them.\n" in dry.stdout
    assert "reds run SPEC --until per_class=30" in dry.stdout

    done = here(*words)
    last = done.stdout.splitlines()[-1]
    assert done.returncode == 0 and last.startswith("set: 54 samples in 4 shards (train ") and 'load_dataset("set")' in last
    assert len(held(tmp_path / "set")) == 54 and done.stderr.splitlines() == ["shards read: 3", "shards written: 4"]
    assert "nothing was left to do" in here(*words).stdout
    assert here("verify", "set").stdout == "set: 4 shards intact, 54 samples\n"
    assert "no runs under" in here("list", "set").stdout
    (tmp_path / "set/val-00001.tar").unlink()
    damaged = here("verify", "set")
    assert damaged.returncode == 1
    assert damaged.stdout == "val-00001.tar: is missing\nset: 1 problem; export again to make it anew\n"
    assert here(*words).returncode == here("verify", "set").returncode == 0


def test_an_image_folder_is_counted_in_images(here: Reds, run: Path) -> None:
    done = here("export", run, "set", "--format", "imagefolder", "--per-seed", 2, "--roles", "variant")
    assert done.returncode == 0 and done.stdout.splitlines()[-1].startswith("set: 24 images (train 24)")
    assert here("verify", "set").stdout == "set: 24 images intact\n"


def test_a_damaged_run_ends_with_1_and_says_how_to_find_all_damage(here: Reds, tmp_path: Path) -> None:
    damaged = run_at(tmp_path)
    (damaged / "shard-00001.tar").write_bytes(b"")
    done = here("export", damaged, "set")
    assert done.returncode == 1 and "shard-00001.tar: its hash differs" in done.stderr and "`reds verify`" in done.stderr
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["RUN"], "give each run's folder, and last the folder to fill: reds export RUN... DEST"),
        (["nowhere", "set"], "there is no folder nowhere"),
        (["RUN", "RUN"], "lies in the run"),
        (["RUN", "set", "--split", "train=0.9,val=0.2"], "the shares sum to 1.1; they must sum to 1, as in"),
        (["RUN", "set", "--roles", "variants"], "there is no role 'variants'"),
        (["RUN", "set", "--roles", "source"], "no sample of the role source (--roles)"),
        (["RUN", "set", "--per-class", "0"], "greater than or equal to 1"),
        (["RUN", "set", "--format", "zip"], "imagefolder"),
        (["RUN", "."], "holds something else (other.txt)"),
    ],
)
def test_a_mistake_is_named_without_a_traceback(here: Reds, run: Path, tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "other.txt").touch()
    done = here("export", *(str(run) if word == "RUN" else word for word in words))
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "set").exists()


def test_what_is_unfinished_doubled_or_scarce_is_said(here: Reds, tmp_path: Path) -> None:
    one = make(tmp_path / "runs", spec_at(tmp_path, "one"), shards=2)
    two = run_at(tmp_path, "two", lambda seed: [sample(seed, w, label=seed % 3) for w in (0, 7)])
    done = here("export", one, two, "set", "--split", "train=0.6,val=0.1,a=0.1,b=0.1,c=0.1", "--shards", 4)
    assert f"{one} is not complete (2 of 3 shards): what is finished is used." in done.stdout
    assert "8 samples left out: another one of the same seed has the same image." in done.stdout
    short = "T-shirt/top (4), Bag (4), Ankle boot (4)"
    assert f"Too few seeds to be in every split, so missing from at least one: {short}." in done.stdout
    assert "val: 4 samples fill" not in done.stdout and done.returncode == 0
    few = here("export", two, "few", "--per-class", 1, "--split", "train=0.9,val=0.1", "--shards", 4)
    assert "val: has no sample at all." in few.stdout and "train: 3 samples fill 3 shards, not 4." in few.stdout


def test_of_many_classes_the_scarce_ones_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = tuple(f"class {n:03d} [odd]" for n in range(60))
    run = run_at(tmp_path, made=lambda s: [sample(s, w, label=s, names=names) for w in range(1 + s % 3)], seeds=60, names=names)
    with planned(open_runs([folder_at(run)]), Request(per_class=3, splits={"a": 0.5, "b": 0.5}), hear_nothing) as plan:
        show_plan(plan)
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) < 40 and max(map(len, shown.splitlines()[:16])) <= 80
    assert re.search(r"50 other classes +1 to 3 +1 to 3", shown) and re.search(r"all +120 +120", shown)
    assert "so about 120 more seeds\n" in shown and "and 30 more classes have too few: at least 1" in shown
