"""Errors that end a program with one line and an exit status."""


class UsageError(Exception):
    """A request of the user that cannot be met; the exit status is 2."""


class RunError(Exception):
    """A run that cannot go on; the exit status is 1."""


def one_line(text: object) -> str:
    """Return a text with what cannot be printed, such as line breaks, as escapes."""
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1]
        for character in str(text)
    )
