"""The spec: one YAML file that says what to make, as frozen models, and the digest that names its folder.

`load_spec` reports mistakes of shape and of reference in one answer (`reds_core.mistakes`). Files are looked at later, by `check_files` and by
the loaders.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from reds_core import strict_yaml
from reds_core.errors import ModelError, SpecError
from reds_core.features import AnyFeature, NetworkInput, in_pixels
from reds_core.generators import AnyGenerator
from reds_core.mistakes import field_mistakes, no_numbers, references, shape_mistake, walk
from reds_core.models.config import Access, Config, Count, FromFile, Number, file_sha256

FIRST_REFERENCE_SEED = 2**31
NO_PART = ("sha256", "published")  # of the digest: what a file holds is

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Positive = Annotated[Number, Field(gt=0)]
Share = Annotated[Number, Field(gt=0, le=1)]


class Seeds(Config):
    """Which latents to start from."""

    first: Annotated[Count, Field(ge=0, lt=FIRST_REFERENCE_SEED, description="The first seed.")] = 0
    count: Annotated[Count, Field(ge=1, description="How many seeds, one after another.")]
    truncation: Positive = Field(1.0, description="psi: 1 samples as trained, smaller values nearer to the mean.")
    classes: Annotated[tuple[Count | str, ...], Field(min_length=1)] | None = Field(
        None, description="Classes of a conditional generator, by name or index; all if absent."
    )

    def mistakes(self) -> list[str]:
        """What a field's own type cannot see."""
        if self.first + self.count <= FIRST_REFERENCE_SEED:
            return []
        return [f"first {self.first} and count {self.count} go beyond the last seed there is, {FIRST_REFERENCE_SEED - 1}"]


class Goal(Config):
    """What is wanted of a varied attribute."""

    minimum: Positive = Field(description="Smallest effect wanted, in spreads.")
    weight: Positive = Field(1.0, description="Its share in the choice of directions, beside other varied attributes.")


class Trajectory(Config):
    """How a trajectory moves through latent space."""

    method: Literal["corrected", "local", "linear"] = Field(
        "corrected",
        description="corrected: every step is brought back to what is held; local: directions are found anew at every waypoint; "
        "linear: the seed's directions, straight on.",
    )
    directions: Annotated[Count, Field(ge=1, le=100)] = Field(4, description="Directions; each is walked both ways.")
    waypoints: Annotated[Count, Field(ge=1, le=100)] = Field(4, description="Points after the seed; each is a candidate.")
    step: Positive = Field(0.1, description="Distance between waypoints, in latent spreads.")
    directions_by: Literal["reds", "rayleigh", "maxc", "minf", "rand", "pca", "sefa", "interfacegan"] = Field(
        "reds",
        description="How directions are chosen; reds is the published method, the next four its ablations, the last three other tools' "
        "directions, fitted once and the same for every seed.",
    )
    beta: dict[str, Share] = Field(
        default_factory=dict,
        description="Per held attribute, the share of its squared eigenvalues that is held by local and linear; 0.99 if absent.",
    )
    beta_varied: Share = Field(0.999, description="Likewise, for the span of the varied directions.")
    tau: Positive = Field(1e-3, description="The ridge of directions_by: rayleigh, in units of the held Gram's trace.")
    tangent: Literal["auto", "components", "axes", "jacobian"] = Field(
        "auto",
        description="Where corrected trajectories may go: principal components of mapped latents (auto in W), all axes, or what a seed's "
        "image reacts to by its Jacobian (auto in W+, and in a large Z).",
    )
    tangent_size: Annotated[Count, Field(ge=1)] = Field(64, description="How many principal components.")
    jacobian: Literal["auto", "differences", "reverse", "forward"] = Field(
        "auto", description="differences: as published; reverse, forward: derivatives; auto: what costs least."
    )


class Judge(NetworkInput):
    """A classifier that had no part in holding anything, and decides whether a variant still shows its label."""


class Shards(Config):
    """How the images are stored."""

    seeds: Annotated[Count, Field(ge=1)] = Field(16, description="Seeds per shard.")
    image: Literal["png", "jpg", "webp"] = Field("png", description="File format; png is lossless.")
    quality: Annotated[Count, Field(ge=1, le=100)] | None = Field(None, description="For jpg and webp; 95 if absent.")


def _goals(value: Any) -> Any:
    """`look: 0.2` is short for `look: {minimum: 0.2}`."""
    if not isinstance(value, Mapping):
        return value
    return {k: v if isinstance(v, Mapping | Goal) else {"minimum": v} for k, v in value.items()}


class Spec(Config):
    """An augmentation job: a generator, its seeds, what must hold, what must vary, and how both are checked."""

    name: Name
    generator: AnyGenerator
    seeds: Seeds
    attributes: Annotated[dict[Name, AnyFeature], Field(min_length=1)]
    label: str = Field(description="A classifier attribute's name, `condition`, or `none`.")
    held: Annotated[dict[str, Positive], Field(min_length=1)] = Field(
        description="The largest drift allowed of each held attribute, in spreads."
    )
    varied: Annotated[dict[str, Goal], Field(min_length=1), BeforeValidator(_goals)] = Field(
        description="The smallest effect wanted of each varied attribute, in spreads."
    )
    trajectory: Trajectory
    judge: Judge | None = None
    duplicates: Annotated[Number, Field(ge=0)] = Field(
        0.02, description="A variant nearer than this to an earlier one of its seed, in every varied attribute, is one too many."
    )
    shards: Shards = Field(default_factory=Shards)

    def mistakes(self) -> list[str]:
        """What a field's own type cannot see."""
        if not getattr(self.generator, "walk_resolution", None):
            return []
        asked = {name: self.attributes[name] for name in (*self.held, *self.varied) if name in self.attributes}
        return [
            f"attributes.{name}: {', '.join(found)} counts pixels, which are others in images of generator.walk_resolution; leave one of them out"
            for name, feature in asked.items()
            if (found := in_pixels(feature))
        ]

    def beta(self, name: str) -> float:
        """The share of a held attribute that is held."""
        return self.trajectory.beta.get(name, 0.99)


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> Spec:
    """Reads a spec; `overrides` are "key.path=value", their values YAML, their paths relative to the working directory.

    Raises:
        SpecError: the file cannot be read, or with every mistake of shape and of reference in it.
    """
    path = Path(path)
    try:
        raw = strict_yaml.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(str(path), [f"cannot be read: {getattr(error, 'strerror', None) or error}"]) from error
    except ValueError as error:
        raise SpecError(str(path), [str(error)]) from error
    if not isinstance(raw, dict):
        raise SpecError(str(path), ["is no mapping of keys to values; see `reds schema` and augment_specs/ for the form"])
    for override in overrides:
        _override(raw, override)
    mistakes = []
    spec = None
    try:
        spec = Spec.model_validate(raw, context={"base": path.absolute().parent})
    except ValidationError as error:
        mistakes = [shape_mistake(e, raw) for e in error.errors()]
    mistakes += references(raw)
    if spec is not None:
        mistakes += field_mistakes(spec, "") + list(no_numbers(_plain(spec), ""))
    if spec is None or mistakes:
        raise SpecError(str(path), list(dict.fromkeys(mistakes)))
    return spec


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


def doubts(spec: Spec) -> list[str]:
    """What is allowed but hardly meant: a judge that is the network of a held attribute, or what configs say of themselves."""
    found = [f"{key.removesuffix('.')}: {doubt}" for key, value in walk(spec, "") for doubt in getattr(value, "doubts", list)()]
    if spec.judge is None:
        return found
    judge = _canonical(spec.judge)["model"]
    return found + [
        f"judge: is the network of the held attribute {name}, so it is not independent: it sees what is held, and nothing else"
        for name in spec.held
        if _canonical(spec.attributes[name]).get("model") == judge
    ]


def dump(spec: Spec) -> str:
    """The resolved spec as YAML: defaults filled in, paths absolute."""
    return strict_yaml.dump(_plain(spec))


def files(spec: Config, where: str = "") -> Iterator[tuple[str, Path, str | None, str | None]]:
    """Every file that a spec names: the key that names it, its path, the hash it is pinned to, and where it comes from."""
    for key, value in walk(spec, where):
        for name in type(value).model_fields:
            path = getattr(value, name)
            if isinstance(path, Path):
                yield f"{key}{name}", path, getattr(value, "sha256", None), getattr(value, "published", None)


def check_files(spec: Spec) -> None:
    """Raises ModelError with every missing file and every file that differs from its pinned hash."""
    problems = []
    for key, path, pinned, published in files(spec):
        if not path.is_file():
            problems.append(f"{key}: there is no file {path}" + (f"\n    published: {published}" if published else ""))
        elif pinned and (found := file_sha256(path)) != pinned:
            problems.append(f"{key}: {path} has sha256 {found}, the spec asks for {pinned}")
    if problems:
        raise ModelError("\n".join(problems))


def check_present(spec: Spec, access: Access) -> list[str]:
    """What is wrong with the networks whose files are there, each as "where: what", whatever else is missing."""
    problems = []
    for key, value in walk(spec, ""):
        if isinstance(value, FromFile) and all(path.is_file() for _, path, _, _ in files(value)):
            try:
                value.load(access)
            except ModelError as error:
                problems.append(f"{key.removesuffix('.')}: {error}")
    return problems


def _override(raw: dict[str, Any], text: str) -> None:
    """Sets one "key.path=value" in the raw spec."""
    key, equals, value = text.partition("=")
    keys = key.strip().split(".")
    if not equals or not all(k and k.isprintable() for k in keys):
        raise SpecError("--set", [f"{text!r} is not of the form key.path=value"])
    try:
        parsed = strict_yaml.parse(value, around=len(keys))
    except ValueError as error:
        raise SpecError("--set", [f"{text!r}: {error}"]) from error
    target = raw
    for k in keys[:-1]:
        if not isinstance(target.setdefault(k, {}), dict):
            raise SpecError("--set", [f"{text!r}: {k} is a value, it has no keys below it"])
        target = target[k]
    target[keys[-1]] = _from_here(parsed, keys[-1])


def absolute(override: str) -> str:
    """An override whose paths no longer depend on the working directory, for a process that starts in another one."""
    key, _, value = override.partition("=")
    return f"{key}={json.dumps(_from_here(strict_yaml.parse(value), key.rpartition('.')[2]), ensure_ascii=False)}"


def _from_here(value: Any, key: str) -> Any:
    """A value of --set with its paths made absolute: they are relative to the working directory, not to the spec."""
    if isinstance(value, dict):
        return {k: _from_here(v, k) for k, v in value.items()}
    return str(Path(value).absolute()) if isinstance(value, str) and key in ("path", "weights", "mask") else value


def _plain(value: Any) -> Any:
    """Plain YAML values. A field that is None is left out; a None inside `options` is a value."""
    if isinstance(value, Config):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        return {name: _plain(v) for name, v in fields.items() if v is not None}
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


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
