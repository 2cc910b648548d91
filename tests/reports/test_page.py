"""The report and the dataset card: what a person and the hub see."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from reds_core.errors import OutputError, ShardDamaged
from reds_core.jobs.prepare import prepare
from reds_core.jobs.thumbnails import pictured
from reds_core.reports import sheet
from reds_core.reports.blocks import blocks
from reds_core.reports.page import write_report
from reds_core.reports.picture import picture
from reds_core.reports.summary import Histogram, summarised
from reds_core.runs.plan import plan
from reds_core.runs.run_folder import opened
from reds_core.runs.shards import ComputedShard, write_shard
from reds_core.spec.digest import digest
from reds_core.spec.load import load_spec
from reds_core.storage.places import folder_at
from reds_core.studies.forecast import forecast
from reds_core.variants.run_seeds import run_seeds
from tests.support.shards import path_of
from tests.support.worlds import TinyClassifier, torchscript, world
from tests.variants.test_own_images import photographs


def run(tmp_path: Path, first: int | None = None, **changes: object) -> Path:
    spec = load_spec(world(tmp_path / "world", **changes))
    job = prepare(spec, "cpu")
    with opened(spec, folder_at(tmp_path / "out")) as folder:
        for k, seeds in list(enumerate(plan(spec)))[:first]:
            write_shard(folder, digest(spec), ComputedShard(job, k, seeds, *run_seeds(job, seeds, pictured(spec, seeds)), 1.0))
    write_report(folder)
    return path_of(folder)


def other_judge(tmp_path: Path) -> dict[str, object]:
    """A judge that contradicts some seeds, both of the first shard among them."""
    tmp_path.mkdir(exist_ok=True)
    return {"model": {"kind": "torchscript", "path": str(torchscript(TinyClassifier(seed=9), tmp_path / "other.pt"))}}


def text(folder: Path) -> str:
    return (folder / "report.html").read_text()


def test_a_report_is_self_contained_and_shows_every_accepted_variant(tmp_path: Path) -> None:
    folder = run(tmp_path)
    html = text(folder)
    assert not re.search('(?:src|href)="(?!data:)', html) and "<script src" not in html and "http" not in html
    accepted = int(re.search(r"<h1>([\d,]+) verified variants of 6 seeds", html)[1].replace(",", ""))  # type: ignore[index]
    cells = re.findall(r'<button type="button" class="(?:own)?">', html)
    assert len(cells) == accepted + html.count('<section class="seed">')
    assert "partial" not in html


def test_the_card_is_what_the_hub_reads(tmp_path: Path) -> None:
    card = (run(tmp_path) / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert {"license", "tags", "size_categories", "task_categories", "configs"} <= set(front)
    assert front["configs"][0]["data_files"][0]["path"] == "shard-*.tar" and "n<1K" in front["size_categories"]
    assert "| class | held | drift <= 0.2 |" in card and "Split by `group`" in card


def test_a_partial_run_says_so(tmp_path: Path) -> None:
    folder = run(tmp_path, first=1)
    assert "finished so far: 1 of 3 shards." in text(folder) and "so far: 1 of 3 shards." in (folder / "README.md").read_text()


def test_a_run_without_any_variant_still_has_a_report(tmp_path: Path) -> None:
    assert "Nothing was accepted" in text(run(tmp_path, varied={"look": 50.0}))
    assert "No candidates yet" in text(run(tmp_path / "none", first=0))


def test_fewer_directions_than_asked_for_are_said(tmp_path: Path) -> None:
    many = {"method": "linear", "directions": 6, "waypoints": 1}
    assert "6 of 6 seeds had fewer than the 6 directions" in text(run(tmp_path, trajectory=many))
    job = prepare(load_spec(world(tmp_path / "w", trajectory=many)), "cpu")
    found = forecast(job, range(4))
    assert (found.tried_seeds, found.short_seeds) == (4, 4) and 0 < found.tried < 4 * 12
    assert "directions that the spec asks" not in text(run(tmp_path / "few"))


def test_hostile_class_names_are_shown_as_text_and_break_no_table(tmp_path: Path) -> None:
    names = ["<script>alert(1)</script>&x", "a|b\\", "two\nlines"]
    attributes = {
        "class": {"kind": "classifier", "model": {"kind": "torchscript", "path": "c.pt"}, "names": names},
        "look": {"kind": "pixels"},
    }
    folder = run(tmp_path, attributes=attributes, seeds={"first": 0, "count": 8})
    html, card = text(folder), (folder / "README.md").read_text()
    assert "<script>alert" not in html and "&lt;script&gt;alert(1)&lt;/script&gt;&amp;x" in html and "<td>a|b\\</td>" in html
    rows = card.partition("| label | samples |\n|---|---|\n")[2].partition("\n\n")[0].splitlines()
    labels = [re.fullmatch(r"\| ((?:[^|\\]|\\.)*) \| [\d,]+ \|", row)[1] for row in rows]  # type: ignore[index]
    assert labels == [r"\<script>alert(1)\</script>&x", r"a\|b\\", "two lines"]


def test_seeds_that_were_rejected_come_last_and_take_no_rows(tmp_path: Path) -> None:
    folder = run(tmp_path, seeds={"first": 0, "count": 8}, judge=other_judge(tmp_path))
    with summarised(folder_at(folder)) as summary:
        cards = sheet.contact_sheet(summary).seeds
    assert {bool(c.rows) for c in cards if c.dropped} == {False} and {len(c.rows) for c in cards if not c.dropped} == {4}
    shown = [int(seed) for seed in re.findall(r"<span>seed (\d+):", text(folder))]
    assert shown == [c.seed for c in cards if not c.dropped] + [c.seed for c in cards if c.dropped] != sorted(shown)


def test_figures_of_a_name_with_a_dash_are_shown(tmp_path: Path) -> None:
    folder = run(tmp_path, attributes={
        "class": {"kind": "classifier", "model": {"kind": "torchscript", "path": "c.pt"}}, "all-pixels": {"kind": "pixels"},
    }, varied={"all-pixels": 0.05})  # fmt: skip
    assert re.search(r'title="waypoint 1: accepted, drift class 0\.\d{3}, effect all-pixels 0\.\d{3}"', text(folder))


def test_one_waypoint_has_a_band_too(tmp_path: Path) -> None:
    html = text(run(tmp_path, trajectory={"method": "linear", "directions": 1, "waypoints": 1}))
    assert html.count('<line class="reach"') == html.count("<svg ") == 3 and "<polygon" not in html


def test_at_most_24_seeds_are_shown(tmp_path: Path) -> None:
    folder = run(
        tmp_path, seeds={"count": 60}, shards={"seeds": 20}, trajectory={"method": "linear", "directions": 1, "waypoints": 1}
    )
    with summarised(folder_at(folder)) as summary:
        seeds = [int(b.own.seed) for b in blocks(summary, 24)]
    assert len(set(seeds)) == 24 and seeds == sorted(seeds) and min(seeds) < 3 and max(seeds) > 56
    assert text(folder).count('<section class="seed">') == 24


def test_a_report_made_again_is_the_same(tmp_path: Path) -> None:
    folder = run(tmp_path)
    before = text(folder), (folder / "README.md").read_bytes()
    write_report(folder_at(folder))
    assert before == (text(folder), (folder / "README.md").read_bytes())


def test_the_contact_sheet_is_one_picture(tmp_path: Path) -> None:
    with summarised(folder_at(run(tmp_path))) as summary:
        file = picture(summary, seeds=3)
    shown = Image.open(io.BytesIO(file))
    assert shown.width > 500 and shown.height > 150 and len(file) < 50_000


def test_a_folder_that_is_no_run_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is not a run"):
        write_report(folder_at(tmp_path))


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_damaged_shard_is_named_before_anything_is_written(tmp_path: Path, kind: str) -> None:
    folder = run(tmp_path)
    before = text(folder)
    path = folder / f"shard-00001.{kind}"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ShardDamaged, match="shard-00001: differs from its manifest"):
        write_report(folder_at(folder))
    assert text(folder) == before


def test_quantiles_of_a_histogram_are_right_to_a_bin() -> None:
    values = np.random.RandomState(0).rand(1000) * 2
    h = Histogram()
    h.add(values[:300])
    h.add(np.append(values[300:], np.nan))
    for q in (0.1, 0.5, 0.9):
        assert h.quantile(q) == pytest.approx(np.quantile(values, q), abs=0.01)
    assert h.largest == values.max()


@pytest.mark.parametrize("name", ["report.html", "README.md", "samples.parquet", "croissant.json"])
def test_a_folder_in_the_place_of_a_page_is_named(tmp_path: Path, name: str) -> None:
    folder = run(tmp_path)
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(OutputError, match=f"{re.escape(name)} cannot be written: it is a folder; move it away") as raised:
        write_report(folder_at(folder))
    assert raised.value.parameter == ""


DECIDED: dict[str, Any] = {"held": {"class": {"decision": 0.6}}, "trajectory": {"directions": 2, "waypoints": 3, "step": 0.3}}


def test_a_decision_is_shown_in_probabilities(tmp_path: Path) -> None:
    folder = run(tmp_path, **DECIDED, keep=3)
    html, card = text(folder), (folder / "README.md").read_text()
    words = " ".join(html.split())
    assert "class held to its decision, with a probability of at least 0.6 (or the seed's own, if that is lower); look" in words
    assert "<td>probability lost</td>" in html and "probability\N{NO-BREAK SPACE}≥\N{NO-BREAK SPACE}0.6" in html
    assert "probability that the label lost, by waypoint" in html and ">tolerance<" not in html
    assert re.search(r'accepted, class lost 0\.\d{3} in probability \(at most 0\.\d{3}\), effect look \d\.\d{3}"', html)
    assert "0.6 spreads" not in html and "drift class" not in html
    assert "| class | held | probability >= 0.6 |" in card and "may lose nothing" in card


def test_how_many_are_kept_is_said(tmp_path: Path) -> None:
    folder = run(tmp_path / "kept", **DECIDED, keep=3)
    html, card = text(folder), " ".join((folder / "README.md").read_text().split())
    assert "candidates, at most 3 a seed" in html and "nearer to the others than those that are kept" in html
    assert re.search(r"accepted, at most 3 of each seed: those that lie farthest apart\. An independent judge", card)
    plain = run(tmp_path / "all", **DECIDED)
    assert "at most 3" not in text(plain) + (plain / "README.md").read_text()


def test_a_lost_decision_has_words_of_its_own(tmp_path: Path) -> None:
    """Random straight lines lose it."""
    folder = run(tmp_path, **{**DECIDED, "trajectory": {"method": "linear", "directions_by": "rand", "step": 0.4}})
    html = text(folder)
    assert "held:class" in html and "class lost more of the label&#39;s probability than it may" in html
    assert ">class doubtful</i>" in html and "class moved" not in html and "tolerance allows" not in html


def test_most_zeros_make_a_median_of_zero() -> None:
    h = Histogram()
    h.add(np.array([0.0] * 6 + [0.04] * 4))
    assert (h.quantile(0.1), h.quantile(0.5), h.quantile(0.6)) == (0.0, 0.0, 0.0)
    assert h.quantile(0.7) == pytest.approx(0.04, abs=0.005) and h.largest == 0.04


@pytest.mark.parametrize("residual", [False, True])
def test_the_card_says_what_own_images_are_measured_against_and_what_of_them_is_shown(tmp_path: Path, residual: bool) -> None:
    photographs(tmp_path / "world" / "data", 2)
    own = {"images": "data", "fit": {"distance": 9, "passes": 10, "residual": residual}}
    card = (run(tmp_path, seeds=own, label=None, held={"class": 5}) / "README.md").read_text()
    assert ("the distance from a variant to its image in *spreads*" in card) == residual
    assert ("an *effect* that to the image's reconstruction, in *spreads*" in card) != residual
    assert ("it shows parts of that image as they are" in card) == residual
    assert "and of the images that were varied; state it above" in card
