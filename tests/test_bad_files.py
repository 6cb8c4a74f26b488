"""Bad files of every format: the right value or one sentence, in bounded memory.

`support/bad_files.py` makes the table and says what each file is to give.
"""

import functools
import gzip
import logging
import resource
import tracemalloc

import pytest
from support import bad_files

from vaejax import datasets

pytest.importorskip("flatbuffers", reason="exports take flatbuffers")
# Every tenth entry is a piece, of which the normal run takes one.
PIECES, NORMAL = 10, 7
MOST_BYTES = 300 << 20


@functools.cache
def entries():
    return bad_files.entries()


@pytest.fixture(autouse=True)
def quiet():
    """Without what orbax logs of every damaged checkpoint."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_the_table_has_every_format_and_damage():
    found = entries()
    names = [entry.name for entry in found]
    assert len(found) >= 2000 and len(set(names)) == len(names)
    formats = {*bad_files.FORMATS, "checkpoint"}
    assert {entry.format for entry in found} == formats
    for name in formats:
        own = [entry for entry in found if entry.format == name]
        for damage in ("cut", "bit", "empty", "named", "a folder"):
            if not (damage == "a folder" and name in ("png", "jpeg")):
                assert any(damage in entry.name for entry in own), (name, damage)
    assert {entry.format for entry in found if entry.capped} == {
        "npy", "npz", "npz of images", "png", "jpeg", "wav", "export",
    }  # fmt: skip


@pytest.mark.parametrize(
    "piece",
    [
        piece if piece == NORMAL else pytest.param(piece, marks=pytest.mark.slow)
        for piece in range(PIECES)
    ],
)
# What orbax leaves half done where a checkpoint is damaged.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:the checkpoint of step")
def test_bad_files_give_what_is_expected(piece, tmp_path):
    wrong = []
    for index, entry in enumerate(entries()[piece::PIECES]):
        folder = tmp_path / str(index)
        folder.mkdir()
        verdict = judged(entry, bad_files.place(entry, folder))
        if any(folder.rglob("executed")):
            verdict = "a pickle was executed"
        if verdict:
            wrong.append((entry.name, verdict))
        bad_files.cleared(folder)
    assert wrong == []


def judged(entry, path):
    """The verdict on an entry, and on the memory that it takes."""
    if not entry.capped:
        return bad_files.verdict(entry, path)
    bad_files.good_value(entry.format)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        verdict = bad_files.verdict(entry, path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # In kilobytes; tracemalloc does not see what Pillow takes.
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    return f"{peak}, {grown} bytes" if max(peak, grown) > MOST_BYTES else verdict


def test_an_archive_of_zeros_is_no_bomb(tmp_path):
    path = bad_files.place(
        bad_files.Entry("", "npz", bad_files.writing(bad_files.sparse_npz())), tmp_path
    )
    assert datasets.load_array(path).shape == (40, 1024, 1024)


def test_a_table_that_unpacks_to_far_more_is_refused(tmp_path):
    packed = gzip.compress(b"1,2\n" * (1 << 18))
    assert len(packed) < 4000
    # Members of gzip follow each other; the first is read in any case.
    (tmp_path / "a.csv.gz").write_bytes(packed * 300)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="a.csv.gz unpacks from .* to more than"):
            datasets.load_array(tmp_path / "a.csv.gz")
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["~nobody.csv", "-v.csv", " .csv", "$HOME.csv"])
def test_names_that_a_shell_would_change_are_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(bad_files.good_bytes("csv"))
    assert datasets.load_array(name).shape == bad_files.REALS.shape
