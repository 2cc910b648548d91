"""Landmarks: where things are in an image, as points that a network or any function finds (the corners of the eyes, of the mouth).

    f(x) = (the coordinates of all points, one after another)

The points may be in any unit, since spreads have none. A point that is not found does not become (0, 0): the image cannot be
measured, so its row is NaN, a reject.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.features.callable import RowsOf
from reds_core.features.input import Preprocessing
from reds_core.features.mask import or_nan
from reds_core.models import AnyNetwork
from reds_core.models.config import Access, Count, Number
from reds_core.models.factory import TARGET, target_sha256
from reds_core.types import Feature, Features, Images


class Landmarks(Preprocessing):
    """Points that a network or a Python function of yours finds: (n, k, 2) or (n, 2 k) numbers, or (n, k, 3) with confidences."""

    kind: Literal["landmarks"]
    model: AnyNetwork | None = Field(None, description="A network that finds the points; `target` finds them if absent.")
    target: str | None = Field(
        None,
        pattern=TARGET,
        description='"package.module:function" from images in [0, 1] to points, in place of `model`; it runs code of yours, '
        "which must be allowed.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments of every call of `target`; none if absent."
    )
    points: Annotated[tuple[Annotated[Count, Field(ge=0)], ...], Field(min_length=1)] | None = Field(
        None, description="Indices of the points that count; all if absent."
    )
    confidence: Number | None = Field(
        None, description="A point counts as found from this confidence on, its third number; every point counts if absent."
    )

    def identity(self) -> dict[str, str]:
        return {"code_sha256": target_sha256(self.target)} if self.target else {}

    def mistakes(self) -> list[str]:
        if self.model is not None and self.target is not None:
            return ["set model or target, not both"]
        if self.model is not None:
            return self.input_mistakes(self.model) + ["options are for a target, and there is none"] * bool(self.options)
        if self.target is None:
            return ["set a model or a target that finds the points"]
        changed = [name for name, field in Preprocessing.model_fields.items() if getattr(self, name) != field.default]
        return [f"{name} is for a model; a target gets the generator's images as they are" for name in changed]

    def doubts(self) -> list[str]:
        return self.input_doubts(self.model) if self.model else []

    def load(self, access: Access, shape: tuple[int, int, int]) -> Feature:
        """Returns the feature, for images of any shape that the network or function takes."""
        if self.model is not None:
            return _LandmarkFeature(self, self.load_model(self.model, access), self.model.title())
        target = self.target or ""  # `mistakes` refuses a spec with neither
        return _LandmarkFeature(self, RowsOf(target, self.options, access), target)


class _LandmarkFeature:
    names: tuple[str, ...] = ()
    unit = "landmark positions (L2)"

    def __init__(self, config: Landmarks, find: Callable[[Images], Tensor], title: str) -> None:
        self.config, self.find, self.title = config, find, title

    def bind(self, images: Images) -> None:
        return None

    def __call__(self, images: Images, bound: Tensor | None) -> Features:
        points = self._points(self.find(images))
        if self.config.points is not None:
            if max(self.config.points) >= points.shape[1]:
                raise ModelError(f"{self.title} returns {points.shape[1]} points; none has index {max(self.config.points)}")
            points = points[:, list(self.config.points)]
        where = points[:, :, :2].flatten(1)
        if self.config.confidence is None:
            return where
        found = (points[:, :, 2] >= self.config.confidence).all(1)
        return or_nan(where, found)

    def _points(self, out: Float[Tensor, "n ..."]) -> Float[Tensor, "n k _numbers"]:
        """Returns points as (n, k, 2), or as (n, k, 3) with confidences."""
        if out.ndim == 2 and out.shape[1] % 2 == 0 and self.config.confidence is None:
            return out.reshape(len(out), -1, 2)
        if out.ndim != 3 or out.shape[2] not in (2, 3):
            raise ModelError(
                f"{self.title} returns {tuple(out.shape)}; points (n, k, 2) or (n, 2 k) are needed, or (n, k, 3) with "
                "a confidence each"
            )
        if out.shape[2] == 3 and self.config.confidence is None:
            raise ModelError(
                f"{self.title} returns three numbers per point: set the value of the third, its confidence, from which a point "
                "counts as found, such as confidence: 0.5"
            )
        if out.shape[2] == 2 and self.config.confidence is not None:
            raise ModelError(
                f"{self.title} returns two numbers per point and no confidence; leave confidence out, or return (n, k, 3)"
            )
        return out
