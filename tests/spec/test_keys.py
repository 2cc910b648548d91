"""A mistake in a key or a form leads to the right one."""

from __future__ import annotations

from pathlib import Path

import pytest

from reds_core.errors import ModelError, SpecError
from reds_core.spec.fields import Spec
from reds_core.spec.files import check_code
from reds_core.spec.keys import form, nearest
from reds_core.spec.load import load_spec
from reds_core.spec.problems import doubts
from tests.support.worlds import world


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seeds.conut=4", "seeds.conut: unknown key; did you mean `count`?"),
        ("trajectory.stepp=1", "trajectory.stepp: unknown key; did you mean `step`?"),
        ("lable=class", "lable: unknown key; did you mean `label`?"),
        ("generator.latnt_dim=3", "generator.latnt_dim: unknown key; did you mean `latent_dim`?"),
        ("attributes.class.model.pth=c.pt", "attributes.class.model.pth: unknown key; did you mean `path`?"),
        ("attributes.look.regoin=1", "attributes.look.regoin: unknown key; did you mean `region`?"),
        ("attributes.look.region={bax: 1}", "attributes.look.region.bax: unknown key; did you mean `box`?"),
        ("varied.look={minimun: 1}", "varied.look.minimun: unknown key; did you mean `minimum`?"),
        ("held.class={desicion: 0.9}", "held.class.desicion: unknown key; did you mean `decision`?"),
        ("shards.foo=1", "shards.foo: unknown key; there are: image, quality, seeds"),
        (
            "attributes.class.input_size=32",
            "attributes.class.input_size: Input should be a list, not 32; write it as [height, width]",
        ),
        ("attributes.class.input_size=[32]", "attributes.class.input_size.1: is required; write it as [height, width]"),
        ("generator.output_range=1", "generator.output_range: Input should be a list, not 1; write it as [lo, hi]"),
    ],
)
def test_a_mistake_leads_to_the_right_key_or_form(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(SpecError) as found:
        load_spec(world(tmp_path), [change])
    assert message in found.value.problems


def test_a_place_that_does_not_exist_has_no_advice_but_the_schema() -> None:
    assert nearest(["seeds", "first", "x"], "y") == "`reds schema` lists the known ones"
    assert form(["seeds", "count"]) == "" and form([]) == ""
    assert nearest([], "hold") == "did you mean `held`?" and "held" in Spec.model_fields


def test_a_tolerance_that_holds_nothing_is_warned_of(tmp_path: Path) -> None:
    said = "held.class: a tolerance of 1.5 spreads holds nothing: 1 is the distance between two unrelated images"
    assert said in doubts(load_spec(world(tmp_path), ["held.class=1.5"]))
    assert not [d for d in doubts(load_spec(world(tmp_path), ["held.class=1"])) if d.startswith("held")]


def test_code_that_may_not_run_is_named_before_anything_looks_for_it(tmp_path: Path) -> None:
    spec = load_spec(world(tmp_path, judge={"model": {"kind": "factory", "target": "nowhere:build"}}))
    with pytest.raises(ModelError, match=r"code of yours \(judge\.model\.target: nowhere:build\); allow code to run") as found:
        check_code(spec, allow_code=False)
    assert found.value.parameter == "allow_code"
    check_code(spec, allow_code=True)
    check_code(load_spec(world(tmp_path)), allow_code=False)
