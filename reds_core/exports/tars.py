"""The chosen samples as shards of a WebDataset: `train-00000.tar` ..., each with a manifest that is written last.

The samples of a split stand in an order given by a hash of their keys, so that neighbours have nothing in common, and are dealt to
its shards in turn. Their files are copied as they are.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd
import webdataset as wds

from reds_core.exports.choose import place_of
from reds_core.exports.inputs import Samples
from reds_core.exports.manifest import Export, TarManifest, read_tar_manifest, stem
from reds_core.exports.request import Request
from reds_core.storage.disk import writing
from reds_core.storage.folder import Folder, hash_of
from reds_core.storage.local import synced
from reds_core.types import Tell

MOST_BYTES = 64 * 2**20  # of a shard, or thereabouts


def placed(rows: pd.DataFrame, request: Request, names: Mapping[int, str]) -> pd.DataFrame:
    """Returns the rows of all splits in the order in which they are written, with their `shard` and `file`.

    Args:
        rows: the chosen ones, by key.
        request: whose splits they are in.
        names: of the labels, which no tar is named by.
    """
    parts = []
    for split in request.splits:
        part = rows[rows.split == split]
        if part.empty:
            continue
        part = part.assign(turn=[place_of(key, "shuffle") for key in part.key]).sort_values("turn").drop(columns="turn")
        count = min(len(part), max(request.shards, math.ceil(part["size"].sum() / MOST_BYTES)))
        part = part.assign(shard=[at % count for at in range(len(part))]).sort_values("shard", kind="stable")
        parts.append(part.assign(file=[f"{stem(split, shard)}.tar" for shard in part.shard]))
    return pd.concat(parts, ignore_index=True)


def write(dest: Folder, said: Export, rows: pd.DataFrame, samples: Samples, tell: Tell) -> int:
    """Writes the shards that are missing or damaged, and returns how many those were.

    Args:
        dest: the export's folder.
        said: what it says of itself.
        rows: from `placed`.
        samples: their files.
        tell: hears of every shard.

    Raises:
        StorageError, OutputError, RunError: the disk is full or cannot be written, the store refuses or does not answer.
    """
    sizes, made = dest.files(), 0
    shards = list(rows.groupby(["split", "shard"], sort=False))
    for done, ((split, shard), part) in enumerate(shards):
        tell("shards written", done, len(shards))
        found = read_tar_manifest(dest, said.export, str(split), int(str(shard)))
        if found is None or not all(dest.matches(sizes, *file[1:]) for file in found.files()):
            _write_shard(dest, said, part, samples)
            made += 1
    tell("shards written", len(shards), len(shards))
    return made


def _write_shard(dest: Folder, said: Export, part: pd.DataFrame, samples: Samples) -> None:
    split, index = str(part.split.iloc[0]), int(part.shard.iloc[0])
    tar, json_ = f"{stem(split, index)}.tar", f"{stem(split, index)}.json"
    with dest.drafts([tar, json_]) as paths, writing(paths[tar].parent):
        with synced(paths[tar]) as file:
            writer = wds.TarWriter(file, encoder=False, mtime=0)
            try:
                for row in part.itertuples():
                    writer.write({"__key__": row.key, **_files(row, samples)})
                writer.close()
            except BaseException:
                # Left open, it would write again when it is collected, to a file long closed, and say so on the terminal.
                with contextlib.suppress(OSError):
                    writer.close()
                raise
        labels = Counter(part.label_name[part.label >= 0])
        manifest = TarManifest(
            export=said.export, split=split, index=index, samples=len(part), labels=dict(sorted(labels.items())),
            sha256=hash_of(paths[tar]), bytes=paths[tar].stat().st_size,
        )  # fmt: skip
        with synced(paths[json_]) as file:
            file.write(manifest.to_json().encode())
        dest.remove(json_)
        dest.send(paths[tar], tar)
        dest.send(paths[json_], json_)
        dest.flush()


def _files(row: Any, samples: Samples) -> dict[str, bytes]:
    """Returns a sample's files; its .json names the group by which the export was split."""
    files = samples.files(row)
    said = json.loads(files["json"])
    if said["group"] != row.group:
        files["json"] = json.dumps(said | {"group": row.group}, ensure_ascii=False, allow_nan=False).encode()
    return files
