"""The files that a spec names: whether they are there, are what they are pinned to, and hold networks that load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from reds_core.errors import ModelError
from reds_core.models.config import Access, Config, FromFile, file_sha256
from reds_core.sources import sources_of
from reds_core.spec.fields import Spec
from reds_core.spec.problems import configs_in


class NamedFile(NamedTuple):
    """A file that a spec names."""

    key: str  # the spec's key for it, such as generator.path
    path: Path
    sha256: str | None  # the hash that it is pinned to
    published: str | None  # where it comes from, for people


def files(spec: Config, where: str = "") -> Iterator[NamedFile]:
    """Yields every file that a spec, or a part of one, names."""
    for key, config in configs_in(spec, where):
        for name in type(config).model_fields:
            path = getattr(config, name)
            if isinstance(path, Path):
                yield NamedFile(f"{key}{name}", path, getattr(config, "sha256", None), getattr(config, "published", None))


def check_files(spec: Spec) -> None:
    """Looks at every file that a spec names, and at the user's own images.

    Raises:
        ModelError: names every missing file, every file that differs from its pinned hash, and what is wrong with own images.
    """
    problems = []
    for file in files(spec):
        if not file.path.is_file():
            source = f"\n    published: {file.published}" if file.published else ""
            problems.append(f"{file.key}: there is no file {file.path}{source}")
        elif file.sha256 and (found := file_sha256(file.path)) != file.sha256:
            problems.append(f"{file.key}: {file.path} has sha256 {found}, the spec asks for {file.sha256}")
    if spec.seeds.images is not None:
        try:
            sources_of(spec.seeds.images, spec.seeds.classes)
        except ModelError as error:
            problems.append(str(error))
    if problems:
        raise ModelError("\n".join(problems))


def check_code(spec: Spec, allow_code: bool) -> None:
    """Raises ModelError if a spec names code of the user's own, and it may not run."""
    targets = [f"{key}target: {target}" for key, config in configs_in(spec) if (target := getattr(config, "target", None))]
    if targets and not allow_code:
        named = ", ".join(targets)
        raise ModelError(f"the spec asks to run code of yours ({named}); allow code to run if you trust it", parameter="allow_code")


def check_present(spec: Spec, access: Access) -> list[str]:
    """Loads the networks whose files are there, whatever else is missing, and returns what is wrong, each as "where: what"."""
    problems = []
    for key, config in configs_in(spec):
        if isinstance(config, FromFile) and all(file.path.is_file() for file in files(config)):
            try:
                config.load(access)
            except ModelError as error:
                problems.append(str(error.at(key.removesuffix("."))))
    return problems
