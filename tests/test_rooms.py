"""Who may import whom."""

import ast
from pathlib import Path

import pytest

import tlprune

ROOT = Path(tlprune.__file__).parent
EVERYONE = {"distributed", "errors", "preprocessing", "processes", "progress", "wordnet"}
# a sweep is made of runs of 'tlprune fit'
THEY_TOO = {"commands": {"parser_messages", "config_files"}, "experiments": {"parser_messages", "lightning_cli"}}
MAY_IMPORT = {
    "storage": set(),
    "models": {"storage"},
    "selection": {"storage"},
    "data": {"storage"},
    "modules": {"models"},
    "surrogates.py": {"selection", "data", "models", "storage"},
    "diagnosing.py": {"pruning", "selection_inputs", "surrogates", "selection", "data", "models", "storage"},
    "pruning.py": {"selection_inputs", "surrogates", "selection", "data", "models", "storage"},
    "embedding.py": {"selection_inputs", "surrogates", "selection", "data", "models", "storage"},
    "membership_networks.py": {"surrogates", "selection", "data", "models", "storage"},
    "membership_rules.py": {"membership_networks", "surrogates", "selection", "data", "storage"},
    "applying.py": {"membership_rules", "selection_inputs", "surrogates", "selection", "data", "storage"},
    "selection_inputs.py": {"surrogates", "selection", "data", "models", "storage"},
    "distributed.py": set(),
    "datamodules": {"pruning", "selection_inputs", "selection", "data", "models", "storage"},
    "callbacks": {"selection", "models", "storage", "data"},
    "experiments": {"pruning", "selection_inputs", "storage", "models", "selection", "data", "modules", "datamodules"}
    | {"callbacks", "diagnosing"},
    "commands": {"pruning", "storage", "models", "selection", "data", "datamodules", "experiments"}
    | {"applying", "diagnosing", "embedding", "selection_inputs"},
}
WITHOUT_LIGHTNING = {"storage", "models", "selection", "data"} | {room for room in MAY_IMPORT if room.endswith(".py")}


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names.add(node.module)
    return names


FILES = {
    room: sorted(file for file in [*(ROOT / room).rglob("*.py"), *ROOT.glob(room)] if file.is_file())
    for room in MAY_IMPORT
}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_room_imports_only_rooms_it_may(room):
    may = MAY_IMPORT[room] | {room} | EVERYONE | THEY_TOO.get(room, set())
    rooms = {
        str(file.relative_to(ROOT)): {name.split(".")[1] for name in imported(file) if name.startswith("tlprune.")}
        - may
        for file in FILES[room]
    }
    assert rooms
    assert {file: odd for file, odd in rooms.items() if odd} == {}


@pytest.mark.parametrize("room", sorted(WITHOUT_LIGHTNING))
def test_lightning_stays_in_its_rooms(room):
    assert [file for file in FILES[room] if any(name.split(".")[0] == "lightning" for name in imported(file))] == []


def test_every_room_is_ruled():
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert rooms == {room for room in MAY_IMPORT if not room.endswith(".py")}


def test_no_file_is_longer_than_400_lines():
    assert {str(file): n for file in ROOT.rglob("*.py") if (n := len(file.read_text().splitlines())) > 400} == {}
