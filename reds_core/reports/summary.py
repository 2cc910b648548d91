"""A run's tables, summed up in constant memory for its report and its dataset card.

Shards are read one at a time, and quantiles come from histograms with bins of 0.005 spreads: a run of a million candidates takes no
more memory than one of a hundred.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from reds_core.runs.manifest import Manifest, damaged, read_manifests
from reds_core.runs.run_folder import spec_in
from reds_core.runs.totals import Totals, progress, totals
from reds_core.spec.fields import Spec
from reds_core.storage.folder import Folder, Sizes, hash_of
from reds_core.storage.local import LocalFolder
from reds_core.storage.places import on_disk
from reds_core.words import counted

BIN = 0.005
BINS = 800  # up to 4 spreads; larger values count in the last bin


class Histogram:
    """Counts of values >= 0 by bin, and the largest value. Zeros have a bin of their own: most decisions lose nothing at all."""

    def __init__(self) -> None:
        self.counts = np.zeros(1 + BINS, np.int64)
        self.largest = 0.0

    def add(self, values: np.ndarray) -> None:
        """Adds values, (n,), except those that are NaN."""
        values = values[np.isfinite(values)]
        if len(values):
            bins = 1 + np.minimum(values / BIN, BINS - 1).astype(np.int64)
            self.counts += np.bincount(np.where(values == 0, 0, bins), minlength=1 + BINS)
            self.largest = max(self.largest, float(values.max()))

    def quantile(self, q: float) -> float:
        """Returns the q-quantile to within a bin; NaN if there are no values."""
        total = int(self.counts.sum())
        if not total:
            return float("nan")
        at = int(np.searchsorted(self.counts.cumsum(), q * total))
        return min((min(at, BINS) - 0.5) * BIN, self.largest) if at else 0.0


@dataclass
class Attribute:
    """One attribute over a run: its limit, its spread, and its drifts or effects."""

    name: str
    role: str  # "held" or "varied"
    limit: str  # in words
    bound: float | None  # the tolerance or the minimum; None for a decision, of which each seed has its own
    spread: float = float("nan")
    accepted: Histogram = field(default_factory=Histogram)
    by_waypoint: dict[int, Histogram] = field(default_factory=lambda: defaultdict(Histogram))  # of all measured candidates

    @property
    def figures(self) -> str:
        """What its drifts or effects are, in words."""
        if self.bound is None:
            return "probability that the label lost"
        return f"{'drift' if self.role == 'held' else 'effect'} in spreads"


@dataclass
class Summary:
    """A run's spec, totals and distributions."""

    folder: LocalFolder  # the run's own, or a copy of its small files
    home: Folder  # where the run lies
    spec: Spec
    totals: Totals
    progress: str  # "1 of 2 shards"; "" if the run is complete
    attributes: list[Attribute]
    manifest: Manifest | None = None  # the last shard's, for versions and device
    tried_by_waypoint: Counter[int] = field(default_factory=Counter)
    accepted_by_waypoint: Counter[int] = field(default_factory=Counter)
    accepted_labels: Counter[str] = field(default_factory=Counter)
    judged: int = 0  # candidates that the judge saw
    agreed: int = 0  # those that it gave their seed's label
    seeds: int = 0
    seeds_short: int = 0  # those with fewer directions than the spec asks for

    @property
    def headline(self) -> str:
        """How much the run accepted of what it started from."""
        origin, accepted = "image" if self.spec.seeds.images else "seed", self.totals.accepted
        if self.spec.walks:
            return f"{counted(accepted, 'verified variant')} of {counted(self.seeds, origin)}"
        return f"{accepted:,} of {counted(self.seeds, origin)} {'reconstructed' if self.spec.seeds.images else 'accepted'}"

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the libraries that made the last shard."""
        return self.manifest.versions if self.manifest else {}

    @property
    def device(self) -> str:
        """The device that made the last shard."""
        return self.manifest.device if self.manifest else ""

    @property
    def equivalents(self) -> float:
        """Forward equivalents per accepted variant; of seeds alone, per seed."""
        return self.totals.passes.equivalents / self.totals.accepted if self.totals.accepted else float("nan")


@contextlib.contextmanager
def summarised(home: Folder) -> Iterator[Summary]:
    """Yields a run's summary; until it is left, no other process writes the run's pages.

    Raises:
        OutputError: the folder is not a run, or cannot be written.
        ShardDamaged: a shard differs from its manifest.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(home.pages_locked())
        folder = stack.enter_context(on_disk(home, "spec.yaml", ".json", ".parquet"))
        yield _summary(folder, home)


def _summary(folder: LocalFolder, home: Folder) -> Summary:
    spec = spec_in(home, folder)
    sizes, manifests = home.files(), list(read_manifests(folder))
    attributes = [Attribute(n, "held", spec.limit_of(n), spec.levels.get(n)) for n in spec.held]
    attributes += [Attribute(n, "varied", spec.limit_of(n), g.minimum) for n, g in spec.varied.items()]
    summed = totals(manifests)
    s = Summary(folder, home, spec, summed, progress(spec, summed), attributes)
    for manifest in manifests:
        table = folder.path / f"{manifest.stem}.parquet"
        if not _can_be_read(table, sizes, manifest):
            raise damaged(home, manifest.index)
        s.manifest = manifest
        for a in attributes:
            a.spread = manifest.spreads.get(a.name, a.spread)
        _add(s, pd.read_parquet(table))
    return s


def _can_be_read(table: Path, sizes: Sizes, manifest: Manifest) -> bool:
    """Returns whether a shard's files have the sizes that its manifest says, and its table the hash. A report reads no tar."""
    try:
        there = all(sizes.get(name) is not None and size in (None, sizes[name]) for _, name, size, _ in manifest.files())
        return there and hash_of(table) == manifest.parquet_sha256
    except OSError:
        return False


def _add(s: Summary, table: pd.DataFrame) -> None:
    """Adds one shard's rows to a summary."""
    seeds, rows = table[table.role == "seed"], table[table.role == s.spec.candidate_role]
    s.seeds += len(seeds)
    trajectories = rows[rows.waypoint == 1].groupby("seed").size().reindex(seeds.seed, fill_value=0)
    s.seeds_short += int((trajectories < 2 * s.spec.trajectory.directions).sum())
    if s.spec.walks:
        s.tried_by_waypoint.update(rows.waypoint.tolist())
        s.accepted_by_waypoint.update(rows.waypoint[rows.accepted].tolist())
    s.accepted_labels.update(rows.label_name[rows.accepted].tolist())
    seen = rows[rows.judge_label >= 0]
    s.judged += len(seen)
    s.agreed += int(seen.judge_agrees.sum())
    for a in s.attributes:
        values = rows[f"{'drift' if a.role == 'held' else 'effect'}_{a.name}"].to_numpy(np.float64)
        a.accepted.add(values[rows.accepted.to_numpy()])
        for w, part in pd.Series(values).groupby(rows.waypoint.to_numpy()):
            a.by_waypoint[int(str(w))].add(part.to_numpy())
