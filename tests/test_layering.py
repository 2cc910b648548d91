"""The rooms: who may import whom."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
ORDER = [
    "errors", "disk", "patience", "storage", "types", "precision", "models", "generators", "features", "strict_yaml", "mistakes", "spec", "seeds", "directions", "jacobian", "trajectory", "images",
    "acceptance", "tangent", "straight", "job", "spreads", "prepare", "origins", "choice", "corrected", "holding", "walks", "variants", "check", "compare", "versus", "samples", "verify", "publish", "shards", "work", "runs", "summary", "charts", "sheet", "card", "croissant", "report", "train", "train_rooms",
]  # fmt: skip


def imports(path: Path) -> set[str]:
    """The modules that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{a.name}" for a in node.names} | {node.module}
    return found


def room(module: str) -> str:
    return module.split(".")[1]


def test_the_core_never_imports_prefect_or_the_flows() -> None:
    for path in (ROOT / "reds_core").rglob("*.py"):
        assert not {m for m in imports(path) if m.split(".")[0] in ("prefect", "flows", "typer", "rich")}, path


def test_a_module_imports_only_what_stands_above_it() -> None:
    for path in (ROOT / "reds_core").rglob("*.py"):
        own = path.relative_to(ROOT / "reds_core").parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        assert own in ORDER, f"{own} has no place in the order yet"
        used = {room(m) for m in imports(path) if m.startswith("reds_core.") and room(m) in ORDER}
        later = {m for m in used - {own} if ORDER.index(m) > ORDER.index(own)}
        assert not later, f"{path.name} imports {later}"


def test_nothing_of_a_machine_is_in_the_repository() -> None:
    big = [p for p in (ROOT / "reds_core").rglob("*") if p.is_file() and p.stat().st_size > 12e6]
    assert not big
    weights = sum(p.stat().st_size for p in (ROOT / "reds_core/models/weights").glob("*.safetensors"))
    assert 0 < weights < 12e6
