"""How the derivatives of a spec's attributes are taken, and in which tangent basis corrected trajectories move.

Derivatives are taken of the attributes whose Grams `directions_by` looks at, and for corrected trajectories of all that are held.
Each gets the mode that costs least for its size. A basis that needs vector-Jacobian products is replaced if the networks allow
none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from reds_core.directions.choices import looked_at
from reds_core.directions.cloud import Basis, axes, components_by_row
from reds_core.directions.jacobian import Mode
from reds_core.directions.modes import allowed_modes, cheapest
from reds_core.errors import ModelError
from reds_core.jobs.job import Derivatives, Networks, measure_of
from reds_core.spec.fields import Spec
from reds_core.trajectories.tangent import COTANGENTS
from reds_core.types import Images, Labels, Latents

TRUSTED_STEP = 0.05  # latent spreads, whatever the spec's step: over a long one, derivatives and differences differ by curvature
MOST_AXES = 128  # of a latent space that is walked in all of its axes


def derivatives_of(
    networks: Networks, latents: Latents, conditions: Labels, images: Images, latent_spread: float
) -> tuple[Derivatives, Basis | None]:
    """Returns how derivatives are taken, as the spec says or by what costs least, and the tangent basis, None for one per seed.

    Args:
        networks: what has been loaded.
        latents, conditions, images: of a few seeds on which every attribute can be measured.
        latent_spread: in latent units.

    Raises:
        ModelError: the networks do not allow what the spec says.
    """
    spec, tangent = networks.spec.trajectory, _tangent(networks)
    names = _derived(networks.spec)
    if not names:
        return Derivatives({}, smooth=False, reverse=False), tangent
    bound = {name: networks.features[name].bind(images) for name in names}
    measure = measure_of(networks, names, lambda points, at: networks.generator.images(points, conditions[at]), bound)
    rows = torch.arange(len(latents), device=latents.device)
    allowed = allowed_modes(measure, latents, rows, TRUSTED_STEP * latent_spread)
    usable = [mode for mode, problem in allowed.items() if not problem]
    if spec.method == "corrected" and tangent is None and allowed["reverse"] and networks.generator.subspace is None:
        if spec.tangent == "jacobian":
            raise ModelError(f"trajectory.tangent: jacobian needs reverse mode, which does not work here: {allowed['reverse']}")
        tangent = _tangent_without_products(networks)
    if spec.jacobian == "auto":
        with torch.no_grad():
            sizes = [1 if n in networks.spec.decisions else f.shape[1] for n, f in zip(names, measure(latents, rows), strict=True)]
        modes = _cheapest(networks, dict(zip(names, sizes, strict=True)), usable, tangent)
    elif allowed[spec.jacobian]:
        raise ModelError(f"trajectory.jacobian: {spec.jacobian} mode does not work with these networks: {allowed[spec.jacobian]}")
    else:
        modes = dict.fromkeys(names, spec.jacobian)
    smooth, reverse = "reverse" in usable or "forward" in usable, "reverse" in usable and spec.jacobian in ("auto", "reverse")
    return Derivatives(modes, smooth=smooth, reverse=reverse), tangent


def _derived(spec: Spec) -> list[str]:
    """Returns the attributes that are derived: corrected trajectories need held Jacobians whatever chooses their directions."""
    held, varied = looked_at(spec)
    return [*(spec.held if spec.trajectory.method == "corrected" else held), *varied]


def _cheapest(networks: Networks, sizes: Mapping[str, int], usable: Sequence[Mode], tangent: Basis | None) -> dict[str, Mode]:
    """Returns for attributes of these sizes the mode that costs least where directions are chosen.

    The published methods take one mode for all, on all latent axes. Corrected trajectories take one for each attribute, in the
    tangent basis.
    """
    method = networks.spec.trajectory.method
    if method != "corrected":
        mode = cheapest(list(sizes.values()), networks.generator.dim, usable, two_sided=method == "linear")
        return dict.fromkeys(sizes, mode)
    own = networks.generator.subspace or sum(min(size, COTANGENTS) for size in sizes.values())
    k = own if tangent is None else tangent.shape[2]
    return {name: cheapest([size], k, usable, two_sided=False) for name, size in sizes.items()}


def _tangent(networks: Networks) -> Basis | None:
    """Returns the tangent basis for the kind of latent space: an isotropic one has no principal components. None: one per seed."""
    trajectory, generator, cloud = networks.spec.trajectory, networks.generator, networks.cloud
    by = trajectory.tangent
    if by == "components" or (by == "auto" and generator.space == "w"):
        return components_by_row(cloud.deviations, generator.rows, trajectory.tangent_size)
    if by == "axes" or (by == "auto" and generator.dim <= MOST_AXES and generator.subspace is None):
        return axes(cloud.deviations)
    return None


def _tangent_without_products(networks: Networks) -> Basis:
    """Returns the tangent basis where there are no vector-Jacobian products to find the range of a Jacobian with."""
    generator, cloud = networks.generator, networks.cloud
    if generator.space == "w+":
        return components_by_row(cloud.deviations, generator.rows, networks.spec.trajectory.tangent_size)
    return axes(cloud.deviations)
