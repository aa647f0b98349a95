"""The README's code and commands are run as they stand there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_first_example_runs_and_prints_the_features():
    (code,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "'spending__amount_sum_1m_continuous': 42.5" in done.stdout
    assert "'spending__amount_mean_30d_continuous': 21.25" in done.stdout


def test_the_commands_for_an_own_project_work_one_after_another(tmp_path):
    (commands,) = [block for block in blocks("bash") if "penstock init" in block]
    folder = tmp_path
    for line in commands.splitlines():
        command = shlex.split(line, comments=True)
        if not command or command[0] == "pip":
            continue
        for words in split(command):
            if words[0] == "cd":
                folder = folder / words[1]
                continue
            done = penstock(words[1:], folder)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert "0" in done.stdout  # the audit


def split(words):
    """The commands of a line that `&&` joins."""
    one = []
    for word in words:
        if word == "&&":
            yield one
            one = []
        else:
            one.append(word)
    yield one


def penstock(arguments, folder):
    command = [Path(sys.executable).with_name("penstock"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("word", ["up", "score", "backfill", "replay", "status", "forget"])
def test_commands_that_the_readme_names_exist(word):
    assert f"`{word}" in README or f" {word} " in README or f"{word}`" in README
    done = penstock([word, "--help"], ROOT)
    assert done.returncode == 0
