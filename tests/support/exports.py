"""Runs to export from, made of samples that are written down: no network is asked."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml

from reds_core.exports.export import check_dest, write_export
from reds_core.exports.inputs import open_runs
from reds_core.exports.manifest import Export
from reds_core.exports.plan import Plan, planned
from reds_core.exports.request import Request
from reds_core.jobs.images import encode
from reds_core.runs.plan import plan
from reds_core.runs.run_folder import opened
from reds_core.runs.samples import read_samples
from reds_core.runs.shards import ComputedShard, write_shard
from reds_core.spec.digest import digest
from reds_core.spec.fields import Spec
from reds_core.spec.load import load_spec
from reds_core.storage.folder import Folder
from reds_core.storage.places import folder_at
from reds_core.types import Candidate, Passes, key_of
from tests.support.shards import job_of, path_of

SIDE = 8
LIMITS: dict[str, Any] = {"per_class": 12, "per_seed": 3, "splits": {"train": 0.75, "val": 0.25}, "shards": 3}
NAMES = ("T-shirt/top", "Bag", "Ankle boot")
Role = Literal["source", "seed", "variant"]
ImageName = Literal["png", "jpg", "webp"]
Made = Callable[[int], Iterable[Candidate]]  # the samples of a seed


def spec_at(folder: Path, name: str = "one", seeds: int = 12, names: tuple[str, ...] = NAMES, **changes: Any) -> Spec:
    """Writes and returns a spec of shipped networks, which needs no files; `changes` replace its keys."""
    spec: dict[str, Any] = {
        "name": name, "generator": {"kind": "builtin", "name": "fashion-mnist"}, "seeds": {"count": seeds},
        "attributes": {
            "class": {"kind": "classifier", "model": {"kind": "builtin", "name": "fashion-mnist-classifier"}, "names": [*names]},
            "look": {"kind": "pixels"},
        },
        "label": "class", "held": {"class": 0.1}, "varied": {"look": 0.1},
        "trajectory": {}, "shards": {"seeds": 4},
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(spec | changes, sort_keys=False))
    return load_spec(path)


def sample(
    seed: int, waypoint: int = 0, *, label: int = 0, level: int | None = None, role: Role | None = None, source: str = "",
    names: tuple[str, ...] = NAMES, side: int = SIDE, image: ImageName = "png",
) -> Candidate:  # fmt: skip
    """Returns an accepted sample: the seed's own image, or a variant; `level` is the brightness of all of it, else it is noise."""
    draw = np.random.RandomState(1000 * seed + (500 if role == "source" else waypoint))
    pixels = draw.randint(0, 256, (side, side, 1)) if level is None else np.full((side, side, 1), level)
    role = role or ("variant" if waypoint else "seed")
    key = key_of(seed, 0, 1, waypoint) if waypoint else key_of(seed) + ("-source" if role == "source" else "")
    return Candidate(
        key=key, role=role, seed=seed, direction=0 if waypoint else -1, sign=1 if waypoint else 0, waypoint=waypoint,
        reason="", label=label, label_name=names[label] if label >= 0 else "", condition=-1, drifts={"class": 0.0},
        tolerances={"class": 0.1}, effects={"look": 0.2}, judge_label=-1, judge_confidence=0.0, judge_agrees=True,
        image=encode(pixels.astype(np.uint8), image, 90), source=source, latent=draw.randn(4).astype(np.float32),
    )  # fmt: skip


def usual(seed: int) -> list[Candidate]:
    """Returns a seed's own image and as many variants as make 3 to 6 samples, all of one label: seeds take the labels in turn."""
    return [sample(seed, waypoint, label=seed % 3) for waypoint in range(3 + seed % 4)]


def others(seed: int) -> list[Candidate]:
    """Returns what a second spec made of the same seeds: the same seed's image, and other variants."""
    return [sample(seed, waypoint, label=seed % 3) for waypoint in (0, 7, 8, 9)]


def make(out: Folder | Path, spec: Spec, made: Made = usual, shards: int | None = None) -> Folder:
    """Makes a run, or its first `shards`, of the samples that `made` says."""
    with opened(spec, out if isinstance(out, Folder) else folder_at(out)) as folder:
        for index, seeds in list(enumerate(plan(spec)))[:shards]:
            candidates = [candidate for seed in seeds for candidate in made(seed)]
            write_shard(folder, digest(spec), ComputedShard(job_of(spec), index, seeds, candidates, Passes(1, 0, 0), 1.0))
    return folder


def run_at(folder: Path, name: str = "one", made: Made = usual, seeds: int = 12, **changes: Any) -> Path:
    """Makes a run of a spec on a disk, and returns its folder."""
    return path_of(make(folder / "runs", spec_at(folder, name, seeds, **changes), made))


def export(runs: Sequence[Folder | Path], dest: Folder | Path, **asked: Any) -> tuple[Export, int]:
    """Exports runs as `reds export` does. Returns what `export.json` says, and how many shards or images were made."""
    opened_runs, request = open_runs([placed(run) for run in runs]), Request(**asked)
    check_dest(placed(dest), opened_runs, request)
    with planned(opened_runs, request, hear_nothing) as plan:
        return write_export(plan, placed(dest), hear_nothing)


def plan_of(*runs: Path, **asked: Any) -> contextlib.AbstractContextManager[Plan]:
    return planned(open_runs([folder_at(run) for run in runs]), Request(**asked), hear_nothing)


def hear_nothing(what: str, done: int, total: int) -> None: ...


def placed(folder: Folder | Path) -> Folder:
    return folder if isinstance(folder, Folder) else folder_at(folder)


def bytes_of(dest: Path) -> dict[str, bytes]:
    """Returns all files of an export by name."""
    files = (path for path in sorted(dest.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(dest)): path.read_bytes() for path in files}


def held(dest: Path) -> pd.DataFrame:
    """Returns what lies in an export's tars, by its own count: split, key, the sample's .json, its image and its class."""
    rows = []
    for path in sorted(dest.glob("*.tar")):
        for key, files in read_samples(path):
            said = json.loads(files["json"])
            rows.append(said | {"split": path.name.rpartition("-")[0], "file": path.name, "key": key} | files)
    return pd.DataFrame(rows)
