"""What few labels are worth where nothing has seen more: `python -m tests.benchmarks.unlabelled FOLDER [OPTIONS]`.

Fashion-MNIST, with a generator and an embedding that were trained on 50,000 images without their labels. Each draw takes a few
labelled images a class from the other 10,000 training images:

    teachers   trained on those labels alone: a linear classifier of the embedding (probe), and small networks with classic
               augmentation (networks). Their mean's decision is held; fresh samples are labelled by it, too
    judge      the mean of as many other small networks: what it sees otherwise is not accepted
    run        `reds run` on those images: variants, with what their reconstructions lack

Arms are those of `reds evaluate`; a draw is a repeat. Everything lies in FOLDER and is continued there. Prints; asserts nothing.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torch import Tensor, nn

from reds_core.evaluation.classic import classic
from reds_core.evaluation.evaluate import Evaluation, Row, Settings, evaluation
from reds_core.evaluation.files import write_pages
from reds_core.evaluation.labelled import Labelled
from reds_core.evaluation.networks import small
from reds_core.evaluation.training import trained
from reds_core.jobs.prepare import pick_device
from reds_core.models.config import Access
from reds_core.models.shipped.builtin import Builtin
from reds_core.models.shipped.fashion import CLASS_NAMES
from reds_core.spec.load import load_spec
from reds_core.storage.places import folder_at
from reds_core.training.images import load
from reds_core.types import Images, Labels
from tests.benchmarks.runs import each, made, quiet, trainings

DATA = Path("/usr/share/datasets/fashion-mnist")
UNSEEN = 50_000  # the first image that neither the generator nor the embedding was trained on
TEST = 4000
SHAPE = (1, 32, 32)
PROBE_STEPS, PROBE_DECAY = 400, 0.01
NETWORKS, STEPS = 3, 500  # in a mean, and of the optimiser for each


def main() -> None:
    """Makes the runs of all draws, and prints what they teach."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.unlabelled", description="What few labels are worth.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--per-class", type=int, default=20)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--arms", default="real,classic,sampled,sampled+classic,variants,variants+classic")
    parser.add_argument("--hold", default="probe+networks", choices=["probe", "networks", "probe+networks"])
    parser.add_argument("--workers", type=int, default=1, help="processes, a draw each")
    parser.add_argument("--set", action="append", default=[], help="changes of the spec")
    args = parser.parse_args()
    write_images(args.folder / "test", *(part[:TEST] for part in load(DATA, "t10k")))
    here = args.folder / f"n{args.per_class}-{args.hold}"
    drawn = list(each(partial(rows_of, args, here), range(args.draws), args.workers))
    # An evaluation cannot come out of another process; what the pages say of it is alike in all draws.
    about, _ = draw(args, here, 0)
    about = replace(about, settings=replace(about.settings, repeats=args.draws))
    print(write_pages(folder_at(here), about, [row | {"repeat": i} for i, rows in enumerate(drawn) for row in rows]))


def rows_of(args: argparse.Namespace, here: Path, number: int) -> list[Row]:
    """Makes everything about a draw. Returns its rows."""
    return draw(args, here, number)[1]


def draw(args: argparse.Namespace, here: Path, number: int) -> tuple[Evaluation, list[Row]]:
    """Makes everything about a draw. Returns its evaluation and its rows."""
    place = here / f"draw-{number}"
    few = prepared(place, args.per_class, number, args.hold)
    run = made(load_spec(spec_file(place), args.set), folder_at(place / "runs"), workers=1)
    settings = Settings(args.arms.split(","), [args.per_class], 1, args.steps, "small", None, ("crops", "flips"))
    asked = partial(evaluation, run, str(few), str(args.folder / "test"), settings, "auto", None, False, quiet)
    return trainings(asked, folder_at(place / f"evaluation-{run.name}"), workers=1)


def prepared(place: Path, per_class: int, number: int, hold: str) -> Path:
    """Writes a draw's images, and the two networks that know their labels alone. Returns the images' folder."""
    folder = place / "train"
    if not (place / "judge.pt").exists():
        images, labels = (part[UNSEEN:] for part in load(DATA, "train"))
        order = np.random.RandomState(number).permutation(len(labels))
        rows = [int(r) for c in range(len(CLASS_NAMES)) for r in [r for r in order if labels[r] == c][:per_class]]
        write_images(folder, images[rows], labels[rows])
        several = [network(images[rows], labels[rows], NETWORKS * 2 * number + i) for i in range(NETWORKS * 2)]
        teachers = [probe(images[rows], labels[rows])] if "probe" in hold else []
        teachers += several[:NETWORKS] if "networks" in hold else []
        for name, members in {"teacher": teachers, "judge": several[NETWORKS:]}.items():
            torch.jit.save(torch.jit.trace(Mean(members).eval(), torch.rand(2, *SHAPE)), place / f"{name}.pt")
    return folder


class Mean(nn.Module):
    """The mean of several classifiers' probabilities, as scores."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([member(images).softmax(1) for member in self.members]).mean(0).clamp_min(1e-6).log()


def network(images: Images, labels: Labels, seed: int) -> nn.Module:
    """Returns a small network that was trained on a few labelled images alone."""
    few = Labelled((images * 255).round().byte(), labels, [""] * len(labels), [""] * len(labels), [""] * len(labels))
    few = few.to(pick_device("auto"))
    return trained(lambda: small(SHAPE, len(CLASS_NAMES)), few, None, classic(SHAPE, ("crops", "flips")), STEPS, seed).network.cpu()


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


def spec_file(place: Path) -> Path:
    """Writes the spec of a draw."""
    spec = {
        "name": "few-labels", "generator": {"kind": "builtin", "name": "fashion-mnist-unlabelled", "space": "w+"},
        "seeds": {"images": "train", "fit": {"residual": True}},
        "attributes": {
            "teacher": {"kind": "classifier", "model": {"kind": "torchscript", "path": "teacher.pt"}, "names": [*CLASS_NAMES]},
            "look": {"kind": "pixels"},
        },
        "label": "given", "held": {"teacher": {"decision": 0.8}}, "varied": {"look": 0.2}, "keep": 16,
        "trajectory": {"directions": 4, "waypoints": 4, "step": 0.12},
        "judge": {"model": {"kind": "torchscript", "path": "judge.pt"}}, "shards": {"seeds": 100},
    }  # fmt: skip
    (place / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    return place / "spec.yaml"


if __name__ == "__main__":
    main()
