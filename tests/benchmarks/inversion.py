"""How well images are reconstructed: `python -m tests.benchmarks.inversion fashion|rooms|style [KEY.PATH=VALUE ...]`.

    fashion   120 test images of Fashion-MNIST, 12 of each class: nothing shipped was trained on them
    rooms     24 rooms rendered from latents that no method sees; their true factors are known
    style     12 images of a StyleGAN2 at 256x256 with random weights, a quarter of the published channels

Prints distances, PSNR, what is held, and equivalents an image; asserts nothing. KEY.PATH=VALUE changes the spec.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn

from reds_core.jobs.job import Work
from reds_core.jobs.prepare import prepare
from reds_core.models.imported import Description, Provenance
from reds_core.models.published.stylegan2 import StyleGan2
from reds_core.models.shipped.fashion import CLASS_NAMES
from reds_core.models.shipped.rooms import DIM, FACTORS, Rooms
from reds_core.spec.load import load_spec
from reds_core.training.images import load
from reds_core.types import Images, Latents, PassCounter
from reds_core.variants.origins import Origins
from reds_core.variants.own_images import origins_from
from reds_core.variants.photos import photos_of

FASHION = Path("/usr/share/datasets/fashion-mnist")
EACH = 12  # test images of a class
ROOMS, STYLES = 24, 12
FIRST = 555_000  # of the seeds that the images are rendered from: no spec comes near it
CLOSE = 0.05  # standard deviations of a true factor


def fashion(folder: Path, changes: list[str]) -> None:
    images, labels = load(FASHION, "t10k")
    for c, name in enumerate(CLASS_NAMES):
        _write(folder / "own" / name.replace("/", "_"), images[labels == c][:EACH])
    reconstruct("augment_specs/own_images.yaml", folder, changes)


def rooms(folder: Path, changes: list[str]) -> None:
    net = Rooms()
    z = 0.8 * _normal(ROOMS, DIM)
    _write(folder / "own" / "room", net(z))
    origins = reconstruct("augment_specs/rooms.yaml", folder, changes)
    true, made, all_ = (net.factors(x)["sofa"] for x in (z, origins.latents, 0.8 * _normal(2000, DIM, FIRST + ROOMS)))
    errors = ((made - true) / all_.std(0)).abs()
    print(f"true factors of the sofa, in standard deviations: the median factor is within {CLOSE} in "
          f"{float((errors.median(1).values <= CLOSE).float().mean()):.0%} of the rooms; each factor's median error: "
          + ", ".join(f"{n} {e:.3f}" for n, e in zip(FACTORS["sofa"], errors.median(0).values.tolist(), strict=True)))  # fmt: skip


def style(folder: Path, changes: list[str]) -> None:
    widths = tuple(min(2**12 // (4 << k), 128) for k in range(7))
    architecture = StyleGan2(
        kind="stylegan2", z_dim=512, w_dim=512, classes=0, mapping_layers=8, channels=widths, colours=3, form="skip", clamp=None
    )  # fmt: skip
    net = _random(architecture.build())

    def rendered(z: Latents) -> Images:
        w = net["mapping"](z, torch.zeros(len(z), dtype=torch.long))
        images: Images = net["synthesis"](w[:, None].expand(-1, architecture.rows, -1))
        return images

    with torch.no_grad():
        net["mapping"].mean.copy_(  # type: ignore[operator]
            net["mapping"](_normal(4096, 512), torch.zeros(4096, dtype=torch.long)).mean(0)
        )
        made = rendered(_normal(STYLES, 512))
    limit = 3 * float(made.std())
    _write(folder / "own" / "image", (made + limit) / (2 * limit))
    weights = save({k: v.contiguous() for k, v in net.state_dict().items()})
    (folder / "g.safetensors").write_bytes(weights)
    made_here = Provenance(file="random", sha256="0" * 64, format="random", licence="MIT")
    described = Description(
        schema=1, architecture=architecture, weights_sha256=hashlib.sha256(weights).hexdigest(), source=made_here
    )
    (folder / "g.json").write_text(described.model_dump_json(by_alias=True))
    (folder / "spec.yaml").write_text(f"""
name: style
generator: {{kind: stylegan2, path: g.safetensors, output_range: [{-limit:.3f}, {limit:.3f}]}}
seeds: {{images: own}}
attributes: {{low: {{kind: frequency, low: 0, high: 0.05}}, look: {{kind: pixels}}}}
label: given
held: {{low: 0.1}}
varied: {{look: 0.1}}
trajectory: {{directions: 2, waypoints: 2, step: 0.1}}
shards: {{seeds: 16, image: png}}
""")
    reconstruct(folder / "spec.yaml", folder, changes)


def reconstruct(spec_file: str | Path, folder: Path, changes: list[str]) -> Origins:
    """Reconstructs all images of a folder, prints how well, and returns what trajectories would start from."""
    spec = load_spec(spec_file, [f"seeds={{images: {folder / 'own'}}}", *changes])
    job, n = prepare(spec), spec.seeds.number
    work = Work(job, PassCounter())
    origins = origins_from(work, list(range(n)), photos_of(job, range(n)))
    fits = np.array(origins.fits)
    noise = (origins.images - origins.photos.images).square().flatten(1).mean(1)  # type: ignore[union-attr]
    print(f"{n} images: distance {np.median(fits):.3f} spreads (90 % below {np.quantile(fits, 0.9):.3f}), "
          f"PSNR {float(-10 * noise.log10().median()):.1f} dB, {work.counter.total.equivalents / n:.0f} equivalents an image; "
          f"{sum(not r for r in origins.reasons)} are started from")  # fmt: skip
    for name, limit in origins.limits.items():
        drifts = np.array([limit.drifts(origins.features[name][s : s + 1], s)[0] for s in range(n)])
        print(f"  {name}: median drift {np.median(drifts):.3f}, within its tolerance on {np.mean(drifts <= limit.tolerances):.0%}")
    return origins


def _random(net: nn.ModuleDict) -> nn.ModuleDict:
    """Returns a network with its published initialisation."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if p.ndim == 1:
                p.fill_(float("affine.bias" in name))
            else:
                p.normal_().div_(1 if "const" in name else p[0].numel() ** 0.5)
        for name, buffer in net.named_buffers():
            if "noise" in name:
                buffer.zero_()
    return net


def _normal(n: int, d: int, first: int = FIRST) -> Float[Tensor, "n d"]:
    return torch.from_numpy(np.stack([np.random.RandomState(first + i).randn(d) for i in range(n)])).float()


def _write(folder: Path, images: Images) -> None:
    folder.mkdir(parents=True)
    for i, image in enumerate((images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()):
        Image.fromarray(image.squeeze()).save(folder / f"{i:03d}.png")


def main() -> None:
    ways: dict[str, Callable[[Path, list[str]], None]] = {"fashion": fashion, "rooms": rooms, "style": style}
    if len(sys.argv) < 2 or sys.argv[1] not in ways:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        ways[sys.argv[1]](Path(folder), sys.argv[2:])


if __name__ == "__main__":
    main()
