"""Formats: how splits leave ltdata and come back."""

from ltdata.formats.foreign import Foreign, ForeignSplit
from ltdata.formats.reading import read

__all__ = ["Foreign", "ForeignSplit", "read"]
