"""Formats: how splits leave ltdata and come back."""

from ltdata.formats.exporting import FORMATS, export
from ltdata.formats.foreign import Foreign, ForeignSplit
from ltdata.formats.importing import import_, write_import
from ltdata.formats.reading import read

__all__ = ["FORMATS", "Foreign", "ForeignSplit", "export", "import_", "read", "write_import"]
