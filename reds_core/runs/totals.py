"""What a run's shards add up to, from their manifests alone: totals, whether it is finished, the list of all runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from reds_core.errors import RedsError, StorageError
from reds_core.runs.manifest import Manifest, indices, read_manifests
from reds_core.runs.plan import plan
from reds_core.runs.run_folder import run_folders
from reds_core.spec.fields import Spec
from reds_core.spec.load import load_spec
from reds_core.storage.folder import Folder
from reds_core.storage.places import on_disk
from reds_core.types import Passes
from reds_core.words import counted


@dataclass
class Totals:
    """A run's shards, summed up."""

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
        """Variants that were tried, accepted or not."""
        return self.accepted + sum(self.rejected.values())

    @property
    def share(self) -> float:
        """The share of candidates that was accepted."""
        return self.accepted / self.candidates if self.candidates else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {**asdict(self), "rejected": dict(self.rejected), "labels": dict(self.labels), "candidates": self.candidates}


def totals(manifests: Iterable[Manifest]) -> Totals:
    """Returns the sum of shards."""
    t = Totals()
    for m in manifests:
        t.shards += 1
        t.seeds += m.seeds
        t.samples += m.samples
        t.accepted += m.accepted
        t.rejected.update(m.rejected)
        t.labels.update(m.labels)
        t.passes += m.work
        t.bytes += m.bytes
        t.seconds += m.seconds
    return t


def in_words(rejected: Mapping[str, int]) -> str:
    """Returns rejections in words, the most frequent reason first."""
    return ", ".join(f"{reason} {count}" for reason, count in sorted(rejected.items(), key=lambda kv: -kv[1])) or "none rejected"


def progress(spec: Spec, t: Totals) -> str:
    """Returns how far a partial run has come, in words; "" if it is complete."""
    planned = plan(spec)
    if t.shards < len(planned):
        return f"{t.shards} of {counted(len(planned), 'shard')}"
    # All shards may be there and the last one short: a longer run has not reached it yet.
    return f"{t.seeds} of {counted(spec.seeds.number, 'seed')}" if t.seeds < spec.seeds.number else ""


@dataclass(frozen=True)
class Run:
    """A run's folder, for a listing.

    `state` is in words, `changed` when it changed last (seconds since 1970), and `spec` what its spec.yaml says, None if that is
    not to be had.
    """

    folder: Folder
    totals: Totals
    state: str
    changed: float
    spec: Spec | None


def runs(out: Folder) -> list[Run]:
    """Returns the runs two levels below a folder, or the folder itself if it is one; newest first."""
    found = []
    for folder in run_folders(out):
        with on_disk(folder, "spec.yaml", ".json") as here:
            spec, summed = None, Totals()
            # One damaged run must not hide the others.
            try:
                spec = load_spec(here.path / "spec.yaml")
                summed = totals(read_manifests(here))
                so_far = progress(spec, summed)
                state = f"partial, {so_far}" if so_far else "complete"
            except StorageError:
                state = "cannot be read"
            except RedsError:
                state, summed = "its spec.yaml is damaged", totals(read_manifests(here))
            shards = [name for name in here.files() if indices([name], "json")]
            changed = folder.changed(["spec.yaml", *shards])  # every run writes spec.yaml first
            found.append(Run(folder, summed, state, changed, spec))
    return sorted(found, key=lambda run: run.changed, reverse=True)


def differences(listed: Iterable[Run]) -> dict[str, list[str]]:
    """Returns how the specs of one name differ: by the run's folder, as "key.path=value"; nothing for one alone of its name."""
    values = {str(run.folder): _flat(_told(run.spec)) for run in listed if run.spec}
    found: dict[str, list[str]] = {}
    for folder, own in values.items():
        others = [v for f, v in values.items() if v["name"] == own["name"] and f != folder]
        keys = sorted({key for v in (own, *others) for key in v if any(o.get(key) != own.get(key) for o in others)})
        found[folder] = [f"{key}={own[key]}" if key in own else f"no {key}" for key in keys]
    return found


def _told(spec: Spec) -> Any:
    """Returns a spec's values, but for how many seeds there are, which does not tell runs apart."""
    values = spec.model_dump(mode="json", exclude_none=True)
    values["seeds"].pop("count", None)
    return values


def _flat(value: Any, where: str = "") -> dict[str, str]:
    """Returns the single values in a mapping, by key.path."""
    if not isinstance(value, dict):
        return {where.removesuffix("."): json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{where}{key}.").items()}
