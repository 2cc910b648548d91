"""The user's own labelled images: found, named, hashed, and brought to a generator's shape.

pictures  the bytes of an image file -> pixels in the generator's shape
labels    the names of labels -> the class indices that the generator and the judge use
listing   a folder of class folders, a table, or tars -> the images in order, and what was skipped
"""

from reds_core.sources.listing import Skipped, Source, Sources, sources_of

__all__ = ["Skipped", "Source", "Sources", "sources_of"]
