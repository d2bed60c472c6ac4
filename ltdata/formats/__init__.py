"""Formats: how splits leave ltdata and come back."""

from ltdata.formats.exporting import FORMATS, export
from ltdata.formats.foreign import Foreign, ForeignSplit
from ltdata.formats.importing import import_, write_import
from ltdata.formats.reading import are_shards, read
from ltdata.formats.rewriting import import_tars

__all__ = [
    "FORMATS",
    "Foreign",
    "ForeignSplit",
    "are_shards",
    "export",
    "import_",
    "import_tars",
    "read",
    "write_import",
]
