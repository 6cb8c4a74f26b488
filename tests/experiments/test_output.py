"""Streams that are closed, full or not read end no program; Ctrl-C is a line."""

import errno
import io
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from support.programs import ENVIRONMENT, ROOT, SMALL, command, heed_interrupts, npz
from tqdm import tqdm

from experiments.harness import interrupts, output


class Broken(io.StringIO):
    """A stream that takes nothing, for one of the reasons that the system has."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error

    def flush(self):
        raise self.error


REASONS = {
    "full": OSError(errno.ENOSPC, "No space left on device"),
    "not read": BrokenPipeError(errno.EPIPE, "Broken pipe"),
    "gone": OSError(errno.EIO, "Input/output error"),
    "closed": ValueError("I/O operation on closed file"),
    "in use": RuntimeError("reentrant call inside a buffered writer"),
}


@pytest.mark.parametrize("reason", REASONS)
def test_what_cannot_be_shown_is_lost(monkeypatch, reason):
    broken = Broken(REASONS[reason])
    monkeypatch.setattr(sys, "stdout", broken)
    monkeypatch.setattr(sys, "stderr", broken)
    with output.lenient():
        print("a line")
        print("a line", file=sys.stderr, flush=True)
        sys.stdout.writelines(["a", "b"])
        with tqdm(total=2, desc="training") as progress:
            progress.update()
            progress.set_postfix_str("1 nat")
    assert sys.stdout is broken


def test_closed_streams_are_replaced_and_their_numbers_taken(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with output.lenient():
        print("a line", file=sys.stderr)
        with tqdm(total=1):
            pass
        with output.lenient():
            print("a line")
    assert sys.stdout is None


def test_a_stream_that_was_replaced_meanwhile_is_left_as_it_is(monkeypatch):
    own, other = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", own)
    with output.lenient():
        print("own")
        # As processes after the first do, which print nowhere.
        sys.stdout = other
        print("other")
    assert sys.stdout is own
    assert (own.getvalue(), other.getvalue()) == ("own\n", "other\n")


def test_what_can_be_shown_is_shown(capsys):
    with output.lenient():
        print("one")
        print("two", file=sys.stderr)
        assert sys.stdout.encoding
    assert capsys.readouterr() == ("one\n", "two\n")


@pytest.mark.program
@pytest.mark.parametrize(
    "redirection",
    [
        ">&-",
        pytest.param(">/dev/full", marks=pytest.mark.slow),
        pytest.param("2>&- >&-", marks=pytest.mark.slow),
    ],
)
def test_a_mistake_keeps_its_status_whatever_the_streams_are(redirection):
    result = shell([*command("--no-such-flag")], redirection)
    assert result.returncode == 2 and "Traceback" not in result.stderr


def shell(words, redirection, cwd=ROOT):
    script = f'"$@" {redirection}'
    return subprocess.run(
        ["bash", "-c", script, "-", *map(str, words)],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.parametrize(
    "redirection",
    ["2>&-", "2>/dev/full", ">/dev/full 2>&1", "<&- >&- 2>&-", "| head -n 1"],
)
def test_a_run_ends_well_whatever_the_streams_are(tmp_path, redirection):
    npz()(tmp_path)
    words = command(*SMALL, "--data", tmp_path / "data.npz", "--num-annealed", "0")
    words += ["--out", str(tmp_path / "run")]
    result = shell(words, f"{redirection}; exit ${{PIPESTATUS[0]}}")
    assert result.returncode == 0 and (tmp_path / "run" / "report.html").exists()
    assert "Traceback" not in result.stderr and "Broken pipe" not in result.stderr


def interrupted_after(words, seconds):
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=100)
    return process.returncode, message


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.parametrize("seconds", [0.3, 0.6, 1.2, 2.0, 3.0])
def test_an_interrupt_of_the_start_is_a_line(tmp_path, seconds):
    words = command("--epochs", "9", "--out", tmp_path / "run")
    status, message = interrupted_after(words, seconds)
    assert status == 130 and "Traceback" not in message
    last = message.strip().splitlines()[-1]
    assert last == "interrupted" or "--resume --out" in last


def test_an_interrupt_that_the_shell_ignores_stays_ignored():
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN);"
        "import sys; sys.argv[0] = '-m'; import experiments;"
        "print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)\n"
        "from experiments.harness import interrupts\n"
        "with interrupts.requests():"
        "  print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert result.stdout == "True\nTrue\n", result.stderr


def test_requests_come_after_exceptions_and_leave_them():
    before = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, lambda *_: os._exit(3))
        interrupts.answer_with_exceptions()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with pytest.raises(interrupts.Interrupted), interrupts.requests() as check:
            signal.raise_signal(signal.SIGINT)
            check()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        # In another thread Python sets no handlers.
        thread = threading.Thread(target=interrupts.answer_with_exceptions)
        thread.start()
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
