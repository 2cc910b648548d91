"""What a run's shards add up to, from their manifests alone: totals, whether it is finished, the list of all runs."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reds_core.errors import RedsError
from reds_core.runs.manifest import indices, read_manifest
from reds_core.runs.plan import plan
from reds_core.spec.fields import Spec
from reds_core.spec.load import load_spec
from reds_core.storage.folders import Folder, changed, folders, names, near
from reds_core.types import Passes


@dataclass
class Totals:
    """A run's shards, summed up from their manifests."""

    shards: int = 0
    seeds: int = 0
    samples: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    passes: Passes = field(default_factory=Passes)
    bytes: int = 0
    seconds: float = 0.0

    @property
    def candidates(self) -> int:
        """Variants tried: accepted and rejected."""
        return self.accepted + sum(self.rejected.values())

    @property
    def share(self) -> float:
        """Accepted of the candidates."""
        return self.accepted / self.candidates if self.candidates else 0.0


def as_dict(t: Totals) -> dict[str, Any]:
    """Totals as plain JSON values."""
    return {**asdict(t), "rejected": dict(t.rejected), "labels": dict(t.labels), "candidates": t.candidates}


def told(rejected: Mapping[str, int]) -> str:
    """Rejections in words, the most frequent reason first."""
    return ", ".join(f"{reason} {count}" for reason, count in sorted(rejected.items(), key=lambda kv: -kv[1])) or "none rejected"


def manifests(folder: Path) -> Iterator[dict[str, Any]]:
    """The manifests of a run's finished shards, in order."""
    for index in indices(names(folder), "json"):
        manifest = read_manifest(folder, index)
        if manifest is not None:
            yield manifest


def totals(folder: Path) -> Totals:
    """A run's figures, from its manifests alone."""
    t = Totals()
    for m in manifests(folder):
        t.shards += 1
        t.seeds += m["seeds"]
        t.samples += m["samples"]
        t.accepted += m["accepted"]
        t.rejected.update(m["rejected"])
        t.labels.update(m["labels"])
        t.bytes += m["bytes"]
        t.seconds += m["seconds"]
        t.passes = Passes(**{k: v + m["passes"][k] for k, v in t.passes.as_dict().items()})
    return t


def progress(spec: Spec, t: Totals) -> str:
    """How far a partial run has come, in words; "" if it is complete."""
    planned = plan(spec)
    if t.shards < len(planned):
        return f"{t.shards} of {len(planned)} shards"
    # All shards may be there and the last be short: a longer run that has not come to it yet.
    seeds = sum(map(len, planned))
    return f"{t.seeds} of {seeds} seeds" if t.seeds < seeds else ""


@dataclass(frozen=True)
class Run:
    """A run's folder, for a listing: its totals, its state in words, and when it changed last (seconds since 1970)."""

    folder: Folder
    totals: Totals
    state: str
    changed: float


def runs(out: Folder) -> list[Run]:
    """The runs under a folder, or the folder itself if it is one; newest first."""
    found = []
    for folder in folders(out, "spec.yaml"):
        with near(folder, "spec.yaml", ".json") as here:
            summed = totals(here)
            try:
                so_far = progress(load_spec(here / "spec.yaml"), summed)
                state = f"partial, {so_far}" if so_far else "complete"
            except RedsError:
                state = "its spec.yaml is damaged"  # one damaged run must not hide the others
            found.append(Run(folder, summed, state, _changed(folder)))
    return sorted(found, key=lambda run: run.changed, reverse=True)


def _changed(folder: Folder) -> float:
    """When a run's folder changed last; every run of it writes spec.yaml first."""
    if not isinstance(folder, Path):
        return changed(folder, "spec.yaml")
    times = []
    for path in (folder / "spec.yaml", *folder.glob("shard-*.json")):
        with contextlib.suppress(FileNotFoundError):  # a shard that is being made anew
            times.append(path.stat().st_mtime)
    return max(times, default=0.0)
