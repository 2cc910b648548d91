"""Is a run whole? Every shard against its manifest: hash, size, counts, and every image decoded.

Readers of tars miss a cut at a member's border, a flipped header and zeroed blocks without a word; only a hash finds all of it.
"""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from reds_core.errors import OutputError, RedsError
from reds_core.runs.manifest import (
    _hash_problems,
    indices,
    read_manifest,
    stem,
)
from reds_core.runs.plan import plan
from reds_core.spec.load import load_spec
from reds_core.storage.folders import Folder, get, names, near

STRAY = -1  # in verify_run's answer: tars that are no shard of the run


def verify_shard(folder: Folder, index: int) -> list[str]:
    """What is wrong with a shard, in words; empty if it is whole."""
    with near(folder, f"{stem(index)}.json") as here:
        return _fetched_and_examined(folder, here, index)[1]


def _fetched_and_examined(folder: Folder, here: Path, index: int) -> tuple[dict[str, Any] | None, list[str]]:
    """`_examined` of a shard whose manifest is `here`, and whose other files may lie far away."""
    copies = []
    try:
        if not isinstance(folder, Path):
            for kind in ("tar", "parquet"):
                with contextlib.suppress(FileNotFoundError):
                    copies.append(get(folder, f"{stem(index)}.{kind}", here))
        return _examined(here, index)
    finally:
        for copy in copies:
            copy.unlink()


def _examined(folder: Path, index: int) -> tuple[dict[str, Any] | None, list[str]]:
    """A shard's manifest, if it has one that can be trusted, and what is wrong with the shard."""
    name = stem(index)
    if not (folder / f"{name}.json").is_file():
        there = [p.name for p in (folder / f"{name}.tar", folder / f"{name}.parquet") if p.exists()]
        return None, [
            f"{name}: has no manifest, so it is not finished (found {', '.join(there)})" if there else f"{name}: is missing"
        ]
    manifest = read_manifest(folder, index)
    if manifest is None:
        return None, [f"{name}.json: is damaged, or the manifest of another shard or run"]
    problems = _hash_problems(folder, index, manifest)
    tar, table = folder / f"{name}.tar", folder / f"{name}.parquet"
    if tar.is_file():
        problems += [f"{name}.tar: {p}" for p in tar_problems(tar, manifest)]
    if table.is_file() and not any(table.name in p for p in problems):
        rows = len(pd.read_parquet(table, columns=["key"]))
        expected = manifest["seeds"] + manifest["accepted"] + sum(manifest["rejected"].values())
        if rows != expected:
            problems.append(f"{table.name}: has {rows} rows, the manifest counts {expected} candidates")
    return manifest, problems


def verify_run(folder: Folder) -> dict[int, list[str]]:
    """Every shard of a run, or that should be there, with what is wrong with it; under STRAY, tars that are none of its shards.

    Raises:
        OutputError: the folder is no run.
    """
    with near(folder, "spec.yaml", ".json") as here:
        try:
            planned = plan(load_spec(here / "spec.yaml"))
        except RedsError as error:
            raise OutputError(f"{folder} is no run: {str(error).replace(str(here), str(folder))}") from error
        there = names(folder)
        found = {index: _fetched_and_examined(folder, here, index) for index in sorted({*indices(there), *range(len(planned))})}
    ((most, _),) = Counter(m["digest"] for m, _ in found.values() if m).most_common(1) or [("", 0)]
    for index, (manifest, problems) in found.items():
        if manifest and manifest["digest"] != most:
            problems.append(f"{stem(index)}: is of the run {manifest['digest']}, most are of {most}")
        if manifest and index < len(planned):
            held, asked = range(manifest["first_seed"], manifest["first_seed"] + manifest["seeds"]), planned[index]
            if held.start != asked.start or held.stop < asked.stop:
                problems.append(f"{stem(index)}: holds {len(held)} seeds from {held.start}, not {len(asked)} from {asked.start}")
    answer = {index: problems for index, (_, problems) in found.items()}
    tars = {name for name in there if name.endswith(".tar") and not name.startswith(".")}
    strays = sorted(tars - {f"{stem(index)}.tar" for index in found})
    if strays:
        answer[STRAY] = [f"{name}: is no shard of this run; readers of *.tar would take it for one" for name in strays]
    return answer


def tar_problems(path: Path, manifest: dict[str, Any]) -> list[str]:
    """What a reader would stumble over: unreadable members, doubled keys, missing files, images that do not decode."""
    problems = []
    seen: set[str] = set()
    extensions: set[str] | None = None
    try:
        for key, files in samples(path):
            if key in seen:
                problems.append(f"the key {key} is there twice")
            seen.add(key)
            extensions = extensions or set(files)
            if set(files) != extensions:
                problems.append(f"{key} has the files {sorted(files)}, others have {sorted(extensions)}")
                continue
            problems += [f"{key}: {p}" for p in _sample_problems(files)]
    # tarfile raises whatever it likes on damaged headers: IndexError, RecursionError where each announces another one, ...
    except Exception as error:
        problems.append(f"cannot be read as a tar: {error or type(error).__name__}")
    if len(seen) != manifest["samples"]:
        problems.append(f"holds {len(seen)} samples, the manifest counts {manifest['samples']}")
    # Names from a damaged header may hold bytes that are no text, or that steer a terminal.
    return [p if p.isprintable() else ascii(p)[1:-1] for p in problems]


def samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The samples of a tar, one at a time: key and files by extension."""
    key: str | None = None
    files: dict[str, bytes] = {}
    with tarfile.open(path, "r|") as tar:
        for member in tar:
            # A folder's or a hole's size may be anything: tarfile would read on to there for years, or fill the memory with zeros.
            if not member.isreg() or member.issparse():
                raise tarfile.ReadError(f"{member.name} is no plain file")
            name, _, extension = member.name.partition(".")
            if name != key:
                if key is not None:
                    yield key, files
                key, files = name, {}
            content = tar.extractfile(member)
            files[extension] = content.read() if content else b""
    if key is not None:
        yield key, files


def _sample_problems(files: dict[str, bytes]) -> Iterator[str]:
    for extension, content in files.items():
        try:
            if extension == "json":
                json.loads(content)
            elif extension == "cls":
                int(content)
            elif extension == "latent.npy":
                np.load(io.BytesIO(content), allow_pickle=False)
            else:
                with Image.open(io.BytesIO(content)) as image:
                    image.load()
        # Decoders raise whatever they like on damaged bytes: struct.error, TokenError, DecompressionBombError, ...
        except Exception as error:
            yield f"its .{extension} cannot be read: {error}"
