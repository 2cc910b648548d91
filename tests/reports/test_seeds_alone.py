"""What a run of seeds alone leaves, and one whose first shards have no sample: pages, tables, and what readers make of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from braceexpand import braceexpand
from PIL import Image

from reds_core.reports.card import in_braces
from reds_core.reports.croissant import NAME, TABLE
from reds_core.reports.page import write_report
from reds_core.reports.picture import picture
from reds_core.reports.summary import summarised
from reds_core.runs.manifest import read_manifests
from reds_core.runs.samples import read_samples
from reds_core.runs.totals import runs
from reds_core.runs.verify import verify_run
from reds_core.storage.places import folder_at
from tests.reports.test_page import other_judge, run, text
from tests.variants.test_own_images import photographs

ALONE = {"directions": 0}
EIGHT = {"first": 0, "count": 8}


def test_everything_that_a_run_of_seeds_leaves_counts_seeds(tmp_path: Path) -> None:
    folder = run(tmp_path, trajectory=ALONE, seeds=EIGHT, judge=other_judge(tmp_path))
    manifests = list(read_manifests(folder_at(folder)))
    rows = pd.concat([pd.read_parquet(folder / f"{m.stem}.parquet") for m in manifests])
    accepted = int(rows.accepted.sum())
    assert set(rows.role) == {"seed"} and len(rows) == 8 and 0 < accepted < 8
    assert sum(m.accepted for m in manifests) == sum(m.samples for m in manifests) == accepted
    assert sum(sum(m.labels.values()) for m in manifests) == accepted
    assert sum(m.rejected.get("seed_label", 0) for m in manifests) == 8 - accepted
    assert not any(verify_run(folder_at(folder)).values())
    (listed,) = runs(folder_at(folder))
    assert (listed.state, listed.totals.candidates, listed.totals.accepted) == ("complete", 8, accepted)
    for tar in folder.glob("*.tar"):
        for _, files in read_samples(tar):
            record = json.loads(files["json"])
            assert (record["role"], record["direction"], record["waypoint"]) == ("seed", -1, 0)
            assert "held" not in record and "varied" not in record


def test_the_report_shows_seeds_in_a_grid_and_no_empty_charts(tmp_path: Path) -> None:
    folder = run(tmp_path, trajectory=ALONE, seeds=EIGHT, judge=other_judge(tmp_path))
    html, card = text(folder), (folder / "README.md").read_text()
    accepted = len(pd.read_parquet(folder / TABLE))
    assert (
        f"<h1>{accepted} of 8 seeds accepted</h1>" in html
        and html.count("data:image/webp;base64") == 8
        and html.count(">seed's label</i>") + html.count(">seed&#39;s label</i>") == 8 - accepted
    )
    for absent in ("<svg", "waypoint", "variants</h", "Along the trajectories", "<h2>Attributes", "candidates"):
        assert absent not in html.partition("<details>")[0].partition("</style>")[2], absent
    assert f"{accepted} of 8 seeds accepted, in 4 WebDataset shards ({accepted} samples)." in card
    assert "drift" not in card.lower() and "Split by" not in card
    with summarised(folder_at(folder)) as s:
        assert Image.open(io.BytesIO(picture(s))).size[0] > 64


def test_own_images_stand_beside_their_reconstructions(tmp_path: Path) -> None:
    photographs(tmp_path / "world" / "data")
    folder = run(tmp_path, trajectory=ALONE, seeds={"images": "data"}, label=None)
    html, samples = text(folder), pd.read_parquet(folder / TABLE)
    assert set(samples.role) == {"source", "seed"} and "of 6 images reconstructed</h1>" in html
    assert html.count("data:image/webp;base64") >= len(samples) and "its reconstruction on the right" in html
    with summarised(folder_at(folder)) as s:
        assert picture(s).startswith(b"RIFF")


@pytest.mark.parametrize("changes", [{}, {"trajectory": ALONE}], ids=["walks", "alone"])
def test_a_run_without_a_single_sample_has_all_its_pages(tmp_path: Path, changes: dict[str, Any]) -> None:
    """The judge contradicts seeds 0 and 1."""
    whole = run(tmp_path / "whole", **changes)
    folder = run(tmp_path / "none", seeds={"first": 0, "count": 2}, judge=other_judge(tmp_path), **changes)
    assert "Nothing was accepted" in text(folder) and not any(verify_run(folder_at(folder)).values())
    none, some = pd.read_parquet(folder / TABLE), pd.read_parquet(whole / TABLE)
    assert len(none) == 0 and none.dtypes.equals(some.dtypes) and list(none) == list(some)
    fields = [json.loads((f / NAME).read_text())["recordSet"] for f in (folder, whole)]
    assert fields[0] == fields[1]


def test_a_card_says_which_shards_have_no_tar_and_loads_none_where_there_are_none(tmp_path: Path) -> None:
    """The judge contradicts seeds 0 and 1."""
    none = (run(tmp_path / "none", seeds={"first": 0, "count": 2}, judge=other_judge(tmp_path)) / "README.md").read_text()
    assert "There is nothing to load: the run holds no samples." in none and "There are no samples." in none
    assert "configs" not in yaml.safe_load(none.split("---")[1]) and "load_dataset" not in none
    some = (run(tmp_path / "some", seeds=EIGHT, judge=other_judge(tmp_path)) / "README.md").read_text()
    assert "accepted nothing and ha" in some and "load_dataset" in some


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_hugging_face_reads_a_run_whose_first_shard_accepted_nothing(tmp_path: Path) -> None:
    from datasets import load_dataset

    folder = run(tmp_path, seeds=EIGHT, judge=other_judge(tmp_path))
    assert (folder / "shard-00000.json").exists() and not (folder / "shard-00000.tar").exists()
    samples = len(pd.read_parquet(folder / TABLE))
    by_card = load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "a"))
    (line,) = [line for line in (folder / "README.md").read_text().splitlines() if line.startswith("data = load_dataset(")]
    files = json.loads(line.partition("data_files=")[2].rpartition(", split")[0])
    by_hand = load_dataset("webdataset", data_files=f"{folder}/{files}", split="train", cache_dir=str(tmp_path / "b"))
    assert len(by_card) == len(by_hand) == samples > 0


@pytest.mark.parametrize(
    ("finished", "braces"),
    [
        ([], ""),
        ([2], "shard-00002.tar"),
        ([0, 1, 2], "shard-{00000..00002}.tar"),
        ([0, 2], "shard-{00000,00002}.tar"),
        ([0, 1, 4, 7, 8, 9], "shard-{{00000..00001},00004,{00007..00009}}.tar"),
        ([99_998, 99_999, 100_000, 100_001], "shard-{{99998..99999},{100000..100001}}.tar"),
    ],
)
def test_braces_name_the_shards_that_there_are(finished: list[int], braces: str) -> None:
    assert in_braces(finished) == braces
    names = [f"shard-{index:05d}.tar" for index in finished]
    assert list(braceexpand(braces)) == (names or [""])


def test_a_report_made_again_is_the_same(tmp_path: Path) -> None:
    folder = run(tmp_path, trajectory=ALONE)
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    write_report(folder_at(folder))
    assert before == {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
