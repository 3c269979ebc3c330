"""What a command does not need, it does not load: torch alone takes seconds."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import yaml

from tlprune import InputError, Selection
from tlprune.cli import main
from tlprune.selection.multi_target import Combination

COMMANDS = ["show", "explain", "diff", "export", "advise", "audit", "sweep", "report"]
COMMANDS += ["datasets", "configs", "frames", "select", "embed", "apply"]
BESIDE_TORCH = {"torchvision", "faiss", "lightning", "matplotlib", "pandas"}
FOR_OTHERS = {"lightning", "matplotlib", "tensorboard", "lightly", "sklearn", "scipy", "pandas", "timm", "jinja2"}
"""What no select of one process on CPUs needs."""

RUN = """
import sys
from tlprune.cli import main
arguments = " ".join(sys.argv[1:]).split(" ; ")
print(*(main(one.split()) for one in arguments), file=sys.stderr)
print(*sys.modules, file=sys.stderr)
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TLPRUNE_DATA", raising=False)


def run(commands: str) -> tuple[list[int], set[str], str]:
    """Exit statuses in one process of their own, what heavy modules it has loaded, and what it said."""
    done = subprocess.run([sys.executable, "-c", RUN, *commands.split()], capture_output=True, text=True, check=True)
    *said, statuses, modules = done.stderr.splitlines()
    heavy = {"torch", *BESIDE_TORCH, *FOR_OTHERS} & {*modules.split()}
    return [int(one) for one in statuses.split()], heavy, "\n".join(said)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_given_without_torch(command):
    assert run(f"{command} --help") == ([0], set(), "")


REFUSED = {
    "show s.safetensors --bogus": "unrecognized arguments: --bogus",
    "show": "selection",
    "show none.safetensors": "none.safetensors: no such selection",
    "show s.safetensors --top=-1": "`top` must be at least 0, got -1",
    "diff none.safetensors s.safetensors --keep_units=1": "none.safetensors: no such selection",
    "diff s.safetensors s.safetensors": "say how much is kept: one of --prune_ratio",
    "explain s.safetensors": "unit",
    "explain none.safetensors --unit=0": "none.safetensors: no such selection",
    "export s.safetensors --format=zip --output=kept --keep_units=1": "zip",
    "export . --format=indices --output=kept --keep_units=1": ".: a folder, not a selection",
    "advise s.safetensors --backbone=resnet18": "give --epochs beside --backbone",
    "advise s.safetensors --epochs=many": "many",
    "audit s.safetensors --output=none.txt/leaks.csv --num_workers=-1": "`num_workers` must be at least 0, got -1",
    "audit none.safetensors --output=leaks.csv": "none.safetensors: no such selection",
    "report": "runs",
    "report none": "none: no such file or folder",
    "report . --bogus": "--bogus",
    "report .": "neither a folder of a sweep or a demo (results.json), nor a Selection",
    "report s.safetensors --output=s.safetensors": "s.safetensors: it is a file",
    "datasets cifar1": "unknown target 'cifar1': did you mean 'cifar10'?",
    "frames none frames": "none: no such folder",
    "select --output=r.safetensors": "source",
    "select --source=drawn --output=r.safetensors --selector=Any --selector.seed=1 --bogus": "--bogus",
    "select --source=drawn --output=r.safetensors --combine=best": "best",
}


@pytest.mark.parametrize("command", REFUSED)
def test_wrong_arguments_are_refused_without_torch(command):
    Path("s.safetensors").touch()
    status, loaded, said = run(command)
    assert (status, loaded) == ([2], set())
    assert said.startswith("tlprune: error: ")
    assert said.count("\n") == 0
    assert REFUSED[command] in said


def test_targets_are_listed_without_torch(tmp_path, monkeypatch):
    (tmp_path / "dtd").mkdir()
    monkeypatch.setenv("TLPRUNE_DATA", str(tmp_path))
    assert run("datasets ; datasets digits ; datasets food101") == ([0, 0, 0], set(), "")


def test_a_missing_selection_is_refused_in_the_words_of_load(tmp_path, capsys):
    for path in ("none.safetensors", str(tmp_path)):
        with pytest.raises(InputError) as refused:
            Selection.load(path)
        assert main(["show", path]) == 2
        assert capsys.readouterr().err == f"tlprune: error: {refused.value}\n"


def test_a_selection_is_read_with_torch_alone(class_folder, surrogate_file, tmp_path):
    source = class_folder("src", dict.fromkeys(("ant", "bee", "cat", "dog"), 4))
    class_folder("pets/train", {"x": 6, "y": 3})
    inputs = [f"--source={source}", f"--target={tmp_path / 'pets'}", f"--surrogate={surrogate_file(4)}"]
    assert main(["select", *inputs, "--image_size=32", "--output=s.safetensors"]) == 0
    found = Selection.load("s.safetensors")
    replace(found, metadata={key: value for key, value in found.metadata.items() if key != "source"}).save(
        "n.safetensors"
    )
    show, diff = "show s.safetensors --keep_units=1", "diff s.safetensors n.safetensors --keep_units=1"
    explain, advise = "explain s.safetensors --unit=ant --keep_units=1", "advise s.safetensors --full_seconds=9"
    export = "export n.safetensors --format=indices --output=kept.txt --keep_units=1"
    status, loaded, said = run(" ; ".join((show, diff, explain, advise, export)))
    assert (status, loaded, said) == ([0] * 5, {"torch"}, "")


def test_a_selection_is_made_without_lightning_by_one_process(class_folder, surrogate_file, tmp_path, monkeypatch):
    source = class_folder("src", dict.fromkeys(("ant", "bee", "cat", "dog"), 4))
    class_folder("pets/train", {"x": 6, "y": 3})
    inputs = f"--target={tmp_path / 'pets'} --surrogate={surrogate_file(4)} --image_size=32 --accelerator=cpu"
    select = f"select --source={source} {inputs} --output"
    cluster = f"{select} c.safetensors --selector=NearestImages"
    status, loaded, _ = run(f"{select} s.safetensors ; {cluster}")
    assert (status, loaded & FOR_OTHERS) == ([0, 0], set())
    # a launcher has said that this is the first of one: Fabric reads it, and the Selection is the same
    monkeypatch.setenv("LT_DEVICES", "1")
    assert main([*f"{select} f.safetensors".split()]) == 0
    assert Selection.load("f.safetensors").digest == Selection.load("s.safetensors").digest


def test_devices_that_there_are_not_are_refused_by_their_option(capsys):
    assert main(["select", "--source=.", "--output=r.safetensors", "--accelerator=gpux"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("tlprune: error: --accelerator gpux --devices auto --num_nodes 1: ")
    assert said.count("\n") == 1


def test_nothing_heavy_is_loaded_by_the_package_and_its_help():
    status, loaded, _ = run("--help ; --version")
    assert (status, loaded) == ([0, 0], set())


def test_help_of_select_has_what_select_takes(capsys):
    """Its parser for help does not know the classes of selectors; all else must be the same."""
    assert main(["select", "--help"]) == 0
    shown = capsys.readouterr().out
    assert main(["select", "--source=drawn", "--output=r.safetensors", "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert [name for name in printed if f"--{name}" not in shown] == []
    assert f"{{{','.join(get_args(Combination))}}}" in shown
    assert main(["select", "--selector.help", "RandomSelector"]) == 0
    assert "--selector.seed" in capsys.readouterr().out
