"""Transfers of a sweep by mode, with any numbers of labels."""

from dataclasses import replace

import pytest
import yaml

from tlprune.errors import InputError
from tlprune.experiments.forecast import forecast
from tlprune.experiments.linear_probe import LinearProbe
from tlprune.experiments.neighbours import Neighbours
from tlprune.experiments.recipes import Recipe
from tlprune.experiments.results import MethodInfo, Results
from tlprune.experiments.sweep_plan import Sweep, methods_of
from tlprune.experiments.sweep_transfers import drawn_shots, transfers_of


@pytest.fixture
def config(tmp_path):
    """Writes a training config with options of its DataModule."""

    def write(name="probe.yaml", **data):
        content = {
            "model": {"class_path": "TransferModule", "init_args": {"mode": "finetune"}},
            "data": {"class_path": "DownstreamDataModule", "init_args": {"batch_size": 8, **data}},
            "trainer": {"max_epochs": 2},
        }
        (tmp_path / name).write_text(yaml.safe_dump(content))
        return str(tmp_path / name)

    return write


def test_a_list_makes_a_mode_for_each_number_the_most_labels_first(config):
    file = config()
    found = transfers_of(
        {
            "probe": {"solver": "lbfgs", "shots": [5, 20, "all"]},
            "knn": {"num_neighbours": 7, "shots": ["all", 100, 20]},
            "tuned": {"config": file, "shots": [3, 10]},
        }
    )
    order = ["probe", "probe_20", "probe_5", "knn", "knn_100", "knn_20", "tuned_10", "tuned_3"]
    assert list(found) == order
    assert [found[mode].shots for mode in order] == [None, 20, 5, None, 100, 20, 10, 3]
    assert found["probe"] == LinearProbe()
    assert found["knn_20"] == Neighbours(7, shots=20)
    assert found["tuned_3"].data == {"batch_size": 8, "shots": 3}


def test_a_single_value_keeps_the_name(config):
    file = config()
    options = {"probe": {"solver": "lbfgs", "shots": 5}, "knn": {"num_neighbours": 3, "shots": "all"}}
    found = transfers_of({**options, "tuned": {"config": file, "shots": 2}, "whole": {"config": file}, "plain": file})
    assert [(mode, one.shots) for mode, one in found.items()] == [
        ("probe", 5),
        ("knn", None),
        ("tuned", 2),
        ("whole", None),
        ("plain", None),
    ]
    assert found["whole"] == found["plain"]


def test_the_sweep_decides_whatever_a_config_says(config):
    found = transfers_of({"few": config(shots=7), "other": {"config": config(shots=7), "shots": [2, "all"]}})
    assert [one.shots for one in found.values()] == [7, None, 2]
    assert found["other"].decides == Recipe.read(config("none.yaml"), "DownstreamDataModule").decides


def test_repetitions_draw_different_images_unless_a_config_says_which(config):
    recipe = Recipe.read(config(), "DownstreamDataModule")
    assert drawn_shots(recipe, 3) == {}
    assert drawn_shots(recipe.with_shots(2), 3) == {"shots_seed": 3}
    assert drawn_shots(Recipe.read(config(shots=2, shots_seed=0), "DownstreamDataModule"), 3) == {}


@pytest.mark.parametrize(
    ("transfers", "message"),
    [
        ({"p": {"solver": "lbfgs", "shots": []}}, "transfer 'p': `shots` is an empty list"),
        ({"p": {"solver": "lbfgs", "shots": [5, 2, 5]}}, "transfer 'p': `shots` names 5 twice"),
        ({"p": {"solver": "lbfgs", "shots": ["all", "all"]}}, "transfer 'p': `shots` names 'all' twice"),
        ({"p": {"solver": "lbfgs", "shots": [5, 0]}}, "transfer 'p': `shots` must be at least 1, got 0"),
        ({"p": {"solver": "lbfgs", "shots": [5, "al"]}}, "transfer 'p': .* a whole number or 'all', got 'al'"),
        ({"p": {"num_neighbours": 3, "shots": [True]}}, "transfer 'p': .* a whole number or 'all', got True"),
        ({"p": {"config": "FILE", "shots": [2.5]}}, "transfer 'p': .* a whole number or 'all', got 2.5"),
        ({"p": {"config": "FILE", "shots": -1}}, "transfer 'p': `shots` must be at least 1, got -1"),
        (
            {"p": {"config": "FILE", "shot": 5}},
            "transfer 'p' has no option 'shot' beside `config`: did you mean 'shots'",
        ),
        ({"p": {"config": 5, "shots": 5}}, "transfer 'p': `config` must be a file of 'tlprune fit', got 5"),
        ({"p": {"config": "no.yaml", "shots": [5]}}, "no.yaml: No such file"),
        ({"p": "ZERO"}, "zero.yaml: `shots` must be at least 1, got 0"),
        (
            {"p_5": {"num_neighbours": 3}, "p": {"solver": "lbfgs", "shots": [5, "all"]}},
            "transfers 'p_5' and 'p' both make the mode 'p_5'",
        ),
    ],
)
def test_what_is_no_number_of_labels_is_refused(transfers, message, config):
    files = {"FILE": config(), "ZERO": config("zero.yaml", shots=0)}
    [(name, given), *rest] = transfers.items()
    if isinstance(given, dict) and given.get("config") == "FILE":
        given = given | {"config": files["FILE"]}
    given = files["ZERO"] if given == "ZERO" else given
    with pytest.raises(InputError, match=message):
        transfers_of({name: given, **dict(rest)})


def test_a_forecast_counts_the_images_that_are_trained_on(config, class_folder, tmp_path):
    source = str(class_folder("source", {"ant": 6, "bee": 6}))
    pretrain = {
        "model": {"class_path": "LitClassifier", "init_args": {"backbone": "resnet8_w8"}},
        "data": {"class_path": "PrunedSourceDataModule", "init_args": {"image_size": 16, "batch_size": 4}},
        "trainer": {"max_epochs": 1},
    }
    methods = methods_of({"chance": "RandomSelector"}, controls=False)
    common = (methods, (0.5,), ("epochs",), 1, "grid", tmp_path)
    tuned = Recipe.read(config(), "DownstreamDataModule")
    plan = Sweep("s", source, ("t",), None, Recipe("made up", pretrain), {"tuned": tuned}, *common)
    infos = {name: MethodInfo(method.label, uses_surrogate=False) for name, method in methods.items()}
    target = {"train": 100, "val": 30, "classes": ["a", "b", "c"]}
    results = Results("s", {}, {"t": target}, infos, ["tuned"])

    def images(transfer):
        cost = forecast(replace(plan, transfers={"tuned": transfer}), results)
        return cost.transfer / cost.full

    whole = images(tuned)
    for transfer, seen in ((tuned.with_shots(5), 2 * 45), (tuned.with_shots(50), 2 * 130), (LinearProbe(shots=5), 45)):
        assert images(transfer) / whole == pytest.approx(seen / (2 * 130))
