"""Rules that keep the code easy to read and to add to."""

import ast
import inspect
from pathlib import Path

import pytest

import tlprune
from tlprune.datamodules import arguments
from tlprune.datamodules.source import SourceDataModule
from tlprune.selection.registry import selector_names

ROOT = Path(tlprune.__file__).parent
MOST_PARAMETERS = 14
FILES = sorted(ROOT.rglob("*.py"))


def strings(file):
    """String literals but for docstrings and ``__all__``."""
    tree = ast.parse(file.read_text())
    listed = {
        id(entry)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and any(getattr(name, "id", "") == "__all__" for name in node.targets)
        for entry in ast.walk(node.value)
    }
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in listed
    }


def test_selectors_are_listed_in_the_registry_alone():
    labels = {getattr(tlprune, name).label for name in selector_names()}  # of which one is also a class's name
    names = set(selector_names()) - labels
    assert {str(file): odd for file in FILES if (odd := strings(file) & names)} == {}


@pytest.mark.parametrize("name", [name for name in tlprune.__all__ if inspect.isclass(getattr(tlprune, name))])
def test_constructors_have_few_parameters(name):
    parameters = inspect.signature(getattr(tlprune, name)).parameters.values()
    named = [one.name for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    assert len(named) <= MOST_PARAMETERS, named


def test_a_budget_becomes_kept_indices_in_one_place():
    """Others ask ``ranking.kept()``, or a Selection, which asks it too."""
    using = {str(file.relative_to(ROOT)) for file in FILES if "kept_samples(" in file.read_text()}
    assert using == {"selection/ranking.py"}
    asking = {str(file.relative_to(ROOT)) for file in FILES if ".units_kept(budget" in file.read_text()}
    assert "selection/ranking.py" not in asking


def test_every_argument_of_a_source_is_in_one_group():
    """Whoever builds a DataModule from a config asks the groups, and keeps no list of its own."""
    own = set(inspect.signature(tlprune.PrunedSourceDataModule).parameters) - {"source", "loading"}
    loading = set(inspect.signature(SourceDataModule).parameters) - {"source"}
    assert own == set(arguments.WHAT_IS_KEPT) | set(arguments.INCLUDED)
    assert set(arguments.WITHOUT_EFFECT) <= loading
    assert set(arguments.OF_SELECTING) <= loading & set(inspect.signature(tlprune.select).parameters)
    assert len(set(arguments.BUDGETS) & own) == len(arguments.BUDGETS)


@pytest.mark.parametrize("name", arguments.MOVED)
def test_an_option_that_moved_is_refused_with_its_new_place(name):
    with pytest.raises(tlprune.InputError, match=f"no option '{name}' any more: it is `selection.{name}` now"):
        tlprune.PrunedSourceDataModule(**{name: None})
