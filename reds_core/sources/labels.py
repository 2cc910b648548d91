"""The names of the user's labels -> the class indices that a generator, a classifier and a judge use."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from reds_core.errors import ModelError


def plain(name: str) -> str:
    """Returns a label's name as it is compared: `T-shirt/top` cannot be a folder, so that `T-shirt_top` is the same label."""
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c not in "/_- ")


def indices(labels: Sequence[str], names: Sequence[str]) -> dict[str, int] | None:
    """Returns the index of every label among class names; None if one has none, or two have the same."""
    by_name = {plain(name): index for index, name in enumerate(names)}
    found = {label: by_name[plain(label)] for label in labels if plain(label) in by_name}
    return found if len(found) == len(labels) == len(set(found.values())) else None


def label_names(labels: Sequence[str], *known: Sequence[str]) -> tuple[str, ...]:
    """Returns the names that label indices count in: the first of the known lists that has all labels, or the labels themselves."""
    for names in known:
        if names and indices(labels, names) is not None:
            return tuple(names)
    return tuple(labels)


def conditions(labels: Sequence[str], classes: Sequence[str]) -> dict[str, int]:
    """Returns the class of a conditional generator for every label; nothing without classes.

    Raises:
        ModelError: the generator does not have a class of this name.
    """
    if not classes:
        return dict.fromkeys(labels, 0)
    missing = [label for label in labels if indices([label], classes) is None]
    if missing:
        raise ModelError(
            f"seeds.images: the generator has no class named {', '.join(missing[:5])}; it has {len(classes)}: "
            f"{', '.join(classes[:20])}. Rename the labels, choose some with seeds.classes, or take a generator without classes"
        )
    found = indices(labels, classes)
    if found is None:
        raise ModelError(f"seeds.images: two of the labels {', '.join(labels)} name the same class of the generator; rename one")
    return found
