"""The files of a run folder: versions, claims, traces of kills, and damage."""

import dataclasses
import errno
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import tyro

from experiments import mnist, own_data, text
from experiments.harness import (
    RunError,
    UsageError,
    distributed,
    load_run,
    loop,
    manifest,
    report,
    run_dir,
    run_lock,
)
from experiments.harness.config import MeasurementConfig


def config(path, **options):
    return mnist.Config(out=path / "run", **options)


def start(path, **options):
    """Claim the folder of a run, as a run does, and leave it."""
    own = config(path, **options)
    found = run_dir.find("mnist", own)
    with run_dir.claimed(found, "mnist", own) as claim:
        claim.check()
        return claim.path


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def edit(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


# the claim


def test_a_new_run_has_its_options_and_no_lock_when_it_has_ended(tmp_path):
    start(tmp_path, epochs=3)
    assert names(tmp_path) == ["run"] and names(tmp_path / "run") == ["config.json"]
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (saved["format_version"], saved["experiment"]) == (2, "mnist")
    again = run_dir.saved_config("mnist", config(tmp_path, resume=True))
    assert again == config(tmp_path, resume=True, epochs=3)


def test_a_live_run_is_neither_resumed_nor_started_again(tmp_path):
    own = config(tmp_path)
    with run_dir.claimed(tmp_path / "run", "mnist", own):
        before = (tmp_path / "run" / run_lock.NAME).read_bytes()
        for resume in (False, True):
            other = dataclasses.replace(own, resume=resume)
            with (
                pytest.raises(UsageError, match="in use by process"),
                run_dir.claimed(tmp_path / "run", "mnist", other),
            ):
                pass
        assert (tmp_path / "run" / run_lock.NAME).read_bytes() == before
    with pytest.raises(UsageError, match="holds a run; add --resume"):
        start(tmp_path)
    start(tmp_path, resume=True)


def test_a_run_that_came_and_ended_between_is_not_overwritten(tmp_path):
    own = config(tmp_path, seed=1)
    found = run_dir.find("mnist", own)
    start(tmp_path)
    with (
        pytest.raises(UsageError, match="holds a run"),
        run_dir.claimed(found, "mnist", own),
    ):
        pass
    assert names(found) == ["config.json"]
    assert json.loads((found / "config.json").read_text())["seed"] == 0


TRACES = [".config.json.1a2b3c4d.tmp", "config.json.tmp", ".run.lock.1a2b3c4d.tmp"]


@pytest.mark.parametrize("traces", [[], *[[name] for name in TRACES], TRACES])
@pytest.mark.parametrize("resume", [False, True])
def test_traces_of_a_start_are_no_run_and_no_obstacle(tmp_path, capsys, traces, resume):
    """They were left in an existing, empty folder by a start that was killed."""
    (tmp_path / "run").mkdir()
    for name in traces:
        (tmp_path / "run" / name).write_text("{")
    own = config(tmp_path, resume=resume, epochs=7)
    if resume:
        own = run_dir.saved_config("mnist", own)
        assert own.epochs == 7 and "no run yet" in capsys.readouterr().err
    start(tmp_path, resume=resume, epochs=7)
    assert run_dir.saved_config("mnist", config(tmp_path, resume=True)).epochs == 7


@pytest.mark.parametrize("when", ["before the lock", "before the options", "renamed"])
def test_a_start_that_dies_leaves_no_folder_or_all_of_it(tmp_path, monkeypatch, when):
    class Killed(BaseException):
        pass

    def dies(*_):
        raise Killed

    # Nothing is cleaned up, as after a kill.
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    module, name = {
        "before the lock": (run_lock, "take"),
        "before the options": (run_dir, "write_json"),
        "renamed": (Path, "rename"),
    }[when]
    with monkeypatch.context() as patched:
        patched.setattr(module, name, dies)
        with pytest.raises(Killed):
            start(tmp_path)
    assert not (tmp_path / "run").exists()
    start(tmp_path)


@pytest.mark.parametrize("exists", [False, True])
def test_a_full_disk_at_the_start_leaves_nothing_in_the_way(
    tmp_path, monkeypatch, exists
):
    def fails(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if exists:
        (tmp_path / "run").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(run_dir, "write_json", fails)
        with pytest.raises(UsageError, match="cannot be written .No space left"):
            start(tmp_path)
    assert names(tmp_path) == ["run"] * exists
    start(tmp_path)


def test_something_else_is_never_taken_for_a_run(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="not empty and holds no run"):
        start(tmp_path)
    with pytest.raises(UsageError, match="holds no run"):
        start(tmp_path, resume=True)
    assert names(tmp_path / "run") == ["thesis.tex"]


def test_a_measurement_claims_its_folder_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = MeasurementConfig()
    for number in (1, 2):
        found = run_dir.find("throughput", own)
        with run_dir.claimed(found, "throughput", own) as claim:
            assert claim.path == Path(f"runs/throughput-000{number}")
            claim.check()


def test_a_folder_that_was_moved_stops_the_run(tmp_path):
    own = config(tmp_path)
    with run_dir.claimed(tmp_path / "run", "mnist", own) as claim:
        (tmp_path / "run").rename(tmp_path / "moved")
        with pytest.raises(RunError, match="--resume --out .*moved"):
            claim.check()
    assert names(tmp_path / "moved") == ["config.json"]
    assert not (tmp_path / "run").exists()


# config.json


def test_a_folder_of_the_first_version_is_read(tmp_path):
    (tmp_path / "run").mkdir()
    text = '{"experiment": "mnist", "epochs": 3, "data": "mnist"}'
    (tmp_path / "run" / "config.json").write_text(text)
    own = run_dir.saved_config("mnist", config(tmp_path, resume=True))
    assert own == config(tmp_path, resume=True, epochs=3)
    start(tmp_path, resume=True, epochs=3)


@pytest.mark.parametrize("version", [3, "two", None])
def test_a_folder_of_a_newer_version_is_named(tmp_path, version):
    edit(start(tmp_path), format_version=version)
    with pytest.raises(UsageError, match=r"newer version \(its format is"):
        start(tmp_path, resume=True)


DAMAGED = [
    "",
    "{",
    "[]",
    "null",
    "3",
    '"mnist"',
    "[" * 100_000,
    "\x00" * 400,
    *(
        json.dumps({"experiment": "mnist", name: value})
        for name, value in {
            "epochs": "many",
            "seed": None,
            "num_samples": 2.5,
            "learning_rate": [1],
            "tensorboard": 1,
            "sweep": "beta=1",
            "compute_dtype": "float8",
            "data": 7,
            "data_dir": {},
            "average": "x",
        }.items()
    ),
]


@pytest.mark.parametrize("text", DAMAGED, ids=lambda text: text[:40])
def test_a_damaged_configuration_is_one_line(tmp_path, text):
    path = start(tmp_path)
    (path / "config.json").write_text(text)
    own = config(tmp_path, resume=True)
    for act in (
        lambda: run_dir.saved_config("mnist", own),
        lambda: run_dir.find("mnist", own),
        lambda: load_run.load_run(str(path)),
    ):
        with pytest.raises(UsageError, match=r"config\.json is damaged") as caught:
            act()
        assert "\n" not in str(caught.value)
    assert (path / "config.json").read_text() == text


def test_a_configuration_that_is_no_text_is_one_line(tmp_path):
    path = start(tmp_path)
    (path / "config.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(UsageError, match="damaged"):
        run_dir.find("mnist", config(tmp_path, resume=True))


def test_a_relative_path_of_data_is_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "data.npz").write_bytes(b"")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    options = {"data": "data.npz", "data_dir": Path("elsewhere")}
    own = mnist.Config(out=Path("run"), **options)
    with run_dir.claimed(Path("run"), "mnist", own):
        pass
    resumed = dataclasses.replace(own, resume=True)
    assert run_dir.saved_config("mnist", resumed) == resumed
    monkeypatch.chdir(tmp_path / "elsewhere")
    there = run_dir.saved_config("mnist", config(tmp_path, resume=True))
    assert there.data == str(tmp_path / "data.npz")
    assert there.data_dir == tmp_path / "elsewhere"
    assert run_dir.find("mnist", there) == tmp_path / "run"
    given = config(tmp_path, resume=True, data="../data.npz", data_dir=Path("."))
    assert run_dir.find("mnist", given) == tmp_path / "run"


def test_paths_of_the_home_directory_are_found_from_anywhere(tmp_path, monkeypatch):
    home, other = tmp_path / "home", tmp_path / "other"
    for folder in (home / "files", other / "files"):
        folder.mkdir(parents=True)
    (home / "data.npz").write_bytes(b"")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(other)
    options = {"data": "~/data.npz", "data_dir": Path("files")}
    own = config(tmp_path, **options)
    with run_dir.claimed(tmp_path / "run", "mnist", own):
        pass
    monkeypatch.chdir(tmp_path)
    there = run_dir.saved_config("mnist", config(tmp_path, resume=True))
    assert there.data == str(home / "data.npz")
    assert there.data_dir == other / "files"


def test_data_that_moved_may_be_named_again(tmp_path, monkeypatch):
    """Their content is compared, once they are loaded."""
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.npz").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    start(tmp_path, data="before/data.npz")
    (tmp_path / "before" / "data.npz").unlink()
    moved = config(tmp_path, data="after/data.npz", resume=True)
    assert run_dir.find("mnist", moved) == tmp_path / "run"
    for wrong in ("elsewhere.npz", "mnist"):
        with pytest.raises(UsageError, match="--data is .* and the run in"):
            run_dir.find("mnist", config(tmp_path, data=wrong, resume=True))


def test_a_printed_command_can_be_typed_anywhere(tmp_path, monkeypatch):
    folder = tmp_path / "a --b 'c'"
    folder.mkdir()
    (folder / "data.npz").write_bytes(b"")
    monkeypatch.chdir(folder)
    own = text.Config(data="data.npz", clip_norm=None, sweep=("beta=1,2",))
    words = shlex.split(run_dir.command("text", own))
    assert words[:3] == ["python", "-m", "experiments.text"]
    monkeypatch.chdir(tmp_path)
    again = tyro.cli(text.Config, args=words[3:])
    assert again == dataclasses.replace(own, data=str(folder / "data.npz"))
    extended = dataclasses.replace(own, epochs=9, extended_from=(2, 4))
    commands = run_dir.command("text", extended).split(" && ")
    assert [command.partition("--epochs ")[2][0] for command in commands] == [*"249"]
    lines = report.in_lines(shlex.join(words))
    assert shlex.split(lines.replace("\\\n", "")) == words
    assert f"  --data {shlex.quote(again.data)} \\" in lines.splitlines()


def test_a_value_that_starts_with_a_dash_is_no_option():
    own = own_data.Config(data="-a", missing=("-9,NA",))
    words = shlex.split(run_dir.command("own_data", own))
    assert tyro.cli(own_data.Config, args=words[3:]) == own
    again = tyro.cli(own_data.Config, args=["--data", "a", "--missing", "-9", "NA"])
    assert again.missing == ("-9", "NA")


def test_the_name_of_a_data_set_is_no_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()
    saved = json.loads((start(tmp_path) / "config.json").read_text())
    assert saved["data"] == "mnist" and "working_directory" not in saved


# metrics.jsonl


def row(epoch):
    part = {"negative_elbo": [1.0 / epoch]}
    return {"epoch": epoch, "step": 2 * epoch, "seconds": 0.1} | {
        "train": {"loss": [0.5]},
        "test": part,
    }


def lines(*epochs):
    return "".join(json.dumps(row(epoch)) + "\n" for epoch in epochs)


@pytest.mark.parametrize(
    ("text", "left", "words"),
    [
        (lines(1, 2, 3), [1, 2, 3], []),
        (lines(1, 2, 3, 4, 5), [1, 2, 3], []),
        (lines(1, 2, 3) + '{"epoch": 4, "tr', [1, 2, 3], []),
        (lines(1, 2) + "garbage\n" + lines(3), [1, 2, 3], ["1 damaged"]),
        (lines(1) + "\x00" * 50 + "\n" + lines(3), [1, 3], ["1 damaged", "1 of 3"]),
        (lines(1, 2, 2, 3), [1, 2, 3], ["1 damaged"]),
        (lines(2, 3), [2, 3], ["lacks 1 of 3 epochs (the first is 1)"]),
        ("", [], ["lacks 3 of 3 epochs"]),
        (None, [], ["lacks 3 of 3 epochs"]),
        ('[1]\n3\n{"epoch": "1"}\n{}\n' + lines(1, 2, 3), [1, 2, 3], ["4 damaged"]),
        ("[" * 100_000 + "\n" + lines(1, 2, 3), [1, 2, 3], ["1 damaged"]),
    ],
)
def test_metrics_are_repaired_or_named(tmp_path, capsys, text, left, words):
    if text is not None:
        (tmp_path / "metrics.jsonl").write_text(text)
    run_dir.cut_metrics(tmp_path, 3)
    message = capsys.readouterr().err
    assert [one["epoch"] for one in run_dir.read_metrics(tmp_path)] == left
    assert all(word in message for word in words) and bool(message) == bool(words)
    kept = tmp_path / "metrics.damaged.jsonl"
    assert kept.exists() == bool(words and text is not None)
    assert not kept.exists() or kept.read_text() == text
    run_dir.append_metrics(tmp_path, row(4))
    assert [one["epoch"] for one in run_dir.read_metrics(tmp_path)] == [*left, 4]
    missing = run_dir.missing_epochs(run_dir.read_metrics(tmp_path), 4)
    assert missing == sorted({1, 2, 3} - set(left))


def test_the_line_of_the_checkpoint_comes_back(tmp_path, capsys):
    run_dir.cut_metrics(tmp_path, 3, row(3))
    assert run_dir.read_metrics(tmp_path) == [row(3)]
    assert "lacks 2 of 3 epochs" in capsys.readouterr().err
    (tmp_path / "metrics.jsonl").write_text(lines(1, 2))
    run_dir.cut_metrics(tmp_path, 3, row(3))
    assert run_dir.read_metrics(tmp_path) == [row(1), row(2), row(3)]
    assert capsys.readouterr().err == ""


# manifest.json


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", "\x00" * 90, "[" * 9999])
def test_a_damaged_manifest_is_named(tmp_path, capsys, text):
    (tmp_path / "manifest.json").write_text(text)
    manifest.check_data(tmp_path, "abc")
    assert "manifest.json is damaged" in capsys.readouterr().err


def test_other_data_than_the_manifest_says(tmp_path):
    manifest.check_data(tmp_path, "abc")
    (tmp_path / "manifest.json").write_text('{"data_sha256": "abc"}')
    manifest.check_data(tmp_path, "abc")
    with pytest.raises(UsageError, match="--data has changed"):
        manifest.check_data(tmp_path, "def")


def test_the_number_of_cores_is_that_of_the_process(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.delenv("NPROC", raising=False)
    monkeypatch.delenv("PJRT_NPROC", raising=False)
    monkeypatch.setenv("XLA_FLAGS", "")
    assert manifest.num_cores() == manifest.xla_threads() == 1
    monkeypatch.setenv("NPROC", "3")
    assert manifest.num_cores() == 1 and manifest.xla_threads() == 3
    monkeypatch.setenv("PJRT_NPROC", "4")
    assert manifest.xla_threads() == 4
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    assert manifest.environment()["xla_threads"] == 1


def test_another_environment_is_told_and_remembered(tmp_path, monkeypatch, capsys):
    before = manifest.environment()
    job = loop.Job(tmp_path, mnist.Config(), None, None, None, "")
    assert loop._add_environment(job, []) == [before]
    assert loop._add_environment(job, [before]) == [before]
    assert capsys.readouterr().err == ""
    versions = before["versions"] | {"jax": "0.0.1"}
    other = before | {"cores": 64, "xla_flags": "--x", "versions": versions}
    found = loop._add_environment(job, [before, other])
    message = capsys.readouterr().err
    assert found == [other, before] and "not bit for bit" in message
    for words in ("cores 64, now ", "jax 0.0.1, now ", "xla flags --x, now none"):
        assert words in message
    assert "flax" not in message


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with one commit, and its commit."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "a")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@b")
    path = tmp_path / "check out"
    git(path.parent, "init", "-q", path.name)
    (path / "file").write_text("1")
    git(path, "add", "file")
    git(path, "commit", "-q", "-m", "first")
    return path, git(path, "rev-parse", "HEAD")[:12]


def git(path, *words):
    command = ["git", "-C", path, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_is_that_of_the_checkout_alone(checkout, tmp_path, monkeypatch):
    path, commit = checkout
    assert manifest._commit_of(path) == commit
    git(path, "worktree", "add", "-q", "../beside")
    for place in (path, tmp_path / "beside"):
        (place / "file").write_text("2")
        assert manifest._commit_of(place) == f"{commit}-dirty"
    # An unpacked archive within a repository has none.
    (path / "archive").mkdir()
    assert manifest._commit_of(path / "archive") is None
    # A hook of another repository.
    git(tmp_path, "init", "-q", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert manifest._commit_of(path) == f"{commit}-dirty"


def test_the_commit_of_another_users_checkout_is_known(checkout, monkeypatch):
    path, commit = checkout
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(subprocess.CalledProcessError):
        git(path, "describe", "--always")
    assert manifest._commit_of(path) == commit


def test_the_commit_is_known_without_git(checkout, tmp_path, monkeypatch):
    path, commit = checkout
    git(path, "worktree", "add", "-q", "../beside")
    monkeypatch.setenv("PATH", "")
    for place in (path, tmp_path / "beside"):
        found = manifest._commit_of(place)
        assert found == f"{commit}, not compared with the files"


def test_the_commit_is_read_where_git_refuses(tmp_path, monkeypatch):
    def refuses(*_, **__):
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(subprocess, "run", refuses)
    for layout in ("loose", "packed", "detached"):
        folder = tmp_path / layout
        (folder / "refs" / "heads").mkdir(parents=True)
        (folder / "HEAD").write_text("ref: refs/heads/main\n")
        if layout == "loose":
            (folder / "refs" / "heads" / "main").write_text("a" * 40 + "\n")
        elif layout == "packed":
            (folder / "packed-refs").write_text(f"# x\n{'a' * 40} refs/heads/main\n")
        else:
            (folder / "HEAD").write_text("a" * 40 + "\n")
        assert manifest._head_of(folder) == "a" * 12 + ", not compared with the files"
    assert manifest._head_of(tmp_path) is None


# several processes


@pytest.fixture
def two_processes(monkeypatch):
    """The other process tells `others`; this one is the first."""
    others = []
    monkeypatch.setattr(distributed, "gathered", lambda text: [text, *others])
    return others


def test_processes_with_the_same_values_go_on(two_processes):
    two_processes.append('{"--seed": 0}')
    distributed.check_same({"--seed": 0})


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"--seed": 5, "data": "a"}, "--seed is 0 in process 0 and 5 in process 1"),
        ({"--seed": 0, "data": "b"}, "data is a in process 0 and b in process 1"),
        ({"--seed": 0}, "data is a in process 0 and None"),
        ({"--seed": 0, "data": "a", "--warp": 9}, "--warp is None .* and 9"),
    ],
)
def test_processes_that_differ_stop_with_the_difference(two_processes, other, words):
    two_processes.append(json.dumps(other))
    with pytest.raises(UsageError, match=words):
        distributed.check_same({"--seed": 0, "data": "a"})


def test_an_error_of_the_first_process_is_raised_in_every_one(monkeypatch):
    monkeypatch.setattr(distributed, "is_first", lambda: False)
    told = []
    monkeypatch.setattr(distributed, "gathered", lambda text: [*told, text])
    for error in (UsageError("a b"), RunError("c: d")):
        told[:] = [json.dumps([type(error).__name__, str(error)])]
        with pytest.raises(type(error), match=str(error)):
            distributed.decided_by_first(lambda: 1 / 0)
    told[:] = ['["", ""]']
    assert distributed.decided_by_first(lambda: 1 / 0) is None


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ("host:99999,2,0", "port is 99999; give one from 1 to 65535"),
        ("host:0,2,0", "port is 0"),
        ("host:-1,2,0", "port is -1"),
        ("host:1,0,0", "number of processes is 0; give one from 1 to 2147483647"),
        ("host:1,9999999999,0", "number of processes is 9999999999"),
        ("host:1,2,2", "index is 2; give one from 0 to 1"),
        ("host:1,2,-1", "index is -1"),
        (":1,2,0", "HOST:PORT"),
        ("host,2,0", "HOST:PORT"),
        ("host:1,2", "HOST:PORT"),
        ("host:x,2,0", "HOST:PORT"),
        ("a b:1,2,0", "the host a b is not found"),
        (f"{'x' * 90}.invalid:1,2,1", "the host x+ is not found .*too long"),
    ],
)
def test_an_address_that_cannot_be_is_refused_at_once(cluster, words):
    with pytest.raises(UsageError, match=words):
        distributed.join(cluster)


def test_the_schema_of_a_table_is_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "schema.json").write_text("{}")
    (tmp_path / "people.csv").write_text("")
    monkeypatch.chdir(tmp_path)
    own = own_data.Config(data="people.csv", schema="schema.json", out=Path("run"))
    with run_dir.claimed(Path("run"), "own_data", own):
        pass
    monkeypatch.chdir("/")
    resumed = own_data.Config(resume=True, out=tmp_path / "run")
    there = run_dir.saved_config("own_data", resumed)
    assert there.schema == str(tmp_path / "schema.json")
    assert there.data == str(tmp_path / "people.csv")
