"""Where what always comes together must be broken: `python -m tests.benchmarks.spurious FOLDER [OPTIONS]`.

Rooms are labelled by their sofa, warm or cool. In the training rooms, the wall is nearly always like it (the link); in the test
rooms it is not. A classifier that learns the wall fails on the test rooms that break the link: the worst group.

    pool      rooms as photographs, PNGs, of which training sets with a link are drawn
    run       `reds run` on the photographs: the sofa held, the room varied
    sampled   2,000 more rooms with their true labels and the same link: what no one has, beside what a run can make

Arms and repeats are those of `reds evaluate`. Everything lies in FOLDER and is continued there. Prints; asserts nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from reds_core.evaluation.evaluate import Evaluation, Settings, evaluation
from reds_core.evaluation.files import finished, write_pages, write_rows
from reds_core.evaluation.labelled import Labelled
from reds_core.models.shipped.rooms import DIM, FACTORS, Rooms
from reds_core.runs import worker
from reds_core.runs.plan import plan
from reds_core.runs.run_folder import opened
from reds_core.spec.digest import digest
from reds_core.spec.load import load_spec
from reds_core.storage.folder import Folder
from reds_core.storage.places import folder_at
from reds_core.types import Images

LABELS = ("cool", "warm")
TEST, MORE = 2000, 2000  # rooms
FIRST = {"pool": 700_000, "test": 800_000, "more": 900_000}  # the first latent's number of each
TRUNCATION = 0.8


def main() -> None:
    """Makes rooms, runs on them, and prints an evaluation for each link."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.spurious", description="Where a link must be broken.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--links", default="0.9,0.95,1")
    parser.add_argument("--per-class", default="16,32,64", help="half of the training rooms")
    parser.add_argument("--arms", default="real,classic,sampled,sampled+classic,variants,variants+classic")
    parser.add_argument("--pool", type=int, default=264, help="rooms that training sets are drawn from")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--set", action="append", default=[], help="changes of the spec")
    args = parser.parse_args()
    drawn("pool", args.folder / "pool", args.pool)
    drawn("test", args.folder / "test", TEST)
    run = made(args.folder, args.set)
    for link in map(float, args.links.split(",")):
        settings = Settings(args.arms.split(","), [int(n) for n in args.per_class.split(",")], args.repeats, args.steps, "small",
                            "wall", ("crops", "flips", "colours"))  # fmt: skip
        train = linked(args.folder / "pool.csv", link, args.folder / f"train-{link:g}.csv")
        asked = evaluation(run, str(train), str(args.folder / "test.csv"), settings, "auto", None, False, lambda text: None)
        asked.pool.made["sampled"] = more(link, asked)
        print(evaluated(asked, folder_at(args.folder) / f"link-{link:g}"), flush=True)


def rooms(kind: str, count: int) -> tuple[Images, Bool[Tensor, " n"], Bool[Tensor, " n"]]:
    """Returns rooms, whether each sofa is warmer than the mean one, and whether each wall is."""
    net, first = Rooms(), FIRST[kind]
    draws = [np.random.RandomState(first + i).randn(DIM) for i in range(count)]
    z = TRUNCATION * torch.from_numpy(np.stack(draws)).float()
    factors = net.factors(z)
    sofa, wall = (factors[group][:, list(FACTORS[group]).index("warmth")] > 0 for group in ("sofa", "wall"))
    with torch.no_grad():
        return torch.cat([net(part) for part in z.split(64)]), sofa, wall


def drawn(kind: str, folder: Path, count: int) -> None:
    """Writes rooms as PNGs, with a table of label and wall beside the folder."""
    if folder.with_suffix(".csv").exists():
        return
    images, sofa, wall = rooms(kind, count)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, (image, s, w) in enumerate(zip(images, sofa.tolist(), wall.tolist(), strict=True)):
        file = folder / f"{i:05d}.png"
        Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(file)
        rows.append({"file": f"{folder.name}/{file.name}", "label": LABELS[s], "wall": LABELS[w]})
    pd.DataFrame(rows).to_csv(folder.with_suffix(".csv"), index=False)


def made(folder: Path, changes: list[str]) -> Folder:
    """Returns the run of the pool's photographs."""
    spec = load_spec("augment_specs/rooms.yaml", [
        f"seeds={{images: {folder / 'pool.csv'}, truncation: 1}}", "label=given", "keep=12", "trajectory.step=0.3", *changes,
    ])  # fmt: skip
    with opened(spec, folder_at(folder / "runs")) as place:
        request = worker.Request(spec, digest(spec), place, None, False, ())
        there = place.files()
        for index in range(len(plan(spec))):
            if f"shard-{index:05d}.json" not in there:
                print(worker.make(request, "auto", worker.cores(), index).accepted, "variants in shard", index, flush=True)
    return place


def linked(table: Path, link: float, to: Path) -> Path:
    """Writes a table of as many rooms of each label as there are, `link` of which have a wall like their sofa."""
    rows = pd.read_csv(table)
    kept = []
    for label in LABELS:
        mine = rows[rows.label == label]
        same, other = mine[mine.wall == label], mine[mine.wall != label]
        count = min(len(same), int(len(other) * link / (1 - link)) if link < 1 else len(same))
        kept += [same.head(count), other.head(round(count * (1 - link) / link))]
    pd.concat(kept).sort_values("file").to_csv(to, index=False)
    return to


def more(link: float, asked: Evaluation) -> Labelled:
    """Returns as many more rooms as there are variants, at most MORE, with their true labels and the link."""
    images, sofa, wall = rooms("more", 2 * MORE)
    same, other = (sofa == wall).nonzero().flatten().tolist(), (sofa != wall).nonzero().flatten().tolist()
    wanted = min(MORE, len(asked.pool.get("variants")))
    rows = same[: round(wanted * link)] + other[: round(wanted * (1 - link))]
    labels = [asked.classes.index(LABELS[int(sofa[row])]) for row in rows]
    pixels = (images[rows] * 255).round().byte()
    return Labelled(pixels, torch.tensor(labels), [""] * len(rows), [""] * len(rows), [""] * len(rows))


def evaluated(asked: Evaluation, place: Folder) -> str:
    """Trains what is not trained yet, and returns the text."""
    rows = finished(place, asked)
    for row in asked.rows([(r["per_class"], r["repeat"], r["arm"]) for r in rows], lambda text: None):
        rows.append(row)
        write_rows(place, asked, rows)
    return write_pages(place, asked, rows)


if __name__ == "__main__":
    main()
