"""Errors that end a program with one line and an exit status."""


class UsageError(Exception):
    """A request of the user that cannot be met; the exit status is 2."""


class RunError(Exception):
    """A run that cannot go on; the exit status is 1."""
