"""What a spec may say: kinds, and parts of a spec, with their fields."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from rich.markup import escape

from flows.cli.show.tables import console, print_table, table_of
from reds_core.errors import UserError


def show_kinds() -> None:
    """Prints every kind, and every part of a spec, with a line on what it is."""
    for group, members in _kinds().items():
        table = table_of(group, "kind", "what it is")
        for name, what in members.items():
            text = what if isinstance(what, str) else (what.__doc__ or "").strip().split("\n")[0]
            table.add_row(f"[bold]{name}[/bold]", escape(text))
        print_table(table)
    console.print("[dim]reds kinds NAME shows a kind's fields; reds schema the whole spec.[/dim]")


def show_kind(name: str) -> None:
    """Prints the fields of every kind of this name."""
    found = [(g, m[name]) for g, m in _kinds().items() if name in m]
    if not found:
        known = sorted({k for members in _kinds().values() for k in members})
        close = difflib.get_close_matches(name, known, 1, 0.6)
        guess = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"there is no kind {name!r}; {guess}there are: {', '.join(known)}")
    for group, what in found:
        console.print(f"[bold]{name}[/bold] ({group.lower()})")
        console.print(escape(what if isinstance(what, str) else (what.__doc__ or "").strip()))
        if not isinstance(what, str):
            table = table_of("", "field", "type", "default", "meaning")
            for key, kind, default, meaning in _fields(what):
                table.add_row(key, escape(kind), escape(default), escape(meaning))
            print_table(table)


def _kinds() -> dict[str, dict[str, Any]]:
    from reds_core.features import AnyFeature
    from reds_core.generators import AnyGenerator
    from reds_core.models import AnyNetwork
    from reds_core.spec.fields import Decision, Fit, Goal, Judge, Seeds, Shards, Spec
    from reds_core.spec.trajectory import METHODS, Trajectory

    def members(union: Any) -> dict[str, Any]:
        return {get_args(c.model_fields["kind"].annotation)[0]: c for c in get_args(get_args(union)[0])}

    return {
        "Generators": members(AnyGenerator),
        "Features": members(AnyFeature),
        "Networks (of features and the judge)": members(AnyNetwork),
        "Trajectory methods": METHODS,
        "Parts of a spec": {
            "spec": Spec,
            "seeds": Seeds,
            "fit": Fit,
            "trajectory": Trajectory,
            "judge": Judge,
            "shards": Shards,
            "decision": Decision,
            "goal": Goal,
        },
    }


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, str, str, str]]:
    for name, info in model.model_fields.items():
        default = "required" if info.is_required() else _as_yaml(info.get_default(call_default_factory=True))
        yield name, _type_name(info.annotation), default, info.description or ""


def _as_yaml(default: Any) -> str:
    """Returns a default as a spec would say it; "" for none."""
    if isinstance(default, BaseModel):
        default = default.model_dump(mode="json", exclude_none=True)
    text = yaml.safe_dump(default, default_flow_style=True, width=1000, sort_keys=False)
    return "" if default is None else text.removesuffix("\n").removesuffix("\n...")


def _type_name(kind: Any) -> str:
    """Returns a type as a person would say it."""
    origin = get_origin(kind)
    args = [a for a in get_args(kind) if a is not Ellipsis]
    if origin is Annotated:
        return _type_name(args[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(dict.fromkeys(_type_name(a) for a in args if a is not type(None)))
    if origin is Literal:
        return " | ".join(str(a) for a in args)
    if origin is tuple:
        return "[" + ", ".join(_type_name(a) for a in args) + (", ...]" if Ellipsis in get_args(kind) else "]")
    if origin is dict:
        return f"{{{_type_name(args[0])}: {_type_name(args[1])}}}"
    if isinstance(kind, type) and issubclass(kind, BaseModel) and "kind" in kind.model_fields:
        return _type_name(kind.model_fields["kind"].annotation)
    plain = {"str": "text", "float": "number", "int": "integer", "bool": "true | false", "Path": "file", "Any": "anything"}
    return plain.get(getattr(kind, "__name__", str(kind)), getattr(kind, "__name__", str(kind)).lower())
