"""`reds`, as a person uses it: exit codes, messages, help. Runs the real program."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from flows.cli.checks import check_removal
from reds_core.errors import UserError
from reds_core.runs.verify import verify_run
from reds_core.storage.places import folder_at
from reds_core.version import __version__
from tests.support import DATA, ROOT
from tests.support.programs import Program, Reds, Start, children_of, finished, forked, started, wait_until
from tests.support.shards import totals_of
from tests.support.worlds import world


@pytest.fixture
def reds(served: dict[str, str], tmp_path: Path) -> Reds:
    def call(*words: object) -> subprocess.CompletedProcess[str]:
        return finished(forked(words, served, tmp_path))

    return call


def test_help_is_there_for_every_verb(here: Reds) -> None:
    text = here("--help").stdout
    for verb in ("run", "check", "compare", "import", "verify", "report", "list", "kinds", "schema"):
        assert verb in text
    for option in (
        "--out",
        "--engine",
        "--workers",
        "--device",
        "--batch",
        "--shards",
        "--set",
        "--allow-code",
        "--fresh",
        "--yes",
    ):
        assert option in here("run", "--help").stdout


def test_the_version_is_shown_without_waiting_for_torch() -> None:
    code = "import sys\nfrom flows.cli import main\ntry: main()\nfinally: assert 'torch' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", code, "--version"], cwd=ROOT, capture_output=True, text=True)
    assert (shown.returncode, shown.stdout) == (0, f"reds {__version__}\n"), shown.stderr


def test_a_run_from_start_to_finish(reds: Reds, here: Reds, embedded: dict[str, str], tmp_path: Path) -> None:
    spec = world(tmp_path / "world")
    done = finished(started(("run", spec), embedded, tmp_path))
    assert done.returncode == 0, done.stderr
    last = done.stdout.strip().splitlines()[-1]
    folder = tmp_path / last.partition(": ")[0]
    assert "3 shards (3 made now)" in last and folder.is_dir() and (folder / "report.html").is_file()
    assert "Traceback" not in done.stderr and "WARNING" not in done.stderr and "http" not in done.stderr

    before = {p: p.stat().st_mtime_ns for p in folder.glob("shard-*")}
    again = reds("run", spec)
    assert again.returncode == 0 and "nothing was left to do" in again.stdout
    assert before == {p: p.stat().st_mtime_ns for p in folder.glob("shard-*")}

    assert here("verify", folder).returncode == 0
    assert "complete" in here("list").stdout
    (folder / "report.html").unlink()
    assert here("report", folder).returncode == 0 and (folder / "report.html").is_file()
    tar = folder / "shard-00001.tar"
    tar.write_bytes(tar.read_bytes()[:-512])
    damaged = here("verify", folder)
    assert damaged.returncode == 1 and "shard-00001.tar" in damaged.stdout
    tar.rename(folder / "copy.tar")
    damaged = here("verify", folder)
    assert damaged.returncode == 1 and re.search(r"1 of \d+ shards damaged or missing", damaged.stdout)
    assert "tars that are not shards of the run: 1;" in damaged.stdout


def test_check_says_what_a_run_would_do_and_writes_nothing(here: Reds, tmp_path: Path) -> None:
    spec = world(tmp_path / "world")
    before = sorted(tmp_path.rglob("*"))
    done = here("check", spec)
    assert done.returncode == 0, done.stderr
    for words in ("class scores (L2)", "pixel values", "accepted", "forward equivalents", "tolerance of"):
        assert words in done.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_an_imported_checkpoint_s_last_line_is_the_generator_of_a_spec(here: Reds, tmp_path: Path) -> None:
    done = here("import", DATA / "rosinality-tiny.pt", "nets/g.safetensors")
    assert done.returncode == 0, done.stderr
    key, _, value = done.stdout.strip().splitlines()[-1].partition(": ")
    boxes = {"upper": [0, 0, 0.5, 1], "lower": [0.5, 0, 1, 1]}
    spec = {
        "name": "imported", key: yaml.safe_load(value), "seeds": {"count": 2}, "label": "none", "held": {"upper": 0.1},
        "varied": {"lower": 0.01},
        "attributes": {name: {"kind": "pixels", "region": {"box": box}} for name, box in boxes.items()},
        "trajectory": {"directions": 1, "waypoints": 1, "step": 0.05},
    }  # fmt: skip
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    checked = here("check", "spec.yaml", "--seeds", 1)
    assert checked.returncode == 0 and "generator g: w space of 32 dimensions, images 3x32x32" in checked.stdout, checked.stderr


def test_a_hostile_checkpoint_is_named_and_leaves_nothing(here: Reds, tmp_path: Path) -> None:
    (tmp_path / "bad.pkl").write_bytes(b"cposix\nsystem\n(S'touch ran'\ntR.")
    done = here("import", "bad.pkl", "bad.safetensors")
    assert done.returncode == 2 and "posix.system" in done.stderr and "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.pkl"]


def test_check_says_where_missing_files_are_published_and_tries_the_others(here: Reds, tmp_path: Path) -> None:
    done = here("check", ROOT / "augment_specs/imagenet.yaml")
    assert done.returncode == 2 and "everything else that can be checked without them is right" in done.stderr
    for words in (
        "generator.path: there is no file",
        "github.com/ajbrock/BigGAN-PyTorch",
        "judge.model.path",
        "download.pytorch.org",
    ):
        assert words in done.stderr
    spec = world(tmp_path / "world")
    (tmp_path / "world/g.pt").unlink()
    (tmp_path / "world/c.pt").write_bytes(b"no network")
    wrong = here("check", spec)
    assert wrong.returncode == 2 and "g.pt" in wrong.stderr and "c.pt is not a TorchScript file" in wrong.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "none.yaml"], "cannot be read: No such file"),
        (["check", "world/spec.yaml", "--set", "held.nobody=1"], "no attribute has this name"),
        (["run", "world/spec.yaml", "--set", "generator.path=gone.pt"], "there is no file"),
        (["run", "world/spec.yaml", "--shards", "7:9"], "selects no shard; the spec has 3: 0:3"),
        (["check", "world/spec.yaml", "--device", "tpu9"], "cannot be used"),
        (["check", "world/spec.yaml", "--batch", "0"], "a batch must hold at least 1 image, got 0"),
        (["run", "world/spec.yaml", "--out", "s3:/bucket/runs"], "a URL has two slashes after its colon"),
        (["run", "world/spec.yaml", "--out", "world/spec.yaml"], "spec.yaml is not a folder; choose another folder (--out)"),
        (["run", "world/spec.yaml", "--out", " "], "the folder's name is empty"),
        (["verify", "."], "is not a run"),
        (["verify", "nowhere"], "there is no folder"),
        (["kinds", "smell"], "there is no kind"),
        (["run", "world/spec.yaml", "--engine", "magic"], "magic"),
        (["fly"], "fly"),
    ],
)
def test_a_mistake_is_named_without_a_traceback(reds: Reds, here: Reds, tmp_path: Path, words: list[str], message: str) -> None:
    world(tmp_path / "world")
    done = reds(*words) if words[0] == "run" else here(*words)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_a_run_that_accepts_nothing_ends_with_1_and_says_why(reds: Reds, tmp_path: Path) -> None:
    done = reds("run", world(tmp_path / "world"), "--set", "varied.look=50", "--shards", ":1")
    assert done.returncode == 1 and "accepted none of 24 candidates: varied:look" in done.stderr


def test_a_fresh_start_asks_before_it_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(text: str | None) -> None:
        stdin = io.StringIO(text)
        monkeypatch.setattr(stdin, "isatty", lambda: text is not None, raising=False)
        monkeypatch.setattr(sys, "stdin", stdin)
        check_removal(folder_at(tmp_path), agreed=False)

    answer(None)  # there is nothing to remove
    (tmp_path / "shard-00000.tar").write_bytes(bytes(2_000_000))
    with pytest.raises(UserError, match=rf"removes 1 shard \(2\.0 MB\) of {tmp_path}; nothing was removed") as caught:
        answer(None)
    assert caught.value.parameter == "yes"
    for text in ("\n", "n\n", ""):
        with pytest.raises(UserError, match="nothing was removed, and nothing made"):
            answer(text)
    answer("y\n")
    assert "remove 1 shard (2.0 MB)" in capsys.readouterr().err
    check_removal(folder_at(tmp_path), agreed=True)


def test_the_schema_is_json_and_kinds_name_their_fields(here: Reds) -> None:
    assert json.loads(here("schema").stdout)["properties"]["held"]
    assert "lowpass" in here("kinds", "pixels").stdout


def many_shards(tmp_path: Path) -> Path:
    return world(tmp_path / "world", seeds={"count": 3000}, shards={"seeds": 2})


def wait_for_a_shard(program: Program, tmp_path: Path) -> None:
    def there() -> bool:
        return bool(list(tmp_path.glob("outputs/*/*/shard-*.json"))) or program.returncode() is not None

    wait_until(there, 200, program.log)


def descendants(pid: int) -> set[int]:
    found = set(children_of(pid))
    return found.union(*map(descendants, found))


def gone(pids: set[int]) -> bool:
    def lives(pid: int) -> bool:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        return False

    return bool(wait_until(lambda: not any(map(lives, pids)), 30, lambda: f"still there: {[p for p in pids if lives(p)]}"))


@pytest.mark.parametrize(("start", "engine", "api"), [(forked, "local", "served"), (started, "processes", "embedded")])
def test_ctrl_c_stops_at_once_and_what_is_finished_stays(
    request: pytest.FixtureRequest, tmp_path: Path, start: Start, engine: str, api: str
) -> None:
    program = start(("run", many_shards(tmp_path), "--engine", engine), request.getfixturevalue(api), tmp_path)
    wait_for_a_shard(program, tmp_path)
    children = descendants(program.pid)
    os.kill(program.pid, signal.SIGINT)
    assert program.wait(20) == 130, program.log()
    errors = program.stderr.read_text()
    assert "interrupted" in errors and "Run the same command again to continue" in errors and "Traceback" not in errors
    assert gone(children)
    assert api == "embedded" or _state_of(tmp_path, request.getfixturevalue("prefect_api")) == "CANCELLED"
    (folder,) = tmp_path.glob("outputs/tiny/*")
    complete = totals_of(folder).shards
    problems = verify_run(folder_at(folder))
    assert complete > 0 and sum(not p for p in problems.values()) == complete


def _state_of(tmp_path: Path, api: str) -> str:
    """Returns what a server says of the run of the spec in this folder."""
    found = httpx.post(f"{api}/flow_runs/filter", json={"sort": "EXPECTED_START_TIME_DESC"}).raise_for_status().json()
    return str(next(run["state_type"] for run in found if str(tmp_path) in run["parameters"]["spec"]))


def test_sigkill_of_the_program_leaves_no_processes_and_no_half_shards(
    reds: Reds, embedded: dict[str, str], tmp_path: Path
) -> None:
    spec = many_shards(tmp_path)
    program = started(("run", spec, "--engine", "processes", "--workers", "2"), embedded, tmp_path)
    wait_for_a_shard(program, tmp_path)
    children = descendants(program.pid)
    program.kill()
    assert program.wait(20) == -signal.SIGKILL and len(children) >= 3 and gone(children)
    (folder,) = tmp_path.glob("outputs/tiny/*")
    kept = {p.name: p.read_bytes() for p in folder.glob("shard-*.tar") if p.with_suffix(".json").exists()}
    assert kept
    assert reds("run", spec, "--set", "seeds.count=8").returncode == 0
    assert not list(folder.glob(".part-*"))
    assert all((folder / name).read_bytes() == content for name, content in kept.items())


def test_check_says_how_noisy_a_held_attribute_is(here: Reds, tmp_path: Path) -> None:
    attributes = {"columns": {"kind": "callable", "target": "tests.support.worlds:noisy"}, "look": {"kind": "pixels"}}
    trajectory = {"method": "corrected", "directions": 2, "waypoints": 2, "step": 0.2}
    changes = {"attributes": attributes, "label": "none", "judge": None, "trajectory": trajectory}
    found = here("check", world(tmp_path, held={"columns": 0.1}, **changes), "--allow-code")
    assert found.returncode == 0
    assert re.search(r"columns is noisy: two measurements of one image differ by up to 0\.0\d+ spreads, \d\d% of its", found.stdout)
    found = here("check", world(tmp_path, held={"columns": 0.001}, **changes), "--allow-code")
    assert found.returncode == 2
    assert re.search(
        r"held\.columns: two measurements .* by up to 0\.0\d+ spreads, more than the tolerance of 0\.001", found.stderr
    )


def test_check_says_how_much_contradictory_attributes_leave(here: Reds, tmp_path: Path) -> None:
    """What is varied is nearly all of what is held: it moves as far as the tolerance lets it, and no further."""
    attributes = {"all": {"kind": "pixels"}, "blurred": {"kind": "pixels", "lowpass": 0.5}}
    trajectory = {"method": "corrected", "directions": 2, "waypoints": 2, "step": 0.2}
    changes = {"attributes": attributes, "label": "none", "judge": None, "trajectory": trajectory}
    found = here("check", world(tmp_path, held={"all": 0.05}, varied={"blurred": 0.3}, **changes))
    assert found.returncode == 0
    assert "Nothing was accepted of these seeds" in found.stdout
    assert re.search(r"4 of 4 seeds had fewer than 2 directions", found.stdout)
    assert re.search(
        r"100% of the candidates were not reached: no step leads there that holds all \(drift <= 0\.05\) \(turned \d+\)",
        found.stdout,
    )


def test_output_that_nobody_reads_or_that_finds_no_room_is_no_traceback() -> None:
    def ended(words: str) -> tuple[int, str]:
        program = f"{sys.executable} -m flows {words}"
        done = subprocess.run(["sh", "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
        return done.returncode, done.stderr

    assert ended("kinds >&-") == (0, "")
    assert ended("schema > /dev/full") == (1, "reds: the disk is full that the output goes to\n")


def test_init_writes_a_spec_that_check_accepts_and_overwrites_none(here: Reds, tmp_path: Path) -> None:
    world(tmp_path)
    found = here("init", "new/mine.yaml", "--generator", "g.pt", "--classifier", "c.pt")
    assert found.returncode == 0 and "reds check new/mine.yaml" in found.stdout
    assert here("check", "new/mine.yaml", "--seeds", "1", "--no-others").returncode == 0
    again = here("init", "new/mine.yaml")
    assert again.returncode == 2 and "new/mine.yaml exists already" in again.stderr
    assert here("init", "new").returncode == 0 and (tmp_path / "new/spec.yaml").is_file()
    missing = here("init", "other.yaml", "--generator", "none.pt")
    assert missing.returncode == 2 and "there is no file" in missing.stderr and not (tmp_path / "other.yaml").exists()
