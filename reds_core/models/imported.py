"""Imported checkpoints on disk: NAME.safetensors with the weights, and NAME.json beside it with their architecture and origin.

`import_checkpoint` writes the two, and `open_imported` opens them. Nothing in either can run. The JSON holds the weights' hash, so
that a pair that does not belong together is noticed.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from reds_core.errors import ModelError
from reds_core.models.checkpoints import (
    NotSupportedError,
    converted,
    notes_of,
    read_checkpoint,
    read_settings,
    way_round,
)
from reds_core.models.config import Access, Config, Sha256, check_file, file_sha256, frozen
from reds_core.models.published import Architecture
from reds_core.words import counted


class Provenance(Config):
    """Where an imported file came from."""

    file: str
    sha256: Sha256
    format: str
    licence: str
    notes: tuple[str, ...] = ()  # what a user should know of it


class Description(Config):
    """The JSON beside the weights."""

    schema_: Literal[1] = Field(alias="schema")
    architecture: Annotated[Architecture, Field(discriminator="kind")]
    weights_sha256: Sha256
    provenance: Provenance = Field(alias="source")


def import_checkpoint(checkpoint: Path, destination: Path, config: Path | None = None) -> Description:
    """Converts a published checkpoint to `destination` (.safetensors) and the JSON beside it, without running anything in it.

    Args:
        checkpoint: such as a network pickle or a state dict of torch.save.
        destination: ends in .safetensors; both files are replaced if they exist.
        config: the settings that the checkpoint was trained with: a JSON file, or BigGAN-PyTorch's state_dict.pth.

    Raises:
        ModelError: the file cannot be read, is refused, or holds no known network.
    """
    if destination.suffix != ".safetensors":
        raise ModelError(f"{destination} must end in .safetensors; its architecture is written beside it as .json")
    found = read_checkpoint(checkpoint)
    settings = None if config is None else read_settings(config)
    try:
        family, architecture, state = converted(found, settings)
        state = {k: v.float().contiguous() for k, v in state.items()}
        check_fit(architecture, state)
    except NotSupportedError as error:
        raise NotSupportedError(f"{checkpoint}: {error}\n{way_round(checkpoint.name)}") from error
    except ModelError as error:
        raise error.at(str(checkpoint)) from error
    except ValidationError as error:
        raise ModelError(f"{checkpoint} cannot be converted: {_first(error)}") from error
    # What reads as a checkpoint may still hold wrong types and absurd numbers, each of which raises an error of its own.
    except Exception as error:
        raise ModelError(f"{checkpoint} cannot be converted: {type(error).__name__}: {str(error)[:200]}") from error
    weights = save(state)
    description = Description(
        schema=1, architecture=architecture, weights_sha256=hashlib.sha256(weights).hexdigest(),
        source=Provenance(
            file=ascii(checkpoint.name)[1:-1], sha256=file_sha256(checkpoint), format=family.name, licence=family.licence,
            notes=tuple(notes_of(found)),
        ),
    )  # fmt: skip
    text = description.model_dump_json(indent=1, by_alias=True) + "\n"
    _write_both(destination, weights, text.encode())
    return description


def _write_both(destination: Path, weights: bytes, text: bytes) -> None:
    """Writes the two files, or neither: under temporary names until both are whole."""
    targets = {destination: weights, destination.with_suffix(".json"): text}
    parts: dict[Path, Path] = {}
    try:
        for target in targets:
            if target.is_dir():
                raise ModelError(f"{target} is a folder; name a file")
        destination.parent.mkdir(parents=True, exist_ok=True)
        for target, content in targets.items():
            handle, part = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
            parts[target] = Path(part)
            with open(handle, "wb") as file:
                file.write(content)
            os.chmod(part, 0o644)
        for target, path in parts.items():
            os.replace(path, target)
    except OSError as error:
        raise ModelError(f"{destination} cannot be written: {error.strerror or error}") from error
    finally:
        for path in parts.values():
            path.unlink(missing_ok=True)


def _first(error: ValidationError) -> str:
    """Returns the first of pydantic's mistakes as "where: what"."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg'][:200]}"


def check_fit(architecture: Architecture, state: dict[str, Tensor]) -> None:
    """Raises ModelError if the weights are not exactly those of the architecture, or hold NaN or infinity."""
    with torch.device("meta"):
        expected = {k: tuple(v.shape) for k, v in architecture.build().state_dict().items()}
    found = {k: tuple(v.shape) for k, v in state.items()}
    if found != expected:
        wrong = sorted(k for k in {*found, *expected} if found.get(k) != expected.get(k))
        shown = "; ".join(f"{k}: is {found.get(k, 'missing')}, should be {expected.get(k, 'missing')}" for k in wrong[:4])
        raise ModelError(f"it does not fit its own architecture in {len(wrong)} tensors: {shown}")
    broken = [k for k, v in state.items() if not bool(torch.isfinite(v).all())]
    if broken:
        raise ModelError(f"it holds NaN or infinity in {counted(len(broken), 'tensor')}, {broken[0]} among them")


def describe(path: Path) -> Description:
    """Returns the JSON beside the weights in `path`. Raises ModelError if it is missing or wrong."""
    beside = path.with_suffix(".json")
    try:
        return TypeAdapter(Description).validate_json(beside.read_bytes())
    except OSError as error:
        raise ModelError(
            f"{beside}, the architecture of {path.name}, cannot be read: {error.strerror}; `reds import` writes both"
        ) from error
    except ValidationError as error:
        raise ModelError(f"{beside} does not describe an imported network: {_first(error)}") from error


def open_imported(path: Path, pinned: str | None, access: Access) -> tuple[Architecture, nn.Module]:
    """Returns an imported checkpoint's architecture, and its network with weights, ready to run.

    Args:
        path: of the .safetensors file.
        pinned: the SHA-256 that it must have, if any.
        access: where the network runs.

    Raises:
        ModelError: a file is missing, is not what it is pinned to, or does not fit the other.
    """
    check_file(path, pinned)
    description = describe(path)
    if file_sha256(path) != description.weights_sha256:
        raise ModelError(f"{path} is not the file that {path.with_suffix('.json').name} describes; import the checkpoint again")
    try:
        with torch.device("meta"):
            network = description.architecture.build()
        state = load_file(path)
        network.load_state_dict(state, assign=True)
    # The hash is right, so the pair was made wrong: absurd numbers, or weights of another network, each with its own error.
    except Exception as error:
        raise ModelError(f"{path} does not hold the weights of its architecture: {type(error).__name__}: {error}") from error
    odd = [k for k, v in state.items() if v.dtype != torch.float32 or not bool(torch.isfinite(v).all())]
    if odd:
        raise ModelError(
            f"{path} holds {len(odd)} tensors that are not finite float32 numbers, {odd[0]} among them; import it again"
        )
    network.to(memory_format=description.architecture.layout)  # type: ignore[call-overload]
    return description.architecture, frozen(network, access.device)
