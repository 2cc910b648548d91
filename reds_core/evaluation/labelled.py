"""Labelled images in memory: the user's real ones, and those of a run, all in the shape of the run's images.

Labels are indices into one list of class names, which `classes_of` makes from the names of the data and of the run.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

from reds_core.errors import ModelError, OutputError
from reds_core.jobs.images import ImageFormat, decode, encode
from reds_core.runs.in_threads import in_threads
from reds_core.runs.manifest import Manifest, damaged
from reds_core.runs.samples import MEDIA_TYPES, intact, read_samples
from reds_core.sources import Sources, sources_of
from reds_core.sources.labels import plain
from reds_core.sources.listing import read_table
from reds_core.sources.pictures import Resize, pixels_of
from reds_core.storage.folder import Folder
from reds_core.words import some

Shape = tuple[int, int, int]  # channels, height, width


@dataclass(frozen=True)
class Labelled:
    """Images with their labels, a row each.

    Args:
        pixels, labels: labels count in a list of class names.
        names: of the files, or the keys of samples.
        origins: the names of the user's images that generated ones come from; "" where there are none.
        groups: values of the column that groups are told by; "" without one.
    """

    pixels: UInt8[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    names: Sequence[str]
    origins: Sequence[str]
    groups: Sequence[str]

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, rows: Sequence[int]) -> Labelled:
        """Returns the images in `rows`."""
        at = torch.tensor(rows, dtype=torch.long)
        names, origins, groups = ([values[r] for r in rows] for values in (self.names, self.origins, self.groups))
        return Labelled(self.pixels[at], self.labels[at], names, origins, groups)

    def to(self, device: torch.device) -> Labelled:
        """Returns the same with pixels and labels on a device."""
        return Labelled(self.pixels.to(device), self.labels.to(device), self.names, self.origins, self.groups)

    @cached_property
    def hashes(self) -> list[str]:
        """A hash of each image's pixels."""
        return [hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in self.pixels]

    @cached_property
    def identity(self) -> str:
        """A hash of all pixels, labels and groups."""
        said = [self.hashes, self.labels.tolist(), list(self.groups)]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def rows_by_class(self, classes: int) -> list[list[int]]:
        """Returns the rows of each class."""
        labels = self.labels.tolist()
        return [[row for row, label in enumerate(labels) if label == c] for c in range(classes)]


def empty(shape: Shape) -> Labelled:
    """Returns no images."""
    return Labelled(torch.zeros(0, *shape, dtype=torch.uint8), torch.zeros(0, dtype=torch.long), [], [], [])


def joined(parts: Sequence[Labelled], shape: Shape) -> Labelled:
    """Returns all images of the parts, in order."""
    parts = [empty(shape), *parts]
    return Labelled(
        torch.cat([p.pixels for p in parts]), torch.cat([p.labels for p in parts]), [n for p in parts for n in p.names],
        [o for p in parts for o in p.origins], [g for p in parts for g in p.groups],
    )  # fmt: skip


def classes_of(run: Sequence[str], train: Sequence[str], test: Sequence[str]) -> list[str]:
    """Returns the names of the classes, in the run's order as far as it has them.

    Args:
        run, train, test: the names of the labels of each.

    Raises:
        ModelError: training and test images have other classes, there is only one, or the run has none of them.
    """
    known, there = {plain(n): n for n in train}, {plain(n): n for n in test}
    if len(known) < len(train) or len(there) < len(test):
        raise ModelError(
            f"two of the labels {some(train if len(known) < len(train) else test)} differ only in case or signs; rename one"
        )
    for what, mine, others in (("training", known, there), ("test", there, known)):
        missing = [n for key, n in others.items() if key not in mine]
        if missing:
            raise ModelError(f"there are no {what} images of {some(missing)}; the {what} images have {some(list(mine.values()))}")
    if len(known) < 2:
        raise ModelError(f"all images are {some(list(known.values()))}; a classifier needs two classes or more")
    ordered = [n for n in run if plain(n) in known]
    if not ordered:
        raise ModelError(f"the run and the images have no label in common: the run has {some(run)}; the images {some(train)}")
    return ordered + [n for key, n in known.items() if key not in {plain(o) for o in ordered}]


def read_data(sources: Sources, classes: Sequence[str], shape: Shape, resize: Resize, groups: Sequence[str]) -> Labelled:
    """Returns the user's images in a shape.

    Args:
        sources: which images there are.
        classes: names that labels count in.
        shape, resize: what they are brought to, and how.
        groups: of each image.

    Raises:
        ModelError: one cannot be read or decoded.
    """
    index = {plain(name): i for i, name in enumerate(classes)}
    pixels = []
    for source in sources.images:
        content = source.read()
        try:
            pixels.append(pixels_of(content, shape, resize))
        except ModelError as error:
            raise error.at(source.name) from error
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor([index[plain(s.label)] for s in sources.images])
    names = [s.name for s in sources.images]
    return Labelled(stacked, labels, names, [""] * len(names), groups)


def hashes_as_stored(images: Labelled, image: ImageFormat, quality: int | None) -> list[str]:
    """Returns a hash of each image's pixels as a run would store them, which in a lossy format are others."""
    if image == "png":
        return images.hashes
    pixels = images.pixels.permute(0, 2, 3, 1).contiguous().numpy()
    stored = (decode(file, pixels.shape[3]) for file in in_threads(lambda x: encode(x, image, quality), pixels))
    return [hashlib.sha256(x.transpose(2, 0, 1).tobytes()).hexdigest() for x in stored]


def groups_of(data: str, sources: Sources, column: str | None) -> list[str]:
    """Returns the group of every image, "" without a column. Raises ModelError if the data is no table with that column."""
    if column is None:
        return [""] * len(sources.images)
    table = read_table(Path(data)) if Path(data).suffix.lower() in (".csv", ".parquet") else pd.DataFrame()
    if column not in table:
        raise ModelError(f"{data}: is no table with a column {column}; groups are told by a column of a .csv or .parquet")
    by_file = dict(zip(table["file"].astype(str), table[column].astype(str), strict=True))
    return [by_file[s.name] for s in sources.images]


def listed(data: str, where: str) -> Sources:
    """Returns which images the user's data holds. Raises ModelError, with `where` before its message."""
    return sources_of(data, where=where)


def read_shard(folder: Folder, manifest: Manifest, roles: Sequence[str], classes: Sequence[str], channels: int) -> Labelled:
    """Returns a shard's images of some roles, with labels among the classes; others are left out.

    Raises:
        ShardDamaged: the tar differs from its manifest.
    """
    if not manifest.samples:
        return empty((1, 1, 1))
    index = {plain(name): i for i, name in enumerate(classes)}
    pixels, labels, names, origins = [], [], [], []
    with intact(folder, manifest, "tar") as tar:
        for key, files in read_samples(tar):
            said = json.loads(files["json"])
            if said["role"] in roles and plain(said["label_name"]) in index:
                pixels.append(decode(_image_in(files), channels))
                labels.append(index[plain(said["label_name"])])
                names.append(key)
                origins.append(said["source"])
    if not pixels:
        return empty((1, 1, 1))
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    return Labelled(stacked, torch.tensor(labels), names, origins, [""] * len(names))


def shape_of(folder: Folder, manifests: Sequence[Manifest]) -> Shape:
    """Returns the shape of a run's images. Raises OutputError if no shard holds any, and ShardDamaged if one is damaged."""
    for manifest in manifests:
        if manifest.samples:
            with intact(folder, manifest, "tar") as tar:
                shapes = [_shape(_image_in(files)) for _, files in read_samples(tar)]
            return max(shapes)  # one image in colours tells that all may have some
    raise OutputError(f"{folder}: the run accepted nothing, so there are no images to learn from")


def label_names_of(folder: Folder, manifests: Sequence[Manifest]) -> list[str]:
    """Returns the names of a run's labels, in the order of their indices, as far as samples have them.

    Raises:
        OutputError: the samples have no labels. ShardDamaged: a table is missing.
    """
    names: dict[int, str] = {}
    for manifest in manifests:
        try:
            with folder.fetched(f"{manifest.stem}.parquet") as path:
                table = pd.read_parquet(path, columns=["label", "label_name"])
        except FileNotFoundError as error:
            raise damaged(folder, manifest.index) from error
        names |= dict(zip(table.label.tolist(), table.label_name.tolist(), strict=True))
    names.pop(-1, None)
    if not names:
        raise OutputError(f"{folder}: the run's images have no labels (label: none)")
    return [name for _, name in sorted(names.items())]


def _image_in(files: Mapping[str, bytes]) -> bytes:
    return next(files[e] for e in files if e in MEDIA_TYPES)


def _shape(content: bytes) -> Shape:
    """Returns an encoded image's shape. A WebP has three channels even if it is grey: one whose channels differ by no more
    than what decoding rounds has one.
    """
    with Image.open(io.BytesIO(content)) as picture:
        pixels = np.atleast_3d(np.asarray(picture)).astype(np.int16)
        is_grey = picture.format == "WEBP" and int(np.ptp(pixels, axis=2).max()) <= 1
    height, width, channels = pixels.shape
    return 1 if is_grey else channels, height, width
