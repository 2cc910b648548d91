"""The rooms: who may import whom. Every folder's `__init__` lists what lies in it, in the order of import."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support import ROOT

ENTRY = re.compile(r"^(\w+)/? {2,}\S", re.M)  # "name   what it is", or "name/   what it is" for a folder
MOST_FILES = 12
FOLDERS = sorted(path.parent for package in ("reds_core", "flows") for path in (ROOT / package).rglob("__init__.py"))


def listed(folder: Path) -> list[str]:
    """Returns the names that a folder's docstring lists, in its order."""
    return ENTRY.findall(ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or "")


def imports(path: Path) -> set[str]:
    """Returns the modules that a file imports anywhere in it, with the names that it takes from them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{a.name}" for a in node.names} | {node.module}
    return found


def parts(folder: Path) -> dict[str, list[Path]]:
    """Returns what lies in a folder: each file, and each folder with all files below it, by name."""
    files = {p.stem: [p] for p in folder.glob("*.py") if p.stem not in ("__init__", "__main__")}
    return files | {p.parent.name: sorted(p.parent.rglob("*.py")) for p in folder.glob("*/__init__.py")}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: str(f.relative_to(ROOT)))
def test_a_folder_lists_what_lies_in_it_and_each_imports_only_what_stands_above_it(folder: Path) -> None:
    order, inside = listed(folder), parts(folder)
    assert sorted(order) == sorted(inside)
    package = ".".join(folder.relative_to(ROOT).parts)
    for name, files in inside.items():
        used = {m.removeprefix(f"{package}.").split(".")[0] for path in files for m in imports(path) if m.startswith(f"{package}.")}
        below = {other for other in used & set(order) - {name} if order.index(other) > order.index(name)}
        assert not below, f"{package}.{name} imports {', '.join(sorted(below))}, which stands below it"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: str(f.relative_to(ROOT)))
def test_no_folder_holds_more_than_a_dozen_files(folder: Path) -> None:
    assert len([p for p in folder.glob("*.py") if not p.stem.startswith("__")]) <= MOST_FILES


def test_the_core_never_imports_prefect_or_the_flows() -> None:
    for path in (ROOT / "reds_core").rglob("*.py"):
        assert not {m for m in imports(path) if m.split(".")[0] in ("prefect", "flows", "typer", "rich")}, path


def test_nothing_of_a_machine_is_in_the_repository() -> None:
    big = [p for p in (ROOT / "reds_core").rglob("*") if p.is_file() and p.stat().st_size > 12e6]
    assert not big
    weights = sum(p.stat().st_size for p in (ROOT / "reds_core/models/shipped/weights").glob("*.safetensors"))
    assert 0 < weights < 12e6
