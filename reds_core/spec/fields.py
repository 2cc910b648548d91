"""The spec: one YAML file that says what to make, as frozen models, and the digest that names its folder.

`load_spec` reports mistakes of shape and of reference in one answer (`reds_core.spec.problems`). Files are looked at later, by `check_files` and by
the loaders.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from reds_core.features import AnyFeature, NetworkInput, in_pixels
from reds_core.generators import AnyGenerator
from reds_core.models.config import Config, Count, Number

FIRST_REFERENCE_SEED = 2**31

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
