"""Which way to take derivatives: of those that the networks allow, the one that costs least.

In forward equivalents per image, for features of sizes p_i and d latent axes:

    reverse      2 (p_1 + p_2 + ...)
    forward      2 d
    differences  d, or 2 d if they are two-sided
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reds_core.directions.evaluator import Measure
from reds_core.directions.jacobian import Mode
from reds_core.errors import described
from reds_core.types import Latents, Rows

MOST_OFF = 0.25  # how far a derivative may lie from a difference, as a share of it, and still be trusted


def cheapest(sizes: Sequence[int], d: int, allowed: Sequence[Mode], *, two_sided: bool) -> Mode:
    """Returns the allowed mode with the fewest forward equivalents for features of these sizes; derivatives win a tie."""
    cost: dict[Mode, int] = {"reverse": 2 * sum(sizes), "forward": 2 * d, "differences": d * (2 if two_sided else 1)}
    return min((m for m in cost if m in allowed), key=lambda m: cost[m])


def allowed_modes(measure: Measure, points: Latents, rows: Rows, step: float) -> dict[Mode, str]:
    """Returns every mode with "", or in words why the networks do not allow it.

    A mode is trusted if its derivative along one direction agrees with a difference over a tenth of `step`, in latent units: a
    feature that rounds, or leaves torch half-way, has derivatives that are wrong without any error.
    """
    found: dict[Mode, str] = {"differences": ""}
    along = torch.ones_like(points) / points.shape[1] ** 0.5
    h = step / 10
    with torch.no_grad():
        plus, minus = measure(points + h * along, rows), measure(points - h * along, rows)
    slopes = [(a - b) / (2 * h) for a, b in zip(plus, minus, strict=True)]

    def forward() -> list[Tensor]:
        return list(torch.func.jvp(lambda z: tuple(measure(z, rows)), (points,), (along,))[1])

    def reverse() -> list[Tensor]:
        # <slope, J u> by way of J^T slope: compared with |slope|^2.
        z = points.detach().requires_grad_()
        pairs = zip(measure(z, rows), slopes, strict=True)
        products = [torch.autograd.grad((f * s).sum(), z, retain_graph=True)[0] for f, s in pairs]
        return [(p * along).sum(1, keepdim=True) for p in products]

    squares = [s.square().sum(1, keepdim=True) for s in slopes]
    found["reverse"] = _distrust(reverse, squares)
    found["forward"] = _distrust(forward, slopes)
    return found


def _distrust(derive: Callable[[], list[Tensor]], expected: Sequence[Tensor]) -> str:
    """Returns why derivatives are not to be trusted, or ""."""
    try:
        derived = derive()
    # Any exception of somebody else's network means "not this mode"; the reason is kept and shown if the mode is forced.
    except Exception as error:
        return described(error)
    worst = max(float((a - b).norm() / (b.norm() + 1e-12)) for a, b in zip(derived, expected, strict=True))
    return "" if worst < MOST_OFF else f"its derivatives are off by {worst:.0%} from differences"
