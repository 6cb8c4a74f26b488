"""The one atomic write of files, and what messages say of files that cannot be read.

The write is public as `vaejax.checkpoints.write_atomically`.
"""

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_atomically(
    path: str | Path, content: bytes | str | Callable[[BinaryIO], object]
) -> None:
    """Replace a file in one step, so that readers see the old content or the new.

    The content goes to a temporary file in the same folder, `.NAME.RANDOM.tmp`, is
    flushed to the disk and takes the name of `path`. If writing fails, the temporary
    file is removed and `path` stays as it was; a process that is killed may leave the
    temporary file behind.

    Args:
      path: The file to create or replace; its folder exists.
      content: Bytes, text (written as UTF-8), or a function that writes to the binary
        file that it is given, such as `figure.savefig`.

    Raises:
      OSError: The folder is missing or cannot be written, or the disk is full.

    Example:
      >>> import tempfile
      >>> from pathlib import Path
      >>> from vaejax.checkpoints import write_atomically
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = Path(folder) / "notes.txt"
      ...     write_atomically(path, "first")
      ...     write_atomically(path, lambda file: file.write(b"second"))
      ...     print(path.read_text(), len(list(Path(folder).iterdir())))
      second 1
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        # The user knows the name of the file, not that of the temporary one.
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename = str(path)
        raise


def one_line(text: object) -> str:
    """Return a text with what cannot be printed, such as line breaks, as escapes.

    Names of files may hold anything; a message that names one stays one line.
    """
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1]
        for character in str(text)
    )


def reason_of(error: BaseException) -> str:
    """Return what an error says, in one line without a period; else its type."""
    text = one_line(" ".join(str(error).split())).rstrip(".")
    text = text or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."


def why_no_file(path: str | os.PathLike) -> str | None:
    """Say why a path is not that of a regular file; None where it is.

    A pipe or a device may have no end.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return (error.strerror or "it cannot be read").lower()
    except ValueError:
        return "a name holds no NUL"
    if stat.S_ISDIR(mode):
        return "it is a folder"
    return None if stat.S_ISREG(mode) else "it is no regular file"
