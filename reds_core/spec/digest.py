"""The digest of a spec: 16 hex digits of everything that decides a sample's bytes, which name the run's folder.

It is the start of the SHA-256 of the canonical JSON of the spec: defaults filled in, keys sorted, every file as the hash of its
content, and the user's own images as a hash of their names, bytes and labels. It holds neither where files lie nor
`seeds.count`, so that a longer run of a spec extends the folder of a shorter one.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reds_core.models.config import Config, file_sha256
from reds_core.sources import Sources, sources_of
from reds_core.spec.fields import Spec

LEFT_OUT = ("sha256", "published")  # of every config: the file's own hash is in the digest, and where it comes from decides nothing


def digest(spec: Spec, sources: Sources | None = None) -> str:
    """Returns the digest of a spec.

    Args:
        spec: what to name.
        sources: the user's images, if they have been listed: a hundred thousand take seconds.

    Raises:
        ModelError: a file that the spec names cannot be read.
    """
    values = canonical(spec)
    seeds = values["seeds"]
    del seeds["count"]
    if spec.seeds.images is None:
        del seeds["images"], seeds["resize"], seeds["fit"]
    else:
        listed = sources_of(spec.seeds.images, spec.seeds.classes) if sources is None else sources
        seeds["images"] = listed.identity
        if not spec.seeds.fit.residual:
            del seeds["fit"]["residual"]  # a field younger than runs that may still grow
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def canonical(value: Any) -> Any:
    """Returns a part of a spec as plain JSON values that do not depend on where files lie. Raises ModelError as `digest` does."""
    if isinstance(value, Config):
        fields = {name: canonical(getattr(value, name)) for name in type(value).model_fields if name not in LEFT_OUT}
        return fields | value.identity()
    if isinstance(value, Path):
        return file_sha256(value)
    if isinstance(value, Mapping):
        return {k: canonical(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(v) for v in value]
    if isinstance(value, float) and value.is_integer() and math.isfinite(value):
        return int(value)  # 1 and 1.0 are the same spec
    return value
