"""Seeds -> variants and rejects: the whole method on one page, with no disk and no scheduler.

    origins        a seed's latent, image, label and features; a seed whose label the judge contradicts ends here
    trajectories   directions at the seed, and where they lead, both ways (`reds_core.variants.trajectories_from`)
    candidates     every waypoint's image as stored: drift, effect, judge -> verdict (`reds_core.variants.verdicts`)

`run_seeds` does one shard's worth, batched over seeds x directions x signs; what it needs once per run is a `Job`, made by
`reds_core.jobs.prepare`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

import torch

from reds_core.directions.precision import float32_as
from reds_core.jobs.images import Pixels, as_stored, file_of, from_levels, on_host, to_bytes
from reds_core.jobs.job import Job, Rendered, Work, features_of
from reds_core.jobs.prepare import prepare
from reds_core.jobs.reference import all_distances
from reds_core.jobs.thumbnails import shrunk
from reds_core.spec.fields import Spec
from reds_core.trajectories.trajectory import FromSeeds
from reds_core.types import Candidate, Features, Levels, PassCounter, Passes, Reason, key_of, name_of
from reds_core.variants.origins import Origins, origins_of
from reds_core.variants.own_images import origins_from
from reds_core.variants.photos import Photos, photos_of
from reds_core.variants.trajectories_from import trajectories_from
from reds_core.variants.verdicts import Classified, Measured, distances, judged_in, verdicts


def augment(
    spec: Spec, seeds: Sequence[int], *, device: str = "auto", batch: int | None = None, allow_code: bool = False
) -> Iterator[Candidate]:
    """Yields variants and rejects of seeds, one after another; a seed's own image comes before its variants.

    Args:
        spec: what to make; its `seeds.first` and `seeds.count` are not used.
        seeds: integers in [0, 2**31).
        device: "auto", "cpu", "cuda" or "cuda:1".
        batch: images per evaluation; chosen by image size if None.
        allow_code: whether code that the spec names may run.

    Raises:
        UserError: a file or network cannot be used.
    """
    job = prepare(spec, device, batch, allow_code)
    for at in range(0, len(seeds), spec.shards.seeds):
        for c in run_seeds(job, seeds[at : at + spec.shards.seeds])[0]:
            yield replace(c, image=file_of(c, spec.shards.image, spec.shards.quality)) if c.accepted else c


@float32_as("ieee")
def run_seeds(job: Job, seeds: Sequence[int], shown: Collection[int] = ()) -> tuple[list[Candidate], Passes]:
    """Returns one shard's candidates, each seed's own and then its variants by direction, sign and waypoint; and their passes.

    Lossless images are not encoded yet: that needs no network, and is left to whoever writes them. Rejected candidates of the seeds
    in `shown` have small images.
    """
    work = Work(job, PassCounter())
    # All trajectories of a shard move together; seeds alone need not even lie in memory together, however many a shard holds.
    together = len(seeds) if job.spec.walks else job.batch
    candidates: list[Candidate] = []
    for at in range(0, len(seeds), together):
        part = seeds[at : at + together]
        candidates += run_origins(
            work, origins_of(work, part) if job.own is None else origins_from(work, list(part), photos_of(job, part)), shown
        )[0]
    return candidates, work.counter.total


def run_origins(work: Work, origins: Origins, shown: Collection[int] = ()) -> tuple[list[Candidate], Passes]:
    """Returns the candidates of measured seeds, as `run_seeds` does."""
    job, seeds = work.job, origins.seeds
    shard = _Shard(work, origins, trajectories_from(work, origins), shown)
    # Several seeds at a time fill a batch; their features are gone before the next ones are measured.
    most = max((len(shard.trajectories_of(s)) for s in range(len(seeds))), default=0)
    together = max(1, job.batch // max(1, most * job.spec.trajectory.waypoints))
    candidates = []
    for at in range(0, len(seeds), together):
        candidates += _candidates(shard, range(at, min(at + together, len(seeds))))
    return candidates, work.counter.total


class _Place(NamedTuple):
    """Where a waypoint stands: its seed's row, its trajectory, and its number, from 1 on."""

    seed: int
    trajectory: int
    waypoint: int


@dataclass(frozen=True)
class _Shard:
    """Seeds, and the trajectories from them."""

    work: Work
    origins: Origins
    found: FromSeeds
    shown: Collection[int]  # the seeds whose rejected candidates have small images

    def reason(self, s: int) -> Reason:
        """Returns why a seed has no trajectories, or ""."""
        return self.found.reasons[s]

    def trajectories_of(self, s: int) -> list[int]:
        """Returns a seed's trajectories."""
        return [t for t, (owner, _, _) in enumerate(self.found.owners) if owner == s]

    def places(self, seeds: Sequence[int]) -> list[_Place]:
        """Returns the waypoints of seeds that were reached, in order."""
        reached = self.found.trajectories.reached
        return [_Place(s, t, j) for s in seeds for t in self.trajectories_of(s) for j in range(1, reached[t] + 1)]


def _candidates(shard: _Shard, seeds: Sequence[int]) -> list[Candidate]:
    """Returns the candidates of some rows of the shard's seeds, measured together."""
    places = shard.places(seeds)
    reached = _measured(shard, places) if places else {}
    candidates = []
    for s in seeds:
        if shard.origins.photos is not None:
            candidates.append(_source_candidate(shard, s, shard.origins.photos))
        candidates.append(_seed_candidate(shard, s))
        candidates += _in_order(shard, s, reached)
    return candidates


def _measured(shard: _Shard, places: list[_Place]) -> dict[_Place, Candidate]:
    """Returns the variants at waypoints, with their verdicts; direction, sign and waypoint are not filled in yet."""
    job, networks, origins, trajectories = shard.work.job, shard.work.job.networks, shard.origins, shard.found.trajectories
    rows, t, waypoint = (torch.tensor(column, dtype=torch.long, device=job.device) for column in zip(*places, strict=True))
    latents = trajectories.latents[t, waypoint - 1]
    if trajectories.images is None:
        images, encoded, finite = shard.work.render(latents, origins.conditions[rows], origins.residuals_of(rows))
    else:
        images, encoded, finite = _stored(job, trajectories.images[t, waypoint - 1])
    bound = {name: None if b is None else b[rows] for name, b in origins.bound.items()}
    features = features_of(networks, images, finite, bound)
    judged = judged_in(networks, images)
    points, pixels, is_finite = latents.float().cpu().numpy(), to_bytes(images), finite.tolist()
    made: dict[_Place, Candidate] = {}
    for s, group in groupby(range(len(places)), key=lambda row: places[row].seed):
        start, *others = group
        mine = slice(start, start + 1 + len(others))
        variants = _judged(shard, s, {name: f[mine] for name, f in features.items()}, judged and judged.part(mine))
        for row, candidate in enumerate(variants, start):
            found = replace(candidate, latent=points[row])
            if found.accepted:
                found = replace(found, pixels=pixels[row], image=encoded[row])
            elif found.seed in shard.shown and is_finite[row]:
                found = replace(found, small=shrunk(pixels[row]))
            made[places[row]] = found
    return made


def _stored(job: Job, levels: Levels) -> Rendered:
    """Returns images that trajectories have rendered already, as stored."""
    shards = job.spec.shards
    images, files = as_stored(from_levels(levels), shards.image, shards.quality)
    return Rendered(images, files or [b""] * len(images), torch.ones(len(images), dtype=torch.bool, device=job.device))


def _judged(shard: _Shard, s: int, features: Mapping[str, Features], judged: Classified | None) -> list[Candidate]:
    """Returns one seed's variants by their features and what the judge says, with their verdicts."""
    job, spec, origins = shard.work.job, shard.work.job.spec, shard.origins
    drifts = {n: limit.drifts(features[n], s) for n, limit in origins.limits.items()}
    effects = {n: distances(features[n], origins.features[n][s], job.spreads[n]) for n in spec.varied}
    count = len(next(iter(features.values())))
    agrees = judged.agrees([origins.expected[s]] * count) if judged else [True] * count
    apart = torch.stack([all_distances(features[n]) / job.spreads[n] for n in spec.varied]).amax(0)
    measured = Measured(drifts, effects, agrees, apart)
    reasons = verdicts(measured, _tolerances(origins, s), spec.varied, spec.duplicates, spec.keep)
    blank = _blank(shard, s)
    return [
        replace(
            blank,
            reason=reasons[i],
            drifts={n: v[i] for n, v in drifts.items()},
            effects={n: v[i] for n, v in effects.items()},
            judge_label=judged.labels[i] if judged else -1,
            judge_confidence=judged.confidences[i] if judged else 0.0,
            judge_agrees=agrees[i],
        )
        for i in range(count)
    ]


def _in_order(shard: _Shard, s: int, reached: Mapping[_Place, Candidate]) -> list[Candidate]:
    """Returns a seed's variants by direction, sign and waypoint; one never reached has its trajectory's reason, or the seed's."""
    spec, found, reason = shard.work.job.spec.trajectory, shard.found, shard.reason(s)
    if reason:
        expected = [(-1, k, sign, reason) for k in range(spec.directions) for sign in (1, -1)]
    else:
        expected = [(t, *found.owners[t][1:], found.trajectories.ended[t]) for t in shard.trajectories_of(s)]
    blank, ordered = _blank(shard, s), []
    for t, k, sign, ended in expected:
        for waypoint in range(1, spec.waypoints + 1):
            candidate = reached.get(_Place(s, t, waypoint)) or replace(blank, reason=ended)
            key = key_of(shard.origins.seeds[s], k, sign, waypoint)
            ordered.append(replace(candidate, key=key, direction=k, sign=sign, waypoint=waypoint))
    return ordered


def _tolerances(origins: Origins, s: int) -> dict[str, float]:
    """Returns a seed's largest drifts."""
    return {name: limit.tolerances[s] for name, limit in origins.limits.items()}


def _blank(shard: _Shard, s: int) -> Candidate:
    """Returns a variant of a seed about which nothing is known yet."""
    networks, origins, nan = shard.work.job.networks, shard.origins, float("nan")
    label = origins.labels[s]
    condition = int(origins.conditions[s]) if networks.generator.class_names else -1
    return Candidate(
        key="", role="variant", seed=origins.seeds[s], direction=-1, sign=0, waypoint=0, reason="",
        label=label, label_name=name_of(label, networks.label_names), condition=condition,
        drifts=dict.fromkeys(networks.spec.held, nan), tolerances=_tolerances(origins, s),
        effects=dict.fromkeys(networks.spec.varied, nan),
        judge_label=-1, judge_confidence=0.0, judge_agrees=networks.judge is None,
        source=origins.photos.names[s] if origins.photos else "", fit=origins.fits[s] if origins.fits else 0.0,
    )  # fmt: skip


def _source_candidate(shard: _Shard, s: int, photos: Photos) -> Candidate:
    """Returns the user's own image: what its reconstruction and its variants are held to."""
    key = f"{key_of(shard.origins.seeds[s])}-source"
    found = replace(_blank(shard, s), key=key, role="source", drifts=dict.fromkeys(shard.work.job.spec.held, 0.0))
    return _own(shard, s, found, to_bytes(photos.images[s : s + 1])[0], photos.encoded, shard.origins.of_photos)


def _seed_candidate(shard: _Shard, s: int) -> Candidate:
    """Returns a seed's own image: drifts are 0 unless it is the reconstruction of the user's."""
    origins, held = shard.origins, shard.work.job.spec.held
    drifts = {n: origins.limits[n].drifts(origins.features[n][s : s + 1], s)[0] if origins.photos else 0.0 for n in held}
    found = replace(_blank(shard, s), key=key_of(origins.seeds[s]), role="seed", drifts=drifts)
    return _own(shard, s, found, on_host(origins.images[s : s + 1])[0], origins.encoded, origins.judged)


def _own(shard: _Shard, s: int, found: Candidate, pixels: Pixels, encoded: Sequence[bytes], judged: Classified | None) -> Candidate:
    """Returns an image that variants are compared with, and what the judge says of it: effects are 0."""
    origins, reason = shard.origins, shard.reason(s)
    own = replace(
        found,
        reason=reason if reason in ("seed_label", "not_finite", "fit") else "",
        effects=dict.fromkeys(shard.work.job.spec.varied, 0.0),
        judge_label=judged.labels[s] if judged else -1,
        judge_confidence=judged.confidences[s] if judged else 0.0,
        judge_agrees=not judged or judged.agrees(origins.expected)[s],
    )
    if own.accepted:
        return replace(own, pixels=pixels, image=encoded[s], latent=origins.latents[s].float().cpu().numpy())
    decoded = origins.photos is None or not origins.photos.problems[s]
    if own.seed in shard.shown and decoded:
        return replace(own, small=shrunk(pixels))
    return own
