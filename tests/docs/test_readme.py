"""README's code runs as it stands, and its commands are the ones that the checks use."""

import re
from pathlib import Path

import pytest
from support.programs import users_settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def executed(code: list[str]) -> dict:
    namespace: dict = {}
    # As a reader's own settings are, not as the tests'.
    with users_settings():
        for block in code:
            exec(block, namespace)
    return namespace


def test_the_code_of_the_library_runs():
    code = blocks("python", README.partition("## Your own data")[0])
    assert len(code) >= 3
    namespace = executed(code)
    assert namespace["same"].shape == (64, 28, 28)


@pytest.mark.slow
def test_the_code_runs_from_top_to_bottom():
    namespace = executed(blocks("python"))
    assert namespace["samples"].shape == (16, 28, 28)
    assert namespace["state"].step == 16
    assert namespace["states"].step.tolist() == [8, 8, 8]


def test_there_are_exactly_two_set_up_commands():
    commands = [
        line
        for block in blocks("sh")
        for line in block.splitlines()
        if "-m venv" in line
    ]
    assert len(commands) == 2
    assert commands[0].endswith("-m experiments.mnist") and "-m pytest" in commands[1]


def test_every_file_that_is_named_exists():
    for path in re.findall(r"`((?:vaejax|experiments|tests)/[a-z_/.]+)`", README):
        assert (ROOT / path).exists(), path
