"""What an evaluation says of worlds whose answer is known, and that it is fair to every arm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from reds_core.errors import ModelError, OutputError
from reds_core.evaluation.arms import ARMS
from reds_core.evaluation.estimates import difference, lines
from reds_core.evaluation.evaluate import Evaluation
from reds_core.evaluation.files import finished, write_pages, write_rows
from reds_core.evaluation.leaks import warnings_of
from reds_core.jobs.images import encode
from reds_core.spec.load import load_spec
from reds_core.storage.places import folder_at
from reds_core.types import Candidate
from tests.support.evaluation import evaluated, picture, run_of, with_picture, write_images
from tests.support.exports import NAMES, make, run_at, sample, spec_at
from tests.support.shards import path_of
from tests.support.worlds import world as world_spec

FIELDS = ["arm", "per_class", "repeat", "images_real", "images_extra", "steps", "accuracy", "macro_f1", "worst_group"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_images(folder / "train", range(8))
    write_images(folder / "test", range(1000, 1060))
    return folder


@pytest.fixture(scope="module")
def run(world: Path) -> Path:
    return run_of(world / "right")


def table_of(asked: Evaluation) -> pd.DataFrame:
    return pd.DataFrame(list(asked.rows([], lambda text: None)))


def test_every_arm_has_a_row_for_each_repeat_and_number(run: Path, world: Path) -> None:
    table = table_of(evaluated(run, world, per_class=[1, 2], repeats=2, steps=3))
    assert list(table.columns[:9]) == FIELDS and len(table) == 4 * 2 * 2
    assert set(table.images_real[table.per_class == 2]) == {6} and set(table.steps) == {3}
    assert set(table.images_extra[table.arm.str.startswith("variants")]) == {36}
    assert set(table.images_extra[~table.arm.str.startswith("variants")]) == {0}


def test_right_labels_come_out_better_and_wrong_ones_worse(run: Path, world: Path, tmp_path: Path) -> None:
    right = table_of(evaluated(run, world, repeats=5, steps=60))
    assert difference(right, "variants", "real", "accuracy").verdict == "better"
    wrong = run_of(tmp_path, label_of=lambda label: (label + 1) % 3)
    found = table_of(evaluated(wrong, world, repeats=5, steps=60))
    assert difference(found, "variants", "classic", "accuracy").verdict == "worse"
    assert difference(found, "variants+classic", "classic", "accuracy").verdict == "worse"


def test_copies_of_the_real_images_are_not_told_apart_from_nothing(world: Path, tmp_path: Path) -> None:
    def copies(seed: int) -> list[Candidate]:
        return [with_picture(sample(seed, w, label=seed % 3), picture(seed % 3, w - 1)) for w in range(1, 9)]

    run = run_at(tmp_path, made=copies, seeds=3)
    table = table_of(evaluated(run, world, per_class=[8], repeats=6, steps=60))
    assert difference(table, "variants+classic", "classic", "accuracy").verdict == "not told apart"


def test_arms_of_a_repeat_share_images_and_weights_and_repeats_do_not(run: Path, world: Path) -> None:
    asked = evaluated(run, world)
    assert asked.drawn(2, 0) == asked.drawn(2, 0) != asked.drawn(2, 1)
    assert set(asked.drawn(1, 0)) < set(asked.drawn(2, 0))
    assert sorted(asked.train.labels[asked.drawn(2, 0)].tolist()) == [0, 0, 1, 1, 2, 2]
    first, again = (table_of(evaluated(run, world, repeats=1, steps=5)) for _ in range(2))
    pd.testing.assert_frame_equal(first[FIELDS], again[FIELDS])


@pytest.mark.parametrize("stored", ["png", "jpg", "webp"])
def test_variants_of_images_that_a_repeat_does_not_draw_are_left_out(
    world: Path, tmp_path: Path, stored: Literal["png", "jpg", "webp"]
) -> None:
    def made(seed: int) -> list[Candidate]:
        name = f"{NAMES[seed % 3].replace('/', '_')}/{seed // 3:04d}.png"
        photo = sample(seed, role="source", label=seed % 3, source=name)
        photo = replace(photo, image=encode(picture(seed % 3, seed // 3)[:, :, None], stored, 60))
        return [photo, *(sample(seed, w, label=seed % 3, source=name, image=stored) for w in range(5))]

    spec_at(tmp_path, shards={"seeds": 4, "image": stored} | ({} if stored == "png" else {"quality": 60}))
    own = [f"seeds={{images: {world / 'train'}}}", "label=given"]
    run = path_of(make(tmp_path / "runs", load_spec(tmp_path / "one.yaml", own), made))
    asked = evaluated(run, world, arms=["sources", "variants", "classic"], per_class=[2, 8])
    few, all_ = asked.drawn(2, 0), asked.drawn(8, 0)
    extra = asked.extra("variants", few)
    assert extra is not None and len(extra) == 4 * 6 and {asked.row_of_origin[o] for o in extra.origins} == set(few)
    sources = asked.extra("sources", all_)
    assert sources is not None and len(sources) == 24

    files = sorted((world / "train").rglob("000[0-2].png"))
    pd.DataFrame({"file": map(str, files), "label": [f.parent.name for f in files]}).to_csv(tmp_path / "some.csv", index=False)
    some = evaluated(run, world, train=tmp_path / "some.csv", arms=["variants"], per_class=[3])
    extra = some.extra("variants", some.drawn(3, 0))
    assert extra is not None and len(extra) == 4 * 9
    assert any("15 of the 24 images" in w and "left out" in w for w in some.warnings)
    with pytest.raises(ModelError, match="the run was made from 24 of the test images"):
        evaluated(run, world, train=world / "test", test=world / "train")


def test_a_killed_evaluation_continues_at_the_next_training(run: Path, world: Path, tmp_path: Path) -> None:
    asked, folder = evaluated(run, world, steps=3), folder_at(tmp_path / "here")
    rows = []
    for row in asked.rows([], lambda text: None):
        rows.append(row)
        write_rows(folder, asked, rows)
        if len(rows) == 5:
            break
    again = evaluated(run, world, steps=3)
    before = finished(folder, again)
    assert len(before) == 5
    rest = list(again.rows([(r["per_class"], r["repeat"], r["arm"]) for r in before], lambda text: None))
    whole = table_of(asked)
    pd.testing.assert_frame_equal(pd.DataFrame(before + rest)[FIELDS], whole[FIELDS], rtol=1e-5)
    assert "Partial" in write_pages(folder, again, before) and "Partial" not in write_pages(folder, again, before + rest)
    with Image.open(tmp_path / "here/evaluation.png") as picture_:
        assert picture_.width > 500
    with pytest.raises(OutputError, match="holds an evaluation of another steps"):
        finished(folder, evaluated(run, world, steps=4))


def test_the_worst_group_is_that_of_label_and_column(run: Path, world: Path, tmp_path: Path) -> None:
    files = sorted(p.relative_to(world / "test") for p in (world / "test").rglob("*.png"))
    rows = [{"file": str(world / "test" / f), "label": f.parts[0], "light": "day" if int(f.stem) % 2 else "night"} for f in files]
    pd.DataFrame(rows).to_csv(tmp_path / "test.csv", index=False)
    asked = evaluated(run, world, test=tmp_path / "test.csv", group="light", repeats=1)
    assert set(asked.test.groups) == {"day", "night"}
    (row, *_) = asked.rows([], lambda text: None)
    assert row["worst_group"] <= row["accuracy"]


def test_text_says_in_words_what_is_better_and_where_sampling_wins(run: Path, world: Path, tmp_path: Path) -> None:
    asked = evaluated(run, world, arms=[*list(ARMS)[:2], "variants", "sampled"])
    accuracies = {"real": (0.5, 0.51), "classic": (0.6, 0.62), "sampled": (0.8, 0.81), "variants": (0.7, 0.72)}
    rows = [
        {"arm": arm, "per_class": 2, "repeat": i, "images_real": 6, "images_extra": 0, "steps": 30, "accuracy": v + i * 0.001,
         "macro_f1": v, "worst_group": v, "seconds": 1.0, "images_per_second": 64}
        for arm, values in accuracies.items() for i, v in enumerate((*values, values[0] + 0.01))
    ]  # fmt: skip
    text = write_pages(folder_at(tmp_path), asked, rows)
    assert "Better than `classic`: `sampled`, `variants`." in text and "Worse than `classic`: `real`." in text
    assert "**`sampled` is better than `variants`, by 9.7 points**" in text
    assert "was trained with labels: Fashion-MNIST, 60,000 training images" in text


def test_networks_without_a_card_are_named(tmp_path: Path) -> None:
    spec = world_spec(tmp_path)
    (said,) = warnings_of(load_spec(spec))
    assert said == "No card says with which labels the network of class (c.pt) and the judge (j.pt) were trained."
    (tmp_path / "j.md").write_text("---\ntrained_on: {data: other images, labels: false}\n---\n")
    assert warnings_of(load_spec(spec)) == ["No card says with which labels the network of class (c.pt) was trained."]


def test_text_says_where_every_repeat_has_the_same_real_images(run: Path, world: Path, tmp_path: Path) -> None:
    asked = evaluated(run, world, per_class=[2, 8], repeats=2)
    rows = [
        {"arm": arm, "per_class": n, "repeat": r, "accuracy": 0.5, "macro_f1": 0.5, "worst_group": 0.5, "seconds": 1.0}
        | {"images_extra": 0, "images_per_second": 1}
        for arm in ("real", "classic") for n in (2, 8) for r in (0, 1)
    ]  # fmt: skip
    few, all_of_them = write_pages(folder_at(str(tmp_path)), asked, rows).split("## 8 real images a class")
    note = "These are all real images that there are"
    assert asked.drawn(8, 0) != asked.drawn(8, 1) and sorted(asked.drawn(8, 0)) == sorted(asked.drawn(8, 1))
    assert note in all_of_them and note not in few


def test_differences_are_paired() -> None:
    rows = [
        {"arm": arm, "per_class": 5, "repeat": i, "accuracy": base + gain}
        for i, base in enumerate((0.2, 0.5, 0.8)) for arm, gain in (("classic", 0.0), ("variants", (0.01, 0.02, 0.03)[i]))
    ]  # fmt: skip
    found = difference(pd.DataFrame(rows), "variants", "classic", "accuracy")
    half = 4.302652729911275 * 0.01 / np.sqrt(3)  # Student's t, two degrees of freedom
    assert (
        found.mean == pytest.approx(0.02) and found.low == pytest.approx(0.02 - half) and found.high == pytest.approx(0.02 + half)
    )
    assert found.verdict == "not told apart"
    assert difference(pd.DataFrame(rows[:2]), "variants", "classic", "accuracy").verdict == ""
    table = pd.DataFrame(rows).assign(macro_f1=0.0, worst_group=0.0, images_extra=0, seconds=1.0, images_per_second=1)
    assert [line.arm for line in lines(table, 5, list(ARMS))] == ["classic", "variants"]


def test_torch_draws_as_before_after_an_evaluation(run: Path, world: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    table_of(evaluated(run, world, repeats=1, steps=2))
    assert torch.equal(torch.rand(1), expected)
