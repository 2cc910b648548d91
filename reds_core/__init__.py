"""REDs: variants of generated images that keep what must hold and change what should vary.

Public names: `load_spec`, `Spec`, `augment`, `Session`, `directions`, `errors`.

The rooms, in the order that data flows, which is also the order of import: a room imports only rooms above it, and so does a file
within its room, whose `__init__` lists its files in the same way.

version        this package's version
words          counts and lists of names, in words
errors         everything that is raised on purpose
types          the words of the method as types
storage/       folders on disks and in object stores
models/        networks from files
generators/    latent -> image
features/      image -> vector
sources/       the user's own labelled images
spec/          the YAML as frozen models, what can be wrong with it, its digest
directions/    which way to step, from Jacobians
trajectories/  from a seed along a direction
inversion/     the user's own images -> latents
jobs/          what a run computes with, measured once
variants/      seeds -> variants and rejects, in memory
runs/          shards and manifests, on disk
reports/       what people and programs read about a run
exports/       training sets put together from runs
studies/       forecasts and comparisons
evaluation/    what a run teaches a classifier
training/      how the shipped networks were trained

An attribute is what a person names; a feature measures it. Held attributes must not move, varied ones must. A trajectory leads
from a seed along a direction, from waypoint to waypoint. Drift and effect are distances to the seed in spreads: 0 is identical,
1 as different as two unrelated images.
"""

from typing import TYPE_CHECKING, Any

from reds_core.version import __version__

if TYPE_CHECKING:
    from reds_core.spec.fields import Spec
    from reds_core.spec.load import load_spec
    from reds_core.variants.run_seeds import augment
    from reds_core.variants.session import Session

__all__ = ["Session", "Spec", "__version__", "augment", "directions", "errors", "load_spec"]

_HOMES = {
    "Session": "variants.session",
    "Spec": "spec.fields",
    "load_spec": "spec.load",
    "augment": "variants.run_seeds",
    "directions": "directions",
    "errors": "errors",
}


def __dir__() -> list[str]:
    """Returns the public names, most of which are not imported yet."""
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    """Imports torch only when something that needs it is used: `reds --help` should not wait for it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'reds_core' has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"reds_core.{_HOMES[name]}")
    return module if name == _HOMES[name] else getattr(module, name)
