"""TODO."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reds_core.errors import ModelError
from reds_core.models.config import Access, Config, FromFile, file_sha256
from reds_core.spec.fields import Spec
from reds_core.spec.problems import walk


def files(spec: Config, where: str = "") -> Iterator[tuple[str, Path, str | None, str | None]]:
    """Every file that a spec names: the key that names it, its path, the hash it is pinned to, and where it comes from."""
    for key, value in walk(spec, where):
        for name in type(value).model_fields:
            path = getattr(value, name)
            if isinstance(path, Path):
                yield f"{key}{name}", path, getattr(value, "sha256", None), getattr(value, "published", None)


def check_files(spec: Spec) -> None:
    """Raises ModelError with every missing file and every file that differs from its pinned hash."""
    problems = []
    for key, path, pinned, published in files(spec):
        if not path.is_file():
            problems.append(f"{key}: there is no file {path}" + (f"\n    published: {published}" if published else ""))
        elif pinned and (found := file_sha256(path)) != pinned:
            problems.append(f"{key}: {path} has sha256 {found}, the spec asks for {pinned}")
    if problems:
        raise ModelError("\n".join(problems))


def check_present(spec: Spec, access: Access) -> list[str]:
    """What is wrong with the networks whose files are there, each as "where: what", whatever else is missing."""
    problems = []
    for key, value in walk(spec, ""):
        if isinstance(value, FromFile) and all(path.is_file() for _, path, _, _ in files(value)):
            try:
                value.load(access)
            except ModelError as error:
                problems.append(f"{key.removesuffix('.')}: {error}")
    return problems
