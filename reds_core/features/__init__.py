"""Image -> vector: what measures an attribute. `AnyFeature` is the table of kinds: a new one is a file and a line there.

filters        gray, blur, low and high pass
input          what a network expects to see: size, range, mean and deviation
mask           which pixels show a class, by a segmentation network
region         where in the image: a box, a mask, a segment
frequency      kind frequency: a band of the Fourier transform
callable       kind callable: any Python function
network        kinds classifier and embedding: a network's class scores, or its vector
pixels         kind pixels: pixel values of the image or a region
colour         kind colour: mean and standard deviation of every channel
object         kind object: one object, its look and its place
segmentation   kind segmentation: one object's place and shape
landmarks      kind landmarks: points that a network or a function finds
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reds_core.features.callable import CallableFeature
from reds_core.features.colour import Colour
from reds_core.features.frequency import Frequency
from reds_core.features.input import NetworkInput
from reds_core.features.landmarks import Landmarks
from reds_core.features.network import Classifier, Embedding
from reds_core.features.object import Object
from reds_core.features.pixels import Pixels
from reds_core.features.region import Region
from reds_core.features.segmentation import Segmentation

AnyFeature = Annotated[
    Pixels | Object | Segmentation | Landmarks | Frequency | Classifier | Embedding | Colour | CallableFeature,
    Field(discriminator="kind"),
]

__all__ = [
    "AnyFeature", "CallableFeature", "Classifier", "Colour", "Embedding", "Frequency", "Landmarks", "NetworkInput", "Object",
    "Pixels", "Region", "Segmentation",
]  # fmt: skip
