"""`reds run SPEC --until per_class=N`: real runs that go on until every class has enough."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reds_core.errors import UserError
from reds_core.runs.run_folder import run_folder
from reds_core.runs.verify import verify_run
from reds_core.spec.load import load_spec
from reds_core.storage.places import folder_at
from tests.support.programs import finished, forked, wait_until
from tests.support.shards import contents, of_shards, path_of
from tests.support.worlds import world

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
UNTIL = "per_class=60"


def accepted(folder: Path, role: str = "variant") -> dict[str, int]:
    rows = pd.concat([pd.read_parquet(p) for p in sorted(folder.glob("shard-*.parquet"))])
    return dict(Counter(rows.label_name[rows.accepted & (rows.role == role)]))


def test_it_goes_on_past_the_count_of_the_spec_until_every_class_has_enough(augment: Any, tmp_path: Path) -> None:
    spec, out = str(world(tmp_path / "world", seeds={"count": 2})), str(tmp_path / "out")
    made = augment(spec=spec, out=out, until=UNTIL)
    assert made["classes"] == accepted(Path(made["folder"])) and set(made["classes"]) == {"a", "b", "c"}
    assert min(made["classes"].values()) >= 60 and made["seeds"] > 2
    assert not any(verify_run(folder_at(made["folder"])).values())
    again = augment(spec=spec, out=out, until=UNTIL)
    assert again["now"] == 0 and again["classes"] == made["classes"]
    assert augment(spec=spec, out=out)["now"] == 0, "a run without it deletes nothing"


def test_every_engine_makes_the_same_shards_and_a_longer_count_does_not_matter(
    augment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.engines import registry

    spec = str(world(tmp_path / "world", seeds={"count": 100}))
    local = augment(spec=spec, out=str(tmp_path / "a"), until="per_class=10")
    monkeypatch.setattr(registry, "pick_devices", lambda device, workers: ["cpu", "cpu:0"])
    processes = augment(spec=spec, out=str(tmp_path / "b"), until="per_class=10", engine="processes", workers=2)
    assert local["classes"] == processes["classes"] and local["seeds"] < 100
    assert of_shards(contents(Path(local["folder"]))).keys() == of_shards(contents(Path(processes["folder"]))).keys()


def test_seeds_alone_are_counted_themselves(augment: Any, tmp_path: Path) -> None:
    made = augment(spec=str(world(tmp_path / "w", trajectory={"directions": 0})), out=str(tmp_path / "out"), until="per_class=5")
    assert made["classes"] == accepted(Path(made["folder"]), "seed") and min(made["classes"].values()) >= 5


def test_a_limit_that_stops_it_is_a_failure_that_names_what_is_short(augment: Any, tmp_path: Path) -> None:
    spec, out = str(world(tmp_path / "world")), str(tmp_path / "out")
    state = augment(spec=spec, out=out, until="per_class=1000,seeds=5", return_state=True)
    assert state.is_failed() and "3 of 3 classes have fewer than 1,000 after 5 seeds: " in str(state.message)
    assert augment(spec=spec, out=out)["seeds"] == 6, "what is there is kept, and a later run goes on from it"


@pytest.mark.parametrize("other", [{"grow": True}, {"shards": "0:1"}])
def test_it_does_not_go_with_what_says_how_many_seeds_there_are(augment: Any, tmp_path: Path, other: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"does not go with {next(iter(other))}"):
        augment(spec=str(world(tmp_path / "world")), out=str(tmp_path / "out"), until=UNTIL, **other)


def test_a_killed_run_goes_on_to_the_shards_of_an_undisturbed_one(served: dict[str, str], tmp_path: Path) -> None:
    spec = world(tmp_path / "world", seeds={"count": 2})

    def start(out: str) -> Any:
        return forked(("run", spec, "--out", out, "--until", UNTIL), served, tmp_path)

    whole = finished(start("whole"))
    assert whole.returncode == 0 and whole.stdout.startswith("accepted of 3 classes: "), whole.stderr
    expected = of_shards(contents(folder_of(spec, tmp_path / "whole")))

    hurt = start("hurt")
    later = folder_of(spec, tmp_path / "hurt") / f"shard-{len(expected) // 6:05d}.tar"
    wait_until(lambda: later.exists() or hurt.returncode() is not None, 120, hurt.log)
    hurt.kill()
    assert hurt.wait(20) in (0, -signal.SIGKILL)
    again = finished(start("hurt"))
    assert again.returncode == 0 and of_shards(contents(folder_of(spec, tmp_path / "hurt"))) == expected
    assert again.stdout.splitlines()[0] == whole.stdout.splitlines()[0]


def folder_of(spec: Path, out: Path) -> Path:
    return path_of(run_folder(load_spec(spec), folder_at(out)))


def test_the_program_ends_with_2_for_a_mistake_and_1_at_the_limit(served: dict[str, str], tmp_path: Path) -> None:
    spec = world(tmp_path / "world")
    wrong = finished(forked(("run", spec, "--until", "classes=3"), served, tmp_path))
    assert wrong.returncode == 2 and "is not of the form per_class=N" in wrong.stderr and "(--until)" in wrong.stderr
    short = finished(forked(("run", spec, "--until", "per_class=900,seeds=3"), served, tmp_path))
    assert (
        short.returncode == 1
        and "after 3 seeds: " in short.stderr
        and "That was the limit, seeds=3" in short.stderr
        and "Traceback" not in short.stderr
    )
    alone = finished(forked(("run", spec, "--set", "trajectory={directions: 0}"), served, tmp_path))
    assert alone.returncode == 0 and "6 accepted of 6 seeds (100%)" in alone.stdout.splitlines()[-1]
    assert (
        finished(forked(("run", spec, "--set", "trajectory={directions: 0}", "--least-accepted", 1), served, tmp_path)).returncode
        == 0
    )
