"""REDs: variants of generated images that keep what must hold and change what should vary.

Public names: `load_spec`, `Spec`, `augment`, `directions`, `errors`.

Reading order, which is also the order of import (a module imports only what stands above it):

    errors, types        what is raised on purpose; the words of the method as types
    models/              networks from files, published checkpoints as data, and the networks that ship with the package
    generators/          latent -> image
    features/            image -> vector
    mistakes, spec       the YAML as frozen models, what can be wrong with it, and its digest
    seeds                integer -> latent
    directions           Gram, null space, REDs and the ablations
    jacobian             Grams of many points at once, by reverse mode, forward mode or differences
    trajectory           linear and local walks
    images, acceptance   the image as stored; drift, effect, judge -> verdict with a reason
    job, spreads         a spec with its networks loaded; how far apart unrelated images are
    prepare              makes a job: what a run needs once
    origins, walks       a shard's seeds and what their variants are compared with; its trajectories
    variants             seeds -> variants and rejects: the whole method on one page
    disk, storage        this machine's disks; object stores, and patience with them
    verify               is a shard whole
    publish, shards      tars, tables, manifests, and how they get to where they belong
    work                 one shard from a request to its manifest, in whatever process
    runs, report         what shards add up to; pictures and tables for people; croissant, for machines

An attribute is what a person names; a feature measures it. Held attributes must not move, varied ones must. A trajectory leads
from a seed along a direction, from waypoint to waypoint. Drift and effect are distances to the seed in spreads: 0 is identical,
1 as different as two unrelated images.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reds_core.spec import Spec, load_spec
    from reds_core.variants import augment

__version__ = "0.1.0"
__all__ = ["Spec", "augment", "directions", "errors", "load_spec"]

_HOMES = {"Spec": "spec", "load_spec": "spec", "augment": "variants", "directions": "directions", "errors": "errors"}


def __getattr__(name: str) -> Any:
    """Imports torch only when something that needs it is used: `reds --help` should not wait for it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'reds_core' has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"reds_core.{_HOMES[name]}")
    return module if name == _HOMES[name] else getattr(module, name)
