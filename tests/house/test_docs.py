"""The README and docs/: what they show must work as it stands there, and what they name must exist."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml
from prefect.cli._app import _app as prefect_commands  # Prefect has no public way to parse a command without running it

from flows.cli.app import app
from reds_core.exports.export import write_export
from reds_core.exports.inputs import open_runs
from reds_core.exports.plan import planned
from reds_core.exports.request import Request
from reds_core.exports.verify import verify_export
from reds_core.features import AnyFeature
from reds_core.runs.run_folder import opened
from reds_core.runs.samples import read_samples
from reds_core.runs.verify import verify_run
from reds_core.runs.worker import Request as JobRequest
from reds_core.runs.worker import forget, make
from reds_core.spec.digest import digest
from reds_core.spec.fields import Spec
from reds_core.spec.load import load_spec
from reds_core.storage.folder import Folder
from reds_core.storage.places import folder_at
from tests.support import ROOT, SPECS, reference
from tests.support.docs import CHANGELOG, PAGES, README, Block, Page, blocks, page

LANGUAGES = {"sh", "yaml", "json", "python", "text"}
LONGEST, FRONT_PAGE = 132, 173  # characters of a line, lines of the README
REDS: Any = typer.main.get_command(app)
PREFECT_OPTIONS = {"--no-prompt", "--watch", "--limit", "--pool", "--type", "--all", "--prefect-file"}
OTHER_COMMANDS = {"python3", ".venv/bin/pip", "export", "cp", "mkdir", "."}

# What a part of a spec is put into.
BASE: dict[str, Any] = {
    "name": "base",
    "generator": {"kind": "builtin", "name": "fashion-mnist"},
    "seeds": {"count": 1},
    "attributes": {
        "class": {"kind": "classifier", "model": {"kind": "builtin", "name": "fashion-mnist-classifier"}},
        "look": {"kind": "pixels"},
    },
    "label": "class",
    "held": {"class": 0.1},
    "varied": {"look": 0.1},
    "trajectory": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs the main job with two seeds, a shard each: outputs/fashion-keep-class/DIGEST in a folder of its own."""
    spec = load_spec(SPECS / "fashion_mnist.yaml", ["seeds.count=2", "shards.seeds=1"])
    with opened(spec, folder_at(tmp_path_factory.mktemp("docs") / "outputs")) as folder:
        for index in range(2):
            make(JobRequest(spec, digest(spec), folder, None, False, ()), "cpu", 1, index)
    forget()
    assert not any(verify_run(folder).values())
    export(folder, Path(folder.absolute()).parents[1] / "training-set")
    return Path(folder.absolute())


def export(run: Folder, dest: Path) -> None:
    """Exports a run as `reds export` does without options."""
    runs, request, tell = open_runs([run]), Request(), lambda *_: None
    with planned(runs, request, tell) as plan:
        write_export(plan, folder_at(dest), tell)
    assert not verify_export(folder_at(dest)).problems


# The front page


def test_the_main_job_makes_variants_that_kept_their_class(run: Path) -> None:
    made = [json.loads(files["json"]) for index in range(2) for _, files in read_samples(run / f"shard-{index:05d}.tar")]
    variants = [sample for sample in made if sample["role"] == "variant"]
    assert len(variants) > 16
    for held, varied in ((v["held"]["class"], v["varied"]["look"]) for v in variants):
        assert held["drift"] <= held["tolerance"] < 0.1 and varied["effect"] >= varied["minimum"] == 0.2


def test_the_readme_is_a_front_page_with_the_two_commands() -> None:
    assert len(README.text.splitlines()) <= FRONT_PAGE
    commands = {block.mark: block.text for block in README.blocks() if block.mark.startswith("command: ")}
    assert list(commands) == ["command: run", "command: test"] and not any("\n" in text for text in commands.values())
    assert commands["command: run"].endswith("reds run augment_specs/fashion_mnist.yaml")
    assert commands["command: test"].endswith("python -m tests")


def test_the_spec_of_the_readme_is_the_main_job() -> None:
    (block,) = (block for block in README.blocks() if block.language == "yaml")
    assert Spec.model_validate(yaml.safe_load(block.text)) == load_spec(SPECS / "fashion_mnist.yaml")


def test_every_verb_is_in_the_readme() -> None:
    assert set(re.findall(r"`reds (\w+)", README.text)) == set(REDS.commands)


def test_the_comparison_of_the_readme_is_that_of_the_benchmarks() -> None:
    def figures(text: str) -> list[list[str]]:
        rows = [line.split("|")[2:] for line in text.splitlines() if line.startswith("|") and " to " in line]
        return [[cell.strip() for cell in row] for row in rows]

    assert figures(README.section("## Compared")) == figures(page("benchmarks").section("## The methods, side by side"))


def test_every_page_is_linked_from_the_readme() -> None:
    assert {p.name for p in PAGES} <= {*README.links(), README.name}


# Blocks of code


def test_every_block_is_in_a_language_that_is_checked() -> None:
    assert {block.language for p in PAGES for block in p.blocks()} <= LANGUAGES
    assert all(p.text.count("\n```") == 2 * len(p.blocks()) for p in PAGES)


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_every_yaml_block_is_a_spec_or_a_part_of_one(block: Block, tmp_path: Path) -> None:
    raw = yaml.safe_load(block.text)
    if block.mark == "fragment":
        raw = BASE | raw | {"attributes": BASE["attributes"] | raw.get("attributes", {})}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    assert load_spec(tmp_path / "spec.yaml").name == raw["name"]


def shape(value: Any) -> Any:
    """Returns a JSON value with every leaf replaced by its type."""
    return {k: shape(v) for k, v in value.items()} if isinstance(value, dict) else type(value)


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_every_json_block_has_the_keys_and_types_of_a_sample(block: Block, run: Path) -> None:
    real = [json.loads(files["json"]) for _, files in read_samples(run / "shard-00000.tar")]
    assert {str(shape(json.loads(block.text)))} == {str(shape(sample)) for sample in real}


# The readers that they show leave files to the garbage collector, and their workers may be more than this machine's cores.
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_every_python_block_compiles_and_runs_where_it_can(block: Block, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = compile(block.text.replace("<digest>", run.name), str(block), "exec")
    if block.mark == "run":
        monkeypatch.chdir(ROOT)
        exec(code, {})
    elif block.mark:
        folder = run.parents[2]
        assert block.mark in (f"with {run.parent.relative_to(folder)}", "with outputs/training-set")
        monkeypatch.chdir(folder)
        monkeypatch.setenv("HF_HOME", str(folder / "hf"))
        names: dict[str, Any] = {}
        exec(code, names)
        assert len(list(names["data"])) > 0


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_every_command_is_one_that_its_program_takes(block: Block) -> None:
    for words in block.commands():
        program, rest = words[0].removeprefix(".venv/bin/"), words[1:]
        if program == "reds":
            parse_reds(rest)
        elif program == "prefect":
            prefect_commands.parse_args([w for w in rest if w != "--no-prompt"], print_error=False, exit_on_error=False)
        elif program in ("python", "python3") and rest[0] == "-m":
            assert rest[1] == "venv" or importlib.util.find_spec(rest[1]), words
        elif program == "pytest":
            assert (ROOT / rest[0]).exists(), words
        else:
            assert words[0] in OTHER_COMMANDS, words


def parse_reds(words: list[str]) -> None:
    """Parses a command line without running it. Raises click's UsageError if `reds` would not take it."""
    context = REDS.make_context("reds", list(words))
    name, command, rest = REDS.resolve_command(context, list(words))
    command.make_context(name, rest, parent=context)
    for word in words:
        assert not word.startswith("augment_specs/") or (ROOT / word).exists() or "/files/" in word, word


# What the prose names


@pytest.mark.parametrize("p", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(p: Page) -> None:
    for link in p.links():
        target, _, anchor = link.partition("#")
        path = (p.path.parent / target).resolve() if target else p.path
        assert path.exists(), link
        assert not anchor or anchor in Page(path).anchors(), link


@pytest.mark.parametrize("p", [p for p in PAGES if p is not CHANGELOG], ids=lambda p: p.name)
def test_files_modules_and_options_that_are_named_exist(p: Page) -> None:
    options = {option for command in REDS.commands.values() for q in command.params for option in q.opts} | {"--help", "--version"}
    for code in p.codes():
        first = code.split()[0].removesuffix(":")
        if re.match(r"(augment_specs|reds_core|flows|tests|docs|\.ci)/", first):
            assert (ROOT / first).exists(), code
        if found := re.search(r"python -m (tests[\w.]*|reds_core[\w.]*|flows[\w.]*)", code):
            assert importlib.util.find_spec(found[1]), code
            continue
        if found := re.match(r"pytest (\S+)", code):
            assert (ROOT / found[1]).exists(), code
        unknown = {option for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", code)} - options - PREFECT_OPTIONS
        assert not unknown, code


@pytest.mark.parametrize(
    "row", re.findall(r"^\|[^|]+\| `([\w/]+\.py)` \| `([\w.]+)` \|$", page("architecture").text, re.M), ids="::".join
)
def test_what_the_architecture_names_is_there(row: tuple[str, str]) -> None:
    path, name = row
    scope: list[ast.stmt] = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    for part in name.split("."):
        (found,) = (node for node in scope if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == part)
        scope = found.body


@pytest.mark.parametrize("p", [p for p in PAGES if p is not CHANGELOG], ids=lambda p: p.name)
def test_what_is_said_to_be_in_a_file_is_in_it(p: Page) -> None:
    for name, path in re.findall(r"`(\w+)` in `([\w/]+\.py)`", p.bare):
        assert re.search(rf"\b{name}\b", (ROOT / path).read_text(encoding="utf-8")), f"{name} in {path}"


def test_the_architecture_names_ten_things_or_more() -> None:
    assert len(re.findall(r"^\|[^|]+\| `[\w/]+\.py` \| `[\w.]+` \|$", page("architecture").text, re.M)) >= 10


def test_every_kind_of_attribute_and_every_shipped_spec_has_its_row() -> None:
    kinds = {get_args(c.model_fields["kind"].annotation)[0] for c in get_args(get_args(AnyFeature)[0])}
    assert set(re.findall(r"^\| `(\w+)` \|", page("attributes").text, re.M)) == kinds
    rows = re.findall(r"^\| `augment_specs/(\w+)\.yaml` \|", page("checkpoints").text, re.M)
    assert sorted(rows) == sorted(path.stem for path in SPECS.glob("*.yaml"))


def test_the_reference_says_what_the_models_say() -> None:
    assert page("spec").text == reference.page() + "\n", "run python -m tests.support.reference"


@pytest.mark.parametrize("p", PAGES, ids=lambda p: p.name)
def test_no_line_but_a_table_s_row_is_longer_than_132_characters_and_none_cuts_code(p: Page) -> None:
    assert not [line for line in p.text.splitlines() if len(line) > LONGEST and not line.startswith("|")]
    assert not [line for line in p.bare.splitlines() if line.count("`") % 2]


@pytest.mark.parametrize("p", PAGES, ids=lambda p: p.name)
def test_every_row_of_a_table_has_the_cells_of_its_head(p: Page) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", p.bare + "\n", re.M):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1, table.splitlines()[0]
