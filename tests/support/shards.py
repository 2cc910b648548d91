"""Runs without networks, of candidates that are written down: what tests of shards, folders and stores are made of."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reds_core.directions.cloud import Cloud
from reds_core.generators.latent import Walkable
from reds_core.jobs.images import encode
from reds_core.jobs.job import Derivatives, Job, Networks
from reds_core.runs.manifest import Manifest, read_manifests
from reds_core.runs.plan import plan
from reds_core.runs.run_folder import opened, pending
from reds_core.runs.shards import ComputedShard, write_shard
from reds_core.runs.totals import Totals, totals
from reds_core.spec.digest import digest
from reds_core.spec.fields import Spec
from reds_core.spec.load import load_spec
from reds_core.storage.folder import Folder
from reds_core.storage.places import folder_at
from reds_core.types import Candidate, Passes, key_of
from tests.support.worlds import SIZE, D

KINDS = ("tar", "parquet", "zip", "json")
# The manifest's own time is the one thing in a run's folder that differs between equal runs.
TIME = "seconds"


def spec_of(path: Path, count: int = 6, *overrides: str) -> Spec:
    return load_spec(path, [f"seeds.count={count}", *overrides])


def job_of(spec: Spec) -> Job:
    """Returns a job of the spec with a blank generator and no features: shards are written without asking either."""
    cpu, size = torch.device("cpu"), (1, SIZE, SIZE)
    generator = Walkable(
        name="g", space="z", z_dim=D, dim=D, latent="normal", class_names=(), output_range=(-1.0, 1.0),
        synthesis=lambda z, labels: torch.zeros(len(z), *size), mapping=None,
    )  # fmt: skip
    cloud = Cloud(torch.zeros(1, D), torch.zeros(2, D), {})
    networks = Networks(spec, cpu, 1, generator, {}, None, (), (), size, cloud)
    derivatives = Derivatives({}, smooth=False, reverse=False)
    return Job(networks, 1.0, {"class": 1.5, "look": 4.0}, {}, derivatives, None, None, Passes())


def candidates_of(spec: Spec, seeds: range, labelled: bool = True) -> list[Candidate]:
    """Returns every seed's own image and twelve variants. A third is rejected; of seeds 4, 9, ... the label is contradicted."""
    made = []
    for seed in seeds:
        draw = np.random.RandomState(seed)
        spoiled = seed % 5 == 4
        for d, sign, w in [(-1, 0, 0), *itertools.product((0, 1), (1, -1), (1, 2, 3))]:
            reason = "seed_label" if spoiled else "held:class" if w and (seed + w) % 3 == 0 else ""
            pixels = draw.randint(0, 256, (8, 8, 1)).astype(np.uint8)
            measured = float("nan") if spoiled and w else w / 10
            label = seed % 3 if labelled else -1
            candidate = Candidate(
                key=key_of(seed, d, sign, w), role="variant" if w else "seed", seed=seed, direction=d, sign=sign, waypoint=w,
                reason=reason, label=label, label_name="abc"[label] if labelled else "", condition=-1,
                drifts={"class": measured}, tolerances={"class": float(spec.levels["class"])}, effects={"look": 2 * measured},
                judge_label=0, judge_confidence=0.75, judge_agrees=not spoiled,
                image=b"" if reason else encode(pixels, spec.shards.image, spec.shards.quality),
                latent=np.zeros(0, np.float32) if reason else draw.randn(D).astype(np.float32),
            )  # fmt: skip
            made.append(candidate)
    return made


def computed(spec: Spec, index: int, seconds: float = 1.5) -> ComputedShard:
    seeds = plan(spec)[index]
    return ComputedShard(job_of(spec), index, seeds, candidates_of(spec, seeds), Passes(70, 8, 9), seconds)


def write(folder: Folder, spec: Spec, index: int, seconds: float = 1.5) -> Manifest:
    return write_shard(folder, digest(spec), computed(spec, index, seconds))


def make_run_in(out: Folder, spec: Spec, seconds: float = 1.5) -> Folder:
    """Makes the pending shards of a spec, as the flow does."""
    with opened(spec, out) as folder:
        for index in pending(folder, spec):
            write(folder, spec, index, seconds)
    return folder


def make_run(spec: Spec, out: Path, seconds: float = 1.5) -> Path:
    """Makes a run on a disk."""
    return path_of(make_run_in(folder_at(out), spec, seconds))


def path_of(folder: Folder) -> Path:
    """Returns the path of a folder on a disk."""
    return Path(folder.absolute())


def totals_of(folder: Path) -> Totals:
    return totals(read_manifests(folder_at(folder)))


def contents(folder: Path) -> dict[str, Any]:
    """Returns the files of a run on a disk by name; manifests without their time."""
    found: dict[str, Any] = {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if not p.name.startswith(".lock")}
    for name in found:
        if name.endswith(".json"):
            found[name] = {k: v for k, v in json.loads(found[name]).items() if k != TIME}
    return found


def stored(folder: Folder) -> dict[str, Any]:
    """Returns the files of a run anywhere by name; manifests without their time."""
    found: dict[str, Any] = {}
    for name in sorted(folder.files()):
        found[name] = folder.read(name)
        if name.endswith(".json"):
            found[name] = {k: v for k, v in json.loads(found[name]).items() if k != TIME}
    return found


def of_shards(found: dict[str, Any]) -> dict[str, Any]:
    """Returns what must be equal: tars, tables, manifests but for their time."""
    return {name: content for name, content in found.items() if name.startswith("shard-")}
