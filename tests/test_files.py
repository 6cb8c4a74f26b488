"""The atomic write: what is there is the old content or the new, and nothing else."""

import os
import stat

import numpy as np
import pytest

from vaejax.checkpoints import write_atomically


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize(
    ("content", "written"),
    [
        (b"\x00\xff", b"\x00\xff"),
        ("größer\n", "größer\n".encode()),
        (lambda file: file.write(b"by a function"), b"by a function"),
    ],
    ids=["bytes", "text", "function"],
)
def test_every_kind_of_content_replaces_the_file(tmp_path, content, written):
    path = tmp_path / "file"
    path.write_bytes(b"much longer than what is written next")
    write_atomically(path, content)
    assert path.read_bytes() == written and names(tmp_path) == ["file"]
    write_atomically(str(tmp_path / "other"), content)
    assert (tmp_path / "other").read_bytes() == written


def test_writers_that_seek_are_served(tmp_path):
    write_atomically(tmp_path / "a.npz", lambda file: np.savez(file, x=np.arange(3)))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["x"], np.arange(3))


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fails(file):
        file.write(b"half of the new")
        assert path.read_bytes() == b"old"
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, fails)
    assert path.read_bytes() == b"old" and names(tmp_path) == ["file"]


def test_the_content_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    path, synced = tmp_path / "file", []
    monkeypatch.setattr(
        os,
        "fsync",
        lambda handle: synced.append((os.fstat(handle).st_size, names(tmp_path))),
    )
    write_atomically(path, b"12345")
    ((size, (temporary,)),) = synced
    assert size == 5 and temporary.startswith(".file.") and temporary.endswith(".tmp")
    assert names(tmp_path) == ["file"]


def test_a_missing_folder_is_reported_with_the_name_of_the_file(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "absent" / "file", b"")
    assert caught.value.filename == str(tmp_path / "absent" / "file")


def test_the_mode_is_that_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_atomically(tmp_path / "atomic", b"")
    plain, atomic = ((tmp_path / name).stat().st_mode for name in ("plain", "atomic"))
    assert stat.S_IMODE(plain) == stat.S_IMODE(atomic)
