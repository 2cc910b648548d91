"""The spec: one YAML file that says what to make.

strict_yaml   YAML without its surprises: duplicate keys, `yes`, NaN
trajectory    the part of a spec that says how trajectories move
fields        the spec and its parts, as frozen models
keys          the keys that a spec may have at a place
digest        the 16 hex digits that name a run's folder
problems      everything that can be wrong with a spec, or doubtful, found in one go
files         the files that a spec names
probe         what a network's file holds, found by trying it
starter       a commented spec to start from
load          YAML -> spec, and back
"""

from reds_core.spec.fields import Spec
from reds_core.spec.load import load_spec

__all__ = ["Spec", "load_spec"]
