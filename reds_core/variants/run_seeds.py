"""Seeds -> variants and rejects: the whole method on one page, with no disk and no scheduler.

    origins     a seed's latent, image, label and features; a seed whose label the judge contradicts ends here
    walk        directions at the seed, trajectories along them, both ways (reds_core.variants.walks)
    measure     every waypoint's image as stored: drift, effect, judge -> verdict (reds_core.variants.verdicts)

`run_seeds` does one shard's worth, batched over seeds x directions x signs; what it needs once per run is a `Job`, made by
`reds_core.variants.prepare`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from reds_core.directions.precision import float32_as
from reds_core.spec.fields import Spec
from reds_core.trajectories.trajectory import Trajectories
from reds_core.types import Candidate, Owner, Passes, key_of, name_of
from reds_core.variants.images import as_stored, file_of, to_bytes
from reds_core.variants.job import Job, features_of
from reds_core.variants.origins import Origins, origins_of, render
from reds_core.variants.prepare import prepare
from reds_core.variants.verdicts import Decisions, all_distances, decide, distance, verdicts
from reds_core.variants.walks import walk_from


def augment(
    spec: Spec, seeds: Sequence[int], *, device: str = "auto", batch: int | None = None, allow_code: bool = False
) -> Iterator[Candidate]:
    """Variants and rejects of seeds, one after another; a seed's own image comes before its variants.

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
def run_seeds(job: Job, seeds: Sequence[int]) -> tuple[list[Candidate], Passes]:
    """One shard's worth of candidates: each seed's own, then its variants by direction, sign (p, n) and waypoint.

    Lossless images are not encoded yet: that needs no network, and is left to whoever writes them.
    """
    passes = Passes()
    origins = origins_of(job, seeds, passes)
    owners, walk = walk_from(job, origins, passes)
    rows: dict[int, list[int]] = {s: [] for s in range(len(seeds))}
    for t, (s, _, _) in enumerate(owners):
        rows[s].append(t)
    # Several seeds at a time fill a batch; their feature vectors are gone before the next ones are measured.
    together = max(1, job.batch // max(1, max(map(len, rows.values())) * job.spec.trajectory.waypoints))
    candidates = []
    for at in range(0, len(seeds), together):
        chunk = range(at, min(at + together, len(seeds)))
        candidates += _candidates(job, origins, owners, walk, {s: rows[s] for s in chunk}, passes)
    return candidates, passes


def _candidates(
    job: Job, origins: Origins, owners: Sequence[Owner], walk: Trajectories, rows: Mapping[int, list[int]], passes: Passes
) -> list[Candidate]:
    """The candidates of the seeds in `rows`, {seed's row: its trajectories}, measured together."""
    places = [(s, t, j) for s, ts in rows.items() for t in ts for j in range(walk.reached[t])]
    seeds = torch.tensor([s for s, _, _ in places], dtype=torch.long, device=job.device)
    candidates = []
    if places:
        t, j = (torch.tensor([p[i] for p in places], device=job.device) for i in (1, 2))
        latents = walk.latents[t, j]
        if walk.images is None:
            images, encoded, finite = render(job, latents, origins.conditions[seeds], passes)
        else:
            images, files = as_stored(walk.images[t, j].float() / 255, job.spec.shards.image, job.spec.shards.quality)
            encoded, finite = files or [b""] * len(places), torch.ones(len(places), dtype=torch.bool, device=job.device)
        bound = {name: None if b is None else b[seeds] for name, b in origins.bound.items()}
        features = features_of(job, images, finite, bound)
        judged = decide(job.judge(images)) if job.judge else None
        points, pixels = latents.float().cpu().numpy(), to_bytes(images)
    at = 0
    for s, ts in rows.items():
        candidates.append(_seed_candidate(job, origins, s))
        count = sum(walk.reached[t] for t in ts)
        mine = slice(at, at + count)
        at += count
        reached: dict[tuple[int, int], Candidate] = {}
        if count:
            made = _judged(job, origins, s, {k: v[mine] for k, v in features.items()}, judged, mine)
            for i, candidate in enumerate(made):
                row = mine.start + i
                candidate = replace(candidate, latent=points[row])
                if candidate.accepted:
                    candidate = replace(candidate, pixels=pixels[row], image=encoded[row])
                reached[places[row][1:]] = candidate
        candidates += _in_order(job, origins, s, owners, walk, ts, reached)
    return candidates


def _judged(
    job: Job, origins: Origins, s: int, features: Mapping[str, Tensor], judged: Decisions | None, mine: slice
) -> list[Candidate]:
    """One seed's measured variants, with their verdicts; direction, sign and waypoint are not filled in yet."""
    spec = job.spec
    drifts = {n: distance(features[n], origins.features[n][s], job.spreads[n]) for n in spec.held}
    effects = {n: distance(features[n], origins.features[n][s], job.spreads[n]) for n in spec.varied}
    count = len(next(iter(features.values())))
    labels = judged.labels[mine] if judged else [-1] * count
    confidences = judged.confidences[mine] if judged else [0.0] * count
    agrees = [True] * count
    if judged and origins.judged:
        expected = origins.labels[s] if origins.labels[s] >= 0 else origins.judged.labels[s]
        agrees = [label == expected and fit for label, fit in zip(labels, judged.finite[mine], strict=True)]
    apart = torch.stack([all_distances(features[n]) / job.spreads[n] for n in spec.varied]).amax(0)
    reasons = verdicts(drifts, effects, agrees, apart, spec.held, spec.varied, spec.duplicates)
    blank = _blank(job, origins, s)
    return [
        replace(
            blank,
            reason=reasons[i],
            drifts={n: v[i] for n, v in drifts.items()},
            effects={n: v[i] for n, v in effects.items()},
            judge_label=labels[i],
            judge_confidence=confidences[i],
            judge_agrees=agrees[i],
        )
        for i in range(count)
    ]


def _in_order(
    job: Job,
    origins: Origins,
    s: int,
    owners: Sequence[Owner],
    walk: Trajectories,
    ts: list[int],
    reached: Mapping[tuple[int, int], Candidate],
) -> list[Candidate]:
    """A seed's variants by direction, sign and waypoint; those never reached carry their trajectory's reason."""
    blank = _blank(job, origins, s)
    ordered = []
    trajectories = [(t, *owners[t][1:], walk.ended[t]) for t in ts]
    if origins.reasons[s]:
        trajectories = [(-1, k, sign, origins.reasons[s]) for k in range(job.spec.trajectory.directions) for sign in (1, -1)]
    for t, k, sign, ended in trajectories:
        for j in range(job.spec.trajectory.waypoints):
            candidate = reached.get((t, j)) or replace(blank, reason=ended)
            key = key_of(origins.seeds[s], k, sign, j + 1)
            ordered.append(replace(candidate, key=key, direction=k, sign=sign, waypoint=j + 1))
    return ordered


def _blank(job: Job, origins: Origins, s: int) -> Candidate:
    """A variant of a seed about which nothing is known yet."""
    nan = float("nan")
    label, names = origins.labels[s], job.label_names
    condition = int(origins.conditions[s]) if job.generator.class_names else -1
    return Candidate(
        key="", role="variant", seed=origins.seeds[s], direction=-1, sign=0, waypoint=0, reason="",
        label=label, label_name=name_of(label, names), condition=condition,
        drifts=dict.fromkeys(job.spec.held, nan), effects=dict.fromkeys(job.spec.varied, nan),
        judge_label=-1, judge_confidence=0.0, judge_agrees=job.judge is None,
    )  # fmt: skip


def _seed_candidate(job: Job, origins: Origins, s: int) -> Candidate:
    """A seed's own image: drifts and effects 0."""
    judged, reason = origins.judged, origins.reasons[s]
    own = replace(
        _blank(job, origins, s),
        key=key_of(origins.seeds[s]),
        role="seed",
        reason=reason if reason in ("seed_label", "not_finite") else "",
        drifts=dict.fromkeys(job.spec.held, 0.0),
        effects=dict.fromkeys(job.spec.varied, 0.0),
        judge_label=judged.labels[s] if judged else -1,
        judge_confidence=judged.confidences[s] if judged else 0.0,
        judge_agrees=not judged or origins.labels[s] < 0 or judged.labels[s] == origins.labels[s],
    )
    if not own.accepted:
        return own
    pixels, latent = to_bytes(origins.images[s : s + 1])[0], origins.latents[s].float().cpu().numpy()
    return replace(own, pixels=pixels, image=origins.encoded[s], latent=latent)
