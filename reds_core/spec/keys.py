"""The keys that a spec may have at a place, for those who mistyped one."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from reds_core.spec.fields import Spec

# A list as descriptions write it, such as [height, width].
FORM = re.compile(r"\[[A-Za-z_]+(?:, [A-Za-z_]+)+\]")


def nearest(place: Sequence[Any], key: str) -> str:
    """Returns advice on an unknown key.

    Args:
        place: where it stands, as in pydantic's errors: the keys and kinds above it.
        key: as it was written.
    """
    known = sorted({name for model in _models(place) for name in model.model_fields})
    close = difflib.get_close_matches(key, known, 1, 0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"there are: {', '.join(known)}" if known else "`reds schema` lists the known ones"


def form(place: Sequence[Any]) -> str:
    """Returns how a list at a place is written, such as "[height, width]", or ""."""
    infos = [m.model_fields[place[-1]] for m in _models(place[:-1]) if place and place[-1] in m.model_fields]
    found = (FORM.search(info.description or "") for info in infos)
    return next((match.group() for match in found if match), "")


def _models(place: Sequence[Any]) -> list[type[BaseModel]]:
    """Returns the models that may stand at a place."""
    # Of the two forms of a limit, pydantic names the one that it chose as if it were a key.
    place = [*place[:2], *place[3:]] if place[:1] in (["held"], ("held",)) else place
    kinds: list[Any] = [Spec]
    for part in place:
        kinds = [inner for kind in kinds for inner in _inside(kind, part)]
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _inside(kind: Any, part: Any) -> Iterator[Any]:
    """Yields what may stand below a key of a type, or the type itself if the key names it among others."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        info = kind.model_fields.get(part) if isinstance(part, str) else None
        if info is not None:
            yield from _members(info.annotation)
        elif not _is_kind(kind.model_fields.get("kind")) or part in get_args(kind.model_fields["kind"].annotation):
            yield kind
    elif get_origin(kind) is dict:
        yield from _members(get_args(kind)[1])
    elif get_origin(kind) in (tuple, list):
        yield from _members(get_args(kind)[0])


def _is_kind(info: FieldInfo | None) -> bool:
    return info is not None and get_origin(info.annotation) is Literal


def _members(kind: Any) -> Iterator[Any]:
    """Yields the types that an annotation stands for."""
    origin = get_origin(kind)
    if origin is Annotated:
        yield from _members(get_args(kind)[0])
    elif origin in (typing.Union, types.UnionType):
        for member in get_args(kind):
            yield from _members(member)
    else:
        yield kind
