"""The spec: what is refused, all of it at once, and what its digest sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
import yaml

from reds_core.errors import ModelError, SpecError
from reds_core.runs.plan import plan, shard_range
from reds_core.spec.digest import digest
from reds_core.spec.files import check_files
from reds_core.spec.load import dump, load_spec
from reds_core.spec.problems import doubts
from reds_core.spec.trajectory import METHODS, Trajectory
from tests.support import SPECS as SPECS_DIR
from tests.support.worlds import TinyClassifier, torchscript, world

SPECS = sorted(SPECS_DIR.glob("*.yaml"))


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_every_shipped_spec_loads(path: Path) -> None:
    assert load_spec(path).name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 3}, "colour: unknown key"),
        ({"held": {"klass": 0.1}}, "held.klass: no attribute has this name; there are: class, look"),
        ({"held": {"look": 0.1}}, "look: is both held and varied"),
        ({"held": {"class": float("nan")}}, "held.class"),
        ({"held": {"class": True}}, "held.class"),
        ({"held": {}}, "held"),
        ({"label": "look"}, "label: 'look' is of kind pixels, which does not decide on a class"),
        ({"label": "nobody"}, "label: no attribute is named 'nobody'"),
        ({"shards": {"quality": 50}}, "shards.quality: png is lossless"),
        ({"seeds": {"count": 0}}, "seeds.count"),
        ({"seeds": {"first": -1, "count": 1}}, "seeds.first"),
        (
            {"seeds": {"first": 2**31 - 3, "count": 4}},
            "seeds: first 2147483645 and count 4 end at seed 2147483648; the last one allowed is 2147483647",
        ),
        ({"trajectory": {"method": "curved"}}, "trajectory.method"),
        ({"trajectory": {"method": "local", "beta": {"look": 0.9}}}, "trajectory.beta.look: not a held attribute"),
        ({"trajectory": {"method": "local", "step": 0}}, "trajectory.step"),
        ({"varied": {"look": {"minimum": 0.1, "wait": 2}}}, "varied.look.wait: unknown key"),
        ({"name": "../escape"}, "name"),
    ],
)
def test_a_wrong_spec_says_where_and_what(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(world(tmp_path, **changes))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("look", "message"),
    [
        ({"kind": "frequency", "low": 0.3, "high": 0.3}, "attributes.look: the band from low 0.3 to high 0.3 is empty"),
        ({"kind": "pixels", "region": {"box": [0.5, 0, 0.5, 1]}}, "box [0.5, 0.0, 0.5, 1.0] is empty"),
        ({"kind": "pixels", "region": {"box": [0, 0, 2, 1]}}, "attributes.look.region.box"),
        ({"kind": "pixels", "region": {}}, "exactly one of box, mask and segment"),
        ({"kind": "pixels", "negate": True}, "negate needs a region"),
        ({"kind": "smell"}, "attributes.look"),
        (
            {"kind": "callable", "target": "m:f", "options": {"a": [1, float("nan")]}},
            "attributes.look.options.a.1: Input should be a finite",
        ),
    ],
)
def test_a_wrong_feature_says_where_and_what(tmp_path: Path, look: dict[str, object], message: str) -> None:
    path = world(tmp_path)
    raw = yaml.safe_load(path.read_text())
    raw["attributes"]["look"] = look
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert message in str(caught.value)


def test_mistakes_of_shape_and_of_reference_come_in_one_answer(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(world(tmp_path, colour=1, held={"klass": 0.1}, seeds={"count": "many"}))
    text = str(caught.value)
    assert "colour" in text and "klass" in text and "seeds.count" in text and len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b\n", "given twice, first on line 1"),
        ("held: {a: 0.1, a: 0.2}\n", "given twice"),
        ("name: [\n", "line 2"),
        ("- a\n", "must map keys to values"),
        ("1: a\n", "is not text; quote it"),
        ("", "must map keys to values"),
        ("a: &a [*a]\n", "recursive"),
        ("name: a\nlabel: !!int ''\n", "line 2, column 8: tags are not allowed"),
        ("label: !!timestamp x\n", "tags are not allowed"),
        (f"label: 0x{'f' * 5000}\n", "line 1, column 8: is not an integer of at most 64 bits"),
        (f"label: {'9' * 5000}\n", "is not an integer of at most 64 bits"),
        ('label: "\\uD800"\n', "half of a surrogate pair"),
        ("a: " + "[" * 200 + "]" * 200, "nested more than 100 deep"),
        ("[" * 5000, "nested more than 100 deep"),
        (
            "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9) if i else 'a'}]\n" for i in range(30)),
            "aliases unfold to more than",
        ),
        ("x" * 300_000, "has 300000 characters"),
    ],
)
def test_yaml_traps_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(SpecError) as caught:
        load_spec(tmp_path / "s.yaml")
    assert message in str(caught.value)


def test_a_missing_spec_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="No such file"):
        load_spec(tmp_path / "none.yaml")


def test_numbers_in_exponent_form_are_numbers(tmp_path: Path) -> None:
    assert load_spec(world(tmp_path), ["held.class=1e-3"]).held["class"] == 0.001


def test_the_digest_sees_contents_and_not_places(tmp_path: Path) -> None:
    one, two = load_spec(world(tmp_path / "one")), load_spec(world(tmp_path / "two"))
    assert digest(one) == digest(two)
    longer = load_spec(tmp_path / "one/spec.yaml", ["seeds.count=99"])
    assert digest(longer) == digest(one)
    assert digest(load_spec(tmp_path / "one/spec.yaml", ["held.class=0.3"])) != digest(one)
    assert digest(load_spec(tmp_path / "one/spec.yaml", ["duplicates=0.02", "seeds.truncation=1"])) == digest(one)
    (tmp_path / "two/c.pt").write_bytes((tmp_path / "two/c.pt").read_bytes() + b"\0")
    assert digest(load_spec(tmp_path / "two/spec.yaml")) != digest(one)


def test_a_resolved_spec_runs_from_anywhere(tmp_path: Path) -> None:
    spec = load_spec(world(tmp_path / "here"))
    (tmp_path / "there").mkdir()
    (tmp_path / "there/spec.yaml").write_text(dump(spec))
    assert load_spec(tmp_path / "there/spec.yaml") == spec


def test_what_a_spec_holds_reads_back_as_it_was(tmp_path: Path) -> None:
    options = {"none": None, "text": ["1e5", "2024-01-01", "=", "yes", "\x85"], "numbers": [1e5, 1, -0.0, 2**63 - 1]}
    attributes = {
        "1e5": {"kind": "classifier", "model": {"kind": "torchscript", "path": "c.pt"}},
        "look": {"kind": "callable", "target": "m:f", "options": options},
    }
    path = world(tmp_path)
    changed = {"attributes": attributes, "label": "1e5", "held": {"1e5": 0.1}}
    path.write_text(json.dumps(yaml.safe_load(path.read_text()) | changed))
    spec = load_spec(path)
    assert spec.attributes["look"].options == options  # type: ignore[union-attr]
    (tmp_path / "again.yaml").write_text(dump(spec), encoding="utf-8")
    assert load_spec(tmp_path / "again.yaml") == spec


def test_a_date_is_text(tmp_path: Path) -> None:
    assert load_spec(world(tmp_path), ["name=2024-01-01"]).name == "2024-01-01"


def test_paths_of_overrides_are_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = world(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    spec = load_spec(path, ["generator.path=other.pt"])
    assert spec.generator.path == tmp_path / "other.pt"  # type: ignore[union-attr]


@pytest.mark.parametrize("override", ["held", "=3", "held.class", "name.x=1", "held..class=3", "held.\udcff=1"])
def test_a_malformed_override_is_the_users_mistake(tmp_path: Path, override: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(world(tmp_path), [override])
    assert caught.value.parameter == "overrides"


def test_missing_and_changed_files_are_named_together(tmp_path: Path) -> None:
    path = world(tmp_path)
    (tmp_path / "c.pt").unlink()
    spec = load_spec(path, [f"generator.sha256={'f' * 64}"])
    with pytest.raises(ModelError) as caught:
        check_files(spec)
    assert "attributes.class.model.path: there is no file" in str(caught.value)
    assert "generator.path" in str(caught.value) and "the spec asks for fff" in str(caught.value)


def test_a_shard_always_holds_the_same_seeds(tmp_path: Path) -> None:
    path = world(tmp_path)
    short, long = (plan(load_spec(path, [f"seeds.count={n}"])) for n in (5, 8))
    assert list(short) == [range(0, 2), range(2, 4), range(4, 5)] and short[-1] == range(4, 5)
    assert long[:2] == short[:2] and long[2] == range(4, 6)
    with pytest.raises(IndexError):
        _ = short[3]


def test_a_plan_of_two_billion_seeds_takes_no_memory_and_is_too_long_for_one_run(tmp_path: Path) -> None:
    endless = plan(load_spec(world(tmp_path), ["seeds.count=2147480000"]))
    assert len(endless) == 1_073_740_000 and endless[-1] == range(2147479998, 2147480000)
    assert shard_range("0:3", len(endless)) == range(3)
    with pytest.raises(SpecError, match=r"at most 1,000,000 shards, not 1,073,740,000; lower seeds\.count"):
        shard_range(None, len(endless))


@pytest.mark.parametrize(
    ("trajectory", "ignored"),
    [
        ({}, []),
        ({"beta": {"class": 0.9}, "beta_varied": 0.9}, ["beta", "beta_varied"]),
        ({"directions_by": "minf", "beta": {"class": 0.9}, "beta_varied": 0.9}, ["beta_varied"]),
        ({"directions_by": "maxc", "beta": {"class": 0.9}, "beta_varied": 0.9}, ["beta"]),
        ({"directions_by": "rayleigh", "beta_varied": 0.9}, ["beta_varied"]),
        ({"method": "local", "beta": {"class": 0.9}, "beta_varied": 0.9}, []),
        ({"method": "linear", "directions_by": "rand", "beta": {"class": 0.9}}, ["beta"]),
    ],
)
def test_a_share_that_no_direction_reads_is_doubted(trajectory: dict[str, object], ignored: list[str]) -> None:
    found = Trajectory.model_validate(trajectory).doubts()
    assert [doubt.partition(" has no effect")[0] for doubt in found] == ignored


def test_every_trajectory_method_says_what_it_does() -> None:
    assert tuple(METHODS) == get_args(Trajectory.model_fields["method"].annotation)


def test_a_judge_that_is_what_holds_is_doubted(tmp_path: Path) -> None:
    path = world(tmp_path, judge={"model": {"kind": "torchscript", "path": "c.pt"}})
    for overrides in ([], ["held.class.decision=0.9"]):
        (doubt,) = doubts(load_spec(path, overrides))
        assert "judge" in doubt and "class" in doubt and "not independent" in doubt
    torchscript(TinyClassifier(seed=7), tmp_path / "j.pt")
    assert doubts(load_spec(path, [f"judge.model.path={tmp_path / 'j.pt'}"])) == []
