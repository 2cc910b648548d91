"""The README: what it shows must work as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import yaml

from flows.cli.app import app
from reds_core.features import AnyFeature
from reds_core.spec.fields import Spec
from reds_core.spec.load import load_spec
from tests.support import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, after: str) -> str:
    found = re.search(rf"{re.escape(after)}.*?```{language}\n(.+?)\n```", README, re.S)
    assert found, f"the README has no {language} block after {after!r}"
    return found[1]


def test_the_spec_shown_is_the_main_job() -> None:
    shown = yaml.safe_load(block("yaml", "## A spec"))
    shipped = load_spec(ROOT / "augment_specs/fashion_mnist.yaml")
    assert Spec.model_validate(shown) == shipped


def test_the_two_commands_are_one_line_each_and_run_the_main_job_and_the_tests() -> None:
    run, test = (block("sh", f"<!-- command: {name} -->") for name in ("run", "test"))
    assert "\n" not in run + test
    assert run.endswith("reds run augment_specs/fashion_mnist.yaml") and test.endswith("python -m tests")


def test_the_spec_for_a_checkpoint_is_whole(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(block("yaml", "## From a checkpoint"))
    spec = load_spec(tmp_path / "s.yaml")
    assert spec.generator.kind == "stylegan2" and spec.label == "class"


def test_every_kind_of_attribute_is_in_the_readme() -> None:
    kinds = {c.model_fields["kind"].annotation.__args__[0] for c in get_args(get_args(AnyFeature)[0])}
    section = README[README.index("## Attributes") : README.index("## Bring your own")]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.M)) == kinds


def test_bring_your_own_is_valid(tmp_path: Path) -> None:
    raw = yaml.safe_load(block("yaml", "## Bring your own"))
    raw |= {
        "name": "mine", "seeds": {"count": 1}, "label": "class", "held": {"class": 0.1}, "varied": {"sky": 0.1},
        "trajectory": {"method": "local"},
    }  # fmt: skip
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(raw))
    assert load_spec(tmp_path / "s.yaml").attributes["hue"].kind == "callable"


def test_every_verb_is_in_the_readme_and_every_verb_of_the_readme_exists() -> None:
    verbs = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    assert set(re.findall(r"`reds (\w+)", README)) == verbs


def test_files_and_pictures_it_names_exist() -> None:
    for name in re.findall(r"!\[.*?\]\((.+?)\)", README) + re.findall(r"`((?:augment_specs|reds_core)/[\w./]+)`", README):
        assert (ROOT / name).exists(), name
