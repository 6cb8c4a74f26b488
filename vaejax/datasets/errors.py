"""Errors of the loaders; all are ValueErrors whose message says what to do."""


class DataUnavailableError(ValueError):
    """Error of a data set or file that is not there and cannot be made.

    Its message says what to install, download or choose instead.
    """


class NotOneArrayError(ValueError):
    """Error of an .npz file that can be read but holds no array, or several."""


class NotNumbersError(ValueError):
    """Error of a table whose cells are not all numbers, as an array has them.

    `read_table` takes such a table.
    """
