"""What a run needs once, before its first seed: networks on a device, the spreads, the way to take derivatives.

Everything that a user can get wrong about a network is found here, on reference seeds: its shape, its range, a feature that never
changes. Spreads are measured here too, so that a run of ten seeds and one of ten thousand judge alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from reds_core.directions import fitted as straight
from reds_core.directions.cloud import Cloud, axes, cloud_of, components_by_row
from reds_core.directions.jacobian import allowed_modes, cheapest
from reds_core.directions.precision import float32_as
from reds_core.errors import ModelError
from reds_core.features import Classifier
from reds_core.generators import Walkable, check_images
from reds_core.generators.latent import MEAN_SEEDS
from reds_core.models.config import Access
from reds_core.spec.fields import Spec
from reds_core.spec.files import check_files
from reds_core.types import Feature, Images, Passes
from reds_core.variants.images import as_stored
from reds_core.variants.job import UNASKED, Job, feature_of, in_memory, role_names
from reds_core.variants.seeds import REFERENCE_SEEDS, classes_of, conditions_of, latents_of
from reds_core.variants.spreads import NOISE_IMAGES, bound_to, check_noise, measured_rows, noise_of, spread_of
from reds_core.variants.verdicts import median_distance

LATENTS_PER_CLASS = 16
COTANGENTS = 24  # of every attribute, for the basis of a seed in a large isotropic space
MOST_AXES = 128  # that are walked without a smaller basis
MOST_GRAM = 2048  # latent dimensions whose Gram, for every trajectory, fits a memory


@float32_as("ieee")
def prepare(spec: Spec, device: str = "auto", batch: int | None = None, allow_code: bool = False) -> Job:
    """Loads and measures everything. Arguments as for `reds_core.augment`.

    Raises:
        ModelError: a file is missing or changed, or a network does not fit; the message says what to change.
    """
    check_files(spec)
    access = Access(pick_device(device), allow_code)
    generator = spec.generator.load(access)
    job = _measured(spec, access, generator, batch)
    if generator.coarse is None:
        return job
    walk = _measured(spec.model_copy(update={"judge": None}), access, generator.coarse, batch)
    once = Passes(forward=job.passes_once.forward + walk.passes_once.forward)
    return replace(job, walk=walk, passes_once=once)


def _measured(spec: Spec, access: Access, generator: Walkable, batch: int | None) -> Job:
    """The job for one size of the generator's images."""
    classes = classes_of(spec.seeds, generator.class_names)
    if spec.label == "condition" and not generator.class_names:
        raise ModelError("label: condition needs a generator that takes classes; declare generator.classes, or label otherwise")
    shape = check_images(generator)
    generator = generator.truncated(spec.seeds.truncation)
    features, label_names = _load_features(spec, access, shape, generator)
    judge = spec.judge.load_network(access) if spec.judge else None
    if spec.trajectory.method != "corrected" and generator.dim > MOST_GRAM and spec.trajectory.directions_by not in UNASKED:
        raise ModelError(
            f"trajectory.method: {spec.trajectory.method} needs a Gram of {generator.dim}x{generator.dim} at every waypoint, in space "
            f"{generator.space}; only `corrected` walks so large a space, in a tangent basis"
        )
    if batch is not None and batch < 1:
        raise ModelError(f"a batch of {batch} images is none; give 1 or more")
    batch = batch or default_batch(access.device, shape)

    z = latents_of(REFERENCE_SEEDS, generator, access.device)
    conditions = conditions_of(REFERENCE_SEEDS, classes, access.device)
    with torch.no_grad():
        latents = generator.latents(z, conditions)
    cloud = _cloud(generator, classes)
    bare = Job(
        spec, access.device, batch, generator, features, judge, classes, label_names, shape, 1.0, {}, {}, "differences", False, False,
        cloud, None, _tangent(spec, generator, cloud),
    )  # fmt: skip
    return in_memory(bare, lambda job: _with_spreads(job, latents, conditions))[0]


def _with_spreads(bare: Job, latents: Tensor, conditions: Tensor) -> Job:
    """The job with all that is measured on the reference seeds."""
    spec = bare.spec
    stored = _reference_images(bare, latents, conditions)
    _try_networks(bare, stored[:2])
    spreads = {name: spread_of(bare, name, stored) for name in (*spec.held, *spec.varied)}
    passes = Passes(forward=len(REFERENCE_SEEDS))
    latent_spread = median_distance(latents)
    noise = {name: noise_of(bare, name, stored[:NOISE_IMAGES]) / spreads[name] for name in spec.held}
    job = replace(bare, latent_spread=latent_spread, spreads=spreads, noise=noise, passes_once=passes)
    check_noise(job)
    job = replace(job, fixed=_fixed(job))
    measured = measured_rows(job, stored)[:2]
    return _with_mode(job, latents[measured], conditions[measured], stored[measured])


def pick_device(name: str) -> torch.device:
    """ "auto" is a GPU if there is one. Raises ModelError for a device that this machine does not have."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"the device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device


def default_batch(device: torch.device, shape: tuple[int, int, int]) -> int:
    """Images per evaluation: as many as keep a network's activations in a few GB, and no more than pay."""
    numbers, most = (2**21, 128) if device.type == "cpu" else (2**26, 1024)
    c, h, w = shape
    return max(1, min(most, numbers // (c * h * w)))


def _cloud(generator: Walkable, classes: Sequence[int]) -> Cloud:
    """How latents lie, by thousands of reference seeds: it costs no image."""
    seeds = range(MEAN_SEEDS.start, MEAN_SEEDS.start + max(len(MEAN_SEEDS), LATENTS_PER_CLASS * len(classes)))
    z = latents_of(seeds, generator, generator.device)
    conditions = conditions_of(seeds, classes, generator.device)
    with torch.no_grad():
        latents = torch.cat([generator.latents(a, b) for a, b in zip(z.split(512), conditions.split(512), strict=True)])
    return cloud_of(latents, conditions, classes if generator.space != "z" else [])


def _tangent(spec: Spec, generator: Walkable, cloud: Cloud) -> Tensor | None:
    """The tangent basis by the kind of latent space: an isotropic one has no principal components."""
    by = spec.trajectory.tangent
    if by == "components" or (by == "auto" and generator.space == "w"):
        return components_by_row(cloud.deviations, generator.rows, spec.trajectory.tangent_size)
    if by == "axes" or (by == "auto" and generator.dim <= MOST_AXES):
        return axes(cloud.deviations)
    return None


def _without_products(job: Job) -> Tensor:
    """The tangent basis where the range of a Jacobian cannot be had."""
    if job.generator.space == "w+":
        return components_by_row(job.cloud.deviations, job.generator.rows, job.spec.trajectory.tangent_size)
    return axes(job.cloud.deviations)


def _fixed(job: Job) -> Tensor | None:
    """The directions of a straight-line method, if the spec asks for one."""
    by = job.spec.trajectory.directions_by
    if by not in straight.METHODS:
        return None

    def sample(count: int) -> tuple[Tensor, Images]:
        seeds = range(MEAN_SEEDS.start, MEAN_SEEDS.start + count)
        conditions = conditions_of(seeds, job.classes, job.device)
        job.passes_once.forward += count
        with torch.no_grad():
            latents = job.generator.latents(latents_of(seeds, job.generator, job.device), conditions)
        return latents, _reference_images(job, latents, conditions)

    def measure(name: str, images: Images) -> Tensor:
        return feature_of(job, name, images, bound_to(job.features[name], images, job.batch))

    return straight.fit(by, job.generator, job.cloud, sample, measure, list(job.spec.held), list(job.spec.varied))


def _load_features(
    spec: Spec, access: Access, shape: tuple[int, int, int], generator: Walkable
) -> tuple[dict[str, Feature], Sequence[str]]:
    """The features that the spec uses, and the names of its labels."""
    used = {*spec.held, *spec.varied} | ({spec.label} & spec.attributes.keys())
    features = {name: config.load(access, shape) for name, config in spec.attributes.items() if name in used}
    if spec.label == "condition":
        return features, generator.class_names
    label = spec.attributes.get(spec.label)
    return features, label.class_names() if isinstance(label, Classifier) else ()


def _reference_images(job: Job, latents: Tensor, conditions: Tensor) -> Images:
    """The reference seeds' images as stored."""
    images = []
    with torch.no_grad():
        for z, c in zip(latents.split(job.batch), conditions.split(job.batch), strict=True):
            raw = job.generator.images(z, c)
            if not bool(torch.isfinite(raw).all()):
                raise ModelError(f"the generator {job.generator.name} gives images that hold NaN or infinity")
            images.append(as_stored(raw, job.spec.shards.image, job.spec.shards.quality)[0])
    return torch.cat(images)


def _try_networks(job: Job, images: Images) -> None:
    """Runs every feature and the judge once, so that what fails in them is reported with its name."""

    def attempt(where: str, call: Callable[[], Tensor]) -> Tensor:
        try:
            with torch.no_grad():
                return call()
        except torch.OutOfMemoryError:
            raise
        except ModelError as error:
            raise ModelError(f"{where}: {error}") from error
        # Somebody else's network: whatever it raises is shown as its own.
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[-1] if str(error).strip() else ''}"
            raise ModelError(
                f"{where}: failed on the generator's images {tuple(images.shape)}: {reason}; input_size, input_range, mean and std "
                "say what a network expects"
            ) from error

    for name, feature in job.features.items():
        attempt(f"attributes.{name}", lambda f=feature: f(images, f.bind(images)))  # type: ignore[misc]
    if job.judge:
        judge = job.judge
        scores = attempt("judge", lambda: judge(images))
        if scores.ndim != 2 or scores.shape[1] < 2:
            raise ModelError(f"judge: gives {tuple(scores.shape)}; class scores (n, classes) are needed")
        if job.label_names and scores.shape[1] != len(job.label_names):
            raise ModelError(
                f"judge: decides among {scores.shape[1]} classes, but the label is one of {len(job.label_names)}; "
                "both must know the same classes in the same order"
            )


def _with_mode(job: Job, latents: Tensor, conditions: Tensor, images: Images) -> Job:
    """The job with the way Jacobians are taken: as the spec forces, or by what costs least at a waypoint."""
    held, varied = role_names(job.spec)
    # Corrected trajectories need the held Jacobians whatever chooses their directions.
    is_corrected = job.spec.trajectory.method == "corrected"
    names = [*(job.spec.held if is_corrected else held), *varied]
    if not names:
        return job
    bound = {name: job.features[name].bind(images) for name in names}

    def measure(points: Tensor, rows: Tensor) -> list[Tensor]:
        found = job.generator.images(points, conditions[rows])
        kept = bound.items()
        return [job.features[n](found, None if b is None else b[rows]) for n, b in kept]

    rows = torch.arange(len(latents), device=latents.device)
    allowed = allowed_modes(measure, latents, rows, job.spec.trajectory.step * job.latent_spread)
    wanted = job.spec.trajectory.jacobian
    smooth = not allowed["reverse"] or not allowed["forward"]
    job = replace(job, smooth=smooth, reverse=not allowed["reverse"] and wanted in ("auto", "reverse"))
    if is_corrected and job.tangent is None and allowed["reverse"]:
        if job.spec.trajectory.tangent == "jacobian":
            raise ModelError(f"trajectory.tangent: jacobian needs reverse mode, which does not work here: {allowed['reverse']}")
        job = replace(job, tangent=_without_products(job))
    if wanted != "auto":
        if allowed[wanted]:
            raise ModelError(f"trajectory.jacobian: {wanted} mode does not work with these networks: {allowed[wanted]}")
        return replace(job, mode=wanted)
    with torch.no_grad():
        sizes = [f.shape[1] for f in measure(latents, rows)]
    usable = [mode for mode, problem in allowed.items() if not problem]
    if not is_corrected:
        return replace(job, mode=cheapest(sizes, latents.shape[1], job.spec.trajectory.method == "linear", usable))
    k = sum(min(size, COTANGENTS) for size in sizes) if job.tangent is None else job.tangent.shape[2]
    return replace(job, mode=cheapest(sizes, k, False, usable))
