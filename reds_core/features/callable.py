"""Any Python function as a feature: (n, c, h, w) float32 images in [0, 1] -> (n, p) numbers, a tensor or an array.

A function that leaves torch (NumPy, OpenCV, a subprocess) has no derivatives; its Jacobian is then taken by differences. An
image that it cannot measure (no face found) gets a row of NaN, or None for its row, which rejects the variant: never zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.models.config import Access, Config
from reds_core.models.factory import TARGET, import_target, target_sha256
from reds_core.types import Feature, Images


class CallableFeature(Config):
    """A Python function of yours, "package.module:function"; needs --allow-code."""

    kind: Literal["callable"]
    target: str = Field(pattern=TARGET, description='"package.module:function".')
    options: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments for every call.")

    def identity(self) -> dict[str, str]:
        return {"code_sha256": target_sha256(self.target)}

    def load(self, access: Access, shape: tuple[int, int, int]) -> Feature:
        return _CallableFeature(self, access)


class _CallableFeature:
    names: tuple[str, ...] = ()
    unit = "the function's output (L2)"

    def __init__(self, config: CallableFeature, access: Access) -> None:
        self.function = RowsOf(config.target, config.options, access)

    def bind(self, images: Images) -> Tensor | None:
        return None

    def __call__(self, images: Images, bound: Tensor | None) -> Tensor:
        return self.function(images).flatten(1)


class RowsOf:
    """A function of the user's, called with images; its output as float32 rows (n, ...), NaN for images that it gives None for."""

    def __init__(self, target: str, options: Mapping[str, Any], access: Access) -> None:
        self.function = import_target(target, access)
        self.target, self.options = target, options
        self.shape: tuple[int, ...] | None = None  # of a row, once one is known

    def __call__(self, images: Images) -> Tensor:
        out = self.function(images, **self.options)
        if out is None:
            out = [None] * len(images)
        if isinstance(out, list | tuple):
            out = self._stacked(out, images.device)
        if not isinstance(out, Tensor):
            out = torch.as_tensor(out, dtype=torch.float32, device=images.device)
        if out.ndim == 0 or len(out) != len(images):
            raise ModelError(f"{self.target} gives {tuple(out.shape)} for {len(images)} images; (n, p) is needed, a row an image")
        self.shape = tuple(out.shape[1:])
        return out.float().reshape(len(images), *self.shape or (1,))

    def _stacked(self, rows: Sequence[Any], device: torch.device) -> Tensor:
        known = [torch.as_tensor(row, dtype=torch.float32, device=device) for row in rows if row is not None]
        shapes = {tuple(row.shape) for row in known} or ({self.shape} if self.shape is not None else set())
        if not shapes:
            raise ModelError(
                f"{self.target} found nothing in the first {len(rows)} images, so how many numbers it gives is not known yet; let it "
                "return a row of NaN for an image that it cannot measure"
            )
        if len(shapes) > 1:
            raise ModelError(
                f"{self.target} gives rows of different shapes, {sorted(shapes)}; every image must have as many numbers"
            )
        nothing = torch.full(shapes.pop(), float("nan"), device=device)
        found = iter(known)
        return torch.stack([nothing if row is None else next(found) for row in rows])
