"""What is asked of an export, and what can be wrong with that."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from reds_core.errors import UserError

Format = Literal["webdataset", "imagefolder"]
ROLES = ("variant", "seed", "source")
SPLIT = re.compile(r"[A-Za-z0-9_-]+")
DEFAULT_SHARDS = 8  # as many workers as a loader usually has


@dataclass(frozen=True)
class Request:
    """What an export should hold.

    Attributes:
        format: of the files.
        per_class: the most samples of a class, over all splits; None: no limit.
        per_seed: the most samples of a group; None: no limit.
        splits: their names and shares, which sum to 1.
        shards: the fewest tars of a split.
        roles: of the samples that are wanted.
    """

    format: Format = "webdataset"
    per_class: int | None = None
    per_seed: int | None = None
    splits: dict[str, float] = field(default_factory=lambda: {"train": 1.0})
    shards: int = DEFAULT_SHARDS
    roles: Sequence[str] = ROLES

    def as_dict(self) -> dict[str, Any]:
        """Returns plain JSON values, the same for all requests that ask for the same; 0 where there is no limit."""
        return {
            "format": self.format,
            "per_class": self.per_class or 0,
            "per_seed": self.per_seed or 0,
            "splits": dict(self.splits),
            "shards": self.shards if self.format == "webdataset" else 0,
            "roles": [role for role in ROLES if role in self.roles],
        }


def splits_of(text: str) -> dict[str, float]:
    """Returns the shares of splits by name, in their order: "train=0.9,val=0.1".

    Raises:
        UserError: a name or share is wrong, a name stands there twice, or the shares do not sum to 1.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, share = (word.strip() for word in part.partition("="))
        if not equals or not SPLIT.fullmatch(name):
            raise _wrong(f"{part.strip()!r} is not of the form NAME=SHARE; a name has letters, digits, _ and -", "split")
        if _compared(name) in map(_compared, found):
            raise _wrong(f"the split {name} is there twice; give it one share, under one name", "split")
        try:
            found[name] = float(share)
        except ValueError:
            raise _wrong(f"the share of {name} is not a number: {share!r}", "split") from None
        if not 0 < found[name] <= 1:
            raise _wrong(f"the share of {name} is {share}; it must be above 0, and at most 1", "split")
    total = math.fsum(found.values())
    if abs(total - 1) > 1e-6:
        raise _wrong(f"the shares sum to {total:g}; they must sum to 1, as in train=0.9,val=0.1", "split")
    return found


def _compared(name: str) -> str:
    """Returns a name as loaders and file systems compare it, which take some letters for others."""
    return name.casefold().replace("-", "_")


def roles_of(text: str) -> tuple[str, ...]:
    """Returns the roles that a list names: "variant,seed". Raises UserError for a role that there is not."""
    found = tuple(word.strip() for word in text.split(","))
    unknown = [role for role in found if role not in ROLES]
    if unknown:
        raise _wrong(f"there is no role {unknown[0]!r}; there are {', '.join(ROLES)}", "roles")
    return found


def _wrong(what: str, parameter: str) -> UserError:
    return UserError(what, parameter=parameter)
