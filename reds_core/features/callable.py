"""Any Python function as a feature: (n, c, h, w) float32 images in [0, 1] -> (n, p) numbers, a tensor or an array.

A function that leaves torch (NumPy, OpenCV, a subprocess) has no derivatives, so its Jacobian is taken by finite differences. For
an image that it cannot measure (no face found), the function returns a row of NaN, or None in place of the row, which rejects the
variant: never zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.models.answers import single
from reds_core.models.config import Access, Config
from reds_core.models.factory import TARGET, import_target, target_sha256
from reds_core.types import Feature, Features, Images


class CallableFeature(Config):
    """What a Python function of yours returns; it runs code of yours, which must be allowed."""

    kind: Literal["callable"]
    target: str = Field(pattern=TARGET, description='"package.module:function", called with (n, c, h, w) images in [0, 1].')
    options: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of every call; none if absent.")

    def identity(self) -> dict[str, str]:
        return {"code_sha256": target_sha256(self.target)}

    def load(self, access: Access, shape: tuple[int, int, int]) -> Feature:
        """Returns the feature, for images of any shape. Raises ModelError if the function may not run or cannot be imported."""
        return _CallableFeature(self, access)


class _CallableFeature:
    names: tuple[str, ...] = ()
    unit = "the function's output (L2)"

    def __init__(self, config: CallableFeature, access: Access) -> None:
        self.function = RowsOf(config.target, config.options, access)

    def bind(self, images: Images) -> None:
        return None

    def __call__(self, images: Images, bound: Tensor | None) -> Features:
        return self.function(images).flatten(1)


class RowsOf:
    """A user's function of images, its output made float32 rows (n, ...), with NaN for the images that it returns None for."""

    def __init__(self, target: str, options: Mapping[str, Any], access: Access) -> None:
        self.function = import_target(target, access)
        self.target, self.options = target, options
        self.shape: tuple[int, ...] | None = None  # of a row, once one is known

    def __call__(self, images: Images) -> Float[Tensor, "n ..."]:
        out = self.function(images, **self.options)
        if out is None:
            out = [None] * len(images)
        if isinstance(out, list | tuple):
            out = self._stacked(out, images.device)
        if not isinstance(out, Tensor):
            out = torch.as_tensor(out, dtype=torch.float32, device=images.device)
        if out.ndim == 0 or len(out) != len(images):
            raise ModelError(
                f"{self.target} returns {tuple(out.shape)} for {len(images)} images; (n, p) is needed, a row per image"
            )
        self.shape = tuple(out.shape[1:])
        return single(out, self.target).reshape(len(images), *self.shape or (1,))

    def _stacked(self, rows: Sequence[Any], device: torch.device) -> Float[Tensor, "n ..."]:
        known = [torch.as_tensor(row, dtype=torch.float32, device=device) for row in rows if row is not None]
        shapes = {tuple(row.shape) for row in known} or ({self.shape} if self.shape is not None else set())
        if not shapes:
            raise ModelError(
                f"{self.target} found nothing in the first {len(rows)} images, so the length of a row is not known yet; let it "
                "return a row of NaN for an image that it cannot measure"
            )
        if len(shapes) > 1:
            raise ModelError(
                f"{self.target} returns rows of different shapes, {sorted(shapes)}; it must return as many numbers for every image"
            )
        nothing = torch.full(shapes.pop(), float("nan"), device=device)
        found = iter(known)
        return torch.stack([nothing if row is None else next(found) for row in rows])
