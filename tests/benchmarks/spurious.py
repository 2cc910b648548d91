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
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from reds_core.evaluation.evaluate import Evaluation, Settings, evaluation
from reds_core.evaluation.files import write_pages
from reds_core.evaluation.labelled import listed, read_data
from reds_core.jobs.prepare import pick_device
from reds_core.models.shipped.rooms import DIM, FACTORS, Rooms
from reds_core.spec.load import load_spec
from reds_core.storage.folder import Folder
from reds_core.storage.places import folder_at
from reds_core.types import Images
from tests.benchmarks.runs import made, quiet, trainings

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
    parser.add_argument("--workers", type=int, default=1, help="processes, for shards and for trainings")
    parser.add_argument("--set", action="append", default=[], help="changes of the spec")
    args = parser.parse_args()
    for kind, count in {"pool": args.pool, "test": TEST, "more": 2 * MORE}.items():
        drawn(kind, args.folder / kind, count)
    spec = load_spec("augment_specs/rooms.yaml", [
        f"seeds={{images: {args.folder / 'pool.csv'}, truncation: 1}}", "label=given", "keep=12", "trajectory.step=0.3", *args.set,
    ])  # fmt: skip
    run = made(spec, folder_at(args.folder / "runs"), args.workers)
    settings = Settings(args.arms.split(","), [int(n) for n in args.per_class.split(",")], args.repeats, args.steps, "small",
                        "wall", ("crops", "flips", "colours"))  # fmt: skip
    for link in map(float, filter(None, args.links.split(","))):
        place = folder_at(args.folder) / f"link-{link:g}"
        print(write_pages(place, *trainings(partial(asked, args.folder, run, link, settings), place, args.workers)), flush=True)


def rooms(kind: str, count: int) -> tuple[Images, Bool[Tensor, " n"], Bool[Tensor, " n"]]:
    """Returns rooms, whether each sofa is warmer than the mean one, and whether each wall is."""
    device = pick_device("auto")
    net, first = Rooms().to(device), FIRST[kind]
    draws = [np.random.RandomState(first + i).randn(DIM) for i in range(count)]
    z = TRUNCATION * torch.from_numpy(np.stack(draws)).float()
    factors = net.factors(z.to(device))
    sofa, wall = ((factors[group][:, list(FACTORS[group]).index("warmth")] > 0).cpu() for group in ("sofa", "wall"))
    with torch.no_grad():
        return torch.cat([net(part.to(device)).cpu() for part in z.split(64)]), sofa, wall


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


def linked(table: Path, link: float, to: Path) -> Path:
    """Writes a table of as many rooms of each label as there are, `link` of which have a wall like their sofa."""
    if to.exists():
        return to
    rows = pd.read_csv(table)
    kept = []
    for label in LABELS:
        mine = rows[rows.label == label]
        same, other = mine[mine.wall == label], mine[mine.wall != label]
        count = min(len(same), int(len(other) * link / (1 - link)) if link < 1 else len(same))
        kept += [same.head(count), other.head(round(count * (1 - link) / link))]
    pd.concat(kept).sort_values("file").to_csv(to, index=False)
    return to


def asked(folder: Path, run: Folder, link: float, settings: Settings) -> Evaluation:
    """Returns the evaluation of a link. Its fresh samples are more rooms with their true labels and the link."""
    train = linked(folder / "pool.csv", link, folder / f"train-{link:g}.csv")
    found = evaluation(run, str(train), str(folder / "test.csv"), settings, "auto", None, False, quiet)
    more = listed(str(linked(folder / "more.csv", link, folder / f"more-{link:g}.csv")), "more")
    found.pool.made["sampled"] = read_data(more, found.classes, found.pool.shape, "stretch", [""] * len(more.images))
    return found


if __name__ == "__main__":
    main()
