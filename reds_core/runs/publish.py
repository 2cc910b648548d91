"""A finished shard into an object store, where another run may be about to write the same one.

    tar        created, not overwritten: who creates it makes this shard, and whoever comes second waits for the manifest
    parquet
    manifest   created last; no manifest, no shard

Two runs may compute one shard, but one of them writes it, or their bytes are equal. What a killed run left without a manifest is
replaced. If the run was not dead after all, or two replace one shard, whoever overwrote anything looks at the end whether what is there
belongs together, and else writes all of it again: so the last to leave has seen a whole shard.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upath import UPath

from reds_core.errors import RunError
from reds_core.runs.manifest import hash_of, read_manifest, stem
from reds_core.storage.folders import fetched, read, remove, send

KINDS = ("tar", "parquet", "json")  # in the order in which they are written
MANIFEST_PATIENCE, POLL = 30.0, 1.0  # seconds until a tar without a manifest is taken for a killed run's
MOST_MEETINGS = 20


def publish(parts: Mapping[str, Path], folder: UPath, manifest: dict[str, Any]) -> dict[str, Any]:
    """Puts a shard's files into the store.

    Args:
        parts: the files by kind, under their final names.
        manifest: what parts["json"] holds.

    Returns:
        The manifest that is there in the end: this one, or that of another run which was faster.

    Raises:
        StorageError: the store refuses or does not answer. RunError: other runs do not let this shard rest.
    """
    index, name = manifest["index"], stem(manifest["index"])
    if read(folder, f"{name}.json") is not None:
        old = _as_good_as(manifest, folder)
        if old is not None:
            return old
        remove(folder, f"{name}.json", f"{name}.tar")  # damaged, or shorter than this one
    is_ours, began = send(parts["tar"], folder, create=True), time.monotonic()
    if not is_ours and not _holds(folder, f"{name}.tar", manifest["sha256"]):
        other = _awaited_manifest(folder, index)
        if other is not None and other["seeds"] >= manifest["seeds"]:
            return other
        remove(folder, f"{name}.json")
        send(parts["tar"], folder)
    send(parts["parquet"], folder)
    # Later than that, another run may have taken this one for killed.
    if send(parts["json"], folder, create=True) and is_ours and time.monotonic() - began < MANIFEST_PATIENCE:
        return manifest
    for _ in range(MOST_MEETINGS):
        there = _as_good_as(manifest, folder)
        if there is not None:
            return there
        remove(folder, f"{name}.json")
        for kind in KINDS:
            send(parts[kind], folder)
    raise RunError(f"{folder / name}: other runs write this shard again and again; let one of them finish, then run again")


def _as_good_as(manifest: dict[str, Any], folder: UPath) -> dict[str, Any] | None:
    """The shard's manifest in the store, if it has as many seeds and describes what lies there."""
    found, name = read_manifest(folder, manifest["index"]), stem(manifest["index"])
    if found is None or found["seeds"] < manifest["seeds"]:
        return None
    whole = _holds(folder, f"{name}.tar", found["sha256"]) and _holds(folder, f"{name}.parquet", found["parquet_sha256"])
    return found if whole else None


def _awaited_manifest(folder: UPath, index: int) -> dict[str, Any] | None:
    """The manifest of a run that has written its tar and is about to finish; None if it does not come."""
    until = time.monotonic() + MANIFEST_PATIENCE
    while True:
        found = read_manifest(folder, index)
        if found is not None or time.monotonic() > until:
            return found
        time.sleep(POLL)


def _holds(folder: UPath, name: str, sha256: str) -> bool:
    try:
        with fetched(folder, name) as path:
            return hash_of(path) == sha256
    except FileNotFoundError:
        return False
