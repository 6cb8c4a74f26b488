"""Data sets as arrays on the host: bundled, of a catalogue, of TFDS, or the user's.

Data are checked once, when they are loaded, and transformed in the training step. Read
`loading.py` first, then `transforms.py`; `text.py` has sentences, `arrays.py` any
numbers, `tables.py` and `schema.py` columns with kinds. Files that start with an
underscore are how sets are found and built. All names but `binarize` are imported when
they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from vaejax.datasets.transforms import binarize

if TYPE_CHECKING:
    from vaejax.datasets._shared import iterate_chunks
    from vaejax.datasets.array_files import load_array
    from vaejax.datasets.arrays import (
        ArrayDescription,
        LikelihoodCandidate,
        check_image_axes,
        check_numbers,
        check_support,
        describe_array,
        split_indices,
    )
    from vaejax.datasets.catalogue import (
        CATALOGUE,
        ImageSource,
        OfficialFile,
        describe_catalogue,
    )
    from vaejax.datasets.errors import (
        DataUnavailableError,
        NotNumbersError,
        NotOneArrayError,
    )
    from vaejax.datasets.loading import Dataset, checksum, from_array, load
    from vaejax.datasets.schema import Schema, Table
    from vaejax.datasets.schema_columns import SchemaColumn
    from vaejax.datasets.tables import read_table
    from vaejax.datasets.text import (
        TokenizedSentences,
        Vocabulary,
        byte_vocabulary,
        detokenize,
        load_text,
        subword_vocabulary,
        tokenize,
    )

_MODULES = {
    "ArrayDescription": "arrays",
    "CATALOGUE": "catalogue",
    "DataUnavailableError": "errors",
    "Dataset": "loading",
    "ImageSource": "catalogue",
    "LikelihoodCandidate": "arrays",
    "NotNumbersError": "errors",
    "NotOneArrayError": "errors",
    "OfficialFile": "catalogue",
    "Schema": "schema",
    "SchemaColumn": "schema_columns",
    "Table": "schema",
    "TokenizedSentences": "text",
    "Vocabulary": "text",
    "byte_vocabulary": "text",
    "check_image_axes": "arrays",
    "check_numbers": "arrays",
    "check_support": "arrays",
    "checksum": "loading",
    "describe_array": "arrays",
    "describe_catalogue": "catalogue",
    "detokenize": "text",
    "from_array": "loading",
    "iterate_chunks": "_shared",
    "load": "loading",
    "load_array": "array_files",
    "load_text": "text",
    "read_table": "tables",
    "split_indices": "arrays",
    "subword_vocabulary": "text",
    "tokenize": "text",
}

__all__ = [
    "ArrayDescription",
    "CATALOGUE",
    "DataUnavailableError",
    "Dataset",
    "ImageSource",
    "LikelihoodCandidate",
    "NotNumbersError",
    "NotOneArrayError",
    "OfficialFile",
    "Schema",
    "SchemaColumn",
    "Table",
    "TokenizedSentences",
    "Vocabulary",
    "binarize",
    "byte_vocabulary",
    "check_image_axes",
    "check_numbers",
    "check_support",
    "checksum",
    "describe_array",
    "describe_catalogue",
    "detokenize",
    "from_array",
    "iterate_chunks",
    "load",
    "load_array",
    "load_text",
    "read_table",
    "split_indices",
    "subword_vocabulary",
    "tokenize",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
