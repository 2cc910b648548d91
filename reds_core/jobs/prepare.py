"""What a run needs once, before its first seed: networks on a device, spreads, and the way to take derivatives.

Everything that a user can get wrong about a network is found here, on reference seeds: its shape, its range, a feature that never
changes. Spreads are measured on them too, so that a run of ten seeds and one of ten thousand judge alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from reds_core.directions.choices import FROM_GRAMS
from reds_core.directions.cloud import Cloud, cloud_of
from reds_core.directions.fitted import FITTED, Sampled
from reds_core.directions.precision import float32_as
from reds_core.errors import ModelError, described
from reds_core.features import Classifier
from reds_core.generators import Walkable, check_images
from reds_core.generators.latent import MEAN_SEEDS
from reds_core.jobs.derivatives import derivatives_of
from reds_core.jobs.images import from_levels, size_problem
from reds_core.jobs.job import Derivatives, Job, Networks, bound_to, feature_of, in_memory
from reds_core.jobs.own import own_of
from reds_core.jobs.reference import (
    NOISE_IMAGES,
    check_noise,
    measured_rows,
    median_distance,
    noise_of,
    reference_images,
    spread_of,
)
from reds_core.jobs.seeds import REFERENCE_SEEDS, classes_of, conditions_of, latents_of
from reds_core.jobs.trials import try_networks
from reds_core.models.answers import TRIED
from reds_core.models.config import Access
from reds_core.models.shipped.builtin import Builtin, class_names
from reds_core.sources import Sources, sources_of
from reds_core.sources.labels import conditions, label_names
from reds_core.spec.fields import Spec
from reds_core.spec.files import check_files
from reds_core.types import Directions, Feature, Features, Labels, Latents, Levels, PassCounter

LATENTS_PER_CLASS = 16
DEVICES = ("cpu", "cuda")  # Apple's GPUs have no double precision
NO_DERIVATIVES = Derivatives({}, smooth=False, reverse=False)
MOST_GRAM = 2048  # latent dimensions: a Gram of that many for every trajectory still fits in memory


@float32_as("ieee")
def prepare(spec: Spec, device: str = "auto", batch: int | None = None, allow_code: bool = False) -> Job:
    """Loads and measures everything. Arguments as for `reds_core.augment`.

    Raises:
        ModelError: a file is missing or changed, or a network does not fit; the message says what to change.
    """
    check_files(spec)
    access = Access(pick_device(device), allow_code)
    generator = spec.generator.load(access)
    job = _job(load_networks(spec, access, generator, batch))
    if generator.coarse is None or not spec.walks:
        return job
    coarse = _job(load_networks(spec.model_copy(update={"judge": None}), access, generator.coarse, batch))
    return replace(job, coarse=coarse, passes_once=job.passes_once + coarse.passes_once)


def load_networks(spec: Spec, access: Access, generator: Walkable, batch: int | None) -> Networks:
    """Loads what a spec names beside its generator, and checks that it fits together.

    Raises:
        ModelError: it does not.
    """
    sources = None if spec.seeds.images is None else sources_of(spec.seeds.images, spec.seeds.classes)
    if sources is None:
        classes = classes_of(spec.seeds, generator.class_names)
    else:
        classes = sorted(set(conditions(sources.labels, generator.class_names).values())) if generator.class_names else []
    if spec.label == "condition" and not generator.class_names:
        raise ModelError("label: condition needs a generator that takes classes; declare generator.classes, or label otherwise")
    if batch is not None and batch < 1:
        raise ModelError(f"a batch must hold at least 1 image, got {batch}", parameter="batch")
    generator = generator if batch is None else generator.in_batches(batch)
    shape = check_images(generator, batch or TRIED)
    problem = size_problem(spec.shards.image, *shape[1:])
    if problem:
        raise ModelError(f"shards.image: {problem}")
    generator = generator.truncated(spec.seeds.truncation)
    features, label_names = _load_features(spec, access, shape, generator, sources)
    judge = spec.judge.load_network(access) if spec.judge else None
    if spec.trajectory.method != "corrected" and generator.dim > MOST_GRAM and spec.trajectory.directions_by in FROM_GRAMS:
        raise ModelError(
            f"trajectory.method: {spec.trajectory.method} needs a Gram of {generator.dim}x{generator.dim} at every waypoint, in "
            f"space {generator.space}; only `corrected` walks so large a space, in a tangent basis"
        )
    return Networks(
        spec=spec,
        device=access.device,
        batch=batch or default_batch(access.device, shape),
        generator=generator,
        features=features,
        judge=judge,
        classes=classes,
        label_names=label_names,
        image_shape=shape,
        cloud=_cloud(generator, classes),
    )


def _job(networks: Networks) -> Job:
    """Measures networks on the reference seeds, with as large a batch as the device's memory allows."""
    conditions = conditions_of(REFERENCE_SEEDS, networks.classes, networks.device)
    with torch.no_grad():
        latents = networks.generator.latents(latents_of(REFERENCE_SEEDS, networks.generator, networks.device), conditions)
    return in_memory(networks, lambda fitting: _measured(fitting, latents, conditions))[0]


def _measured(networks: Networks, latents: Latents, conditions: Labels) -> Job:
    """Returns the job of networks, with all that is measured on the reference seeds."""
    spec, counter = networks.spec, PassCounter()
    if not spec.walks and spec.seeds.images is None:
        return _unmeasured(networks, latents, conditions)
    stored = reference_images(networks, latents, conditions, counter)
    try_networks(networks, from_levels(stored[: _tried(networks)]))
    # What a decision may lose is a probability as it is.
    spreads = dict.fromkeys(spec.decisions, 1.0) | {n: spread_of(networks, n, stored) for n in (*spec.levels, *spec.varied)}
    latent_spread = median_distance(latents)
    noise = {name: noise_of(networks, name, stored[:NOISE_IMAGES]) / spreads[name] for name in spec.levels}
    check_noise(spec, noise)
    fixed = _fixed(networks, counter)
    derivatives, tangent = NO_DERIVATIVES, None
    if spec.held or spec.varied:
        rows = measured_rows(networks, stored)[: min(2, networks.batch)]
        images = from_levels(stored[rows])
        derivatives, tangent = derivatives_of(networks, latents[rows], conditions[rows], images, latent_spread)
    sources = None if spec.seeds.images is None else sources_of(spec.seeds.images, spec.seeds.classes)
    return Job(
        networks=networks,
        latent_spread=latent_spread,
        spreads=spreads,
        noise=noise,
        derivatives=derivatives,
        fixed=fixed,
        tangent=tangent,
        own=None if sources is None else own_of(networks, stored, sources, counter),
        passes_once=counter.total,
    )


def _unmeasured(networks: Networks, latents: Latents, conditions: Labels) -> Job:
    """Returns the job of networks that seeds alone are made with: that the networks fit together is all that has to be known."""
    counter = PassCounter()
    n = _tried(networks)
    try_networks(networks, from_levels(reference_images(networks, latents[:n], conditions[:n], counter)))
    return Job(networks, median_distance(latents), {}, {}, NO_DERIVATIVES, None, None, counter.total)


def _tried(networks: Networks) -> int:
    """Returns how many images the networks are tried on: a batch, but a second one beside one that is tried alone."""
    return max(2, min(TRIED, networks.batch))


def reconstructing(job: Job) -> Job:
    """Returns a job that can also start from images in memory. Raises ModelError if the generator has no derivatives."""
    if job.own is not None:
        return job
    counter, networks = PassCounter(), job.networks
    conditions = conditions_of(REFERENCE_SEEDS, networks.classes, networks.device)
    with torch.no_grad(), float32_as("ieee"):
        latents = networks.generator.latents(latents_of(REFERENCE_SEEDS, networks.generator, networks.device), conditions)
        own = own_of(networks, reference_images(networks, latents, conditions, counter), Sources([], []), counter)
    return replace(job, own=own, passes_once=job.passes_once + counter.total)


def pick_device(name: str) -> torch.device:
    """Returns a device by name; "auto" is a GPU if there is one. Raises ModelError if this machine does not have the device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = named_device(name)
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"the device {name!r} cannot be used: {described(error)}", parameter="device") from error
    return device


def named_device(name: str) -> torch.device:
    """Returns a device that some machine may have. Raises ModelError if none has, or the method does not run on it."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"the device {name!r} cannot be used: {described(error)}", parameter="device") from error
    if device.type not in DEVICES:
        raise ModelError(
            f"the device {name!r} cannot be used: the method computes in double precision, on {' or '.join(DEVICES)}",
            parameter="device",
        )
    return device


def default_batch(device: torch.device, shape: tuple[int, int, int]) -> int:
    """Returns the images per evaluation: as many as keep a network's activations in a few GB, and no more than pay off.

    At 256x256, an H100 renders as many images a second in batches of 8 as in batches of 128, and fewer in batches of 341.
    """
    numbers, most = (2**21, 128) if device.type == "cpu" else (2**24, 1024)
    c, h, w = shape
    return max(1, min(most, numbers // (c * h * w)))


def _cloud(generator: Walkable, classes: Sequence[int]) -> Cloud:
    """Measures how latents lie, on thousands of reference seeds: it costs no image."""
    seeds = range(MEAN_SEEDS.start, MEAN_SEEDS.start + max(len(MEAN_SEEDS), LATENTS_PER_CLASS * len(classes)))
    z = latents_of(seeds, generator, generator.device)
    conditions = conditions_of(seeds, classes, generator.device)
    with torch.no_grad():
        latents = torch.cat([generator.latents(a, b) for a, b in zip(z.split(512), conditions.split(512), strict=True)])
    return cloud_of(latents, conditions, classes if generator.space != "z" else [])


def _fixed(networks: Networks, counter: PassCounter) -> Directions | None:
    """Returns directions that are fitted once for all seeds, if the spec asks for such."""
    spec = networks.spec
    if spec.trajectory.directions_by not in FITTED:
        return None

    def sample(count: int) -> tuple[Latents, Levels]:
        seeds = range(MEAN_SEEDS.start, MEAN_SEEDS.start + count)
        conditions = conditions_of(seeds, networks.classes, networks.device)
        with torch.no_grad():
            latents = networks.generator.latents(latents_of(seeds, networks.generator, networks.device), conditions)
        return latents, reference_images(networks, latents, conditions, counter)

    def named(name: str, levels: Levels) -> Features:
        parts = (from_levels(some) for some in levels.split(networks.batch))
        return torch.cat([feature_of(networks, name, x, bound_to(networks, name, x)) for x in parts])

    sampled = Sampled(networks.generator, networks.cloud, sample, named, list(spec.held), list(spec.varied))
    return FITTED[spec.trajectory.directions_by](sampled)


def _load_features(
    spec: Spec, access: Access, shape: tuple[int, int, int], generator: Walkable, sources: Sources | None
) -> tuple[dict[str, Feature], Sequence[str]]:
    """Loads the features that the spec uses. Also returns the names of its labels."""
    used = {*spec.held, *spec.varied} | ({spec.label} & spec.attributes.keys())
    features = {name: config.load(access, shape) for name, config in spec.attributes.items() if name in used}
    if spec.label == "condition":
        return features, generator.class_names
    if spec.label == "given" and sources is not None:
        known = [config.class_names() for config in spec.attributes.values() if isinstance(config, Classifier)]
        if spec.judge is not None and isinstance(spec.judge.model, Builtin):
            known.append(class_names(spec.judge.model.name))
        return features, label_names(sources.labels, generator.class_names, *known)
    label = spec.attributes.get(spec.label)
    return features, label.class_names() if isinstance(label, Classifier) else ()
