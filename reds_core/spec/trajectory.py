"""How trajectories move, as a part of a spec: its fields, their units, and what they are if they are left out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from reds_core.models.config import Config, Count, Number

BETA = 0.99  # of a held attribute that trajectory.beta does not name
METHODS = {  # of trajectories -> what they do
    "corrected": "every step is followed by a return to what is held",
    "local": "directions are found anew at every waypoint",
    "linear": "straight on along the directions found at the seed",
}

LEAST, MOST = 1e-12, 1e12  # of positive numbers: their squares, and products with spreads, still fit in single precision


def _in_range(value: float) -> float:
    """Returns a number. Raises ValueError if single precision cannot compute with it."""
    if not LEAST <= value <= MOST:
        raise ValueError(f"{value:g} is beyond what can be computed with in single precision; give {LEAST:g} to {MOST:g}")
    return value


Positive = Annotated[Number, Field(gt=0), AfterValidator(_in_range)]
Share = Annotated[Number, Field(gt=0, le=1)]


class Trajectory(Config):
    """How a trajectory moves through latent space."""

    method: Literal["corrected", "local", "linear"] = Field(
        "corrected", description=f"{'; '.join(f'{name}: {what}' for name, what in METHODS.items())}."
    )
    directions: Annotated[Count, Field(ge=0, le=100)] = Field(
        4,
        description="How many directions to follow from each seed; each is followed both ways. 0 follows none: the run has seeds "
        "alone, labelled and judged, at one pass an image, and needs neither `held` nor `varied`.",
    )
    waypoints: Annotated[Count, Field(ge=1, le=100)] = Field(4, description="Points after the seed; each is a candidate.")
    step: Positive = Field(0.1, description="Distance between waypoints, in latent spreads.")
    directions_by: Literal["reds", "rayleigh", "maxc", "minf", "rand", "pca", "sefa", "interfacegan"] = Field(
        "reds",
        description="How directions are chosen: reds is the published method, with tolerances in place of beta if method is "
        "corrected; the next four are its ablations, and the last three are the directions of other tools, fitted once and used "
        "for every seed.",
    )
    beta: dict[str, Share] = Field(
        default_factory=dict,
        description="Per held attribute, the share of its Gram's squared eigenvalues that counts as held when directions are "
        f"chosen; {BETA} for an attribute that is not named. Read by directions_by: minf, where corrected takes the largest for "
        "all, and by reds with local or linear.",
    )
    beta_varied: Share = Field(
        0.999,
        description="Likewise, the share of the varied attributes' squared eigenvalues that directions are taken from. Read "
        "by directions_by: maxc, and by reds with local or linear.",
    )
    tau: Positive = Field(
        1e-3, description="For directions_by: rayleigh: the ridge added to the held Gram, as a fraction of the Gram's trace."
    )
    tangent: Literal["auto", "components", "axes", "jacobian"] = Field(
        "auto",
        description="For corrected: where steps may go. components: along the principal components of mapped latents (auto in W); "
        "axes: anywhere; jacobian: along what changes the seed's image, by its Jacobian (auto in W+, and in a large Z).",
    )
    tangent_size: Annotated[Count, Field(ge=1)] = Field(64, description="How many principal components `tangent` keeps.")
    jacobian: Literal["auto", "differences", "reverse", "forward"] = Field(
        "auto",
        description="How Jacobians are taken. differences: by finite differences, as published; reverse, forward: by automatic "
        "differentiation in that mode; auto: by whichever costs least.",
    )

    def doubts(self) -> list[str]:
        shares = self.directions_by == "reds" and self.method != "corrected"  # corrected chooses its own directions by tolerances
        read = {"beta": shares or self.directions_by == "minf", "beta_varied": shares or self.directions_by == "maxc"}
        return [
            f"{name} has no effect with method: {self.method} and directions_by: {self.directions_by}; leave it out"
            for name, needed in read.items()
            if not needed and getattr(self, name) != getattr(Trajectory(), name)
        ]
