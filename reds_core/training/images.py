"""Fashion-MNIST as it is distributed: gzipped IDX files."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def read_idx(path: Path) -> np.ndarray:
    """Returns the array in a gzipped IDX file of unsigned bytes."""
    raw = gzip.decompress(path.read_bytes())
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", rank, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def load(data: Path, part: str) -> tuple[Float[Tensor, "n 1 32 32"], Int[Tensor, " n"]]:
    """Returns the images, in [0, 1] with two pixels of background on every side, and labels of a part: `train` or `t10k`."""
    images = torch.from_numpy(read_idx(data / f"{part}-images-idx3-ubyte.gz").copy()).float() / 255
    labels = torch.from_numpy(read_idx(data / f"{part}-labels-idx1-ubyte.gz").copy()).long()
    return F.pad(images[:, None], (2, 2, 2, 2)), labels
