"""Imported checkpoints on disk: NAME.safetensors with the weights, and NAME.json beside it with the architecture and the origin.

`import_checkpoint` writes the two, `Imported` opens them. Nothing in either can run. The JSON is written last, and names the weights' hash:
a pair that does not belong together is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from reds_core.errors import ModelError
from reds_core.models.checkpoints import converted, read_checkpoint
from reds_core.models.config import Access, Config, File, FromFile, Sha256, check_file, file_sha256, frozen
from reds_core.models.published.biggan import BigGan
from reds_core.models.published.stylegan2 import StyleGan2
from reds_core.models.published.stylegan3 import StyleGan3

LICENCES = {
    "stylegan2-ada-pytorch": "NVIDIA publishes its checkpoints for non-commercial use; what was trained by others is theirs to license.",
    "stylegan3": "NVIDIA publishes its checkpoints for non-commercial use; what was trained by others is theirs to license.",
    "rosinality": "The code is MIT; a checkpoint converted from NVIDIA's keeps NVIDIA's terms, others are their trainers' to license.",
    "biggan-pytorch": "The code is MIT; its checkpoints name no licence of their own, and ImageNet's terms may bear on what is made of them.",
}

AnyArchitecture = Annotated[StyleGan2 | StyleGan3 | BigGan, Field(discriminator="kind")]


class Source(Config):
    """Where an imported file came from."""

    file: str
    sha256: Sha256
    format: str
    licence: str


class Description(Config):
    """The JSON beside the weights."""

    schema_: Literal[1] = Field(alias="schema")
    architecture: AnyArchitecture
    weights_sha256: Sha256
    source: Source


def import_checkpoint(source: Path, destination: Path, config: Path | None = None) -> Description:
    """Converts a published checkpoint to `destination` (.safetensors) and the JSON beside it, without running anything in it.

    Args:
        source: a network pickle, or a state dict of torch.save.
        destination: ends in .safetensors; both files are replaced if they exist.
        config: the JSON of BigGAN-PyTorch's configuration.

    Raises:
        ModelError: the file cannot be read, is refused, or holds no known network.
    """
    if destination.suffix != ".safetensors":
        raise ModelError(f"{destination} must end in .safetensors; its architecture goes beside it as .json")
    found = read_checkpoint(source)
    settings = None if config is None else _json(config)
    try:
        name, architecture, state = converted(found, settings)
        state = {k: v.float().contiguous() for k, v in state.items()}
        _fits(architecture, state)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error
    except ValidationError as error:
        raise ModelError(f"{source} cannot be converted: {_first(error)}") from error
    # Contents that read as a checkpoint, but are none, or damaged: wrong types and absurd numbers, each with its own error.
    except Exception as error:
        raise ModelError(f"{source} cannot be converted: {type(error).__name__}: {str(error)[:200]}") from error
    weights = save(state)
    description = Description(
        schema=1, architecture=architecture, weights_sha256=hashlib.sha256(weights).hexdigest(),
        source=Source(file=ascii(source.name)[1:-1], sha256=file_sha256(source), format=name, licence=LICENCES[name]),
    )  # fmt: skip
    text = description.model_dump_json(indent=1, by_alias=True) + "\n"
    _write_both(destination, weights, text.encode())
    return description


def _write_both(destination: Path, weights: bytes, text: bytes) -> None:
    """The two files, or neither: under names of their own until both are whole."""
    targets = {destination: weights, destination.with_suffix(".json"): text}
    parts: dict[Path, Path] = {}
    try:
        for target in targets:
            if target.is_dir():
                raise ModelError(f"{target} is a folder; give the name of a file")
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
    """The first of pydantic's mistakes as "where: what"."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg'][:200]}"


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} is no JSON of names and values")
    return found


def _fits(architecture: AnyArchitecture, state: dict[str, Tensor]) -> None:
    """Raises ModelError if the weights are not just those of the architecture, or hold what is no number."""
    with torch.device("meta"):
        expected = {k: tuple(v.shape) for k, v in built(architecture).state_dict().items()}
    found = {k: tuple(v.shape) for k, v in state.items()}
    if found != expected:
        wrong = sorted(k for k in {*found, *expected} if found.get(k) != expected.get(k))
        shown = "; ".join(f"{k}: {found.get(k, 'missing')}, due {expected.get(k, 'nothing')}" for k in wrong[:4])
        raise ModelError(f"it does not fit its own architecture in {len(wrong)} tensors: {shown}")
    broken = [k for k, v in state.items() if not bool(torch.isfinite(v).all())]
    if broken:
        raise ModelError(f"it holds NaN or infinity in {len(broken)} tensors, {broken[0]} among them")


def built(architecture: AnyArchitecture) -> nn.Module:
    """The network of an architecture, without its weights: `mapping` and `synthesis`, or for a BigGAN the generator itself."""
    if isinstance(architecture, BigGan):
        return architecture.build()
    mapping, synthesis = architecture.build()
    return nn.ModuleDict({"mapping": mapping, "synthesis": synthesis})


class Imported(FromFile):
    """A checkpoint imported by `reds import`."""

    path: File = Field(description="The .safetensors file that `reds import` wrote; its .json lies beside it.")

    def identity(self) -> dict[str, str]:
        return {"architecture_sha256": hashlib.sha256(self.describe().architecture.model_dump_json().encode()).hexdigest()}

    def describe(self) -> Description:
        """The JSON beside the weights. Raises ModelError if it is missing or wrong."""
        path = self.path.with_suffix(".json")
        try:
            return TypeAdapter(Description).validate_json(path.read_bytes())
        except OSError as error:
            raise ModelError(
                f"{path}, the architecture of {self.path.name}, cannot be read: {error.strerror}; `reds import` writes both"
            ) from error
        except ValidationError as error:
            raise ModelError(f"{path} is no description of an imported network: {_first(error)}") from error

    def open(self, access: Access) -> tuple[Description, nn.Module]:
        """The description and its network with weights, ready to run."""
        check_file(self.path, self.sha256)
        description = self.describe()
        if file_sha256(self.path) != description.weights_sha256:
            raise ModelError(
                f"{self.path} is not the file that {self.path.with_suffix('.json').name} describes; import the checkpoint again"
            )
        try:
            with torch.device("meta"):
                network = built(description.architecture)
            state = load_file(self.path)
            network.load_state_dict(state, assign=True)
        # The hash is right, so this pair was made wrong: numbers that no network can have, weights of another. Each has its own errors.
        except Exception as error:
            raise ModelError(
                f"{self.path} does not hold the weights of its architecture: {type(error).__name__}: {error}"
            ) from error
        odd = [k for k, v in state.items() if v.dtype != torch.float32 or not bool(torch.isfinite(v).all())]
        if odd:
            raise ModelError(
                f"{self.path} holds {len(odd)} tensors that are not finite float32 numbers, {odd[0]} among them; import it again"
            )
        if not isinstance(description.architecture, BigGan):  # whose normalisations make a rounding of another order visible
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return description, frozen(network, access.device)
