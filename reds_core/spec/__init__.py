"""The spec: one YAML file that says what to make.

strict_yaml   YAML without its surprises: duplicate keys, `yes`, NaN
problems      everything that can be wrong with a spec, found in one go
fields        the spec and its parts, as frozen models
digest        the 16 hex digits that name a run's folder
files         the files that a spec names
load          YAML -> spec, and back
"""
