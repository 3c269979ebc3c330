from dataclasses import replace

import pytest
import yaml

from sweeps import made_results
from tlprune.experiments.curves import accuracy_figure
from tlprune.experiments.page.markup import latex_tables
from tlprune.experiments.page.rendering import render_page
from tlprune.experiments.page.tables import report_tables
from tlprune.experiments.sweep_transfers import transfers_of
from tlprune.experiments.wording import mode_label


@pytest.fixture
def recipes(tmp_path):
    """Recipes of results, as a sweep of these transfers writes them."""
    config = {"model": {"class_path": "TransferModule"}, "data": {"class_path": "DownstreamDataModule"}}
    (tmp_path / "tune.yaml").write_text(yaml.safe_dump(config))
    transfers = {
        "probe": {"solver": "lbfgs", "shots": [1, 5, "all"]},
        "finetune": {"config": str(tmp_path / "tune.yaml"), "shots": [5, "all"]},
        "knn": {"num_neighbours": 3, "shots": 4},
        "knn_20": {"num_neighbours": 20},
        "head_2": {"solver": "lbfgs", "shots": 7},
    }
    return {"transfers": {mode: one.as_json for mode, one in transfers_of(transfers).items()}}


def test_labels_of_modes_say_how_many_labels_a_class_has(recipes):
    assert {mode: mode_label(mode, recipes) for mode in recipes["transfers"]} == {
        "probe": "linear probe",
        "probe_5": "linear probe, 5 labels a class",
        "probe_1": "linear probe, 1 label a class",
        "finetune": "full finetuning",
        "finetune_5": "full finetuning, 5 labels a class",
        "knn": "nearest neighbours, 4 labels a class",
        "knn_20": "knn_20",  # twenty neighbours, and all labels
        "head_2": "head_2, 7 labels a class",
    }


@pytest.mark.parametrize(
    ("mode", "label"),
    [
        ("probe", "linear probe"),
        ("probe_20", "linear probe, 20 labels a class"),
        ("own", "own"),
        ("own_1", "own, 1 label a class"),
        ("own_0", "own_0"),
        ("_5", "_5"),
        ("5", "5"),
        ("fm_k50", "fm_k50"),
    ],
)
def test_without_recipes_the_name_says_it(mode, label):
    for recipes in (None, {}, {"transfers": None}, {"transfers": {"other": {"shots": 3}}}):
        assert mode_label(mode, recipes) == label


def test_figures_tables_and_pages_say_it_too(recipes):
    found = made_results(targets=("digits",), ablations=False)
    renamed = [
        replace(cell, scores={"probe": cell.scores["probe"], "probe_5": cell.scores["finetune"]})
        for cell in found.cells
    ]
    found = replace(found, cells=renamed, modes=["probe", "probe_5"], recipes=recipes)
    titles = [axes.get_title() for axes in accuracy_figure(found, "digits", found.modes).axes]
    assert titles == ["linear probe on digits", "linear probe, 5 labels a class on digits"]
    assert "digits, linear probe, 5 labels a class" in latex_tables(report_tables(found))
    assert "By linear probe, 5 labels a class" in render_page(found, [], [], "t")
