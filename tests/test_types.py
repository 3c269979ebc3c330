"""What a type checker says of the public names, which are imported when they are used."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tlprune

ROOT = Path(__file__).parents[1]
SCRIPT = """
import torch
from torch.utils.data import Dataset

import tlprune
from tlprune import *
from tlprune import PrunedDataset, Selection, prune, select

class Mine(Dataset[tuple[torch.Tensor, int]]):
    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.zeros(3, 8, 8), 0

selection: Selection = select(Mine(), "/data/target", surrogate="torchvision:resnet18", selector="NearestImages")
kept: torch.Tensor = selection.keep(ratio=0.7)
train: PrunedDataset = prune(Mine(), selection, ratio=0.7)
version: str = tlprune.__version__
LabelMapping(votes="hardest")
tlprune.select(Mine(), "/data/target", surrogat="torchvision:resnet18")
tlprune.selekt
"""
WRONG = ["LabelMapping(", "tlprune.select(", "tlprune.selekt"]


def test_the_stub_exports_the_names_that_there_are():
    """``NAME as NAME``: without ``as``, a type checker takes an import in a stub for the stub's own."""
    exported = []
    for stub in ("public_names.pyi", "selection/registry.pyi"):
        for node in ast.parse((ROOT / "tlprune" / stub).read_text()).body:
            if isinstance(node, ast.ImportFrom):
                exported += [alias.asname for alias in node.names if alias.asname == alias.name]
    assert sorted(exported) == tlprune.__all__
    for name in exported:
        assert getattr(tlprune, name).__name__ == name or name == "WholeCheckpointIO"  # the former name of another


@pytest.mark.slow  # seconds of mypy
def test_every_public_name_has_a_type_and_wrong_uses_are_errors(tmp_path):
    script = tmp_path / "script.py"
    names = [f"reveal_type(tlprune.{name})" for name in tlprune.__all__]
    script.write_text("\n".join([SCRIPT.strip(), *names]) + "\n")
    checked = [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", str(script)]
    environment = os.environ | {"MYPYPATH": str(ROOT)}
    said = subprocess.run(checked, cwd=ROOT, env=environment, capture_output=True, text=True).stdout
    lines = script.read_text().splitlines()
    found = re.findall(r"script.py:(\d+): (error|note): (.*)", said)
    assert [lines[int(line) - 1] for line, kind, _ in found if kind == "error"] == [
        line for line in lines if line.startswith(tuple(WRONG))
    ], said
    revealed = [text for _, kind, text in found if kind == "note" and text.startswith("Revealed type")]
    assert len(revealed) == len(names)
    assert [text for text in revealed if not text.startswith('Revealed type is "def (')] == []
