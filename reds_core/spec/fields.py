"""The spec and its parts as frozen models: what each key may hold, its unit, and what it is if it is left out.

The models see one value at a time, and `mistakes` the values of one model together. What refers from one part to another is checked
in problems.py, and files are checked later (files.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from reds_core.features import AnyFeature, NetworkInput
from reds_core.generators import AnyGenerator
from reds_core.generators.latent import FIRST_REFERENCE_SEED
from reds_core.models.config import Config, Count, Number, absolute_path
from reds_core.spec.trajectory import BETA, Positive, Trajectory

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Fit(Config):
    """How the user's own images are reconstructed."""

    space: Literal["w", "w+"] | None = Field(
        None,
        description="Where reconstructions lie: the space walked if absent; w keeps those in w+ where the generator was trained.",
    )
    distance: Positive = Field(
        0.3,
        description="The largest distance of a reconstruction from its image, in spreads of all pixels. Farther ones yield "
        "nothing.",
    )
    passes: Annotated[Count, Field(ge=10)] = Field(300, description="The most forward equivalents that an image may cost.")
    residual: bool = Field(
        False,
        description="Whether what a reconstruction lacks of its image, pixel by pixel, is added to it and to all its variants: "
        "trajectories then start at the image itself.",
    )


def _data(value: Any, info: Any) -> Any:
    """Returns the places of the user's images as absolute paths. Relative ones start at the folder of the spec's file."""
    # `info` is a pydantic.ValidationInfo, a protocol that cannot be checked at run time, as tests check all other types.
    if isinstance(value, str):
        return str(absolute_path(Path(value), info))
    return [str(absolute_path(Path(v), info)) for v in value] if isinstance(value, list | tuple) else value


Data = Annotated[str | Annotated[tuple[str, ...], Field(min_length=1)], BeforeValidator(_data)]


def _counted(value: int | None, info: Any) -> int | None:
    """Returns how many seeds there are, None if own images have yet to be counted. Raises the error for a missing key otherwise."""
    if value is None and info.data.get("images", "") is None:
        raise PydanticCustomError("missing", "Field required")
    return value


class Seeds(Config):
    """What to start from: consecutive seeds, each of which names one latent, or the user's own images."""

    first: Annotated[Count, Field(ge=0, lt=FIRST_REFERENCE_SEED)] = Field(0, description="The first seed, or the first own image.")
    images: Data | None = Field(
        None,
        description="The user's own labelled images: a folder with one folder a class, a table (.csv, .parquet) with the columns "
        "`file` and `label`, or the tars of a WebDataset (a brace pattern, or a list). Trajectories then start from them.",
    )
    count: Annotated[Annotated[Count, Field(ge=1)] | None, AfterValidator(_counted)] = Field(
        None,
        validate_default=True,
        description="How many seeds, counting up from the first. With own images, all of them if absent.",
    )
    resize: Literal["crop", "pad", "stretch"] = Field(
        "crop", description="How own images are brought to the generator's shape: cut, with borders, or out of proportion."
    )
    fit: Fit = Field(default_factory=Fit, description="How own images are reconstructed.")
    truncation: Positive = Field(
        1.0, description="psi: 1 draws latents as the generator was trained; smaller values draw them towards the mean."
    )
    classes: Annotated[tuple[Count | str, ...], Field(min_length=1)] | None = Field(
        None,
        description="Classes of a conditional generator, by name or index, taken in turn; all of them if absent. With own images, "
        "the labels to use.",
    )

    @property
    def number(self) -> int:
        """How many seeds there are. Raises ValueError while that is not known: own images are counted when a spec is loaded."""
        if self.count is None:
            raise ValueError("the images of this spec have not been counted")
        return self.count

    def mistakes(self) -> list[str]:
        last = self.first + (self.count or 1) - 1
        if last < FIRST_REFERENCE_SEED:
            return []
        return [f"first {self.first} and count {self.count} end at seed {last}; the last one allowed is {FIRST_REFERENCE_SEED - 1}"]


class Goal(Config):
    """What is wanted of a varied attribute."""

    minimum: Positive = Field(description="The smallest effect wanted, in spreads.")
    weight: Positive = Field(1.0, description="How much it counts in the choice of directions, beside the other varied attributes.")


class Decision(Config):
    """Holds a classifier's decision, and not its scores: an inequality, inside which the scores may move."""

    decision: Annotated[Number, Field(gt=0, lt=1)] = Field(
        description="The least probability of the label, or the seed's own if that is lower."
    )


def _limit_kind(value: Any) -> str:
    """Returns which of the two forms a held attribute's limit is written in."""
    return "decision" if isinstance(value, Mapping | Decision) else "level"


Limit = Annotated[Annotated[Positive, Tag("level")] | Annotated[Decision, Tag("decision")], Discriminator(_limit_kind)]


class Judge(NetworkInput):
    """A classifier that took no part in holding anything, and decides whether a variant still shows its label."""

    seeds: Literal["strict", "report"] | None = Field(
        None,
        description="What happens to a seed whose label the judge contradicts. strict: it yields nothing (the rule for sampled "
        "seeds); report: it is used all the same (the rule for own images, whose labels are the user's).",
    )


class Shards(Config):
    """How the images are stored."""

    seeds: Annotated[Count, Field(ge=1)] = Field(16, description="Seeds per shard; a shard holds every sample of its seeds.")
    image: Literal["png", "jpg", "webp"] = Field("png", description="The images' file format; png is lossless.")
    quality: Annotated[Count, Field(ge=1, le=100)] | None = Field(None, description="For jpg and webp; 95 if absent.")


def _within(part: Any, name: str) -> Any:
    """Returns a field of a part of a spec, as it is written or as a model; None if there is none."""
    return part.get(name) if isinstance(part, Mapping) else getattr(part, name, None)


def _goals(value: Any) -> Any:
    """Writes `look: 0.2` out as `look: {minimum: 0.2}`."""
    if not isinstance(value, Mapping):
        return value
    return {k: v if isinstance(v, Mapping | Goal) else {"minimum": v} for k, v in value.items()}


Goals = dict[str, Positive | Goal]  # as they may be written

# What a run that follows directions needs, which problems.py checks too.
NEEDED_TO_WALK = ("attributes", "held", "varied")
IF_IT_WALKS: dict[str, Any] = {
    "if": {"properties": {"trajectory": {"properties": {"directions": {"const": 0}}, "required": ["directions"]}}},
    "else": {"required": list(NEEDED_TO_WALK), "properties": {name: {"minProperties": 1} for name in NEEDED_TO_WALK}},
}


class Spec(Config):
    """An augmentation job: a generator, its seeds, what must hold, what must vary, and how both are checked."""

    model_config = ConfigDict(json_schema_extra=IF_IT_WALKS)

    name: Name = Field(description="Names the run's folder, `outputs/NAME/DIGEST`.")
    generator: AnyGenerator = Field(description="What makes images from latents.")
    seeds: Seeds = Field(description="The seeds to start from.")
    attributes: dict[Name, AnyFeature] = Field(
        default_factory=dict, description="What is measured, by name. At least one, unless trajectory.directions is 0."
    )
    label: str = Field(
        "given",  # without own images it is required, which problems.py sees
        description="Where a sample's label comes from: the name of a classifier attribute (its decision on the seed's own image), "
        "`condition` (the class given to the generator), `given` (by the user, with own images, where it is the default), or "
        "`none`.",
    )
    held: dict[str, Limit] = Field(
        default_factory=dict,
        examples=[{"class": 0.05}, {"class": {"decision": 0.9}}],
        description="What must not change, by attribute. A number holds it at the seed's level: the largest drift allowed, in "
        "spreads. `{decision: 0.9}` holds a classifier's decision alone: the label's least probability. At least one, unless "
        "trajectory.directions is 0.",
    )
    varied: Annotated[dict[str, Goal], BeforeValidator(_goals, json_schema_input_type=Goals)] = Field(
        default_factory=dict,
        examples=[{"look": 0.2}, {"look": {"minimum": 0.2, "weight": 2}}],
        description="The smallest effect wanted of each varied attribute, in spreads. At least one, unless "
        "trajectory.directions is 0.",
    )
    trajectory: Trajectory = Field(description="How trajectories move through latent space.")
    judge: Judge | None = Field(None, description="An independent classifier that checks each variant's label; no check if absent.")
    duplicates: Annotated[Number, Field(ge=0)] = Field(
        0.02,
        description="A variant is rejected as a duplicate if it is nearer than this, in spreads, to an earlier accepted one of its "
        "seed in every varied attribute.",
    )
    keep: Annotated[Count, Field(ge=1)] | None = Field(
        None,
        description="How many accepted variants of a seed to keep: those that lie farthest apart in the varied attributes. The "
        "others are rejected as duplicates. All of them if absent.",
    )
    shards: Shards = Field(default_factory=Shards, description="How the images are stored.")

    @property
    def levels(self) -> dict[str, float]:
        """The attributes that are held at the seed's level, and their tolerances in spreads."""
        return {name: limit for name, limit in self.held.items() if not isinstance(limit, Decision)}

    @property
    def decisions(self) -> dict[str, float]:
        """The classifiers of which the decision is held, and the label's least probability."""
        return {name: limit.decision for name, limit in self.held.items() if isinstance(limit, Decision)}

    @model_validator(mode="before")
    @classmethod
    def _only_what_counts(cls, given: Any) -> Any:
        """Leaves out what a run that walks nowhere does not use: goals, and limits too unless own images are held to them."""
        if not isinstance(given, Mapping) or _within(given.get("trajectory"), "directions") != 0:
            return given
        unused = {"varied"} if _within(given.get("seeds"), "images") is not None else {"held", "varied"}
        return {name: value for name, value in given.items() if name not in unused}

    @property
    def walks(self) -> bool:
        """Whether directions are followed at all. Where they are not, a run has seeds alone, and these are its candidates."""
        return self.trajectory.directions > 0

    @property
    def candidate_role(self) -> Literal["seed", "variant"]:
        """The role of those images that a run accepts or rejects."""
        return "variant" if self.walks else "seed"

    @property
    def most_variants(self) -> int:
        """The most candidates that a seed can have."""
        return 2 * self.trajectory.directions * self.trajectory.waypoints

    @property
    def most_accepted(self) -> float:
        """The largest share of candidates that can be accepted: less than 1 where the spec keeps a few of each seed's."""
        return 1.0 if self.keep is None else min(1.0, self.keep / self.most_variants)

    def limit_of(self, name: str) -> str:
        """Returns the limit of a held or varied attribute in words."""
        if name in self.varied:
            return f"effect >= {self.varied[name].minimum:g}"
        limit = self.held[name]
        return f"probability >= {limit.decision:g}" if isinstance(limit, Decision) else f"drift <= {limit:g}"

    def beta(self, name: str) -> float:
        """Returns the share of a held attribute's squared eigenvalues that counts as held."""
        return self.trajectory.beta.get(name, BETA)
