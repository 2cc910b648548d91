"""TODO."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reds_core.models.config import Config, file_sha256
from reds_core.spec.fields import Spec

NO_PART = ("sha256", "published")  # of the digest: what a file holds is


def digest(spec: Spec) -> str:
    """16 hex digits of everything that decides a sample's bytes: defaults filled in, every file by its content.

    Not in it: where files lie, and `seeds.count`, so that a longer run of a spec extends the folder.

    Raises:
        ModelError: a file that the spec names cannot be read.
    """
    canonical = _canonical(spec)
    del canonical["seeds"]["count"]
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _canonical(value: Any) -> Any:
    """Plain JSON values that do not depend on where files lie."""
    if isinstance(value, Config):
        fields = {name: _canonical(getattr(value, name)) for name in type(value).model_fields if name not in NO_PART}
        return fields | value.identity()
    if isinstance(value, Path):
        return file_sha256(value)
    if isinstance(value, Mapping):
        return {k: _canonical(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(v) for v in value]
    if isinstance(value, float) and value.is_integer() and math.isfinite(value):
        return int(value)  # 1 and 1.0 are the same spec
    return value
