"""Landmarks: where things are in an image, as points that a network or any function finds (the corners of the eyes, of the mouth).

    f(x) = (the coordinates of all points, one after another)

In whatever unit the points are given: spreads are free of units. A point that is not found is no point at (0, 0), but makes the
image one that cannot be measured: NaN, a reject.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.features.callable import RowsOf
from reds_core.features.input import Preprocessing
from reds_core.features.mask import or_nan
from reds_core.models import AnyNetwork
from reds_core.models.config import Access, Count, Number
from reds_core.models.factory import TARGET, target_sha256
from reds_core.types import Feature, Images


class Landmarks(Preprocessing):
    """Points that a network or a Python function of yours finds: (n, k, 2) or (n, 2 k) numbers, or (n, k, 3) with a confidence."""

    kind: Literal["landmarks"]
    model: AnyNetwork | None = Field(None, description="A network that gives points; else `target`.")
    target: str | None = Field(
        None, pattern=TARGET, description='"package.module:function" from images in [0, 1] to points; needs --allow-code.'
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments for every call of `target`.")
    points: Annotated[tuple[Annotated[Count, Field(ge=0)], ...], Field(min_length=1)] | None = Field(
        None, description="Indices of the points that count; all if absent."
    )
    confidence: Number | None = Field(
        None, description="The least confidence, the third number of a point, with which it counts as found."
    )

    def identity(self) -> dict[str, str]:
        return {"code_sha256": target_sha256(self.target)} if self.target else {}

    def mistakes(self) -> list[str]:
        if self.model is not None and self.target is not None:
            return ["give a model or a target, not both"]
        if self.model is not None:
            return self.input_mistakes(self.model) + ["options are of a target, and there is none"] * bool(self.options)
        if self.target is None:
            return ["give a model or a target that finds points"]
        changed = [name for name, field in Preprocessing.model_fields.items() if getattr(self, name) != field.default]
        return [f"{name} is of a model; a target gets the generator's images as they are" for name in changed]

    def doubts(self) -> list[str]:
        return self.input_doubts(self.model) if self.model else []

    def load(self, access: Access, shape: tuple[int, int, int]) -> Feature:
        if self.model is not None:
            return _LandmarkFeature(self, self.load_model(self.model, access), self.model.title())
        target = self.target or ""  # `mistakes` has refused a spec with neither
        return _LandmarkFeature(self, RowsOf(target, self.options, access), target)


class _LandmarkFeature:
    names: tuple[str, ...] = ()
    unit = "landmark positions (L2)"

    def __init__(self, config: Landmarks, find: Callable[[Images], Tensor], title: str) -> None:
        self.config, self.find, self.title = config, find, title

    def bind(self, images: Images) -> Tensor | None:
        return None

    def __call__(self, images: Images, bound: Tensor | None) -> Tensor:
        points = self._points(self.find(images))
        if self.config.points is not None:
            if max(self.config.points) >= points.shape[1]:
                raise ModelError(f"{self.title} gives {points.shape[1]} points; there is none with index {max(self.config.points)}")
            points = points[:, list(self.config.points)]
        where = points[:, :, :2].flatten(1)
        if self.config.confidence is None:
            return where
        found = (points[:, :, 2] >= self.config.confidence).all(1)
        return or_nan(where, found)

    def _points(self, out: Tensor) -> Tensor:
        """(n, k, 2), or (n, k, 3) with confidences."""
        if out.ndim == 2 and out.shape[1] % 2 == 0 and self.config.confidence is None:
            return out.reshape(len(out), -1, 2)
        if out.ndim != 3 or out.shape[2] not in (2, 3):
            raise ModelError(
                f"{self.title} gives {tuple(out.shape)}; points (n, k, 2) or (n, 2 k) are needed, or (n, k, 3) with a confidence each"
            )
        if out.shape[2] == 3 and self.config.confidence is None:
            raise ModelError(
                f"{self.title} gives three numbers a point: say from which value of the third, its confidence, a point is found, such as "
                "confidence: 0.5"
            )
        if out.shape[2] == 2 and self.config.confidence is not None:
            raise ModelError(f"{self.title} gives two numbers a point and no confidence; leave confidence out, or give (n, k, 3)")
        return out
