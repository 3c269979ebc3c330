"""Diagnostics as a stage of a sweep."""

import pytest
import yaml

import tlprune
from sweeps import Here
from tlprune.experiments import sweep_stages
from tlprune.experiments.neighbours import Neighbours
from tlprune.experiments.recipes import Recipe
from tlprune.experiments.sweep import begin, finished, run_sweep
from tlprune.experiments.sweep_plan import Sweep, methods_of


@pytest.fixture
def plan(class_folder, tmp_path):
    class_folder("source", dict.fromkeys(("ant", "bee", "cat", "dog"), 4))
    for part in ("train", "val", "test"):
        class_folder(f"target/{part}", {"x": 3, "y": 3})
    model = {"class_path": "LitClassifier", "init_args": {"backbone": "resnet8_w8"}}
    options = {"image_size": 32, "cache": str(tmp_path / "cache")}
    config = {"model": model, "data": {"class_path": "PrunedSourceDataModule", "init_args": options}}
    config["trainer"] = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(config))

    def make(surrogate=None, diagnostics=False):
        for known in ("_source", "_marks_of_source", "_target_mark"):
            getattr(sweep_stages, known).cache_clear()
        methods = methods_of({"random": "RandomSelector"}, controls=False)
        recipe = Recipe.read(str(path), "PrunedSourceDataModule")
        source, target = str(tmp_path / "source"), str(tmp_path / "target")
        common = (methods, (0.5,), ("epochs",), 1, "grid", tmp_path / "out")
        given = str(path) if surrogate is None else surrogate
        return Sweep("s", source, (target,), given, recipe, {"knn": Neighbours(3)}, *common, diagnostics=diagnostics)

    return make


def run(sweep):
    """Cells by method, of which finished ones are read."""
    results = begin(sweep, "made in a test")
    results.cells += finished(sweep, sweep.groups())
    run_sweep(sweep, results, Here(), lambda cell: None)
    return {cell.method: cell for cell in results.cells}


def stages(sweep):
    return {path.parent.name.rsplit("-", 1)[0] for path in (sweep.output / "stages").glob("*/done.json")}


def test_what_cells_keep_is_diagnosed_in_features_of_the_surrogate(plan, tmp_path):
    """Random pruning too, which uses no surrogate; where it is asked for later, nothing else is run again."""
    sweep = plan()
    assert {cell.diagnostics for cell in run(sweep).values()} == {None}
    before = stages(sweep)
    assert not {name for name in before if name.startswith(("surrogate", "diagnose"))}
    sweep = plan(diagnostics=True)
    cells = run(sweep)
    assert stages(sweep) - before == {"diagnose-" + sweep_stages.file_name(sweep.targets[0]) + "-0", "surrogate-0"}
    assert cells["none"].diagnostics is None
    [weights] = sweep.output.glob("stages/surrogate-0-*/weights.safetensors")
    selection = sweep.output / cells["random"].selection
    found = tlprune.diagnose(selection, sweep.source, sweep.targets[0], weights, ratio=0.5, image_size=32)
    random = {f"random_{name}": value for name, value in found.random.as_json().items()}
    assert cells["random"].diagnostics == pytest.approx(found.kept.as_json() | random)
    [read] = [cell for cell in finished(sweep, sweep.groups()) if cell.method == "random"]
    assert read.diagnostics == cells["random"].diagnostics
    other = plan(str(weights), diagnostics=True)  # the same weights, which need no training
    assert run(other)["random"].diagnostics == read.diagnostics
