"""The chosen samples as images in folders: `train/LABEL/KEY.png`.

A label's folder has its name, with `_` for what some file system does not take. Of two labels whose folders would be the same, or
the same but for case, one gets its number too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from reds_core.exports.inputs import Samples
from reds_core.exports.manifest import Export
from reds_core.exports.request import Request
from reds_core.runs.in_threads import in_threads
from reds_core.storage.folder import Folder
from reds_core.types import Tell

UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
LONGEST = 200  # bytes of a folder's name; file systems take 255
UNLABELLED = "unlabelled"
AT_ONCE = 16  # images that are written side by side: each waits for the disk or the store


def folder_names(names: Mapping[int, str]) -> dict[int, str]:
    """Returns the name of every label's folder, by label; no two are the same, on no file system."""
    found: dict[int, str] = {}
    taken: set[str] = set()
    # A name that can stay as it is goes first.
    for label in sorted(names, key=lambda label: (label < 0, _safe(names[label]) != names[label], label)):
        plain = name = UNLABELLED if label < 0 else _safe(names[label])
        attempt = 0
        while _compared(name) in taken:
            name = f"{plain}-{label}" + (f"-{attempt}" if attempt else "")
            attempt += 1
        taken.add(_compared(name))
        found[label] = name
    return found


def _safe(name: str) -> str:
    """Returns a name that every file system takes."""
    safe = UNSAFE.sub("_", name).strip(" ")
    safe = re.sub(r"^\.|\.$", "_", safe)  # hidden folders are skipped by loaders, and Windows drops a dot at the end
    while len(safe.encode()) > LONGEST:
        safe = safe[:-1]
    return safe or "_"


def _compared(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def placed(rows: pd.DataFrame, request: Request, names: Mapping[int, str]) -> pd.DataFrame:
    """Returns the rows of all splits in the order in which they are written, with their `file`.

    Args:
        rows: the chosen ones, by key.
        request: whose splits they are in.
        names: of the labels.
    """
    homes = folder_names(names)
    order = {split: at for at, split in enumerate(request.splits)}
    rows = rows.assign(shard=0, order=rows.split.map(order), home=rows.label.map(homes))
    rows = rows.sort_values(["order", "home", "key"], ignore_index=True)
    return rows.assign(file=rows.split + "/" + rows.home + "/" + rows.key + "." + rows.image)


def write(dest: Folder, said: Export, rows: pd.DataFrame, samples: Samples, tell: Tell) -> int:
    """Writes the images that are missing or damaged, and returns how many those were.

    Args:
        dest: the export's folder.
        said: what it says of itself; an image folder has no use for that.
        rows: from `placed`.
        samples: their files.
        tell: hears of the images.

    Raises:
        StorageError, OutputError, RunError: the disk is full or cannot be written, the store refuses or does not answer.
    """
    done = made = 0
    for home, part in rows.groupby(rows.file.str.rpartition("/")[0], sort=False):
        split, _, label = str(home).partition("/")
        folder = dest / split / label
        with folder.opening():
            for was_made in in_threads(partial(_write_image, folder, folder.files()), _images(part, samples), AT_ONCE):
                made += was_made
                done += 1
                if done % 100 == 0:
                    tell("images written", done, len(rows))
        folder.flush()
    tell("images written", len(rows), len(rows))
    return made


def _images(part: pd.DataFrame, samples: Samples) -> Iterator[tuple[str, bytes, str]]:
    """Yields the name, content and hash of each image."""
    row: Any
    for row in part.itertuples():
        yield PurePosixPath(row.file).name, samples.files(row)[row.image], row.sha256


def _write_image(folder: Folder, sizes: Mapping[str, int], image: tuple[str, bytes, str]) -> bool:
    """Writes one image if it is not there, and returns whether it was not."""
    name, content, sha256 = image
    if folder.matches(sizes, name, len(content), sha256):
        return False
    folder.write(name, content)
    return True
