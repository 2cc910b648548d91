"""Trains and measures the networks that ship with the package, from Fashion-MNIST alone.

apt-get install dataset-fashion-mnist                     # MIT licence; or --data DIR with its four .gz files
python -m reds_core.training.fashion classifier
python -m reds_core.training.fashion judge
python -m reds_core.training.fashion gan --images 2000000     # continues from its checkpoint when started again
python -m reds_core.training.fashion gan --unlabelled --images 2000000 --batch 256 --device cuda
python -m reds_core.training.fashion embedding --epochs 200 --batch 1024 --device cuda    # from the same images, without labels
python -m reds_core.training.fashion measure                  # the figures of the model cards
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reds_core.generators import BuiltinGenerator
from reds_core.generators.latent import draw
from reds_core.models import Builtin
from reds_core.models.config import Access
from reds_core.models.shipped.builtin import WEIGHTS, save_shipped
from reds_core.models.shipped.fashion import Classifier, Judge
from reds_core.training.embedding import train_embedding
from reds_core.training.gan import UNLABELLED, train_gan
from reds_core.training.images import load
from reds_core.training.quality import density_and_coverage, kernel_distance, probe

UNSEEN = 60_000 - UNLABELLED  # training images that no network without labels has seen
PROBES = 5  # draws of labelled images


def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Returns the share of images whose highest score is their label's."""
    net.eval()
    with torch.no_grad():
        hits = sum(int((net(x).argmax(1) == y).sum()) for x, y in zip(images.split(500), labels.split(500), strict=True))
    return hits / len(labels)


def augmented(x: Tensor, shift: int, erase: bool) -> Tensor:
    """Mirrors images at random, shifts them by up to `shift` pixels, and, with `erase`, erases a square from half of them."""
    flip = torch.rand(len(x)) < 0.5
    x = torch.where(flip[:, None, None, None], x.flip(3), x)
    dy, dx = (int(v) for v in torch.randint(-shift, shift + 1, (2,)))
    x = torch.roll(x, (dy, dx), (2, 3))
    if erase:
        top, left = (int(v) for v in torch.randint(0, 24, (2,)))
        x = x.clone()
        x[: len(x) // 2, :, top : top + 8, left : left + 8] = 0
    return x


def train_classifier(net: nn.Module, data: Path, weights: Path, name: str, epochs: int, seed: int, erase: bool) -> None:
    """Minimises the cross-entropy with label smoothing over one cosine cycle, and writes `weights`/NAME.safetensors."""
    torch.manual_seed(seed)
    images, labels = load(data, "train")
    test = load(data, "t10k")
    for p in net.modules():
        if isinstance(p, nn.Conv2d | nn.Linear):
            p.reset_parameters()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = epochs * (len(images) // 128)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for epoch in range(epochs):
        net.train()
        for index in torch.randperm(len(images))[: 128 * (len(images) // 128)].split(128):
            x = augmented(images[index], 2, erase).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                scores = net(x)
            loss = F.cross_entropy(scores.float(), labels[index], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        print(f"{name} epoch {epoch + 1}/{epochs}: test accuracy {accuracy(net, *test):.4f}", flush=True)
    save_shipped(net, name, weights)


def measure(data: Path) -> None:
    """Prints the figures of the model cards: accuracies, and how good and how diverse the generators' samples are."""
    device = Access(torch.device("cpu"), allow_code=False)
    images, labels = load(data, "t10k")
    classifier = Builtin(kind="builtin", name="fashion-mnist-classifier").load(device)
    judge = Builtin(kind="builtin", name="fashion-mnist-judge").load(device)
    print(f"test accuracy: classifier {accuracy(classifier, images, labels):.4f}, judge {accuracy(judge, images, labels):.4f}")
    embedding = Builtin(kind="builtin", name="fashion-mnist-embedding").load(device)
    known, answers = (part[-UNSEEN:] for part in load(data, "train"))
    with torch.no_grad():
        real = torch.cat([judge.embed(x) for x in images.split(500)])  # type: ignore[operator]
        known, seen = (torch.cat([embedding(x) for x in part.split(500)]) for part in (known, images))
    for count in (5, 20, 50):
        found = [probe(known, answers, seen, labels, count, draw) for draw in range(PROBES)]
        print(f"embedding, a linear probe of {count} labelled images a class: {sum(found) / PROBES:.3f}")
    for name in ("fashion-mnist", "fashion-mnist-unlabelled"):
        generator = BuiltinGenerator(kind="builtin", name=name).load(device)
        wanted = torch.arange(len(images)) % 10 if generator.class_names else torch.zeros(len(images), dtype=torch.long)
        for psi in (0.7, 1.0):
            truncated = generator.truncated(psi)
            with torch.no_grad():
                latents = truncated.latents(draw(range(len(images)), generator.z_dim, "normal"), wanted)
                made = torch.cat([truncated.images(w, y) for w, y in zip(latents.split(500), wanted.split(500), strict=True)])
                seen = torch.cat([judge(x).argmax(1) for x in made.split(500)])
                fake = torch.cat([judge.embed(x) for x in made.split(500)])  # type: ignore[operator]
            density, coverage = density_and_coverage(real[:5000], fake[:5000])
            each = " ".join(f"{float((seen[wanted == c] == c).float().mean()):.2f}" for c in range(10))
            agrees = f"the judge agrees on {float((seen == wanted).float().mean()):.4f} ({each}); " if generator.class_names else ""
            print(
                f"{name}, psi {psi}: {agrees}KID {kernel_distance(real, fake):.5f}, density {density:.3f}, coverage {coverage:.3f}"
            )
    print(f"for comparison, two halves of the real test set: KID {kernel_distance(real[::2], real[1::2]):.5f}")


def main() -> None:
    """Runs what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["classifier", "judge", "gan", "embedding", "measure"])
    parser.add_argument("--data", type=Path, default=Path("data/fashion-mnist"), help="the folder of Fashion-MNIST's four files")
    parser.add_argument("--images", type=int, default=2_000_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--gamma", type=float, default=0.5, help="weight of R1")
    parser.add_argument("--class-weight", type=float, default=0.0)
    parser.add_argument("--unlabelled", action="store_true", help="gan: learn from 50,000 images without their labels")
    parser.add_argument("--device", default="cpu", help="gan, embedding: where to train")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder that the weights are written to")
    parser.add_argument("--state", type=Path, default=Path("outputs/fashion-mnist-training.pt"))
    args = parser.parse_args()
    args.state.parent.mkdir(parents=True, exist_ok=True)
    if args.what == "classifier":
        train_classifier(Classifier(), args.data, args.weights, "fashion-mnist-classifier", args.epochs, 1, False)
    elif args.what == "judge":
        train_classifier(Judge(), args.data, args.weights, "fashion-mnist-judge", args.epochs, 2, True)
    elif args.what == "embedding":
        train_embedding(args.data, args.weights, args.epochs, args.batch, args.device)
    elif args.what == "measure":
        measure(args.data)
    else:
        train_gan(
            args.data,
            args.weights,
            args.state,
            args.images,
            args.batch,
            0,
            args.gamma,
            args.class_weight,
            args.unlabelled,
            args.device,
        )


if __name__ == "__main__":
    main()
