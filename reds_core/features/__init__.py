"""Image -> vector: what measures an attribute. One file per kind; the union below is the registry.

pixels       pixel values, of the whole image or a region          pixels.py, region.py
frequency    a band of the Fourier transform                       frequency.py
classifier   raw class scores of a network                         network.py
embedding    a network's vector                                    network.py
colour       mean and deviation of every channel                   colour.py
callable     any Python function                                   callable.py
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reds_core.features.callable import CallableFeature
from reds_core.features.colour import Colour
from reds_core.features.frequency import Frequency
from reds_core.features.network import Classifier, Embedding, NetworkInput
from reds_core.features.pixels import Pixels
from reds_core.features.region import Region

AnyFeature = Annotated[Pixels | Frequency | Classifier | Embedding | Colour | CallableFeature, Field(discriminator="kind")]

__all__ = [
    "AnyFeature", "CallableFeature", "Classifier", "Colour", "Embedding", "Frequency", "NetworkInput", "Pixels", "Region",
]  # fmt: skip
