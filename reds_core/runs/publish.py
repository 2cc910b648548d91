"""Puts a finished shard into its folder, where another run may be about to put the same one.

    tar        put there only if it is new: whichever run creates the tar first owns the shard; another one waits for the manifest.
               A shard without samples has none; its parquet then takes this part
    parquet    put there next, over any older one; then the thumbnails
    manifest   put there last; no manifest, no shard

On a disk, locks keep other runs out, and the first try succeeds. In a store there are three cases:

- The shard is new: two runs may compute it, but only one of them writes it, or their bytes are equal.
- A killed run left a tar without a manifest: it is replaced.
- Two runs write at once, because the first was not dead after all, or because both replace one shard: whichever overwrote anything
  checks at the end that what is there belongs together, and otherwise writes all of it again. So the last run to leave has seen an
  intact shard.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from reds_core.errors import RunError
from reds_core.runs.manifest import Manifest, names_of, read_manifest
from reds_core.storage.folder import Folder

MANIFEST_WAIT, POLL = 30.0, 1.0  # seconds after which a tar without a manifest is taken for a killed run's
MOST_MEETINGS = 20


def publish(parts: Mapping[str, Path], folder: Folder, manifest: Manifest) -> Manifest:
    """Puts a shard's files into its folder.

    Args:
        parts: the finished files on a disk, by kind.
        folder: the run's folder.
        manifest: what parts["json"] holds.

    Returns:
        The manifest that is there in the end: this one, or that of another run which was faster.

    Raises:
        StorageError: the store refuses or does not answer. RunError: other runs keep replacing this shard.
    """
    names = {kind: name for kind, name in names_of(manifest.index).items() if kind in parts}
    ((owning, first, _, sha256), *_) = manifest.files()
    if folder.read(names["json"]) is not None:
        old = _as_good_as(manifest, folder)
        if old is not None:
            return old
        folder.remove(names["json"], first)  # damaged, or shorter than this one
    if "tar" not in parts:
        folder.remove(names_of(manifest.index)["tar"])  # of a shorter one, perhaps
    is_ours, began = folder.send(parts[owning], first, only_new=True), time.monotonic()
    if not is_ours and not folder.holds(first, sha256):
        other = _awaited_manifest(folder, manifest.index)
        if other is not None and other.seeds >= manifest.seeds:
            return other
        folder.remove(names["json"])
        folder.send(parts[owning], first)
    for kind in ("parquet", "zip"):
        if kind != owning:
            folder.send(parts[kind], names[kind])
    # Any later, and another run may have taken this one for killed.
    if folder.send(parts["json"], names["json"], only_new=True) and is_ours and time.monotonic() - began < MANIFEST_WAIT:
        folder.flush()
        return manifest
    for _ in range(MOST_MEETINGS):
        there = _as_good_as(manifest, folder)
        if there is not None:
            folder.flush()
            return there
        folder.remove(names["json"])
        for kind, name in names.items():
            folder.send(parts[kind], name)
    raise RunError(f"{folder / manifest.stem}: other runs keep replacing this shard; let one of them finish, then run again")


def _as_good_as(manifest: Manifest, folder: Folder) -> Manifest | None:
    """Returns the shard's manifest in the folder, if it has as many seeds and describes what lies there."""
    found = read_manifest(folder, manifest.index)
    if found is None or found.seeds < manifest.seeds:
        return None
    return found if all(folder.holds(name, sha256) for _, name, _, sha256 in found.files()) else None


def _awaited_manifest(folder: Folder, index: int) -> Manifest | None:
    """Returns the manifest of a run that has written its tar and is about to finish; None if it does not come."""
    until = time.monotonic() + MANIFEST_WAIT
    while True:
        found = read_manifest(folder, index)
        if found is not None or time.monotonic() > until:
            return found
        time.sleep(POLL)
