"""Limits of held attributes and how many variants to keep: both forms, where they may stand, and what is wrong with others."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from reds_core.errors import SpecError
from reds_core.spec.digest import digest
from reds_core.spec.fields import Spec
from reds_core.spec.load import load_spec
from reds_core.spec.problems import doubts
from tests.support import SPECS as SPECS_DIR
from tests.support.worlds import world


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held": {"class": {"decision": 1.0}}}, "held.class.decision: Input should be less than 1"),
        ({"held": {"class": {"decision": 0}}}, "held.class.decision: Input should be greater than 0"),
        ({"held": {"class": {"decision": float("nan")}}}, "held.class.decision: Input should be a finite number"),
        (
            {"held": {"class": {"decision": "sure"}}},
            "held.class.decision: Input should be a valid number, not 'sure'; give a probability",
        ),
        (
            {"held": {"class": {}}},
            "held.class.decision: is required; give a number of spreads, or {decision: 0.9} to hold a classifier's decision",
        ),
        ({"held": {"class": {"decision": 0.9, "tolerance": 1}}}, "held.class.tolerance: unknown key"),
        ({"held": {"class": -1}}, "held.class: Input should be greater than 0"),
        (
            {"held": {"class": "decision"}},
            "held.class: Input should be a valid number, not 'decision'; give a number of spreads, or {decision: 0.9}",
        ),
        ({"held": {"class": [0.1]}}, "held.class: Input should be a valid number, not [0.1]; give a number of spreads"),
        (
            {"held": {"look": {"decision": 0.9}}, "varied": {"class": 0.1}},
            "held.look.decision: 'look' is of kind pixels, which decides on nothing; give a number of spreads",
        ),
        ({"keep": 0}, "keep: Input should be greater than or equal to 1"),
        ({"keep": 13}, "keep: 13 is more than the 12 variants that a seed can have, by 2 directions both ways and 3 waypoints"),
    ],
)
def test_a_wrong_limit_or_number_to_keep_says_where_and_what(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(world(tmp_path, **changes))
    assert message in str(caught.value) and len(caught.value.problems) == 1


def test_mistakes_in_a_decision_come_with_all_others(tmp_path: Path) -> None:
    held = {"class": {"decision": 2}, "look": {"decision": 0.9}, "level": {"decision": 0.9, "tolerance": 1}}
    with pytest.raises(SpecError) as caught:
        load_spec(world(tmp_path, held=held, keep=0))
    assert caught.value.problems == [
        "held.class.decision: Input should be less than 1",
        "held.level.tolerance: unknown key; there are: decision",
        "keep: Input should be greater than or equal to 1",
        "held.level: no attribute has this name; there are: class, look",
        "held.look.decision: 'look' is of kind pixels, which decides on nothing; give a number of spreads, or hold a classifier",
        "look: is both held and varied; it can only be one of them",
    ]
    with pytest.raises(SpecError) as caught:
        load_spec(world(tmp_path, keep=13, label="nobody", held={"klass": {"decision": 0.9}}))
    assert [p.partition(": ")[0] for p in caught.value.problems] == ["held.klass", "label", "keep"]


def test_a_decision_may_be_held_whatever_the_label_and_have_a_beta(tmp_path: Path) -> None:
    trajectory = {"method": "local", "directions": 2, "waypoints": 3, "beta": {"class": 0.9}}
    for label in ("class", "none", "condition"):
        spec = load_spec(world(tmp_path, held={"class": {"decision": 0.9}}, label=label, trajectory=trajectory))
        assert (spec.decisions, spec.beta("class"), doubts(spec)) == ({"class": 0.9}, 0.9, [])


def test_the_json_schema_takes_every_shipped_spec_and_both_forms_of_a_limit() -> None:
    schema, shipped = Draft202012Validator(Spec.model_json_schema()), sorted(SPECS_DIR.glob("*.yaml"))

    def refused(path: Path, **changes: object) -> list[str]:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) | changes
        return [".".join(map(str, error.path)) for error in schema.iter_errors(raw)]

    assert {path.stem: refused(path) for path in shipped} == {path.stem: [] for path in shipped}
    path, *_ = shipped
    assert refused(path, held={"a": 0.05, "b": {"decision": 0.9}}, varied={"c": 0.2, "d": {"minimum": 0.2, "weight": 2}}) == []
    assert refused(path, held={"a": {"decision": 1}}) == ["held.a"] and refused(path, held={}) == ["held"]
    assert refused(path, varied={"c": 0}) == ["varied.c"] and refused(path, varied={}) == ["varied"]
    assert refused(path, keep=0) == ["keep"] and refused(path, keep=3) == []


def test_a_limit_has_two_forms(tmp_path: Path) -> None:
    spec = load_spec(world(tmp_path), ["held.class={decision: 0.9}", "keep=12"])
    assert (spec.decisions, spec.levels, spec.keep) == ({"class": 0.9}, {}, 12)
    assert load_spec(world(tmp_path)).levels == {"class": 0.2}
    assert digest(spec) != digest(load_spec(world(tmp_path)))


def test_an_override_may_reach_below_a_number_that_stands_for_a_mapping(tmp_path: Path) -> None:
    spec = load_spec(world(tmp_path), ["held.class.decision=0.8", "varied.look.weight=2"])
    assert spec.decisions == {"class": 0.8}
    assert (spec.varied["look"].minimum, spec.varied["look"].weight) == (0.05, 2)
    decided = world(tmp_path, held={"class": {"decision": 0.9}})
    assert load_spec(decided, ["held.class.decision=0.7"]).decisions == {"class": 0.7}
    assert load_spec(decided, ["held.class=0.05"]).levels == {"class": 0.05}
    for override, key in (("seeds.count.x=1", "count"), ("held.class.decision.x=1", "decision")):
        with pytest.raises(SpecError, match=f"{key} is a value and has no keys below it"):
            load_spec(decided, [override])
