"""`trajectory: {directions: 0}` in a spec: what it needs, what it leaves out, and what has no meaning beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from reds_core.errors import SpecError
from reds_core.spec.digest import digest
from reds_core.spec.fields import Spec
from reds_core.spec.load import dump, load_spec
from tests.support.worlds import world

ALONE: dict[str, Any] = {"trajectory": {"directions": 0}}
NOTHING_HELD: dict[str, Any] = {"held": None, "varied": None}


def test_what_is_held_and_varied_may_be_left_out_or_does_not_count(tmp_path: Path) -> None:
    bare = load_spec(world(tmp_path / "bare", **ALONE, **NOTHING_HELD))
    given = load_spec(world(tmp_path / "given", **ALONE))
    assert (given.held, given.varied) == ({}, {}) and not given.walks and given.candidate_role == "seed"
    assert digest(bare) == digest(given) != digest(load_spec(world(tmp_path / "walks")))


def test_own_images_are_still_held_to_what_is_held(tmp_path: Path) -> None:
    spec = load_spec(world(tmp_path, **ALONE, label=None, seeds={"images": "data", "count": 3}))
    assert spec.levels == {"class": 0.2} and spec.varied == {}


def test_a_spec_of_a_generator_and_seeds_is_enough(tmp_path: Path) -> None:
    spec = load_spec(world(tmp_path, **ALONE, **NOTHING_HELD, attributes=None, judge=None, label="none"))
    assert spec.attributes == {} and spec.most_accepted == 1


@pytest.mark.parametrize("kept", [NOTHING_HELD, {}])
def test_a_resolved_spec_is_the_same_spec(tmp_path: Path, kept: dict[str, Any]) -> None:
    spec = load_spec(world(tmp_path, **ALONE, **kept))
    again = tmp_path / "resolved.yaml"
    again.write_text(dump(spec))
    assert load_spec(again) == spec and "waypoints" not in dump(spec) and "held" not in dump(spec)


def test_what_only_trajectories_have_is_refused_at_once(tmp_path: Path) -> None:
    changes = {"trajectory": {"directions": 0, "waypoints": 4, "step": 0.1}, "keep": 2, "duplicates": 0.02}
    with pytest.raises(SpecError) as error:
        load_spec(world(tmp_path, **changes))
    for name in ("trajectory.waypoints", "trajectory.step", "keep", "duplicates"):
        assert f"{name}: says something of trajectories, but" in str(error.value)


def test_a_run_that_walks_still_needs_something_held_and_varied(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"held: is required[\s\S]*varied: needs at least one attribute, unless"):
        load_spec(world(tmp_path, held=None, varied={}))


def test_the_json_schema_knows_both(tmp_path: Path) -> None:
    schema = Spec.model_json_schema()
    whole = {
        "name": "a", "generator": {"kind": "builtin", "name": "rooms"}, "seeds": {"count": 1}, "label": "look",
        "attributes": {"look": {"kind": "pixels"}}, "held": {"look": 0.1}, "varied": {"look": 0.1}, "trajectory": {},
    }  # fmt: skip
    jsonschema.validate(whole, schema)
    jsonschema.validate({k: v for k, v in whole.items() if k not in ("held", "varied", "attributes")} | ALONE, schema)
    for wrong in ({k: v for k, v in whole.items() if k != "held"}, whole | {"varied": {}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
