"""What README says is true of the files and commands that it names."""

import re
import shlex
from pathlib import Path

import pytest

import tlprune
from tlprune import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def commands(text):
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]
    return [shlex.split(line, comments=True) for line in lines]


COMMANDS = commands(README)
DOCUMENTED = [command for page in (ROOT / "docs").glob("*.md") for command in commands(page.read_text())]


def test_readme_shows_the_two_commands():
    assert ["make", "demo"] in COMMANDS
    assert ["make", "test"] in COMMANDS


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_link_leads_to_a_file(link):
    assert (ROOT / link).is_file()


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_every_link_and_picture_of_a_page_is_there(page):
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / link).is_file()


def test_the_trainer_of_docs_names_what_there_is():
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/tensorboard.md").read_text(), re.DOTALL)
    compile(code, "docs/tensorboard.md", "exec")
    names = re.search(r"from tlprune import (.*)", code).group(1).split(", ")
    assert set(names) <= set(tlprune.__all__)


@pytest.mark.parametrize("command", [one for one in COMMANDS + DOCUMENTED if one[0] == "tlprune"], ids=" ".join)
def test_every_command_is_one_of_ours_with_files_that_exist(command):
    assert command[1] in cli._COMMANDS
    for word in command:
        if word.startswith("configs/"):
            assert (ROOT / word).is_file()


def test_the_python_example_names_what_there_is():
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    compile(code, "README.md", "exec")
    assert "PrunedSourceDataModule" in code


@pytest.mark.usefixtures("drawn_cached")
def test_selection_commands_run_as_written(tmp_path, monkeypatch, surrogate_file, capsys):
    """With a surrogate of random weights in place of the trained one."""
    from tlprune.data.drawn import drawn_classes

    monkeypatch.chdir(tmp_path)
    Path("runs/drawn").mkdir(parents=True)
    surrogate_file([drawn.name for drawn in drawn_classes()], "runs/drawn/surrogate.safetensors")
    Path("configs").symlink_to(ROOT / "configs")
    ours = [command[1:] for command in COMMANDS if command[0] == "tlprune"]
    for arguments in ours:
        if arguments[0] in ("select", "show", "explain", "export", "advise"):
            assert cli.main(arguments) == 0
    assert Path("kept.txt").read_text().count("\n") == 3001
    assert Path("why.png").stat().st_size > 10_000
