"""A run's seeds with their images, a few of them, spread over the run: from the shards' thumbnails.

The shards of earlier versions have none: there, the images of accepted candidates are read from the tar.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reds_core.jobs.images import decode
from reds_core.jobs.thumbnails import read_thumbnails, thumbnail
from reds_core.reports.summary import Summary
from reds_core.runs.manifest import Manifest, read_manifests
from reds_core.runs.samples import MEDIA_TYPES, intact, read_samples
from reds_core.storage.folder import Folder
from reds_core.types import key_of


@dataclass(frozen=True)
class SeedBlock:
    """What a run's folder has about a seed."""

    own: pd.Series  # the seed's row of the table
    source: pd.Series | None  # that of the user's own image, of which the seed is a reconstruction, if that is another image
    rows: pd.DataFrame  # its candidates' rows
    files: dict[str, bytes]  # thumbnails by key, as WebP files; of a shard of an earlier version, those of accepted candidates


def blocks(s: Summary, most: int) -> Iterator[SeedBlock]:
    """Yields at most `most` seeds, spread evenly over the run's finished shards, with one shard's pictures in memory at a time."""
    finished = list(read_manifests(s.folder))
    total = sum(m.seeds for m in finished)
    chosen = sorted({int((i + 0.5) * total / min(most, total)) for i in range(min(most, total))}) if total else []
    passed = 0
    for manifest in finished:
        mine = [manifest.first_seed + i - passed for i in chosen if passed <= i < passed + manifest.seeds]
        passed += manifest.seeds
        if not mine:
            continue
        table = pd.read_parquet(s.folder.path / f"{manifest.stem}.parquet")
        seeds, files = _pictures(s.home, manifest, mine)
        for seed in seeds:
            rows = table[table.seed == seed]
            # With residuals the seed is the user's image, which need not be shown twice.
            sources = rows[(rows.role == "source") & (not s.spec.seeds.fit.residual)]
            source = sources.iloc[0] if len(sources) else None
            own, variants = rows[rows.role == "seed"].iloc[0], rows[rows.role == "variant"]
            yield SeedBlock(own, source, variants, {k: f for k, f in files.items() if k.partition("-")[0] == key_of(seed)})


def _pictures(home: Folder, manifest: Manifest, wanted: Sequence[int]) -> tuple[Sequence[int], dict[str, bytes]]:
    """Returns seeds of a shard, those wanted or their neighbours that have thumbnails, and thumbnails by key."""
    if manifest.thumbnails_sha256:
        with intact(home, manifest, "zip") as archive:
            files = read_thumbnails(archive)
        have = sorted({int(key.partition("-")[0][1:]) for key in files})
        return _nearest(have, wanted), files
    keys = {key_of(seed) for seed in wanted}
    files = {}
    if not manifest.samples:
        return wanted, files
    with intact(home, manifest, "tar") as tar:
        for key, members in read_samples(tar):
            if key.partition("-")[0] in keys:
                files[key] = thumbnail(decode(next(members[e] for e in members if e in MEDIA_TYPES), 3))
    return wanted, files


def _nearest(have: Sequence[int], wanted: Sequence[int]) -> Sequence[int]:
    """Returns for each wanted seed the nearest that is there and not taken yet, in order; if none are there, those wanted."""
    left = list(have)
    found = []
    for seed in wanted[: len(left)]:
        found.append(left.pop(int(np.abs(np.array(left) - seed).argmin())))
    return sorted(found) if found else wanted
