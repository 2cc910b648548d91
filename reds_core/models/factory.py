"""Networks built by a Python function of the user's: the one kind that can be anything, and that runs code of the user's."""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from reds_core.errors import ModelError, described
from reds_core.models.config import Access, Config, File, Sha256, check_file, frozen
from reds_core.models.states import fill, read_state_dict

TARGET = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$"


class Factory(Config):
    """A network that a Python function of yours returns; it runs code of yours, which must be allowed."""

    kind: Literal["factory"]
    target: str = Field(pattern=TARGET, description='"package.module:function", called with `options`; returns a torch.nn.Module.')
    weights: File | None = Field(
        None, description="A state dict for it, .safetensors or written by torch.save; as the function returns it if absent."
    )
    sha256: Sha256 | None = Field(
        None, description="The weights file's SHA-256 in hex, to pin it; any content is accepted if absent."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of the function; none if absent.")

    def identity(self) -> dict[str, str]:
        return {"code_sha256": target_sha256(self.target)}

    def mistakes(self) -> list[str]:
        return ["sha256 pins a weights file, and there is none"] if self.sha256 and not self.weights else []

    def title(self) -> str:
        return f"the network of {self.target}"

    def load(self, access: Access) -> nn.Module:
        build = import_target(self.target, access)
        try:
            network = build(**self.options)
        # The user's own code may raise anything.
        except (Exception, SystemExit) as error:
            raise ModelError(f"{self.target}({self._arguments()}) failed: {described(error)}") from error
        if not isinstance(network, nn.Module):
            raise ModelError(f"{self.target} returned {type(network).__name__}; a torch.nn.Module is needed")
        if self.weights:
            check_file(self.weights, self.sha256)
            fill(network, read_state_dict(self.weights), self.weights, self.target)
        return frozen(network, access.device)

    def arity(self, network: nn.Module) -> int:
        """Returns how many inputs the network takes."""
        if isinstance(network, torch.jit.ScriptModule):
            return len(network.forward.schema.arguments) - 1  # type: ignore[attr-defined]
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = inspect.signature(network.forward).parameters.values()
        if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
            return 2
        return sum(p.kind in kinds for p in parameters)

    def _arguments(self) -> str:
        return ", ".join(f"{k}={v!r}" for k, v in self.options.items())


def import_target(target: str, access: Access) -> Callable[..., Any]:
    """Returns the function that "package.module:function" names.

    Raises:
        ModelError: code may not run (`access.allow_code`), or there is no such function.
    """
    if not access.allow_code:
        raise ModelError(
            f"the spec asks to run {target}, which is code of yours; allow code to run if you trust it", parameter="allow_code"
        )
    module, _, name = target.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    # The user's own module may raise anything when it is imported.
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{target} cannot be imported: {type(error).__name__}: {error}; it must be importable from the working directory or "
            "installed"
        ) from error
    if not callable(found):
        raise ModelError(f"{target} is not a function but {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def target_sha256(target: str) -> str:
    """Returns the SHA-256 of the source file that a target is in, without running it. Raises ModelError if it cannot be found."""
    module = target.partition(":")[0]
    try:
        # `find_spec` would import the parent packages; here only their folders are looked at.
        top, *rest = module.split(".")
        spec = _find_inside(importlib.util.find_spec(top), rest)
    except (ImportError, ValueError) as error:
        raise ModelError(f"{target}: its module cannot be found: {error}") from error
    if spec is None or not spec.origin or not Path(spec.origin).is_file():
        raise ModelError(f"{target}: its module cannot be found; it must be importable from the working directory or installed")
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()


def _find_inside(spec: importlib.machinery.ModuleSpec | None, rest: list[str]) -> importlib.machinery.ModuleSpec | None:
    """Returns the import spec of a module below a top-level one, by the packages' folders, without importing any of them."""
    for part in rest:
        places = spec.submodule_search_locations if spec else None
        if not places:
            return None
        spec = importlib.machinery.PathFinder.find_spec(part, list(places))
    return spec
