"""Sweeps that pretrain from weights and from scratch, and transfer the weights alone."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from PIL import Image
from rich.console import Console

from sweeps import METHODS, cell, made_results
from tlprune import cli
from tlprune.experiments.closing import print_starts
from tlprune.experiments.page.by_start import starts_of, write_reports
from tlprune.experiments.results import ALONE, SCRATCH, Group, MethodInfo, Results
from tlprune.experiments.starts import start_rows
from tlprune.models.backbones import create_backbone
from tlprune.models.weights import load_backbone, save_classifier

SGD_CONFIG = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05}}
WEIGHTS = "given/start.safetensors"


def write_images(images, root):
    for index in range(len(images)):
        path = root / images.classes[int(images.labels[index])] / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[index][0].permute(1, 2, 0).numpy()).save(path)


def write_weights(path, backbone="resnet8_w8"):
    Path(path).parent.mkdir(exist_ok=True)
    save_classifier(path, backbone, create_backbone(backbone), None)


@pytest.fixture
def place(tmp_path, coloured, monkeypatch):
    """A source of four colours, a target, weights and configs, in the working folder."""
    monkeypatch.chdir(tmp_path)
    write_images(coloured(4, 8), Path("source"))
    for part, seed in (("train", 1), ("val", 2), ("test", 3)):
        write_images(coloured(2, 3, seed), Path("target") / part)
    write_weights(WEIGHTS)
    write_weights("given/wide.safetensors", "resnet8_w16")

    def config(name="pretrain", **model):
        given = {"image_size": 32, "augment": "none", "batch_size": 8, "in_memory": True}
        network = {"backbone": "resnet8_w8", "optimizer": SGD_CONFIG} | model
        trainer = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
        content = {
            "model": {"class_path": "LitClassifier", "init_args": {k: v for k, v in network.items() if v is not None}},
            "data": {"class_path": "PrunedSourceDataModule", "init_args": given},
            "trainer": trainer,
        }
        Path(f"{name}.yaml").write_text(yaml.safe_dump(content))

    config()

    def write(**changes):
        sweep = {"source": "source", "targets": ["target"], "surrogate": WEIGHTS, "pretrain": "pretrain.yaml"}
        sweep |= {"transfers": {"knn": {"num_neighbours": 3}}, "controls": False, "starts": [SCRATCH, WEIGHTS]}
        methods = {"images": "NearestImages", "random": "RandomSelector"}
        sweep |= {"methods": methods, "seeds": 2, "ratios": [0.5], "output": "out", "workers": 1}
        Path("sweep.yaml").write_text(yaml.safe_dump(sweep | changes))
        return ["sweep", "--config", "sweep.yaml"]

    write.config = config
    return write


def stages(pattern):
    return sorted(Path("out/stages").glob(f"{pattern}/done.json"))


def fit_of(pattern):
    return [yaml.safe_load((stage.parent / "fit.yaml").read_text()) for stage in stages(pattern)]


@pytest.mark.slow
def test_every_cell_is_run_from_each_start_and_weights_alone_are_transferred(place, capsys):
    assert cli.main([*place(), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "14 cells left" in said  # two seeds: three groups from each start, and the weights alone
    assert not Path("out").exists()
    assert cli.main(place()) == 0
    said = capsys.readouterr().out
    found = Results.load(Path("out"))
    arms = {(one.start, one.method, one.ratio) for one in found.cells}
    expected = {
        (start, *arm) for start in (SCRATCH, WEIGHTS) for arm in (("none", 0), ("images", 0.5), ("random", 0.5))
    }
    assert arms == expected | {(WEIGHTS, ALONE, 0)}
    assert len(found.cells) == 14
    assert found.starts == [SCRATCH, WEIGHTS]
    # each pretraining has its start, selections are made once for both
    given = [fit["model"]["init_args"].get("weights") for fit in fit_of("pretrain-none-*")]
    assert sorted(given, key=str) == [None, None, WEIGHTS, WEIGHTS]
    assert len(stages("select-random-*")) == 2
    # weights alone are the given ones, for all seeds, and cost nothing
    [alone] = stages(f"pretrain-{ALONE}-*")
    kept, given = (load_backbone(one).state_dict() for one in (alone.parent / "weights.safetensors", WEIGHTS))
    assert all((kept[name] == value).all() for name, value in given.items())
    costs = [one for one in found.cells if one.method == ALONE]
    assert {(one.images_kept, one.units_kept, one.steps, one.pretraining_seconds) for one in costs} == {(0, 0, 0, 0.0)}
    assert "pretraining from scratch" in said
    assert "minus from scratch" in said
    assert said.count("weights alone, from start.safetensors") >= 2
    # nothing is run twice, and another start costs what is new
    before = {stage: stage.stat().st_mtime_ns for stage in stages("*")}
    assert cli.main(place()) == 0
    assert "14 of 14 cells are finished" in capsys.readouterr().out
    assert {stage: stage.stat().st_mtime_ns for stage in stages("*")} == before
    # a start is what the config of pretraining could say
    for weights in (None, WEIGHTS):
        place.config(weights=weights)
        assert cli.main([*place(starts=None), "--dry-run"]) == 0
        assert "0 cells left" in capsys.readouterr().out
    place.config()
    write_weights(WEIGHTS)  # others, under the same name
    assert cli.main([*place(surrogate=None, methods={"random": "RandomSelector"}), "--dry-run"]) == 0
    assert "6 cells left" in capsys.readouterr().out
    assert cli.main(["report", "out"]) == 0
    page = Path("out/report/index.html").read_text()
    assert '<a href="from-start-safetensors/index.html">from start.safetensors</a>' in page
    assert Path("out/report/from-start-safetensors/index.html").is_file()


def test_a_forecast_needs_no_backbone_beside_weights_that_name_it(place, capsys):
    place.config(backbone=None, weights=WEIGHTS)
    assert cli.main([*place(starts=None), "--dry-run"]) == 0
    assert "6 cells left" in capsys.readouterr().out
    place.config(backbone=None)
    assert cli.main([*place(starts=[WEIGHTS]), "--dry-run"]) == 0
    assert "8 cells left" in capsys.readouterr().out
    assert cli.main([*place(starts=None), "--dry-run"]) == 2
    assert "pretrain.yaml: no forecast without the model's `backbone`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"starts": [SCRATCH, "given/wide.safetensors"]},
            "`starts` for pretrain.yaml: `backbone` is 'resnet8_w8', but given/wide.safetensors holds 'resnet8_w16'",
        ),
        ({"starts": ["given/nothing.safetensors"]}, "given/nothing.safetensors"),
        ({"starts": [SCRATCH, "pretrain.yaml"]}, "`starts` takes 'scratch' or weights, got the config pretrain.yaml"),
        ({"starts": [SCRATCH, SCRATCH]}, "`starts` names one twice: scratch, scratch"),
        ({"starts": []}, "a sweep needs at least one of `starts`"),
        ({"methods": {ALONE: "RandomSelector"}}, f"method {ALONE!r} is run where `starts` names weights"),
    ],
)
def test_wrong_starts_are_said_in_one_line_before_anything_is_run(place, capsys, changes, message):
    assert cli.main(place(**changes)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not Path("out").exists()


def test_scratch_needs_the_name_of_the_network(place, capsys):
    place.config(backbone=None)
    assert cli.main(place()) == 2
    assert "pretrain.yaml: `starts: scratch` needs the model's `backbone`" in capsys.readouterr().err


def made_starts(targets=("digits", "photos"), shift=5.0):
    """A sweep from scratch, and the same from weights with accuracies that are higher, and less each seed."""
    scratch = made_results(targets, ablations=False)
    cells = [replace(one, start=SCRATCH) for one in scratch.cells]
    for one in scratch.cells:
        scores = {
            mode: replace(score, test=score.test + shift - one.seed / 2 + one.ratio)
            for mode, score in one.scores.items()
        }
        cells.append(replace(one, start="w.ckpt", scores=scores))
    alone = [cell(target, "none", 0.0, seed, change=0.0) for target in targets for seed in range(3)]
    cells += [replace(one, method=ALONE, start="w.ckpt", images_kept=0, steps=0) for one in alone]
    methods = METHODS | {ALONE: MethodInfo("weights alone", uses_surrogate=False, sampling="none")}
    provenance = scratch.provenance | {"starts": [SCRATCH, "w.ckpt"]}
    return replace(scratch, cells=cells, methods=methods, provenance=provenance)


def test_differences_are_paired_by_seed_and_averaged_over_targets():
    found = made_starts()
    rows = {row.group: row for row in start_rows(found, "probe")}
    row = rows[Group("digits", "label_mapping", 0.5, "epochs", "w.ckpt")]
    assert row.to_first.mean == pytest.approx(5.0 - 0.5 + 0.5)
    assert row.to_first.count == 3
    assert row.to_first.half_width == pytest.approx(4.302653 * 0.5 / 3**0.5, rel=1e-5)
    whole = rows[Group("digits", "none", start="w.ckpt")]
    assert whole.to_alone.mean == pytest.approx(5.0 - 0.5)  # weights alone have the numbers of no pruning from scratch
    alone = rows[Group("digits", ALONE, start="w.ckpt")]
    assert (alone.to_first.mean, alone.to_alone) == (pytest.approx(0.0), None)
    assert rows[Group("digits", "none", start=SCRATCH)].to_first is None
    over = rows[Group("", "label_mapping", 0.5, "epochs", "w.ckpt")]
    assert over.to_first.mean == pytest.approx(5.0)
    assert (over.to_first.targets, over.to_first.won) == (2, 2)
    assert not any(row.group.target == "" for row in start_rows(made_starts(("digits",)), "probe"))


def test_each_start_is_compared_within_itself(tmp_path):
    found = made_starts()
    found.save(tmp_path)
    parts = Results.load(tmp_path).by_start()
    assert list(parts) == [SCRATCH, "w.ckpt"]
    assert ALONE not in parts[SCRATCH].methods
    assert parts["w.ckpt"].methods[ALONE].label == "weights alone"
    plain = made_results(ablations=False)
    group, none = Group("photos", "label_mapping", 0.25), Group("photos", "none")
    for part, more in ((parts[SCRATCH], 0.0), (parts["w.ckpt"], 0.25)):
        expected = plain.difference(group, none, "probe").mean + more
        assert part.difference(group, none, "probe").mean == pytest.approx(expected)
    assert plain.by_start() == {"": plain}


def test_the_report_has_a_page_for_each_start_and_compares_them_on_the_first(tmp_path):
    found = made_starts(("digits",))
    written = write_reports(found, [], [], "A sweep", tmp_path)
    assert {"index.html", "starts.csv", "from-w-ckpt/index.html", "from-w-ckpt/cells.csv"} <= set(written)
    assert all((tmp_path / name).is_file() for name in written)
    first, other = ((tmp_path / name).read_text() for name in ("index.html", "from-w-ckpt/index.html"))
    assert "<h1>A sweep, from scratch</h1>" in first
    assert "<h1>A sweep, from w.ckpt</h1>" in other
    assert "minus from scratch" in first
    assert 'id="starts"' not in other
    rows = list(csv.DictReader((tmp_path / "starts.csv").read_text().splitlines()))
    [row] = [
        row
        for row in rows
        if (row["target"], row["start"], row["method"], row["mode"]) == ("digits", "w.ckpt", ALONE, "finetune")
    ]
    assert row["minus_weights_alone"] == ""
    assert float(row["minus_first_start"]) == pytest.approx(0.0, abs=1e-9)
    assert row["minus_first_start_verdict"] == "unclear"
    [better] = {
        row["minus_first_start_verdict"]
        for row in rows
        if row["start"] == "w.ckpt" and row["method"] == "random" and row["target"]
    }
    assert better == "better"
    assert "without pretraining on the source" in re.sub(r"<[^>]*>", "", other)
    # a sweep that names no starts is reported as ever
    assert "starts.csv" not in write_reports(
        made_results(("digits",), ablations=False), [], [], "A sweep", tmp_path / "plain"
    )


def test_one_start_alone_is_compared_with_its_weights():
    found = made_starts()
    part = [one for one in found.cells if one.start == "w.ckpt"]
    shown = starts_of(replace(found, cells=part, provenance={"starts": ["w.ckpt"]}))
    assert (shown.first, shown.compared, shown.links) == ("from w.ckpt", False, [])
    assert all(row.to_first is None for _, rows in shown.tables for *_, row in rows)


def test_a_row_over_some_of_the_targets_says_over_how_many(tmp_path):
    found = made_starts(("digits", "photos"))
    found.cells = [one for one in found.cells if (one.target, one.method) != ("photos", "random")]
    write_reports(found, [], [], "A sweep", tmp_path)
    page = (tmp_path / "index.html").read_text()
    part = page[page.index('id="starts"') :].partition("</section>")[0]
    over = {re.sub("<[^>]*>", "|", line).split("|")[2] for line in part.splitlines() if "over 1 of 2 targets" in line}
    assert over == {found.methods["random"].label}
    assert "all 2 targets" in part
    rows = [row for row in csv.DictReader((tmp_path / "starts.csv").read_text().splitlines()) if not row["target"]]
    assert {(row["method"] == "random", row["targets"]) for row in rows} == {(True, "1"), (False, "2")}
    console = Console(file=io.StringIO(), width=200)
    print_starts(found, console)
    printed = console.file.getvalue().splitlines()
    assert all("random" in line for line in printed if "over 1 of 2 targets" in line)
    assert any("over 1 of 2 targets" in line for line in printed)
