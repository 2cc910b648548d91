"""What is compared: each arm trains on the same real images, with or without extra ones, with or without classic augmentation.

    real         nothing else
    classic      real images with crops, mirror images and colours
    sources      and the reconstructions of the user's own images
    sampled      and fresh samples of the run's generator, labelled as the run labels, as many as there are variants; those of the
                 run itself if it follows no direction
    variants     and the variants that the run accepted
    unfiltered   and all that it measured, accepted or not, made again from the run's spec

    NAME+classic   the same with classic augmentation of all images

Extra images are read or made when an arm first asks for them. They are no more than MOST, from shards spread over the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from reds_core.errors import ModelError
from reds_core.evaluation.labelled import Labelled, Shape, joined, read_shard
from reds_core.jobs.images import from_levels
from reds_core.jobs.job import Job, Networks, all_bound, features_of, in_memory, judged_by, rendered, unrounded
from reds_core.jobs.prepare import load_networks, prepare
from reds_core.jobs.seeds import conditions_of, latents_of
from reds_core.models.config import Access
from reds_core.runs.manifest import Manifest
from reds_core.sources.labels import plain
from reds_core.spec.fields import Spec
from reds_core.storage.folder import Folder
from reds_core.types import Candidate, Images, Labels, Latents, name_of
from reds_core.variants.run_seeds import run_seeds
from reds_core.variants.verdicts import classify

MOST = 20_000  # extra images: more than a training sees
FRESH = 2**30  # the first seed of fresh samples: far from what runs use
AT_ONCE = 256  # fresh samples


@dataclass(frozen=True)
class Arm:
    """What an arm trains on beside the real images.

    Args:
        extra: a name in `EXTRA`; "" for none.
        classic: whether images are augmented.
    """

    extra: str
    classic: bool


@dataclass
class Pool:
    """A run, and the extra images that it gives, by name. `made` has those made so far, and any that a caller knows better."""

    folder: Folder
    spec: Spec
    manifests: Sequence[Manifest]
    classes: Sequence[str]
    shape: Shape
    access: Access
    batch: int | None
    say: Callable[[str], None]
    made: dict[str, Labelled] = field(default_factory=dict)

    def get(self, name: str) -> Labelled:
        """Returns extra images. Raises ModelError if the run's networks cannot make or label them."""
        if name not in self.made:
            self.made[name] = EXTRA[name](self)
        return self.made[name]

    def read(self, *roles: str) -> Labelled:
        """Returns samples of some roles from the run's shards. Raises ShardDamaged if one is damaged."""
        parts = (read_shard(self.folder, m, roles, self.classes, self.shape[0]) for m in self.chosen)
        return joined([part for part in parts if len(part)], self.shape)

    @property
    def chosen(self) -> list[Manifest]:
        """As many finished shards, spread over the run, as hold MOST variants."""
        total = sum(m.accepted for m in self.manifests)
        step = max(1, -(-total // MOST))
        return list(self.manifests[::step])

    def labelled(self, images: Images, labels: Sequence[str], names: Sequence[str], origins: Sequence[str]) -> Labelled:
        """Returns images in [0, 1] with labels by name; those of no class are left out."""
        index = {plain(name): i for i, name in enumerate(self.classes)}
        rows = [r for r, label in enumerate(labels) if plain(label) in index]
        if self.shape[0] == 1:  # as many channels as the run's files show, whatever the generator gives
            images = images.mean(1, keepdim=True)
        pixels = (images.cpu() * 255).round().byte()
        known = torch.tensor([index.get(plain(label), 0) for label in labels], dtype=torch.long)
        return Labelled(pixels, known, names, origins, [""] * len(labels)).part(rows)


def _sampled(pool: Pool) -> Labelled:
    """Returns as many fresh samples as there are variants; the samples of a run that has nothing else."""
    if not pool.spec.trajectory.directions:
        return pool.read("seed")
    count = len(pool.get("variants"))
    pool.say(f"making {count} fresh samples")
    networks = load_networks(pool.spec, pool.access, pool.spec.generator.load(pool.access), pool.batch)
    parts: list[Labelled] = []
    at = FRESH
    while sum(map(len, parts)) < count:
        seeds = range(at, at + AT_ONCE)
        found, networks = in_memory(networks, lambda fitting, seeds=seeds: _fresh(pool, fitting, seeds))  # type: ignore[misc]
        at += AT_ONCE
        if at > FRESH + AT_ONCE and not any(map(len, parts)) and not len(found):
            raise ModelError(
                "sampled: none of the fresh samples has a label that the images have; leave the arm out", parameter="arms"
            )
        parts.append(found)
    return joined(parts, pool.shape).part(range(count))


def _fresh(pool: Pool, networks: Networks, seeds: Sequence[int]) -> Labelled:
    """Returns fresh samples with their labels."""
    conditions = conditions_of(seeds, networks.classes, networks.device)
    with torch.no_grad():
        latents = networks.generator.latents(latents_of(seeds, networks.generator, networks.device), conditions)
    images, _, finite = rendered(networks, latents, conditions)
    labels = _labels(pool.spec, networks, images, finite, conditions.tolist())
    return pool.labelled(images, labels, [f"fresh-{s}" for s in seeds], [""] * len(seeds))


def _labels(spec: Spec, networks: Networks, images: Images, finite: torch.Tensor, conditions: Sequence[int]) -> list[str]:
    """Returns samples' labels, "" where there is none.

    They are labelled as the run labels; where the user did, by the class asked for, else by what a held network or the judge sees.
    """
    label = spec.label
    if label in ("condition", "given") and networks.generator.class_names:
        return [networks.generator.class_names[c] for c in conditions]
    if label == "given":
        label = next((name for name in spec.decisions if networks.knows_labels(name, len(networks.label_names))), "judge")
    if label == "judge":
        if networks.judge is None:
            raise ModelError("sampled: nothing can label fresh samples of this generator; leave the arm out", parameter="arms")
        found = classify(judged_by(networks.judge, images, networks.batch))
    else:
        found = classify(features_of(networks, images, finite, all_bound(networks, images))[label])
    return [name_of(c, networks.label_names) if ok else "" for c, ok in zip(found.labels, finite.tolist(), strict=True)]


def _unfiltered(pool: Pool) -> Labelled:
    """Returns all variants that the run's seeds give, whatever their verdicts."""
    job = prepare(pool.spec, str(pool.access.device), pool.batch, pool.access.allow_code)
    parts = []
    for done, manifest in enumerate(pool.chosen):
        pool.say(f"making the candidates of shard {manifest.index} again ({done + 1} of {len(pool.chosen)})")
        seeds = range(manifest.first_seed, manifest.first_seed + manifest.seeds)
        (candidates, _), job = in_memory(job, lambda fitting, seeds=seeds: run_seeds(fitting, seeds))  # type: ignore[misc]
        reached = [c for c in candidates if c.role == "variant" and len(c.latent)]
        if reached:
            images, _, finite = rendered(job.networks, *_latents(job, reached), _residuals(job, candidates, reached))
            labels = [c.label_name if ok else "" for c, ok in zip(reached, finite.tolist(), strict=True)]
            parts.append(pool.labelled(images, labels, [c.key for c in reached], [c.source for c in reached]))
    return joined(parts, pool.shape)


def _latents(job: Job, of: Sequence[Candidate]) -> tuple[Latents, Labels]:
    """Returns candidates' latents, and the classes that their images are made for."""
    latents = torch.stack([torch.from_numpy(c.latent) for c in of]).to(job.device)
    return latents, torch.tensor([max(0, c.condition) for c in of], device=job.device)


def _residuals(job: Job, candidates: Sequence[Candidate], of: Sequence[Candidate]) -> Images | None:
    """Returns what is added to each candidate's image, or None, if the spec adds nothing."""
    if job.own is None or not job.spec.seeds.fit.residual:
        return None
    seeds = [c for c in candidates if c.role == "seed" and c.accepted]  # the user's images themselves
    place = {c.seed: at for at, c in enumerate(seeds)}
    own = from_levels(torch.stack([torch.from_numpy(c.pixels) for c in seeds]).to(job.device).permute(0, 3, 1, 2))
    # Not as stored: what is lacking is added before an image is rounded.
    added = torch.nan_to_num(own - unrounded(job.networks, *_latents(job, seeds)))
    return added[[place[c.seed] for c in of]]


EXTRA: Mapping[str, Callable[[Pool], Labelled]] = {
    "sources": lambda pool: pool.read("seed"),
    "sampled": _sampled,
    "variants": lambda pool: pool.read("variant"),
    "unfiltered": _unfiltered,
}


def lacking(spec: Spec) -> dict[str, str]:
    """Returns the kinds of extra images that a spec's runs do not have, and why."""
    own, walks = spec.seeds.images is not None, spec.trajectory.directions > 0
    still = "the run follows no direction (trajectory.directions: 0)"
    found = {} if walks else {"variants": still, "unfiltered": still}
    if not own:
        found["sources"] = "the run did not start from images of yours"
    elif spec.seeds.fit.residual:
        found["sources"] = "with seeds.fit.residual they are your images themselves"
    if own and not walks:
        found["sampled"] = f"{still}, and its seeds are your images"
    return found


ARMS: Mapping[str, Arm] = {"real": Arm("", False), "classic": Arm("", True)} | {
    f"{name}{plus}": Arm(name, bool(plus)) for name in EXTRA for plus in ("", "+classic")
}
