"""What the program says: advice by what was met, numbers in words, tables that fit."""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from flows.cli import app
from flows.cli.progress import Progress, Steps
from flows.cli.show import kinds, tables
from flows.cli.show.advice import CURES, advice
from flows.engines.base import Engine
from flows.shards import heard_by, make_shard
from reds_core.errors import OutputError, UserError, described
from reds_core.jobs.prepare import prepare
from reds_core.spec.load import load_spec
from reds_core.studies.forecast import forecast
from reds_core.studies.settings import other_settings
from reds_core.types import REASONS
from reds_core.words import counted, in_order, some
from tests.support.worlds import world


def shown(monkeypatch: pytest.MonkeyPatch, width: int) -> io.StringIO:
    out = io.StringIO()
    for module in (tables, kinds):
        monkeypatch.setattr(module, "console", Console(file=out, width=width, highlight=False, force_terminal=False))
    return out


def test_every_reason_has_a_cure() -> None:
    assert CURES.keys() == REASONS.keys()


def test_advice_goes_by_the_reasons_met_the_most_frequent_first() -> None:
    said = advice({"held:class": 20, "varied:look": 75, "turned": 5})
    assert [line.partition(":")[0] for line in said] == ["varied", "held"]
    assert said[0] == "varied:look 75%: lower varied.look, or walk further: a larger trajectory.step, or more waypoints"
    assert not any("widen" in line for line in advice({"varied:look": 9})) and advice({}) == []


def test_numbers_are_in_the_singular_and_plural() -> None:
    assert [counted(n, "shard") for n in (0, 1, 2_000)] == ["0 shards", "1 shard", "2,000 shards"]
    assert [some(list("abc"[:n]), 2) for n in range(4)] == ["none", "a", "a, b", "a, b and 1 more"]
    assert sorted(["c10", "c2", "b", "10", "9", ""], key=in_order) == ["", "9", "10", "b", "c2", "c10"]
    progress = Progress(io.StringIO())
    progress.todo = 3
    assert progress.finished() == "no shard was finished."
    progress.done = 1
    assert progress.finished() == "1 of 3 shards was finished and kept."


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(shown: Progress | Steps, width: int) -> str:
    """Returns what a terminal of this width shows of a bar."""
    file = io.StringIO()
    Console(file=file, width=width).print(shown.bar.get_renderable())
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 100])
def test_a_bar_its_count_and_its_time_are_shown_whatever_the_words_beside_it(width: int) -> None:
    progress, folder = Progress(Terminal()), "/home/somebody/" + "a-long-name/" * 12
    progress.hear("start", {"folder": folder, "todo": 120, "planned": 128})
    first = drawn(progress, width)
    assert "shards" in first and "0/120" in first and "/home/somebody/a-long" in first and first.count("\n") == 1
    manifest = SimpleNamespace(index=0, accepted=234, rejected={"judge": 100}, seconds=3.0)
    progress.hear("shard", {"manifest": manifest})
    assert "1/120" in drawn(progress, width) and "234 accepted of 334 (70%)" in drawn(progress, width)
    steps = Steps(Terminal())
    steps.bar.get_time = lambda: 0.0  # however slow the machine is
    steps.say("loading")
    steps.at("trainings", 3, 60)
    assert "3/60 0:00:00 " in drawn(steps, width)  # finished before: nobody knows yet
    steps.at("trainings", 4, 60)
    assert "4/60 0:00:00, 0:00:00 left" in drawn(steps, width)
    steps.say("word " * 50)
    assert "4/60" in drawn(steps, width) and "loading" not in drawn(steps, width) and "word word" in drawn(steps, width)


def test_the_time_taken_is_shown_and_the_time_left_falls_between_steps() -> None:
    clock = [0.0]
    steps = Steps(Terminal())
    steps.bar.get_time = lambda: clock[0]
    steps.at("shards", 0, 4)
    clock[0] = 30.0
    assert "0/4 0:00:30 " in drawn(steps, 100)  # nobody knows yet
    steps.at("shards", 1, 4)
    assert "1/4 0:00:30, 0:01:30 left" in drawn(steps, 100)
    clock[0] = 50.0
    assert "1/4 0:00:50, 0:01:10 left" in drawn(steps, 100)
    clock[0] = 130.0  # this one takes 100 s already, so those to come may
    assert "1/4 0:02:10, 0:03:20 left" in drawn(steps, 100)
    steps.at("shards", 4, 4)
    assert "4/4 0:02:10 " in drawn(steps, 100)


def test_off_a_terminal_only_what_is_finished_is_said() -> None:
    file = io.StringIO()
    with Steps(file) as steps:
        steps.say("loading")
        steps.at("other settings", 0, 2)
        for done in range(4):
            steps.tell("shards read", done, 3)
    assert file.getvalue() == "shards read: 3\n"


def test_a_type_is_named_once() -> None:
    assert described(RuntimeError("Traceback\nRuntimeError: size 3"), -1) == "RuntimeError: size 3"
    assert described(ValueError()) == "ValueError" and described(RuntimeError("RuntimeError: ")) == "RuntimeError"


def test_somebody_elses_error_takes_a_line_whatever_its_message() -> None:
    assert described(RuntimeError("x" * 5_000_000)) == f"RuntimeError: {'x' * 400}... (5,000,000 characters)"

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert described(Mute()) == "Mute"


@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_forecast_fits_the_terminal_and_advises_by_what_it_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    out = shown(monkeypatch, width)
    spec = load_spec(world(tmp_path, varied={"look": 3}, seeds={"first": 0, "count": 1}))
    (tmp_path / "g.pt").rename(tmp_path / "generator.pt")
    spec = load_spec(tmp_path / "spec.yaml", [f"generator.path={tmp_path / 'generator.pt'}"])
    job = prepare(spec, batch=1)
    found = forecast(job, range(1))
    tables.show_forecast(job, found, 1)
    tables.show_settings(spec, [found.as_it_is, *other_settings(job, range(1), found.as_it_is)], found.rejected)
    said = out.getvalue()
    lines = said.splitlines()
    assert max(map(len, lines)) <= width and "\ngenerator: z space" in said and "…" not in said
    assert " ".join(lines).count("lower varied.look, or walk further") == 1 and "Widen" not in said
    assert "1 image at a" in said and "of 1 seed" in said
    assert "drift <= 0.2" in said and "class scores (L2)" in said and "effect >= 3" in said


def test_what_was_never_measured_is_a_dash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown(monkeypatch, 160)
    job = prepare(load_spec(world(tmp_path)))
    found = forecast(job, range(1))
    unknown = tuple(replace(a, quantiles=(math.nan,) * len(a.quantiles)) for a in found.attributes)
    tables.show_forecast(job, replace(found, attributes=type(found.attributes)(unknown)), 1)
    assert " - " in out.getvalue() and " nan" not in out.getvalue()


def test_a_shard_is_heard_of_when_it_is_made_not_when_all_are_submitted() -> None:
    heard: list[Any] = []
    with heard_by(lambda event, figures: heard.append((event, figures["manifest"]))):
        make_shard.fn(3, cast("Engine", lambda index: f"shard {index}"))
    assert heard == [("shard", "shard 3")]


def test_what_was_not_reached_is_told_only_where_something_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown(monkeypatch, 160)
    step = {"method": "corrected", "directions": 1, "waypoints": 1, "step": 0.05}
    job = prepare(load_spec(world(tmp_path, trajectory=step, judge=None)))
    tables.show_forecast(job, forecast(job, range(1)), 1)
    assert "not reached" not in out.getvalue()
    found = replace(forecast(job, range(1)), tried=200, rejected=Counter({"implausible": 150, "turned": 1}))
    tables.show_forecast(job, found, 1)
    lines = out.getvalue().splitlines()
    far = "75% of the candidates were not reached: they lie further out than where the generator was trained (implausible 150)."
    assert far in lines and "A shorter step or fewer waypoints stay nearer." in lines
    lost = "Less than 1% of the candidates were not reached: no step leads there that holds class (drift <= 0.2) (turned 1)."
    assert lost in lines and not any("A larger tolerance" in line for line in lines)


@pytest.mark.parametrize("part", ["spec", "seeds", "fit", "trajectory", "shards", "judge"])
def test_the_parts_of_a_spec_are_shown_with_their_fields(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    out = shown(monkeypatch, 80)
    kinds.show_kind(part)
    assert all(len(line) <= 80 for line in out.getvalue().splitlines())
    wanted = {
        "spec": "held",
        "seeds": "truncation",
        "fit": "passes",
        "trajectory": "waypoints",
        "shards": "quality",
        "judge": "mean",
    }
    assert f" {wanted[part]} " in out.getvalue()


def test_a_kind_that_is_not_there_leads_to_the_nearest() -> None:
    with pytest.raises(UserError, match=r"there is no kind 'clasifier'; did you mean classifier\?"):
        kinds.show_kind("clasifier")


@pytest.mark.parametrize("code", [0, 3, "done"])
def test_code_of_the_users_does_not_end_a_verb_as_if_all_were_well(code: object) -> None:
    def verb() -> None:
        raise SystemExit(code)

    with pytest.raises(UserError, match=r"code that the input names called sys\.exit\(.*; it must raise an error"):
        app._not_ended_by_code(verb)()


def test_a_title_is_one_line_however_narrow_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown(monkeypatch, 80)
    tables.print_table(tables.table_of("Attributes: that share lies below, in spreads", "a", ">b"))
    assert out.getvalue().startswith("Attributes: that share lies below, in spreads\n")


def test_help_is_broken_where_the_terminal_breaks_it_and_nowhere_else() -> None:
    for verb in app.app.registered_commands:
        assert verb.help and all("\n" not in part for part in verb.help.split("\n\n")), verb.name


def test_defaults_are_shown_as_a_spec_says_them(monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown(monkeypatch, 200)
    for name in ("spec", "seeds", "fit", "trajectory", "judge", "shards", "pixels", "classifier", "torchscript"):
        kinds.show_kind(name)
    said = out.getvalue()
    assert "{distance: 0.3, passes: 300, residual: false}" in said
    assert not re.search(r"False|True|None|Fit\(|distance=|PosixPath|Ellipsis", said)


@pytest.mark.parametrize("width", [80, 160])
def test_a_listed_run_can_be_copied_whatever_the_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    out, folder = shown(monkeypatch, width), "outputs/fashion-keep-class/0123456789abcdef"
    totals = SimpleNamespace(accepted=1299, candidates=1320, samples=1309, bytes=18e5)
    found = SimpleNamespace(totals=totals, changed=0.0, state="complete", folder=folder, spec=None)
    monkeypatch.setattr(tables, "differences", lambda runs: {})
    tables.show_runs(cast(Any, [found]), "outputs")
    said = out.getvalue()
    assert folder in said and "1970-01-01 00:00" in said and "complete" in said and "1299 (98%)" in said and "1309" in said


def test_errors_name_only_options_that_their_verb_has() -> None:
    def writes_to(to: str) -> None:
        raise OutputError(to, parameter="out")

    def writes_out(out: str) -> None:
        raise OutputError(out, parameter="out")

    def has_neither(dest: str) -> None:
        raise OutputError(dest, parameter="out")

    for verb, expected in ((writes_to, "to"), (writes_out, "out"), (has_neither, "")):
        with pytest.raises(OutputError) as found:
            app.in_its_own_words(verb)("there")
        assert found.value.parameter == expected
