"""Any Python function as a feature: (n, c, h, w) float32 images in [0, 1] -> (n, p) numbers, a tensor or an array.

A function that leaves torch (NumPy, OpenCV, a subprocess) has no derivatives; its Jacobian is then taken by differences. An
image that it cannot measure (no face found) gets a row of NaN, which rejects the variant: never zeros.
"""

from __future__ import annotations

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
        self.function = import_target(config.target, access)
        self.config = config

    def bind(self, images: Images) -> Tensor | None:
        return None

    def __call__(self, images: Images, bound: Tensor | None) -> Tensor:
        out = self.function(images, **self.config.options)
        if not isinstance(out, Tensor):
            out = torch.as_tensor(out, dtype=torch.float32, device=images.device)
        if out.ndim == 0 or len(out) != len(images):
            raise ModelError(
                f"{self.config.target} gives {tuple(out.shape)} for {len(images)} images; (n, p) is needed, a row an image"
            )
        return out.reshape(len(images), -1).float()
