"""The lock of a run folder: one run at a time writes there.

run.lock is made exclusively, with its content, and counts up while its process lives.
It is stale where its process is gone from this machine, where its job was started
again, or, for a process elsewhere, where it has not counted for a minute by this
process's own clock: clocks of two machines are never compared.
"""

import json
import os
import secrets
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from experiments.harness.errors import RunError, UsageError

NAME = "run.lock"
RENEWAL_SECONDS = 10.0
WATCH_SECONDS = 60.0
# The counter stands first, with a fixed number of digits, and is overwritten in place:
# a process that has lost the lock counts in a file that nobody sees any more.
_DIGITS = 12


class RunLock:
    """A lock that this process holds, and renews from a thread until it is released."""

    def __init__(self, file: Path, handle: int, token: str):
        self.file = file
        self._handle, self._token = handle, token
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise RunError where the folder has gone, or another process has the lock."""
        if (problem := self.problem()) is not None:
            raise RunError(problem)

    def problem(self) -> str | None:
        """Return why this process may not write into the folder, or None."""
        holder, there = read(self.file), self._folder_now()
        if holder is not None and holder.get("token") == self._token:
            return None
        if there is not None and there != self.file.parent.resolve():
            return (
                f"the run folder {self.file.parent} was moved while the run was "
                f"writing to it; it is now {there}: go on with --resume --out "
                f"{shlex.quote(str(there))}"
            )
        if holder is None:
            return (
                f"{self.file} was removed while the run was writing to its folder. "
                "Nothing more is written."
            )
        return (
            f"the run in {self.file.parent} was taken over by {describe(holder)}; this "
            "one stops."
        )

    def release(self) -> None:
        """Remove the lock, where it is still this process's."""
        self._ended.set()
        folder = self._folder_now()
        if folder is not None:
            file = folder / self.file.name
            if (read(file) or {}).get("token") == self._token:
                file.unlink(missing_ok=True)
        self._thread.join()
        os.close(self._handle)

    def _renew(self) -> None:
        count = 0
        while not self._ended.wait(RENEWAL_SECONDS):
            count += 1
            try:
                os.pwrite(self._handle, _digits(count), 0)
            except OSError:
                continue  # a full disk, or a server that is away for a while

    def _folder_now(self) -> Path | None:
        """The folder that holds the file, where the system tells; None if removed."""
        try:
            path = Path(os.readlink(f"/proc/self/fd/{self._handle}"))
        except OSError:
            path = self.file
        return path.parent if path.exists() else None


def take(
    folder: Path,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> RunLock:
    """Take the lock of a folder, from its last process where that is gone.

    Args:
      folder: the folder, which exists.
      clock: seconds, by which a lock of another machine is watched.
      sleep: waits for a number of seconds.

    Raises:
      UsageError: another process holds it.
    """
    file = folder / NAME
    while True:
        token = secrets.token_hex(8)
        try:
            return RunLock(file, _create(file, identity() | {"token": token}), token)
        except FileExistsError:
            pass
        content = _content(file)
        if content is not None and _is_stale(file, content, clock, sleep):
            _remove(file, content)


def identity() -> dict[str, Any]:
    """Return what tells this process from every other one."""
    return {
        "host": socket.gethostname(),
        "boot": _boot(),
        "namespace": _namespace(),
        "process": os.getpid(),
        "start": _start_of(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID"),
        "job_part": [
            os.environ.get(name) for name in ("SLURM_RESTART_COUNT", "SLURM_STEP_ID")
        ],
        "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def read(file: Path) -> dict[str, Any] | None:
    """Return who holds a lock; None without one, empty where it cannot be read."""
    content = _content(file)
    return None if content is None else _parsed(content)


def describe(holder: Mapping[str, Any]) -> str:
    """Return who holds a lock, in words."""
    if not holder:
        return "another process"
    return (
        f"process {holder.get('process')} on {holder.get('host')} (since "
        f"{holder.get('since')})"
    )


def _create(file: Path, content: Mapping[str, Any]) -> int:
    """Make the file with its content, exclusively; return its open handle."""
    written = _digits(0) + b"\n" + json.dumps(content).encode() + b"\n"
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")
    _write_new(temporary, written)
    try:
        os.link(temporary, file)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: the content comes a moment later
        _write_new(file, written)
    finally:
        temporary.unlink(missing_ok=True)
    return os.open(file, os.O_RDWR)


def _write_new(file: Path, content: bytes) -> None:
    with open(file, "xb") as new:
        try:
            new.write(content)
            new.flush()
            os.fsync(new.fileno())
        except BaseException:
            file.unlink()
            raise


def _is_stale(
    file: Path,
    content: bytes,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> bool:
    """Return whether the process of a lock is gone; raise UsageError if it lives."""
    holder, here = _parsed(content), identity()
    if holder and all(holder.get(name) == here[name] for name in ("boot", "namespace")):
        if _is_running(holder):
            raise _in_use(file, holder)
        return True
    if (
        here["job"] is not None
        and holder.get("job") == here["job"]
        and holder.get("job_part") != here["job_part"]
    ):
        _say(f"{file.parent}: job {here['job']} was started again and goes on")
        return True
    _say(
        f"{file.parent} is locked by {describe(holder)}; watching for "
        f"{WATCH_SECONDS:.0f} s whether that process lives"
    )
    end = clock() + WATCH_SECONDS
    while clock() < end:
        sleep(1.0)
        if (now := _content(file)) is None:
            return False  # it was released: try again
        if now != content:
            raise _in_use(file, _parsed(now))
    _say(
        f"warning: {file.parent} is taken over from {describe(holder)}, which has not "
        f"been heard of for {WATCH_SECONDS:.0f} s"
    )
    return True


def _in_use(file: Path, holder: Mapping[str, Any]) -> UsageError:
    return UsageError(
        f"--out {file.parent} is in use by {describe(holder)}; wait until that run has "
        "ended, stop it, or give another folder."
    )


def _remove(file: Path, content: bytes) -> None:
    """Remove a stale lock, and never the one that another process has just made."""
    with _alone_in(file.parent):
        # While this process is alone, nobody else removes the stale one, and nobody
        # makes another before it is removed.
        if _content(file) == content:
            file.unlink(missing_ok=True)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold back other processes that would remove a lock, where the system can."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without such locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        holder = json.loads(content.partition(b"\n")[2])
    except (ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _digits(count: int) -> bytes:
    return str(count).zfill(_DIGITS).encode()


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def _namespace() -> str | None:
    """Containers of one machine number their processes apart."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _start_of(process: int) -> str | None:
    """When a process was started, by the system's count; None where it is not told."""
    fields = _status_of(process)
    return fields[19] if len(fields) > 19 else None


def _status_of(process: int) -> list[str]:
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except (OSError, UnicodeDecodeError):
        return []
    # The name of the program comes before, in brackets, and may hold anything.
    return status.rpartition(")")[2].split()


def _is_running(holder: Mapping[str, Any]) -> bool:
    process = holder.get("process")
    if not isinstance(process, int) or process <= 0:
        return False
    if Path("/proc/self/stat").exists():
        fields = _status_of(process)
        # A zombie has ended, and waits for its parent to notice.
        return (
            bool(fields)
            and fields[0] not in "ZX"
            and (holder.get("start") == _start_of(process))
        )
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
