"""Errors and types that the loaders share."""

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray | None]


class DataUnavailableError(ValueError):
    """A data set is neither prepared nor can it be built; the message says what to do."""
