"""A sweep on a small class folder: run, killed, run again, bisected, forecast."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from tlprune import PrunedSourceDataModule, Selection, cli
from tlprune.commands.arguments import parse
from tlprune.commands.sweep import _parser, _sweep
from tlprune.experiments.results import NONE, Group, MethodInfo, Results
from tlprune.experiments.running import NOTES
from tlprune.experiments.sweep import next_groups
from tlprune.experiments.sweep_board import Board
from tlprune.experiments.sweep_plan import methods_of
from tlprune.models.weights import load_backbone

SGD_CONFIG = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05}}


def write_images(images, root):
    for index in range(len(images)):
        path = root / images.classes[int(images.labels[index])] / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[index][0].permute(1, 2, 0).numpy()).save(path)


@pytest.fixture
def place(tmp_path, coloured, monkeypatch):
    """A source of six colours, a target of four of them, and configs, in the working folder."""
    monkeypatch.chdir(tmp_path)
    write_images(coloured(6, 16), Path("source"))
    for part, each, seed in (("train", 6, 1), ("val", 4, 2), ("test", 5, 3)):
        write_images(coloured(4, each, seed), Path("target") / part)
        write_images(coloured(2, each, seed), Path("other") / part)
    shutil.copytree(min(Path("source").iterdir()), "unlabelled")
    data = {"class_path": "PrunedSourceDataModule", "init_args": {"source": "elsewhere", "image_size": 32}}
    data["init_args"] |= {"augment": "none", "batch_size": 16, "in_memory": True}
    exports = {"class_path": "ExportBackbone", "init_args": {"path": "runs/never.safetensors"}}
    for name, epochs in (("surrogate", 2), ("pretrain", 1)):
        model = {"class_path": "LitClassifier", "init_args": {"backbone": "resnet8_w8", "optimizer": SGD_CONFIG}}
        trainer = {"max_epochs": epochs, "accelerator": "cpu", "logger": False, "callbacks": [exports]}
        Path(f"{name}.yaml").write_text(yaml.safe_dump({"model": model, "data": data, "trainer": trainer}))
    model = {"class_path": "TransferModule", "init_args": {"mode": "probe"}}
    transfer = {"model": model, "data": {"class_path": "DownstreamDataModule", "init_args": {"batch_size": 8}}}
    transfer["trainer"] = {"max_epochs": 2, "accelerator": "cpu", "logger": False}
    Path("probe.yaml").write_text(yaml.safe_dump(transfer))
    sweep = {"source": "source", "targets": ["target"], "surrogate": "surrogate.yaml", "pretrain": "pretrain.yaml"}
    sweep |= {"transfers": {"probe": "probe.yaml"}, "methods": {"label_mapping": "LabelMapping"}, "seeds": 2}
    sweep |= {"ratios": [0.34, 0.5], "output": "out", "workers": 2}

    def write(**changes):
        Path("sweep.yaml").write_text(yaml.safe_dump(sweep | changes))
        return ["sweep", "--config", "sweep.yaml"]

    return write


def stages(pattern="*"):
    return {path.parent.name: path.stat().st_mtime_ns for path in Path("out/stages").glob(f"{pattern}/done.json")}


def results():
    return Results.load(Path("out"))


def numbers(found):
    """What of cells is no time."""
    rows = [(one.group, one.seed, one.images_kept, one.scores, one.source_accuracy) for one in found.cells]
    return sorted(rows, key=lambda row: (str(row[0]), row[1]))


def test_every_cell_is_run_once_and_is_what_fit_makes(place, capsys):
    assert cli.main(place(ratios=[0.5])) == 0
    found = results()
    methods = ["none", "label_mapping", "random", "reverse"]
    assert sorted(one.method for one in found.cells) == sorted(2 * methods)
    kept = {one.method: (one.units_kept, one.images_kept, one.images_total) for one in found.cells if one.seed == 0}
    assert kept["none"] == (6, 86, 86)
    assert all(kept[method][0] == 3 and 0 < kept[method][1] < 86 for method in methods[1:])
    assert all((one.surrogate_seconds > 0) == (one.method in ("label_mapping", "reverse")) for one in found.cells)
    said = capsys.readouterr().out
    assert "winning subsets" in said
    assert re.findall(r"probe [\d.]+   \[(\d) of 8 cells", said) == [*"12345678"]
    assert re.search(r"\[7 of 8 cells, \d+ (s|min) left, expected end (\w+ )?\d\d:\d\d\]", said)
    assert found.provenance["cells_planned"] == 8
    assert not found.is_partial
    assert not (Path("out") / NOTES).exists()
    _same_by_hand(next(one for one in found.cells if one.method == "label_mapping" and one.seed == 1))
    assert not Path("runs").exists()
    # the same command again runs nothing, another seed only what is new
    before = stages()
    assert cli.main(place(ratios=[0.5])) == 0
    assert "8 of 8 cells are finished" in capsys.readouterr().out
    assert stages() == before
    assert numbers(results()) == numbers(found)
    assert cli.main(place(ratios=[0.5], seeds=3)) == 0
    assert before.items() <= stages().items()
    assert len(results().cells) == 12
    said = capsys.readouterr().out
    assert not re.search("earlier command|command before", said)
    # another recipe, another cell: nothing is taken for what it is not
    changed = yaml.safe_load(Path("pretrain.yaml").read_text())
    changed["trainer"]["max_epochs"] = 2
    Path("pretrain.yaml").write_text(yaml.safe_dump(changed))
    assert cli.main(place(ratios=[0.5], seeds=1)) == 0
    said = capsys.readouterr().out
    assert "4 cells of the command before are not finished for this one: a config" in said
    assert "12 cells of an earlier command, with other settings, are not in results.json any more" in said
    assert len(stages("pretrain-*")) == 12 + 4
    assert len(stages("surrogate-*")) == 3


def _same_by_hand(cell):
    """The config beside a cell's weights makes the same weights, on the images that its Selection keeps."""
    selection = Path("out") / cell.selection
    data = PrunedSourceDataModule("source", selection=str(selection), prune_ratio=cell.ratio)
    data.setup()
    assert cell.images_kept == data.images_kept
    [folder] = Path("out/stages").glob(f"pretrain-{cell.method}-{cell.ratio:g}-epochs-{cell.seed}-*/")
    config = (folder / "fit.yaml").read_text().replace(str(folder.absolute()), str(Path("by_hand").absolute()))
    Path("by_hand.yaml").write_text(config)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the sweep: bits depend on it
    assert cli.main(["fit", "--config", "by_hand.yaml"]) == 0
    torch.set_num_threads(threads)
    first, second = (load_backbone(one / "weights.safetensors").state_dict() for one in (folder, Path("by_hand")))
    assert all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.mark.slow
def test_a_process_that_sweeps_again_sees_changed_images(place, capsys, tmp_path, monkeypatch):
    command = place(seeds=1, methods={"chance": "RandomSelector"}, controls=False, ratios=[0.5])
    assert cli.main(command) == 0
    [image, *_] = sorted(Path("target/test").glob("*/*.png"))
    Image.new("RGB", (32, 32), (1, 200, 3)).save(image)
    assert cli.main(command) == 0
    assert (len(stages("pretrain-*")), len(stages("probe-*"))) == (2, 4)
    [image, *_] = sorted(Path("source").glob("*/*.png"))
    Image.new("RGB", (32, 32), (1, 200, 3)).save(image)
    assert cli.main(command) == 0
    assert (len(stages("pretrain-*")), len(stages("probe-*"))) == (4, 6)
    # the same names in another working folder are other images
    shutil.copytree(tmp_path, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("out", "cache"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    Image.new("RGB", (32, 32), (9, 9, 3)).save(next(Path("source").glob("*/*.png")))
    shutil.copytree(tmp_path / "out", "out")
    capsys.readouterr()
    assert cli.main([*command, "--dry-run"]) == 0
    assert "2 cells left" in capsys.readouterr().out


@pytest.mark.slow
def test_targets_share_what_does_not_depend_on_them_and_equal_steps_are_equal(place):
    methods = {
        "label_mapping": "LabelMapping",
        "moderate": {"selector": "Moderate", "label": "Mod", "ablates": {"K": 5}},
    }
    changes = {"targets": ["target", "other"], "methods": methods, "equal": ["epochs", "steps"], "seeds": 1}
    assert cli.main(place(**changes, ratios=[0.5], controls=False)) == 0
    found = results()
    # none 1, LM 2 targets x 2 lengths, Moderate 2 lengths
    assert len(stages("pretrain-*")) == 1 + 4 + 2
    assert len(found.cells) == 2 * (1 + 2 + 2)
    assert found.methods["moderate"] == MethodInfo("Mod", "sample", True, {"K": 5})

    def steps(pattern):
        notes = Path("out/stages").glob(f"{pattern}/done.json")
        return {json.loads(path.read_text())["content"]["result"]["steps"] for path in notes}

    assert steps("pretrain-*-steps-*") == steps("pretrain-none-0-*") != steps("pretrain-*-epochs-*")


@pytest.mark.slow
def test_a_killed_sweep_goes_on_to_the_same_results(place):
    command = [sys.executable, "-m", "tlprune", *place(seeds=1, ratios=[0.5])]
    for after in (14, 22):
        with subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as running:
            time.sleep(after)
            running.send_signal(signal.SIGKILL)
        time.sleep(3)  # its processes see that it is gone
    before = stages()
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    assert before.items() <= stages().items()
    killed = numbers(results())
    shutil.move("out", "killed")
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    assert numbers(results()) == killed


@pytest.mark.slow
def test_ctrl_c_leaves_a_clean_terminal_and_says_how_to_resume(place):
    command = [sys.executable, "-m", "tlprune", *place(seeds=3, ratios=[0.5])]
    ours, theirs = pty.openpty()
    said, sent = "", False
    with subprocess.Popen(command, start_new_session=True, stdin=theirs, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        with suppress(OSError):  # which the end of the other side is
            while part := os.read(ours, 65536):
                said += part.decode()
                if "1 of 12 cells" in said and not sent:
                    sent = True
                    running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
    os.close(ours)
    assert "pretraining" in said
    assert re.search(r"1 of 12 cells, \d+ (s|min) left, expected end", said)
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")
    last = said.rstrip().splitlines()[-1].rpartition("\x1b[2K")[2]
    assert re.fullmatch(r"stopped: \d+ of 12 cells are finished; give the same command again to go on", last)
    assert results().is_partial
    assert not (Path("out") / NOTES).exists()
    assert cli.main(command[3:]) == 0
    assert not results().is_partial


@pytest.mark.slow
def test_jobs_of_a_cluster_find_the_same(place):
    pytest.importorskip("submitit")
    assert cli.main([*place(seeds=1, ratios=[0.5], controls=False), "--output", "here"]) == 0
    command = place(seeds=1, ratios=[0.5], controls=False, slurm={"cluster": "local", "timeout_min": 10})
    assert cli.main(command) == 0
    assert numbers(results()) == numbers(Results.load(Path("here")))
    assert list(Path("out/slurm").iterdir())


@pytest.mark.slow
def test_selections_see_images_as_the_pretrainings_config_says_of_surrogates(place):
    half = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.25, 0.5]}
    command = place(seeds=1, ratios=[0.5], controls=False)
    assert cli.main(command) == 0
    before = set(stages("select-label*"))
    config = yaml.safe_load(Path("pretrain.yaml").read_text())
    config["data"]["init_args"]["selection"] = {"surrogate_preprocessing": half}
    Path("pretrain.yaml").write_text(yaml.safe_dump(config))
    assert cli.main(command) == 0
    [new] = set(stages("select-label*")) - before
    [file] = Path("out/selections").glob(f"*{new.removeprefix('select-')}.safetensors")
    assert Selection.load(file).config["view"] == {"view": "EvalView", "image_size": 32, **half}


@pytest.mark.slow
def test_controls_keep_as_many_images_and_neighbours_need_no_training(place):
    mapping = {"class_path": "FeatureMapping", "init_args": {"num_clusters": 12}}
    transfers = {"knn": {"num_neighbours": 3, "temperature": 0.1}, "probe": "probe.yaml"}
    changes = {"methods": {"fm": mapping}, "match_images": "fm", "transfers": transfers, "seeds": 1}
    assert cli.main(place(**changes)) == 0
    found = results()
    assert found.modes == ["knn", "probe"]
    assert found.recipes["transfers"]["knn"] == transfers["knn"]
    assert not list(Path("out/stages").glob("knn-*/fit.yaml"))
    seen = {(one.method, one.ratio): one for one in found.cells}
    for ratio in (0.34, 0.5):
        reference = len(Selection.load(Path("out") / seen["fm", ratio].selection).keep(ratio=ratio))
        for method in ("random", "reverse"):
            assert len(_kept(seen[method, ratio], ratio, seen["fm", ratio])) == reference  # the last cluster is cut
    before = stages()
    assert cli.main(place(**changes | {"transfers": transfers | {"knn": {"num_neighbours": 5}}})) == 0
    assert len(stages("knn-*")) == 2 * len(found.cells)
    assert stages("pretrain-*").items() <= before.items()


def _kept(cell, ratio, reference):
    """Source images that a control's cell keeps: its config gives the number that the reference's Selection keeps."""
    [folder] = Path("out/stages").glob(f"pretrain-{cell.method}-{ratio:g}-epochs-0-*/")
    options = yaml.safe_load((folder / "fit.yaml").read_text())["data"]["init_args"]
    assert "prune_ratio" not in options
    wanted = len(Selection.load(Path("out") / reference.selection).keep(ratio=ratio))
    assert options["keep_exactly"] == wanted
    return Selection.load(Path("out") / cell.selection).keep(exactly=wanted)


@pytest.mark.slow
def test_configs_without_checkpoints_come_to_the_same(place):
    assert cli.main([*place(seeds=1, ratios=[0.5], controls=False), "--output", "here"]) == 0
    for name in ("pretrain", "probe", "surrogate"):
        config = yaml.safe_load(Path(f"{name}.yaml").read_text())
        config["trainer"]["enable_checkpointing"] = False
        Path(f"{name}.yaml").write_text(yaml.safe_dump(config))
    assert cli.main(place(seeds=1, ratios=[0.5], controls=False)) == 0
    assert numbers(results()) == numbers(Results.load(Path("here")))


def test_a_dry_run_says_what_it_takes_and_writes_nothing(place, capsys):
    assert cli.main([*place(), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "14 cells left" in said
    assert said.count("reverse") == 2
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratios": [0.5, 1.0]}, "`ratios` must be in (0, 1), got 1.0"),
        ({"ratios": [0.5, 80]}, "`ratios` must be in (0, 1), got 80.0; a share: for 80 % write 0.8"),
        ({"ratios": [0.5, 0.5]}, "`ratios` names one twice"),
        ({"targets": ["/a/b", "/a/c/../b/"]}, "`targets` names one twice: /a/b, /a/c/../b/"),
        ({"targets": ["cifar10:/a", "cifar10:/a/"]}, "`targets` names one twice"),
        ({"ratio": [0.5]}, "no option 'ratio': did you mean 'ratios'?"),
        ({"targets": []}, "at least one of `targets`"),
        ({"targets": ["nowhere"]}, "nowhere"),
        ({"seeds": 0}, "`seeds` must be at least 1, got 0"),
        ({"equal": ["time"]}, "`equal` must be among epochs and steps, got time"),
        ({"methods": {}}, "at least one of `methods`"),
        ({"methods": {"x": "LabelMaping"}}, "did you mean 'LabelMapping'?"),
        ({"methods": {"x": {"selector": "LabelMapping", "lable": "a"}}}, "method 'x': `lable` is not one of"),
        ({"methods": {"x": 3}}, "method 'x': give a Selector's name"),
        ({"surrogate": None}, "method 'label_mapping' needs `surrogate`"),
        ({"surrogate": None, "diagnostics": True}, "`diagnostics` needs `surrogate`, whose features are compared"),
        ({"surrogate": "nothing.yaml"}, "nothing.yaml: No such file"),
        ({"pretrain": "probe.yaml"}, "`data` must be a PrunedSourceDataModule, got DownstreamDataModule"),
        ({"pretrain": "sweep.yaml"}, "`model` must be given by `class_path`"),
        ({"match_images": "revers"}, "`match_images` names no method that prunes, 'revers': did you mean 'reverse'?"),
        ({"match_images": "none"}, "`match_images` names no method that prunes, 'none'"),
        ({"transfers": {"knn": {"k": 3}}}, "transfer 'knn' has no option 'k'"),
        (
            {"transfers": {"p": {"config": "probe.yaml", "shots": [5, 0]}}},
            "transfer 'p': `shots` must be at least 1, got 0",
        ),
        ({"workers": 0}, "`workers` must be at least 1"),
        ({"search": "golden"}, "golden"),
        ({"slurm": {"cluster": "slurm"}}, "slurm"),
        (
            {"source": "unlabelled"},
            "method 'label_mapping' on source unlabelled: LabelMapping needs a labelled source",
        ),
    ],
)
def test_wrong_input_is_said_in_one_line_before_anything_is_run(place, capsys, changes, message):
    assert cli.main(place(**changes)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not Path("out/stages").exists()


def test_selections_wait_for_the_one_that_computes_the_features_of_all(place):
    clusters = {"selector": {"class_path": "FeatureMapping", "init_args": {"num_clusters": 3}}}
    methods = {"label_mapping": "LabelMapping", "nearest": "NearestImages", "clusters": clusters}
    sweep = _sweep(parse(_parser(), place(targets=["target", "other"], methods=methods)[1:]))
    board = Board()
    for seed in (0, 1):
        for group in sweep.groups():
            board.add_cell(sweep, group, seed)
    needs = {name.removeprefix("select "): task.needs for name, task in board.tasks.items()}
    (surrogate,) = needs["clusters target 0"]
    assert surrogate.startswith("surrogate")
    for other in ("clusters other 0", "nearest target 0", "nearest other 0"):
        assert needs[other] == (surrogate, "select clusters target 0")
    assert needs["label_mapping target 0"] == needs["label_mapping other 0"] == (surrogate,)
    assert needs["nearest other 1"] == (surrogate.replace(" 0 ", " 1 "), "select clusters target 1")


@pytest.mark.parametrize(("option", "given"), [("targets", "/data/pets"), ("ratios", "0.5"), ("equal", "steps")])
def test_one_value_where_a_list_is_due_is_answered_by_the_list(place, capsys, option, given):
    assert cli.main([*place(), f"--{option}", given]) == 2
    expected = f"--{option}: expected a list, got '{given}'; write '[{given}]', and commas between several"
    assert expected in capsys.readouterr().err


def made_up(differences, method="m"):
    """Results whose validation accuracy differs from no pruning's by so much at each ratio."""
    from tlprune.experiments.results import Cell, Score

    found = Results("made up", {}, {"t": {}}, {NONE: MethodInfo("none"), method: MethodInfo("M")}, ["probe"])

    def add(method, ratio, val):
        for seed in range(2):
            counts = (10, round(10 * (1 - ratio)), 100, round(100 * (1 - ratio)))
            score = {"probe": Score(val + seed, 80.0, 1.0)}
            found.cells.append(Cell("t", method, ratio, "epochs", seed, *counts, 1.0, 0.5, 10.0, 50.0, score))

    add(NONE, 0.0, 90.0)
    return found, lambda ratio: add(method, ratio, 90.0 + differences[ratio])


@pytest.mark.parametrize("last", range(-1, 9))
def test_bisection_finds_what_a_grid_finds_with_fewer_cells(last, tmp_path):
    ratios = tuple(round(0.1 * step, 1) for step in range(1, 10))
    sweep = plan(tmp_path, ratios, "bisection")
    within, below = -0.9, -1.1  # the margin is one point
    found, run = made_up({ratio: within if place <= last else below for place, ratio in enumerate(ratios)})
    asked = []
    while groups := next_groups(sweep, found):
        for group in groups:
            asked.append(group.ratio)
            run(group.ratio)
    assert len(asked) == len(set(asked)) <= 4
    assert max((ratio for ratio in asked if ratio in ratios[: last + 1]), default=None) == (
        ratios[last] if last >= 0 else None
    )
    assert min((ratio for ratio in asked if ratio in ratios[last + 1 :]), default=None) == (
        ratios[last + 1] if last < 8 else None
    )


def plan(tmp_path, ratios, search):
    from tlprune.experiments.recipes import Recipe
    from tlprune.experiments.sweep_plan import Sweep

    recipe = Recipe("made up", {"model": {"class_path": "A"}, "data": {"class_path": "B"}})
    methods = methods_of({"m": "LabelMapping"}, controls=False)
    return Sweep(
        "s", "drawn", ("t",), None, recipe, {"probe": recipe}, methods, ratios, ("epochs",), 2, search, tmp_path
    )


def test_a_grid_asks_for_what_is_missing(tmp_path):
    sweep = plan(tmp_path, (0.3, 0.6), "grid")
    found, run = made_up({0.3: 1.0, 0.6: -1.0})
    assert next_groups(sweep, found) == [Group("t", "m", 0.3), Group("t", "m", 0.6)]
    run(0.3)
    assert next_groups(sweep, found) == [Group("t", "m", 0.6)]
    run(0.6)
    assert next_groups(sweep, found) == []


def test_controls_are_added_of_the_kind_of_the_first_method():
    by_class = methods_of({"lm": "LabelMapping"}, controls=True)
    assert by_class["random"].selector == {"class_path": "RandomSelector", "init_args": {"unit": "class"}}
    assert by_class["reverse"].selector == {
        "class_path": "ReverseSelector",
        "init_args": {"of": {"class_path": "LabelMapping"}},
    }
    clusters = {"class_path": "FeatureMapping", "init_args": {"num_clusters": 7}}
    by_image = methods_of({"fm": clusters, "k5": {"selector": clusters, "ablates": {"K": 5}}}, controls=True)
    assert by_image["random"].selector["init_args"] == {"unit": "sample"}
    assert [one.label for one in by_image.values()] == [
        "no pruning",
        "Feature Mapping",
        "Feature Mapping, K 5",
        "random",
        "reverse",
    ]
    own = methods_of({"lm": "LabelMapping", "chance": {"selector": "tlprune.RandomSelector"}}, controls=True)
    assert set(own) == {"none", "lm", "chance", "reverse"}
    assert set(methods_of({"lm": "LabelMapping"}, controls=False)) == {"none", "lm"}
