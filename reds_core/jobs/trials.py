"""Every feature and the judge, tried on a few images: what fails in one of them is reported with its name, and so is chance."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from reds_core.errors import ModelError, described
from reds_core.features import CallableFeature, Landmarks
from reds_core.jobs.job import Networks
from reds_core.models.answers import check_alike, frozen_sizes
from reds_core.types import Images, Rows


def try_networks(networks: Networks, images: Images) -> None:
    """Runs every feature and the judge on images, as many as fit in one batch; one that is tried alone, beside a second one too.

    Raises:
        ModelError: one fails, answers with another shape than is needed, or otherwise when it is asked again or in another batch.
    """
    most = networks.batch
    for name, feature in networks.features.items():
        config = networks.spec.attributes[name]
        # A user's own measurement may be noisy, within its tolerance (`reds_core.jobs.reference.check_noise`).
        own = isinstance(config, CallableFeature) or (isinstance(config, Landmarks) and config.model is None)
        _try(f"attributes.{name}", lambda x, f=feature: f(x, f.bind(x)), images, most, may_vary=own)  # type: ignore[misc]
    if networks.judge is not None:
        _check_scores(networks, _try("judge", networks.judge, images, most))


def _check_scores(networks: Networks, scores: Tensor) -> None:
    """Raises ModelError if the judge's scores are not those of the label's classes."""
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ModelError(f"judge: gives {tuple(scores.shape)}; class scores (n, classes) are needed")
    if networks.label_names and scores.shape[1] != len(networks.label_names):
        raise ModelError(
            f"judge: decides among {scores.shape[1]} classes, but the label is one of {len(networks.label_names)}; "
            "both must know the same classes in the same order"
            + (
                "; own labels are numbered in the order of their names, unless a classifier attribute has `names` for all classes"
                if networks.spec.label == "given"
                else ""
            )
        )


def _try(where: str, call: Callable[[Images], Tensor], images: Images, most: int, *, may_vary: bool = False) -> Tensor:
    """Returns what a network answers to images, to at most so many. Raises ModelError that begins with `where`."""

    def answers(rows: Rows) -> Tensor:
        with torch.no_grad():
            return call(images[rows])

    n, device = min(most, len(images)), images.device
    try:
        first = answers(torch.arange(n, device=device))
    except torch.OutOfMemoryError:
        raise
    # Somebody else's network: whatever it raises is shown as its own.
    except Exception as error:
        frozen = frozen_sizes(answers, n, device)
        if isinstance(error, ModelError) and not frozen:
            raise error.at(where) from error
        cure = frozen or "input_size, input_range, mean and std say what a network expects"
        what = str(error) if isinstance(error, ModelError) else described(error, -1)
        raise ModelError(f"{where}: failed on the generator's images {tuple(images.shape)}: {what}; {cure}") from error
    check_alike(f"{where}: the network", answers, first, may_vary=may_vary)
    return first
