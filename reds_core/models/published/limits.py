"""The numbers that an architecture may have: wide enough for everything published, too small to fill a memory by mistake."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Size = Annotated[int, Field(ge=1, le=2**16)]
Layers = Annotated[int, Field(ge=1, le=64)]
Classes = Annotated[int, Field(ge=0, le=2**20)]
Factor = Annotated[int, Field(ge=1, le=64)]  # of a sampling rate
Positive = Annotated[float, Field(gt=0)]
