"""Seeds -> variants and rejects: the whole method on one page, with no disk and no scheduler.

    origins     a seed's latent, image, label and features; a seed whose label the judge contradicts ends here
    walk        directions at the seed (reds_core.directions), trajectories along them, both ways (reds_core.trajectory)
    measure     every waypoint's image as stored: drift, effect, judge -> verdict (reds_core.acceptance)

`run_seeds` does one shard's worth, batched over seeds x directions x signs; what it needs once per run is a `Job`, made by
`reds_core.prepare`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reds_core import directions
from reds_core.acceptance import Decisions, all_distances, decide, distance, verdicts
from reds_core.images import as_stored, encode, to_bytes
from reds_core.jacobian import Measure, grams
from reds_core.prepare import Job, features_of, prepare, role_names
from reds_core.seeds import conditions_of, latents_of, random_directions
from reds_core.spec import Spec
from reds_core.trajectory import FindDirections, Trajectories, linear, local
from reds_core.types import Candidate, Grams, Images, Labels, Latents, Passes, Reason, key_of, name_of

METHODS = {"linear": linear, "local": local}


@dataclass(frozen=True)
class Origins:
    """The seeds of a shard: everything their variants are compared with. Tensors have a row for each seed."""

    seeds: Sequence[int]
    latents: Latents
    conditions: Labels
    images: Images  # as stored
    encoded: list[bytes]
    bound: Mapping[str, Tensor | None]
    features: Mapping[str, Tensor]
    labels: list[int]
    judged: Decisions | None
    reasons: list[Reason]


@dataclass(frozen=True)
class Plan:
    """Which trajectory is whose: (seed's row, direction, sign) in the order of the samples, and where each one goes first."""

    owners: list[tuple[int, int, int]]
    first: Latents


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
        yield from run_seeds(job, seeds[at : at + spec.shards.seeds])[0]


def run_seeds(job: Job, seeds: Sequence[int]) -> tuple[list[Candidate], Passes]:
    """One shard's worth of candidates: each seed's own, then its variants by direction, sign (p, n) and waypoint."""
    passes = Passes()
    origins = _origins(job, seeds, passes)
    plan, walk = _walk(job, origins, passes)
    rows: dict[int, list[int]] = {s: [] for s in range(len(seeds))}
    for t, (s, _, _) in enumerate(plan.owners):
        rows[s].append(t)
    # Several seeds at a time fill a batch; their feature vectors are gone before the next ones are measured.
    together = max(1, job.batch // max(1, max(map(len, rows.values())) * job.spec.trajectory.waypoints))
    candidates = []
    for at in range(0, len(seeds), together):
        chunk = range(at, min(at + together, len(seeds)))
        candidates += _candidates(job, origins, plan, walk, {s: rows[s] for s in chunk}, passes)
    return candidates, passes


def _origins(job: Job, seeds: Sequence[int], passes: Passes) -> Origins:
    spec = job.spec
    conditions = conditions_of(seeds, job.classes, job.device)
    latents = job.generator.latents(latents_of(seeds, job.generator, job.device), conditions, spec.seeds.truncation)
    images, encoded, finite = _render(job, latents, conditions, passes)
    bound = {name: f.bind(images) for name, f in job.features.items()}
    features = features_of(job, images, finite, bound)
    judged = decide(job.judge(images)) if job.judge else None
    if spec.label == "condition":
        labels = conditions.tolist()
    elif spec.label == "none":
        labels = [-1] * len(seeds)
    else:
        labels = decide(features[spec.label]).labels
    reasons = []
    for s in range(len(seeds)):
        measured = all(bool(torch.isfinite(f[s]).all()) for f in features.values())
        contradicted = judged is not None and labels[s] >= 0 and judged.labels[s] != labels[s]
        reasons.append("not_finite" if not measured else "seed_label" if contradicted else "")
    return Origins(seeds, latents, conditions, images, encoded, bound, features, labels, judged, reasons)


def _render(job: Job, latents: Latents, conditions: Labels, passes: Passes) -> tuple[Images, list[bytes], Tensor]:
    """Images as stored, their encoded bytes (empty where the format is lossless), and which are numbers throughout."""
    images, encoded, finite = [], [], []
    with torch.no_grad():
        for z, c in zip(latents.split(job.batch), conditions.split(job.batch), strict=True):
            raw = job.generator.images(z, c)
            finite.append(torch.isfinite(raw).flatten(1).all(1))
            stored, files = as_stored(torch.nan_to_num(raw), job.spec.shards.image, job.spec.shards.quality)
            images.append(stored)
            encoded += files or [b""] * len(z)
    passes.forward += len(latents)
    return torch.cat(images), encoded, torch.cat(finite)


def _walk(job: Job, origins: Origins, passes: Passes) -> tuple[Plan, Trajectories]:
    """Directions at every seed that is fit to start from, and the trajectories along them."""
    spec = job.spec.trajectory
    step = spec.step * job.latent_spread
    rows = torch.tensor([s for s, reason in enumerate(origins.reasons) if not reason], dtype=torch.long, device=job.device)
    owners: list[tuple[int, int, int]] = []
    first: list[Tensor] = []
    if len(rows):
        columns, count, reasons = _finder(job, origins, rows, step, True, passes)(
            origins.latents[rows], torch.arange(len(rows), device=job.device)
        )
        columns = directions.oriented(columns)
        for i, s in enumerate(rows.tolist()):
            # A seed without directions keeps its place: its candidates are rejected, not forgotten.
            origins.reasons[s] = reasons[i]
            for k in range(0 if reasons[i] else min(spec.directions, int(count[i]))):
                for sign in (1, -1):
                    owners.append((s, k, sign))
                    first.append(sign * columns[i, :, k])
    if not owners:
        nowhere = origins.latents.new_zeros(0, origins.latents.shape[1])
        return Plan([], nowhere), Trajectories(nowhere[:, None], [], [])
    start_rows = torch.tensor([s for s, _, _ in owners], device=job.device)
    plan = Plan(owners, torch.stack(first).to(origins.latents.dtype))
    find = _finder(job, origins, start_rows, step, False, passes)
    return plan, METHODS[spec.method](origins.latents[start_rows], plan.first, step, spec.waypoints, find)


def _finder(job: Job, origins: Origins, rows: Tensor, step: float, at_seed: bool, passes: Passes) -> FindDirections:
    """The spec's way to choose directions, for points that belong to the seeds in `rows`."""
    spec = job.spec
    by = spec.trajectory.directions_by
    held, varied = role_names(spec)
    measure = measure_of(job, origins, [*held, *varied])

    def find(points: Latents, index: Tensor) -> tuple[Tensor, Tensor, list[Reason]]:
        if by == "rand":
            drawn = [random_directions(origins.seeds[s], job.generator, spec.trajectory.directions) for s in rows[index].tolist()]
            columns = torch.stack(drawn).to(job.device)
            return columns, torch.full((len(points),), columns.shape[2], device=job.device), [""] * len(points)
        found = grams(measure, points, rows[index], job.mode, step, at_seed, job.batch, passes)
        reasons = _unusable(found, [*(f"held:{n}" for n in held), *(f"varied:{n}" for n in varied)])
        # An unusable point must not stop the others' eigenproblems: it gets any Gram, and its reason.
        bad = torch.tensor([bool(r) for r in reasons], device=job.device)
        whole = torch.eye(points.shape[1], dtype=torch.float64, device=job.device)
        found = [torch.where(bad[:, None, None], whole, a) for a in found]
        columns, count = _columns(spec, found[: len(held)], found[len(held) :])
        none = (count == 0).tolist()
        return columns, count, [r or ("turned" if n else "") for r, n in zip(reasons, none, strict=True)]

    return find


def _columns(spec: Spec, held: list[Grams], varied: list[Grams]) -> tuple[Tensor, Tensor]:
    """Columns and their count by `directions_by`; `held` and `varied` are the Grams that it asks for."""
    walk = spec.trajectory
    betas = [spec.beta(name) for name in spec.held]
    if walk.directions_by == "minf":
        return directions.minf_batched(held, betas)
    weights = [goal.weight for goal in spec.varied.values()]
    total = torch.stack([w * directions.normalised(a) for w, a in zip(weights, varied, strict=True)]).sum(0)
    if walk.directions_by == "maxc":
        return directions.maxc_batched(total, walk.beta_varied)
    if walk.directions_by == "rayleigh":
        return directions.rayleigh_batched(held, total, walk.tau)
    return directions.reds_batched(held, total, betas, walk.beta_varied)


def _unusable(found: list[Grams], zero_reasons: list[Reason]) -> list[Reason]:
    """Per point: `not_finite`, the reason of an attribute that does not react at all, or ""."""
    finite = torch.stack([torch.isfinite(a).flatten(1).all(1) for a in found])
    moves = torch.stack([(a != 0).flatten(1).any(1) for a in found])
    reasons = []
    for f, m in zip(finite.T.tolist(), moves.T.tolist(), strict=True):
        still = [reason for reason, moving in zip(zero_reasons, m, strict=True) if not moving]
        reasons.append("not_finite" if not all(f) else still[0] if still else "")
    return reasons


def measure_of(job: Job, origins: Origins, names: Sequence[str]) -> Measure:
    """Latents and the seeds that they belong to -> the named features of their images, differentiable, not rounded."""

    def measure(points: Latents, rows: Tensor) -> list[Tensor]:
        images = job.generator.images(points, origins.conditions[rows])
        kept = {name: origins.bound[name] for name in names}
        return [job.features[name](images, None if b is None else b[rows]) for name, b in kept.items()]

    return measure


def _candidates(
    job: Job, origins: Origins, plan: Plan, walk: Trajectories, rows: Mapping[int, list[int]], passes: Passes
) -> list[Candidate]:
    """The candidates of the seeds in `rows`, {seed's row: its trajectories}, measured together."""
    places = [(s, t, j) for s, ts in rows.items() for t in ts for j in range(walk.reached[t])]
    owners = torch.tensor([s for s, _, _ in places], dtype=torch.long, device=job.device)
    candidates = []
    if places:
        t, j = (torch.tensor([p[i] for p in places], device=job.device) for i in (1, 2))
        latents = walk.latents[t, j]
        images, encoded, finite = _render(job, latents, origins.conditions[owners], passes)
        bound = {name: None if b is None else b[owners] for name, b in origins.bound.items()}
        features = features_of(job, images, finite, bound)
        judged = decide(job.judge(images)) if job.judge else None
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
                if candidate.accepted:
                    file = encoded[at - count + i] or encode(
                        to_bytes(images[at - count + i]), job.spec.shards.image, job.spec.shards.quality
                    )
                    candidate = replace(candidate, image=file, latent=latents[at - count + i].float().cpu().numpy())
                reached[places[at - count + i][1:]] = candidate
        candidates += _in_order(job, origins, s, plan, walk, ts, reached)
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
    job: Job, origins: Origins, s: int, plan: Plan, walk: Trajectories, ts: list[int], reached: Mapping[tuple[int, int], Candidate]
) -> list[Candidate]:
    """A seed's variants by direction, sign and waypoint; those never reached carry their trajectory's reason."""
    blank = _blank(job, origins, s)
    ordered = []
    trajectories = [(t, *plan.owners[t][1:], walk.ended[t]) for t in ts]
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
    file = origins.encoded[s] or encode(to_bytes(origins.images[s]), job.spec.shards.image, job.spec.shards.quality)
    return replace(own, image=file, latent=origins.latents[s].float().cpu().numpy())
