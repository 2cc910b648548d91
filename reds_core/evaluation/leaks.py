"""What would make an evaluation say more than is true: test images that were trained on, and labels that networks have seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from reds_core.errors import ModelError
from reds_core.evaluation.labelled import Labelled
from reds_core.models.shipped.builtin import WEIGHTS
from reds_core.sources import Sources
from reds_core.spec.fields import Spec

MOST_NAMED = 3


def check_apart(train: tuple[Sources, Labelled], test: tuple[Sources, Labelled], own: Labelled, stored: Sequence[str]) -> None:
    """Checks that no test image is also trained on, as a file or in the shape that networks see.

    Args:
        train, test: the user's data, as files and as images.
        own: the user's images that the run started from, if it did.
        stored: a hash of each test image's pixels as the run would store them.

    Raises:
        ModelError: one is; the message names both.
    """
    files = {s.sha256: s.name for s in train[0].images}
    pixels = dict(zip(train[1].hashes, train[1].names, strict=True))
    run = dict(zip(own.hashes, own.origins, strict=True))
    twice = [(s.name, files.get(s.sha256) or pixels.get(h)) for s, h in zip(test[0].images, test[1].hashes, strict=True)]
    both = [(mine, other) for mine, other in twice if other]
    if both:
        raise ModelError(
            f"{len(both)} of the test images are training images, too: {_pairs(both)}. What a network has been trained on tells "
            "nothing about what it has learnt; remove them from one of the two"
        )
    used = [(name, run[h]) for name, h in zip(test[1].names, stored, strict=True) if h in run]
    if used:
        raise ModelError(f"the run was made from {len(used)} of the test images: {_pairs(used)}; remove them from the test images")


def warnings_of(spec: Spec) -> list[str]:
    """Returns which networks of a spec have seen labels that a training on few images does not have, by their cards, and which have
    none.
    """
    found, silent = [], []
    for role, model in _models(spec):
        card = _card(model)
        if not card and model is not spec.generator:
            silent.append(f"{role} ({_title(model)})")
        if card.get("labels"):
            found.append(
                f"{role.capitalize()} ({_title(model)}) was trained with labels: {card['data']}. A gain may be those labels."
            )
    if silent:
        found.append(f"No card says with which labels {' and '.join(silent)} {'was' if len(silent) == 1 else 'were'} trained.")
    return found


def _models(spec: Spec) -> Iterator[tuple[str, Any]]:
    """Yields every model that decides what extra images show or how they are labelled, with its role in words."""
    yield "the generator", spec.generator
    for name in dict.fromkeys([*spec.held, *([spec.label] if spec.label in spec.attributes else [])]):
        model = getattr(spec.attributes[name], "model", None)
        if model is not None:
            yield f"the network of {name}", model
    if spec.judge is not None:
        yield "the judge", spec.judge.model


def _card(model: Any) -> dict[str, Any]:
    """Returns what the card beside a model's file says that it was trained on; nothing if it says nothing."""
    if getattr(model, "kind", "") == "builtin":
        path = WEIGHTS / f"{model.name}.md"
    else:
        file = getattr(model, "path", None) or getattr(model, "weights", None)
        path = Path(file).with_suffix(".md") if file else Path()
    if path.suffix != ".md" or not path.is_file():
        return {}
    front = path.read_text(encoding="utf-8", errors="replace").split("---\n")
    try:
        said = yaml.safe_load(front[1]) if len(front) > 2 and not front[0].strip() else None
    except yaml.YAMLError:
        said = None
    trained_on = said.get("trained_on") if isinstance(said, dict) else None
    if isinstance(trained_on, str):
        return {"data": trained_on, "labels": True}
    return {"data": "its card does not say which", **trained_on} if isinstance(trained_on, dict) else {}


def _title(model: Any) -> str:
    file = getattr(model, "path", None) or getattr(model, "weights", None)
    return str(getattr(model, "name", None) or (Path(file).name if file else model.kind))


def _pairs(both: Sequence[tuple[str, str | None]]) -> str:
    return ", ".join(f"{a} and {b}" if a != b else a for a, b in both[:MOST_NAMED]) + (", ..." if len(both) > MOST_NAMED else "")
