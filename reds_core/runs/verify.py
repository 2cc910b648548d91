"""Is a run intact? Every shard against its manifest: hash, size, counts, and every image decoded.

Readers of tars silently miss a cut at a member's border, a flipped header and zeroed blocks; only a hash finds all of it.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from reds_core.errors import OutputError, RedsError, StorageError
from reds_core.runs.in_threads import in_threads
from reds_core.runs.manifest import Manifest, finished_seeds, indices, read_manifest, stem
from reds_core.runs.plan import MOST_SHARDS, counting, plan
from reds_core.runs.run_folder import spec_in
from reds_core.runs.samples import read_samples
from reds_core.storage.folder import Folder, hash_of
from reds_core.storage.places import on_disk
from reds_core.words import counted

FLOAT32 = re.compile(rb"\{'descr': '<f4', 'fortran_order': False, 'shape': \(([0-9, ]*)\), \} *\n")
STRAY = -1  # in verify_run's answer: tars that are not shards of the run


def verify_shard(folder: Folder, index: int) -> list[str]:
    """Returns what is wrong with a shard, in words; nothing if it is intact."""
    with on_disk(folder, f"{stem(index)}.json") as here:
        return _examined(folder, here, index)[1]


def verify_run(folder: Folder) -> dict[int, list[str]]:
    """Returns every shard that a run has or should have, with what is wrong with it; under STRAY, tars that are not shards of it.

    Raises:
        OutputError: the folder is not a run.
    """
    with on_disk(folder, "spec.yaml", ".json") as here:
        spec = spec_in(folder, here)
        try:
            planned = plan(counting(spec, max(spec.seeds.number, finished_seeds(here, spec.seeds.first))))
        except RedsError as error:
            raise OutputError(f"{folder} is not a run: {str(error).replace(str(here), str(folder))}") from error
        there = folder.files()
        wanted = range(min(len(planned), MOST_SHARDS))  # a spec may plan more than anybody could list
        found = {index: _examined(folder, here, index) for index in sorted({*indices(there), *wanted})}
    ((most, _),) = Counter(m.digest for m, _ in found.values() if m).most_common(1) or [("", 0)]
    for index, (manifest, problems) in found.items():
        if manifest and manifest.digest != most:
            problems.append(f"{stem(index)}: is of the run {manifest.digest}, most are of {most}")
        if manifest and index < len(planned):
            held, wanted = range(manifest.first_seed, manifest.first_seed + manifest.seeds), planned[index]
            if held.start != wanted.start or held.stop < wanted.stop:
                problems.append(
                    f"{stem(index)}: holds {counted(len(held), 'seed')} from {held.start}, not {len(wanted)} from {wanted.start}"
                )
    answer = {index: problems for index, (_, problems) in found.items()}
    tars = {name for name in there if name.endswith(".tar") and not name.startswith(".")}
    strays = sorted(tars - {f"{stem(index)}.tar" for index, (manifest, _) in found.items() if manifest is None or manifest.bytes})
    if strays:
        answer[STRAY] = [f"{name}: is not a shard of this run; readers of *.tar would take it for one" for name in strays]
    return answer


def _examined(folder: Folder, here: Folder, index: int) -> tuple[Manifest | None, list[str]]:
    """Returns a shard's manifest, if it has one that can be trusted, and what is wrong with the shard. Its .json lies in `here`."""
    name = stem(index)
    with contextlib.ExitStack() as stack:
        files: dict[str, Path] = {}
        for kind in ("tar", "parquet", "zip"):
            with contextlib.suppress(FileNotFoundError):
                files[kind] = stack.enter_context(folder.fetched(f"{name}.{kind}"))
        if here.size(f"{name}.json") is None:
            there = ", ".join(f"{name}.{kind}" for kind in files)
            return None, [f"{name}: has no manifest, so it is not finished (found {there})" if there else f"{name}: is missing"]
        try:
            manifest = read_manifest(here, index)
        except StorageError as error:  # it may be as intact as any
            return None, [f"{name}.json: {error}"]
        if manifest is None:
            return None, [f"{name}.json: is damaged, or the manifest of another shard or run"]
        problems = list(hash_problems(files, manifest.files()))
        if "tar" in files and manifest.bytes:
            problems += [f"{name}.tar: {p}" for p in tar_problems(files["tar"], manifest.samples)]
        if "parquet" in files and not any(f"{name}.parquet" in p for p in problems):
            # The user's own images have rows of their own, which the manifest does not count; seeds alone are the candidates.
            roles = pd.read_parquet(files["parquet"], columns=["role"])["role"].value_counts()
            seeds, variants = int(roles.get("seed", 0)), int(roles.get("variant", 0))
            rows, expected = seeds + variants, manifest.seeds + (manifest.candidates if variants else 0)
            if rows != expected:
                problems.append(f"{name}.parquet: has {counted(rows, 'row')}, the manifest counts {counted(expected, 'candidate')}")
        return manifest, problems


def hash_problems(files: Mapping[str, Path], described: Iterable[tuple[str, str, int | None, str]]) -> Iterator[str]:
    """Yields which of a shard's files are missing or differ from its manifest.

    Args:
        files: those that are there, by kind.
        described: what the manifest says of each: kind, name, size in bytes (None: not known) and sha256.
    """
    for kind, name, size, sha256 in described:
        if kind not in files:
            yield f"{name}: is missing"
            continue
        try:
            found = files[kind].stat().st_size
            if size not in (None, found):
                yield f"{name}: has {found} bytes, the manifest says {size}"
            if hash_of(files[kind]) != sha256:
                yield f"{name}: its hash differs from the manifest's"
        except OSError as error:
            yield f"{name}: cannot be read: {error.strerror}"


def tar_problems(path: Path, expected: int) -> list[str]:
    """Returns what a reader would stumble over: unreadable members, repeated keys, missing files, images that do not decode.

    Args:
        path: of the tar.
        expected: the number of samples that it should hold.
    """
    problems = []
    seen: set[str] = set()
    extensions: set[str] | None = None
    try:
        for key, files, found in in_threads(_examined_sample, read_samples(path)):
            if key in seen:
                problems.append(f"the key {key} occurs twice")
            seen.add(key)
            extensions = extensions or files
            if files != extensions:
                problems.append(f"{key} has the files {sorted(files)}, others have {sorted(extensions)}")
                continue
            problems += [f"{key}: {p}" for p in found]
    # tarfile raises whatever it likes on damaged headers: IndexError, RecursionError where each announces another one, ...
    except Exception as error:
        problems.append(f"cannot be read as a tar: {error or type(error).__name__}")
    if len(seen) != expected:
        problems.append(f"holds {counted(len(seen), 'sample')}, the manifest counts {expected}")
    # Names from a damaged header may hold bytes that are not text, or that steer a terminal.
    return [p if p.isprintable() else ascii(p)[1:-1] for p in problems]


def _examined_sample(sample: tuple[str, dict[str, bytes]]) -> tuple[str, set[str], list[str]]:
    """Returns a sample's key, the extensions of its files, and what is wrong with them."""
    key, files = sample
    return key, set(files), list(_sample_problems(files))


def _check_array(content: bytes) -> None:
    """Raises ValueError unless this is an array as `np.save` writes float32.

    `np.load` parses the header as Python, and Python 3.11 fails now and then where two threads do so at once: intact shards would
    be damaged.
    """
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("its format is not version 1.0")
    size = int.from_bytes(file.read(2), "little")
    header = FLOAT32.fullmatch(file.read(size))
    if header is None:
        raise ValueError("its header is not that of float32 numbers")
    count = math.prod(int(n) for n in header[1].split(b",") if n.strip())
    there = len(content) - file.tell()
    if there != 4 * count:
        raise ValueError(f"it has {there} bytes of numbers, its header says {4 * count}")


def _sample_problems(files: dict[str, bytes]) -> Iterator[str]:
    """Yields which of a sample's files, by extension, cannot be read."""
    for extension, content in files.items():
        try:
            if extension == "json":
                json.loads(content)
            elif extension == "cls":
                int(content)
            elif extension == "latent.npy":
                _check_array(content)
            else:
                with Image.open(io.BytesIO(content)) as image:
                    image.load()
        # Decoders raise whatever they like on damaged bytes: struct.error, TokenError, DecompressionBombError, ...
        except Exception as error:
            yield f"its .{extension} cannot be read: {error}"
