"""What few labels are worth where nothing has seen more: `python -m tests.benchmarks.unlabelled FOLDER [OPTIONS]`.

Fashion-MNIST, with a generator and an embedding that were trained on 50,000 images without their labels. Each draw takes a few
labelled images a class from the other 10,000 training images:

    probe      a linear classifier of the embedding, fitted to those labels alone: its decision is held
    judge      a small network trained on them alone, with classic augmentation
    run        `reds run` on those images: reconstructions, and variants
    sampled    fresh samples, labelled by the judge

Arms are those of `reds evaluate`; a draw is a repeat. Everything lies in FOLDER and is continued there. Prints; asserts nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torch import Tensor, nn

from reds_core.evaluation.classic import classic
from reds_core.evaluation.evaluate import Evaluation, Row, Settings, evaluation
from reds_core.evaluation.files import finished, write_pages, write_rows
from reds_core.evaluation.labelled import Labelled
from reds_core.evaluation.networks import small
from reds_core.evaluation.training import trained
from reds_core.models.config import Access
from reds_core.models.shipped.builtin import Builtin
from reds_core.models.shipped.fashion import CLASS_NAMES
from reds_core.runs import worker
from reds_core.runs.plan import plan
from reds_core.runs.run_folder import opened
from reds_core.spec.digest import digest
from reds_core.spec.load import load_spec
from reds_core.storage.folder import Folder
from reds_core.storage.places import folder_at
from reds_core.training.images import load
from reds_core.types import Images, Labels

DATA = Path("/usr/share/datasets/fashion-mnist")
UNSEEN = 50_000  # the first image that neither the generator nor the embedding was trained on
TEST = 4000
SHAPE = (1, 32, 32)
PROBE_STEPS, PROBE_DECAY = 400, 0.01


def main() -> None:
    """Makes the runs of all draws, and prints what they teach."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.unlabelled", description="What few labels are worth.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--per-class", type=int, default=20)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--arms", default="real,classic,sources+classic,sampled+classic,variants,variants+classic")
    parser.add_argument("--set", action="append", default=[], help="changes of the spec")
    args = parser.parse_args()
    here = args.folder / f"n{args.per_class}"
    write_images(args.folder / "test", *(part[:TEST] for part in load(DATA, "t10k")))
    rows: list[Row] = []
    for draw in range(args.draws):
        place = here / f"draw-{draw}"
        few = prepared(place, args.per_class, draw)
        run = made(place, args.set)
        settings = Settings(args.arms.split(","), [args.per_class], 1, args.steps, "small", None, ("crops", "flips"))
        asked = evaluation(run, str(few), str(args.folder / "test"), settings, "auto", None, False, lambda text: None)
        rows += [row | {"repeat": draw} for row in trainings(asked, folder_at(place / f"evaluation-{run.name}"))]
        print(write_pages(folder_at(here), asked, rows), flush=True)


def prepared(place: Path, per_class: int, draw: int) -> Path:
    """Writes a draw's images, and the two networks that know their labels alone. Returns the images' folder."""
    folder = place / "train"
    if not (place / "judge.pt").exists():
        images, labels = (part[UNSEEN:] for part in load(DATA, "train"))
        order = np.random.RandomState(draw).permutation(len(labels))
        rows = [int(r) for c in range(len(CLASS_NAMES)) for r in [r for r in order if labels[r] == c][:per_class]]
        write_images(folder, images[rows], labels[rows])
        torch.jit.save(torch.jit.script(probe(images[rows], labels[rows])), place / "probe.pt")
        few = Labelled((images[rows] * 255).round().byte(), labels[rows], [""] * len(rows), [""] * len(rows), [""] * len(rows))
        judge = trained(lambda: small(SHAPE, len(CLASS_NAMES)), few, None, classic(SHAPE, ("crops", "flips")), 800, draw).network
        torch.jit.save(torch.jit.trace(judge, torch.zeros(2, *SHAPE)), place / "judge.pt")
    return folder


def write_images(folder: Path, images: Images, labels: Labels) -> None:
    """Writes images in class folders, unless they are there."""
    if folder.exists():
        return
    for at, (image, label) in enumerate(zip((images * 255).round().byte().numpy(), labels.tolist(), strict=True)):
        place = folder / CLASS_NAMES[label].replace("/", "_")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(place / f"{at:05d}.png")


class Probe(nn.Module):
    """A linear classifier of normalised features."""

    def __init__(self, embedding: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.embedding = embedding
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.linear = nn.Linear(len(mean), len(CLASS_NAMES))

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.linear((self.embedding(images) - self.mean) / self.std)
        return scores


def probe(images: Images, labels: Labels) -> nn.Module:
    """Returns a linear classifier of the shipped embedding, fitted to a few labelled images and their mirror images."""
    access = Access(torch.device("cpu"), allow_code=False)
    embedding = Builtin(kind="builtin", name="fashion-mnist-embedding").load(access)
    x, y = torch.cat([images, images.flip(3)]), torch.cat([labels, labels])
    with torch.no_grad():
        features = embedding(x)
    network = Probe(embedding, features.mean(0), features.std(0) + 1e-6)
    optimiser = torch.optim.AdamW(network.linear.parameters(), 0.02, weight_decay=PROBE_DECAY)
    for _ in range(PROBE_STEPS):
        loss = F.cross_entropy(network.linear((features - network.mean) / network.std), y, label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval().requires_grad_(False)


def made(place: Path, changes: list[str]) -> Folder:
    """Returns the run of a draw's images."""
    spec = {
        "name": "few-labels", "generator": {"kind": "builtin", "name": "fashion-mnist-unlabelled", "space": "w+"},
        "seeds": {"images": "train"},
        "attributes": {
            "probe": {"kind": "classifier", "model": {"kind": "torchscript", "path": "probe.pt"}, "names": [*CLASS_NAMES]},
            "look": {"kind": "pixels"},
        },
        "label": "given", "held": {"probe": {"decision": 0.8}}, "varied": {"look": 0.2}, "keep": 16,
        "trajectory": {"directions": 4, "waypoints": 4, "step": 0.12},
        "judge": {"model": {"kind": "torchscript", "path": "judge.pt"}}, "shards": {"seeds": 20},
    }  # fmt: skip
    (place / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    loaded = load_spec(place / "spec.yaml", changes)
    with opened(loaded, folder_at(place / "runs")) as folder:
        request = worker.Request(loaded, digest(loaded), folder, None, False, ())
        there = folder.files()
        for index in range(len(plan(loaded))):
            if f"shard-{index:05d}.json" not in there:
                manifest = worker.make(request, "auto", worker.cores(), index)
                print(f"{place.name}, shard {index}: {manifest.accepted} accepted, {manifest.rejected}", flush=True)
    return folder


def trainings(asked: Evaluation, place: Folder) -> list[Row]:
    """Returns the rows of a draw, training what is not trained yet."""
    rows = finished(place, asked)
    for row in asked.rows([(r["per_class"], r["repeat"], r["arm"]) for r in rows], lambda text: None):
        rows.append(row)
        write_rows(place, asked, rows)
    return rows


if __name__ == "__main__":
    main()
