"""Data sets as arrays on the host: bundled, of the catalogue, of TFDS, or one's own.

Data are checked once, when they are loaded, and transformed in the training step.
The names below are imported when they are first used, so that `import vaejax` stays
quick. Read `loading.py` first, then `transforms.py`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaejax.datasets.errors import DataUnavailableError
    from vaejax.datasets.loading import (
        CATALOGUE,
        Dataset,
        checksum,
        describe_catalogue,
        from_array,
        load,
    )
    from vaejax.datasets.own_files import iterate_chunks
    from vaejax.datasets.tables import (
        ArrayDescription,
        Candidate,
        NotOneArrayError,
        check_numbers,
        check_suits,
        describe_array,
        load_array,
        split_indices,
    )
    from vaejax.datasets.text import (
        Tokens,
        Vocabulary,
        byte_vocabulary,
        detokenize,
        load_text,
        subword_vocabulary,
        tokenize,
    )
    from vaejax.datasets.transforms import binarize

_MODULES = {
    "ArrayDescription": "tables",
    "CATALOGUE": "loading",
    "Candidate": "tables",
    "DataUnavailableError": "errors",
    "Dataset": "loading",
    "NotOneArrayError": "tables",
    "Tokens": "text",
    "Vocabulary": "text",
    "binarize": "transforms",
    "byte_vocabulary": "text",
    "check_numbers": "tables",
    "check_suits": "tables",
    "checksum": "loading",
    "describe_array": "tables",
    "describe_catalogue": "loading",
    "detokenize": "text",
    "from_array": "loading",
    "iterate_chunks": "own_files",
    "load": "loading",
    "load_array": "tables",
    "load_text": "text",
    "split_indices": "tables",
    "subword_vocabulary": "text",
    "tokenize": "text",
}

__all__ = [
    "ArrayDescription",
    "CATALOGUE",
    "Candidate",
    "DataUnavailableError",
    "Dataset",
    "NotOneArrayError",
    "Tokens",
    "Vocabulary",
    "binarize",
    "byte_vocabulary",
    "check_numbers",
    "check_suits",
    "checksum",
    "describe_array",
    "describe_catalogue",
    "detokenize",
    "from_array",
    "iterate_chunks",
    "load",
    "load_array",
    "load_text",
    "split_indices",
    "subword_vocabulary",
    "tokenize",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
