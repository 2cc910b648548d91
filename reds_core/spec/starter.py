"""A commented spec to start from: of the networks that ship with the package, or of the user's own files and images."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from reds_core.errors import ModelError, is_text
from reds_core.models.config import Access
from reds_core.models.shipped.builtin import class_names
from reds_core.sources import sources_of
from reds_core.sources.labels import indices
from reds_core.spec.probe import classifier_in, generator_in

SHIPPED, SHIPPED_SHAPE = "fashion-mnist", (1, 32, 32)
UNLABELLED = "fashion-mnist-unlabelled"  # shipped, and takes no classes
LAYOUT = 16  # the sigma that leaves the layout of an image is its height over this
COUNT = 32  # seeds

TEMPLATE = """\
# Try it:     reds check {file}
# Run it:     reds run {file}
# Every key:  reds kinds spec, reds kinds seeds, reds kinds trajectory, ...
name: {name}

# {about_generator}
generator: {generator}

# {about_seeds}
seeds: {seeds}

# What is measured of an image. {about_attributes}
attributes:
{attributes}

# {about_label}
label: {label}

# What must not change. A number is the largest drift, in spreads: 0 is identical, 1 as different as two unrelated images.
# {{decision: 0.9}} holds a classifier's decision alone: the label keeps at least this probability.
held: {held}

# What must change, and by how much at least, in spreads.
varied: {varied}

# Four directions, both ways, four waypoints each. `reds check` tries other steps.
trajectory: {{method: corrected, directions: 4, waypoints: 4, step: 0.12}}

# A second classifier, which takes no part in holding anything, and rejects what it does not see as the label.
{judge}

shards: {{seeds: 16, image: png}}
"""


def starter(file: Path, generator: Path | None, images: str | None, classifier: Path | None) -> str:
    """Returns the text of a spec that will lie in `file`.

    Args:
        file: of the spec; paths in it are relative to its folder where they can be.
        generator, classifier: files of networks; shipped ones if None.
        images: the user's own images; sampled seeds if None.

    Raises:
        ModelError: a file or the images cannot be used.
    """
    for path in (file, generator, classifier):
        if path is not None and not is_text(path.absolute()):
            raise ModelError(
                f"{ascii(str(path))[1:-1]}: the path is not UTF-8, and no spec could name it; rename the file or folder"
            )
    access, labels = Access(torch.device("cpu"), allow_code=False), _labels(images)
    known = labels is None or indices(labels, class_names(SHIPPED)) is not None
    shape, classes = SHIPPED_SHAPE, class_names(SHIPPED) if known else ()
    about: dict[str, Any] = {"kind": "builtin", "name": SHIPPED if known else UNLABELLED}
    if generator is not None:
        about, walkable, shape = generator_in(generator.absolute(), access)
        classes = walkable.class_names
    shipped = generator is None and classifier is None and known
    held, limit = _held(classifier, access, shape, shipped)
    parts = {
        "name": re.sub(r"[^A-Za-z0-9_-]+", "-", file.stem).strip("-_") or "augment",
        "file": file,
        "generator": _flow(about, file),
        "about_generator": "A generator that ships with the package; a file of yours takes kind, path, latent_dim and output_range."
        if generator is None
        else f"Makes images {'x'.join(map(str, shape))}. What its file does not say was tried: look whether it is right.",
        "attributes": "\n".join(f"  {name}: {_flow(value, file)}" for name, value in (held | {"look": {"kind": "pixels"}}).items()),
        "about_attributes": "A network sees images in [0, 1]: say mean and std if it was trained on others."
        if classifier is not None
        else "`layout` is the picture without its details; a classifier of yours would hold what it decides on.",
        "held": _flow({next(iter(held)): limit if images is None or shipped else 0.2}, file),
        "varied": _flow({"look": 0.2 if "layout" not in held else 0.1}, file),
        "judge": "judge: {model: {kind: builtin, name: fashion-mnist-judge}}"
        if shipped
        else "# judge: {model: {kind: torchscript, path: judge.pt}}",
    }
    if shipped:
        parts["about_attributes"] = "`class` are ten raw class scores, `look` is every pixel."
    return TEMPLATE.format(**parts, **_seeds(images, about["kind"], file), **_label(images, classifier, classes))


def _labels(images: str | None) -> Sequence[str] | None:
    """Returns the labels of the user's own images. Raises ModelError if they cannot be read."""
    return None if images is None else sources_of(str(Path(images).absolute()), None).labels


def _held(
    classifier: Path | None, access: Access, shape: tuple[int, int, int], shipped: bool
) -> tuple[dict[str, dict[str, Any]], Any]:
    """Returns the attribute that is held, and its limit."""
    decision = {"decision": 0.9}
    if classifier is not None:
        return {"class": classifier_in(classifier.absolute(), access, shape)}, decision
    if shipped:
        return {"class": {"kind": "classifier", "model": {"kind": "builtin", "name": "fashion-mnist-classifier"}}}, decision
    return {"layout": {"kind": "pixels", "gray": True, "lowpass": max(1, shape[1] // LAYOUT)}}, 0.2


def _seeds(images: str | None, kind: str, file: Path) -> dict[str, str]:
    """Returns the lines about where trajectories start."""
    if images is not None:
        return {
            "seeds": _flow({"images": str(Path(images).absolute()), "fit": {"residual": True}}, file),
            "about_seeds": "Your own images: a folder with one folder a class, a table, or the tars of a WebDataset.\n"
            "# With residual, every variant has what the generator cannot draw of its image: a print, a texture.",
        }
    psi = {} if kind in ("torchscript", "exported", "biggan") else {"truncation": 0.7}
    return {
        "seeds": _flow({"first": 0, "count": COUNT} | psi, file),
        "about_seeds": f"Seeds 0 to {COUNT - 1}, each of which names a latent. A smaller truncation draws them to the mean.",
    }


def _label(images: str | None, classifier: Path | None, classes: Sequence[str]) -> dict[str, str]:
    """Returns the lines about the label."""
    if images is not None:
        return {"label": "given", "about_label": "The labels are those of your images."}
    if classifier is not None:
        return {"label": "class", "about_label": "The classifier's decision on the seed's own image."}
    if classes:
        return {"label": "condition", "about_label": "The class that is given to the generator."}
    return {"label": "none", "about_label": "No label: name a classifier attribute here to have one."}


def _flow(value: Mapping[str, Any], file: Path) -> str:
    """Returns a value as one line of YAML, its paths relative to the spec's folder where they lie below it."""
    text: str = yaml.safe_dump(_near(value, file.absolute().parent), default_flow_style=True, sort_keys=False, width=10**6)
    return text.strip()


def _near(value: Any, folder: Path) -> Any:
    if isinstance(value, Mapping):
        return {k: _near(v, folder) for k, v in value.items()}
    if isinstance(value, str) and Path(value).is_absolute() and Path(value).is_relative_to(folder):
        return str(Path(value).relative_to(folder))
    return value
