"""What ends a program with one line and an exit status."""


class UsageError(Exception):
    """The user asked for something that cannot be: exit status 2."""


class RunError(Exception):
    """The run could not go on: exit status 1."""
