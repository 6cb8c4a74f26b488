"""The lock of a run folder: one holder, found stale by facts and never by clocks."""

import json
import os
import subprocess
import sys
import threading

import pytest

from experiments.harness import RunError, UsageError, run_lock


class Clock:
    """Seconds that pass where one sleeps; `then` happens in each of them."""

    def __init__(self, then=lambda: None):
        self.now, self.then = 0.0, then

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.then()


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def leave(folder, count=0, **differing):
    """Write the lock of another process, with what it differs from this one in."""
    holder = run_lock.identity() | {"token": "other", "since": "then"} | differing
    lock = f"{count:012d}\n{json.dumps(holder)}\n"
    (folder / run_lock.NAME).write_text(lock)


ELSEWHERE = {"host": "far", "boot": "another", "namespace": "another", "process": 1}


def taken(folder, **options):
    lock = run_lock.take(folder, **options)
    try:
        assert lock.problem() is None and names(folder) == [run_lock.NAME]
        return lock
    finally:
        lock.release()
        assert names(folder) == []


def test_a_lock_is_taken_by_the_first_and_free_when_it_is_released(tmp_path):
    lock = run_lock.take(tmp_path)
    for _ in range(2):
        with pytest.raises(UsageError, match=rf"in use by process {os.getpid()} on"):
            run_lock.take(tmp_path)
    assert lock.problem() is None and names(tmp_path) == [run_lock.NAME]
    lock.release()
    taken(tmp_path)


def test_of_many_that_start_together_one_has_the_lock(tmp_path):
    barrier, locks, refused = threading.Barrier(16), [], []

    def start():
        barrier.wait()
        try:
            locks.append(run_lock.take(tmp_path))
        except UsageError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(locks) == 1 and len(refused) == 15
    locks[0].release()


def test_of_many_that_find_a_stale_lock_one_has_it(tmp_path):
    leave(tmp_path, process=2**22 + 1)
    test_of_many_that_start_together_one_has_the_lock(tmp_path)


def ended_process():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.mark.parametrize(
    "differing",
    [
        lambda: {"process": ended_process()},
        lambda: {"start": "1"},  # another process has the number by now
        lambda: {"process": "x"},
        lambda: {"process": -1},
    ],
    ids=["gone", "number used again", "no number", "negative"],
)
def test_a_lock_of_a_process_that_is_gone_is_taken(tmp_path, capsys, differing):
    leave(tmp_path, **differing())
    taken(tmp_path, sleep=None)
    assert capsys.readouterr().err == ""


def test_a_process_that_ended_and_was_not_waited_for_is_gone(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1)
    leave(tmp_path, process=process.pid, start=run_lock._start_of(process.pid))
    with pytest.raises(UsageError, match=f"process {process.pid} on"):
        run_lock.take(tmp_path)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    taken(tmp_path, sleep=None)
    process.communicate()


def test_a_job_that_was_started_again_goes_on_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    leave(tmp_path, **ELSEWHERE, job="77", job_part=[None, None])
    taken(tmp_path, sleep=None)
    assert "job 77 was started again" in capsys.readouterr().err


@pytest.mark.parametrize("job", ["77", "78"])
def test_another_job_or_another_task_of_the_job_is_watched(tmp_path, monkeypatch, job):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    leave(tmp_path, **ELSEWHERE, job=job)
    clock = Clock()
    clock.then = lambda: leave(tmp_path, int(clock.now), **ELSEWHERE, job=job)
    with pytest.raises(UsageError, match="in use by process 1 on far"):
        run_lock.take(tmp_path, clock=clock, sleep=clock.sleep)


@pytest.mark.parametrize("beats", [1, 10, 59])
def test_a_lock_from_elsewhere_that_counts_is_refused(tmp_path, beats):
    leave(tmp_path, 3, **ELSEWHERE)
    clock = Clock()
    clock.then = lambda: leave(tmp_path, 3 + (clock.now >= beats), **ELSEWHERE)
    with pytest.raises(UsageError, match="in use by process 1 on far"):
        run_lock.take(tmp_path, clock=clock, sleep=clock.sleep)
    assert clock.now == beats


def test_a_lock_from_elsewhere_that_stands_still_is_taken_with_a_warning(
    tmp_path, capsys
):
    leave(tmp_path, 3, **ELSEWHERE)
    clock = Clock()
    taken(tmp_path, clock=clock, sleep=clock.sleep)
    message = capsys.readouterr().err
    assert clock.now == run_lock.WATCH_SECONDS and "warning: " in message
    assert "process 1 on far" in message


def test_a_container_of_this_machine_is_watched_too(tmp_path):
    """It numbers its processes by itself, so that none is looked up here."""
    leave(tmp_path, namespace="another", process=2**22 + 1)
    clock = Clock()
    taken(tmp_path, clock=clock, sleep=clock.sleep)
    assert clock.now == run_lock.WATCH_SECONDS


@pytest.mark.parametrize("content", [b"", b"0000", b"\xff\x00", b"0\n[1]", b"0\n{"])
def test_a_lock_that_cannot_be_read_is_watched(tmp_path, content):
    (tmp_path / run_lock.NAME).write_bytes(content)
    clock = Clock()
    taken(tmp_path, clock=clock, sleep=clock.sleep)
    assert clock.now == run_lock.WATCH_SECONDS


def test_a_lock_that_is_released_while_it_is_watched_is_taken(tmp_path):
    leave(tmp_path, **ELSEWHERE)
    clock = Clock(lambda: (tmp_path / run_lock.NAME).unlink())
    taken(tmp_path, clock=clock, sleep=clock.sleep)
    assert clock.now == 1


def test_the_counter_is_renewed_in_place(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "RENEWAL_SECONDS", 0.01)
    lock = run_lock.take(tmp_path)
    first = (tmp_path / run_lock.NAME).read_text().split("\n")
    while (now := (tmp_path / run_lock.NAME).read_text().split("\n")) == first:
        threading.Event().wait(0.01)
    assert int(now[0]) > int(first[0]) and now[1:] == first[1:]
    assert lock.problem() is None
    lock.release()


def test_one_that_was_taken_over_stops_and_leaves_the_new_lock_alone(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(run_lock, "RENEWAL_SECONDS", 0.01)
    lock = run_lock.take(tmp_path)
    (tmp_path / run_lock.NAME).unlink()
    leave(tmp_path, 5, **ELSEWHERE)
    with pytest.raises(RunError, match="taken over by process 1 on far"):
        lock.check()
    threading.Event().wait(0.05)
    lock.release()
    assert (tmp_path / run_lock.NAME).read_text().startswith("000000000005\n")


@pytest.mark.parametrize("made_again", [False, True])
def test_a_folder_that_was_moved_is_noticed_and_found(tmp_path, made_again):
    (tmp_path / "run").mkdir()
    lock = run_lock.take(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "else where")
    if made_again:
        (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(RunError, match="was moved.*--out '.*/else where'"):
        lock.check()
    lock.release()
    assert names(tmp_path / "else where") == []


def test_a_folder_that_was_removed_is_noticed(tmp_path):
    (tmp_path / "run").mkdir()
    lock = run_lock.take(tmp_path / "run")
    (tmp_path / "run" / run_lock.NAME).unlink()
    with pytest.raises(RunError, match="run.lock was removed"):
        lock.check()
    (tmp_path / "run").rmdir()
    with pytest.raises(RunError, match="run.lock was removed"):
        lock.check()
    lock.release()


def test_without_links_the_file_itself_is_made_exclusively(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", fails)
    lock = run_lock.take(tmp_path)
    with pytest.raises(UsageError, match="in use"):
        run_lock.take(tmp_path)
    assert names(tmp_path) == [run_lock.NAME]
    lock.release()


def test_a_full_disk_leaves_no_lock(tmp_path, monkeypatch):
    def fails(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="No space"):
        run_lock.take(tmp_path)
    assert names(tmp_path) == []
