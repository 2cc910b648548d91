"""What every part of a spec shares: the base model, checked numbers, file paths and their hashes."""

from __future__ import annotations

import contextlib
import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict
from torch import nn

from reds_core.errors import ModelError, is_text


class Config(BaseModel):
    """The base of every part of a spec. Unknown keys, NaN and changes after loading are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    in_pixels: ClassVar[tuple[str, ...]] = ()  # the fields that mean something else in images of another size

    def identity(self) -> dict[str, str]:
        """Returns what decides the outcome beside the fields, for the digest: hashes of shipped weights and of the user's code."""
        return {}

    def mistakes(self) -> list[str]:
        """Returns what is wrong with the fields together, which a field's own type cannot see."""
        return []

    def doubts(self) -> list[str]:
        """Returns what is allowed but hardly meant."""
        return []


@dataclass(frozen=True)
class Access:
    """Where networks run, and whether code that a spec names may run."""

    device: torch.device
    allow_code: bool


def absolute_path(path: Path, info: Any) -> Path:
    """Returns an absolute path. Relative ones start at the folder of the spec's file, which is the validation context's `base`."""
    # `info` is a pydantic.ValidationInfo, a protocol that cannot be checked at run time, as tests check all other types.
    base = (info.context or {}).get("base", Path.cwd())
    if "\0" in str(path):
        raise ValueError("a path cannot hold a zero byte")
    if not is_text(Path(base) / path):
        raise ValueError(f"{ascii(str(path))[1:-1]}: the path is not UTF-8, and no report could name it; rename the file or folder")
    try:
        return Path(base) / path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path} names a home folder that does not exist") from error


def _digits(value: Any) -> Any:
    """Returns an integer as the text that it was written as: YAML takes the name 7 for a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


# Strict: YAML's `yes` must not become 1.0. A number may be written as an integer.
Number = Annotated[float, Strict()]
Count = Annotated[int, Strict()]
ClassName = Annotated[str, BeforeValidator(_digits, json_schema_input_type=str | int)]
File = Annotated[Path, AfterValidator(absolute_path)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class FromFile(Config, ABC):
    """A network in a file."""

    path: File = Field(description="The network's file.")
    sha256: Sha256 | None = Field(None, description="The file's SHA-256 in hex, to pin it; any content is accepted if absent.")
    published: str | None = Field(None, description="Where the file comes from, in words; shown if it is missing.")

    @abstractmethod
    def load(self, access: Access) -> Any:
        """Returns what the file holds, ready to run. Raises ModelError if it cannot be used."""


def file_sha256(path: Path) -> str:
    """Returns a file's SHA-256, in hex. Raises ModelError if it cannot be read."""
    try:
        stat = path.stat()
        return _hash(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error


@lru_cache(maxsize=256)
def _hash(path: Path, size: int, mtime_ns: int) -> str:
    # Size and time are arguments, and so part of the cache's key: a file that changes during a run is hashed again.
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(path: Path, pinned: str | None) -> None:
    """Raises ModelError if a file is missing or differs from the hash that it is pinned to."""
    found = file_sha256(path)
    if pinned and found != pinned:
        raise ModelError(f"{path} has sha256 {found}, the spec asks for {pinned}; it is not the file that was meant")


def frozen(network: nn.Module, device: torch.device) -> nn.Module:
    """Returns a network ready to run: on its device, in evaluation mode, its parameters fixed."""
    for parameter in network.parameters():  # a script module has no requires_grad_ of its own
        parameter.requires_grad_(False)
    with contextlib.suppress(NotImplementedError):  # an exported program has only the mode it was exported in
        network.eval()
    return network.to(device)
