import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import forked
from tlprune import LitClassifier, __version__
from tlprune.cli import main
from tlprune.models.weights import read_weights

CONFIGS = Path(__file__).parent.parent / "configs"

SMALL = ["--trainer.accelerator=cpu", "--trainer.logger=false", "--trainer.enable_progress_bar=false"]
SMALL += ["--trainer.enable_model_summary=false"]
pytestmark = pytest.mark.filterwarnings(
    "ignore:Found .* module",
    "ignore:Checkpoint directory",
    "ignore:The dirpath has changed",
    "ignore:.* units are kept, but only",
)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def said(capsys) -> str:
    """The one line on standard error."""
    out = capsys.readouterr()
    assert out.err.count("\n") == 1, out.err
    assert out.err.startswith("tlprune: error: ")
    return out.err.removeprefix("tlprune: error: ").strip()


def written() -> list[str]:
    """What a command left behind."""
    return sorted(str(path) for path in Path().rglob("*") if path.is_file() and path.parts[0] not in ("cache", "given"))


@pytest.fixture
def source(class_folder):
    return class_folder("given/src", {f"class{label}": 6 for label in range(5)})


@pytest.fixture
def pets(class_folder, tmp_path):
    for part in ("train", "val", "test"):
        class_folder(f"given/pets/{part}", {"cat": 4, "dog": 4})
    return tmp_path / "given/pets"


def source_arguments(source):
    return ["--data=PrunedSourceDataModule", f"--data.source={source}", "--data.image_size=32", "--data.batch_size=6"]


def test_help_and_version(capsys):
    assert main(["--help"]) == 0
    assert "tlprune demo --quick" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tlprune {__version__}\n"
    assert main(["fit", "--help"]) == 0
    assert "--ckpt_path" in capsys.readouterr().out


def test_help_imports_nothing_heavy():
    heavy = "import sys, tlprune.cli; tlprune.cli.main(['--help']); print([m for m in sys.modules if m in "
    heavy += "('torch', 'lightning', 'matplotlib', 'numpy', 'jsonargparse')])"
    found = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert found.stdout.endswith("[]\n")


# drawn_bolts.yaml needs its extra, and is run in test_bolts.py
SELECTED, SWEPT = (sorted(CONFIGS.glob(f"{group}/*.yaml")) for group in ("select", "experiment"))
FITTED = sorted({*CONFIGS.rglob("*.yaml")} - {*SELECTED, *SWEPT, CONFIGS / "ssl" / "drawn_bolts.yaml"})


@pytest.mark.parametrize(
    "arguments",
    [
        *(["fit", "--config", str(path), "--print_config"] for path in FITTED),
        *(["select", "--config", str(path), "--print_config"] for path in SELECTED),
        *(["sweep", "--config", str(path), "--print_config"] for path in SWEPT),
    ],
    ids=lambda arguments: f"{Path(arguments[2]).parent.name}-{Path(arguments[2]).stem}",
)
def test_every_config_says_what_it_is_and_parses(arguments):
    """In a process of its own: other tests have loaded by now what a user's command has not."""
    text = Path(arguments[2]).read_text()
    assert text.startswith("# ")
    found = forked.run([sys.executable, "-m", "tlprune", *arguments])
    assert (found.returncode, found.stdout.count("error:")) == (0, 0), found.stdout
    printed, given = yaml.safe_load(found.stdout), yaml.safe_load(text)
    if arguments[0] == "fit":
        assert printed["model"]["class_path"].endswith(given["model"]["class_path"])
        assert printed["seed_everything"] == given["seed_everything"]
    else:
        assert given.keys() <= printed.keys()


def test_a_bare_class_name_is_found_without_a_config(class_folder):
    class_folder("given", {"a": 2, "b": 2})
    select = ["select", "--source=given", "--selector=RandomSelector", "--output=r.safetensors"]
    found = forked.run([sys.executable, "-m", "tlprune", *select])
    assert (found.returncode, found.stdout.count("error:")) == (0, 0), found.stdout


def test_three_commands_from_source_to_score(source, pets, capsys):
    """Surrogate, pruned source model, transfer and test: each through the real command."""
    classifier = ["--model=LitClassifier", "--model.backbone=resnet8_w8", "--trainer.max_epochs=2", *SMALL]
    export = ["--trainer.callbacks=ExportBackbone", "--trainer.callbacks.path"]
    assert main(["fit", *classifier, *source_arguments(source), *export, "surrogate.safetensors"]) == 0
    vote = [f"--data.target={pets}", "--data.surrogate=surrogate.safetensors", "--data.prune_ratio=0.4"]
    assert main(["fit", *classifier, *source_arguments(source), *vote, *export, "pruned.safetensors"]) == 0
    transfer = ["--model=TransferModule", "--model.weights=pruned.safetensors", *SMALL]
    transfer += ["--data=DownstreamDataModule", f"--data.target={pets}", "--data.image_size=32"]
    transfer += ["--trainer.max_epochs=1"]
    save = [
        "--trainer.callbacks=ModelCheckpoint",
        "--trainer.callbacks.dirpath=run",
        "--trainer.callbacks.filename=best",
    ]
    assert main(["fit", *transfer, *save]) == 0
    capsys.readouterr()
    assert main(["test", *transfer, "--ckpt_path=run/best.ckpt"]) == 0
    assert "test/accuracy" in capsys.readouterr().out
    assert {"surrogate.safetensors", "pruned.safetensors", "run/best.ckpt"} <= set(written())


def test_how_weights_expect_images_is_given_in_yaml(source, pets, surrogate_file):
    """Of a surrogate, and of what a transfer starts from; the first is noted in what comes out of the second."""
    half = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.25, 0.5], "interpolation": "bicubic"}
    Path("half.yaml").write_text(
        yaml.safe_dump(
            {
                "model": {
                    "class_path": "TransferModule",
                    "init_args": {"weights": str(surrogate_file(5)), "preprocessing": half},
                },
                "data": {
                    "class_path": "PrunedSourceDataModule",
                    "init_args": {
                        "source": str(source),
                        "target": str(pets),
                        "image_size": 32,
                        "batch_size": 6,
                        "surrogate": str(surrogate_file(5)),
                        "selection": {"surrogate_preprocessing": half},
                        "prune_ratio": 0.4,
                    },
                },
            }
        )
    )
    export = ["--trainer.callbacks=ExportBackbone", "--trainer.callbacks.path=out.safetensors"]
    assert main(["fit", "--config=half.yaml", "--trainer.max_epochs=1", *SMALL, *export]) == 0
    assert read_weights("out.safetensors").preprocessing.as_json() == half | {"image_size": 32}
    odd = ["--data.selection.surrogate_preprocessing.mean=[124,116,104]"]
    assert main(["fit", "--config=half.yaml", "--trainer.max_epochs=1", *SMALL, *odd]) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_cached")
def test_the_configs_of_the_tutorial_run():
    """The commands that the tutorial shows, each cut to a step."""
    fast = ["--trainer.fast_dev_run=2", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    surrogate, pruned = CONFIGS / "source/drawn_surrogate.yaml", CONFIGS / "source/drawn_pruned.yaml"
    assert main(["fit", "--config", str(surrogate), *fast]) == 0
    assert main(["fit", "--config", str(pruned), *fast]) == 0
    for mode in ("probe", "finetune"):
        assert main(["fit", "--config", str(CONFIGS / f"transfer/digits_{mode}.yaml"), *fast]) == 0
    assert {"runs/drawn/surrogate.safetensors", "runs/drawn/pruned.safetensors"} <= set(written())


def test_resume_and_command_line_beats_checkpoint(source):
    common = ["fit", "--model=LitClassifier", "--model.backbone=resnet8_w8", *source_arguments(source), *SMALL]
    save = ["--trainer.callbacks=ModelCheckpoint", "--trainer.callbacks.dirpath=run", "--trainer.callbacks.filename=c"]
    save += ["--trainer.callbacks.enable_version_counter=false"]
    assert main([*common, "--model.label_smoothing=0.1", "--trainer.max_epochs=1", *save]) == 0
    assert torch.load("run/c.ckpt", weights_only=True)["hyper_parameters"]["label_smoothing"] == 0.1
    again = ["--model.label_smoothing=0.3", "--trainer.max_epochs=2", "--ckpt_path=run/c.ckpt", *save]
    assert main([*common, *again]) == 0
    resumed = torch.load("run/c.ckpt", weights_only=True)
    assert resumed["hyper_parameters"]["label_smoothing"] == 0.3
    assert (resumed["epoch"], resumed["global_step"]) == (1, 8)


def test_seed_decides(source):
    heads = []
    for seed in (1, 1, 2):
        arguments = ["--model=LitClassifier", "--model.backbone=resnet8_w8", "--trainer.max_epochs=1", *SMALL]
        arguments += ["--trainer.callbacks=ExportBackbone", "--trainer.callbacks.path=m.safetensors"]
        assert main(["fit", f"--seed_everything={seed}", *arguments, *source_arguments(source)]) == 0
        from safetensors.torch import load_file

        heads.append(load_file("m.safetensors")["head.weight"])
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_logs_reach_tensorboard_with_the_config(source):
    arguments = ["--model=LitClassifier", "--model.backbone=resnet8_w8", "--trainer.max_epochs=1", *SMALL[:1]]
    arguments += [*SMALL[2:], "--trainer.default_root_dir=log", "--trainer.log_every_n_steps=1"]
    assert main(["fit", *arguments, *source_arguments(source)]) == 0
    folder = Path("log/lightning_logs/version_0")
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["init_args"]["backbone"] == "resnet8_w8"
    assert list(folder.glob("events.out.tfevents.*"))
    assert list(folder.glob("checkpoints/*.ckpt"))


BAD = {
    "unknown command": (["fti"], "unknown command 'fti': did you mean 'fit'?"),
    "unknown target": (["demo", "--target", "digit"], "unknown target 'digit': did you mean 'digits'?"),
    "unknown option": (["demo", "--qick"], "unrecognized arguments: --qick (see 'tlprune demo --help')"),
    "no seeds": (["demo", "--seeds", "0"], "`seeds` must be at least 1, got 0"),
    "ratio": (["--data.prune_ratio=1.2"], "`prune_ratio` must be in [0, 1), got 1.2"),
    "negative ratio": (["--data.prune_ratio=-0.1"], "`prune_ratio` must be in [0, 1), got -0.1"),
    "target name": (["--data.target=phtos"], "unknown target 'phtos': did you mean 'photos'? (or give a folder)"),
    "missing source": (["--data.source=none"], "source none: no such folder (the built-in source is called 'drawn')"),
    "empty source": (["--data.source=given/empty"], "given/empty: neither class folders nor images in it"),
    "empty class": (["--data.source=given/hollow"], "given/hollow/cat: a class without images"),
    "backbone": (["--model.backbone=resnet8_w9"], "unknown backbone 'resnet8_w9': did you mean 'resnet8_w8'?"),
    "missing surrogate": (["--data.surrogate=none.ckpt"], "surrogate none.ckpt: no such file"),
    "missing checkpoint": (["--ckpt_path=none.ckpt"], "--ckpt_path none.ckpt: no such checkpoint"),
    "remote checkpoint": (["--ckpt_path=http://localhost/a.ckpt"], "checkpoints are read from local files only"),
    "moved": (["--data.combine=union"], "has no option 'combine' any more: it is `selection.combine` now"),
    "moved, inside": (
        ["--data.surrogate_preprocessing.mean=[0.5,0.5,0.5]"],
        "it is `selection.surrogate_preprocessing` now",
    ),
    "unknown key of a selection": (
        ["--data.selection.combin=union"],
        "SelectOptions has no option 'combin': did you mean",
    ),
    "no such combination": (["--data.selection.combine=all"], "'worst_case', 'union', 'weighted_sum'"),
    "unknown key": (["--data.prune_ration=0.5"], "has no option 'prune_ration': did you mean 'prune_ratio'?"),
    "wrong type": (["--data.batch_size=many"], "\"batch_size\": Expected a <class 'int'>. Got value: many"),
    "unknown class": (["--model=LitClasifier"], "no class 'LitClasifier': did you mean 'LitClassifier'?"),
    "missing config": (["--config=none.yaml"], "none.yaml"),
    "malformed config": (["--config=given/bad.yaml"], "given/bad.yaml"),
}


@pytest.mark.usefixtures("drawn_cached")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_exit_2_and_nothing_written(case, capsys):
    arguments, message = BAD[case]
    Path("given/empty").mkdir(parents=True)
    Path("given/hollow/cat").mkdir(parents=True)
    Path("given/bad.yaml").write_text("model: [1, 2\n")
    if arguments[0] not in ("demo", "fti"):
        given = [] if any(one.startswith("--model=") for one in arguments) else ["--model=LitClassifier"]
        given += [*source_arguments("drawn"), *SMALL[:1], *SMALL[2:], "--trainer.max_epochs=1"]
        arguments = ["fit", *given, *arguments]
    assert main(arguments) == 2
    assert message in said(capsys)
    assert written() == []


def test_surrogate_of_another_size_is_one_line(source, pets, surrogate_file, capsys):
    surrogate = surrogate_file(7, "given/seven.safetensors")
    arguments = ["--model=LitClassifier", *source_arguments(source), f"--data.target={pets}", "--data.prune_ratio=0.5"]
    arguments += ["--trainer.max_epochs=1"]
    assert main(["fit", *arguments, f"--data.surrogate={surrogate}"]) == 2
    line = said(capsys)
    assert "its head has 7 outputs, the source has 5 classes; give weights trained on this source" in line
    assert "FeatureMapping, NearestImages" in line
    assert written() == []


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_evaluating_without_a_checkpoint_is_an_error(command, pets, capsys):
    arguments = [command, "--model=TransferModule", "--model.backbone=resnet8_w8", "--data=DownstreamDataModule"]
    assert main([*arguments, f"--data.target={pets}"]) == 2
    assert said(capsys) == f"`tlprune {command}` needs --ckpt_path: without one it would score a random model"
    for name in ("last", "best"):
        assert main([*arguments, f"--data.target={pets}", f"--ckpt_path={name}"]) == 2
        assert said(capsys) == f"`tlprune {command}` needs a file for --ckpt_path, got the name {name!r}"
    assert written() == []


def test_foreign_checkpoints_are_one_line(pets, capsys):
    given = ["--data=DownstreamDataModule", f"--data.target={pets}", "--data.image_size=32", *SMALL]
    torch.save(
        {"state_dict": {"fc.weight": torch.zeros(1)}, "pytorch-lightning_version": "2.6.6"}, "given/foreign.ckpt"
    )
    Path("given/page.ckpt").write_text("<html>")
    for file, message in (("foreign", "not one of TransferModule"), ("page", "given/page.ckpt: ")):
        arguments = ["test", "--model=TransferModule", "--model.backbone=resnet8_w8", *given]
        assert main([*arguments, f"--ckpt_path=given/{file}.ckpt"]) == 2
        assert message in said(capsys)
    assert written() == []


def test_debug_shows_the_traceback():
    with pytest.raises(ValueError, match="unknown command"):
        main(["--debug", "fti"])


def test_own_checkpoint_loads_without_unpickling(source):
    arguments = ["--model=LitClassifier", "--model.backbone=resnet8_w8", "--trainer.max_epochs=1", *SMALL]
    save = ["--trainer.callbacks=ModelCheckpoint", "--trainer.callbacks.dirpath=run", "--trainer.callbacks.filename=c"]
    assert main(["fit", *arguments, *source_arguments(source), *save]) == 0
    again = LitClassifier.load_from_checkpoint("run/c.ckpt", weights_only=True)
    assert again.num_classes == 5
    assert again.classes == [f"class{label}" for label in range(5)]


FAST = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.accelerator=cpu"]
FAST += ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_cached")
def test_the_whole_path_without_labels_runs():
    """Each stage's config as the README shows it, cut to a step: surrogate, selection, pretraining, transfer."""
    assert main(["fit", "--config", str(CONFIGS / "ssl/drawn_surrogate.yaml"), *FAST]) == 0
    assert main(["select", f"--config={CONFIGS / 'select/photos_ssl.yaml'}"]) == 0
    for name in ("drawn_simclr", "drawn_moco", "drawn_vicreg"):
        assert main(["fit", "--config", str(CONFIGS / f"ssl/{name}.yaml"), *FAST]) == 0
    controls = ["--data.selector=RandomSelector", "--data.selector.unit=sample"]
    controls += ["--data.images_like=runs/selections/photos_ssl.safetensors"]
    assert main(["fit", "--config", str(CONFIGS / "ssl/drawn_simclr.yaml"), *controls, *FAST]) == 0
    for mode in ("probe", "finetune"):
        assert main(["fit", "--config", str(CONFIGS / f"transfer/photos_{mode}.yaml"), *FAST]) == 0
    assert {f"runs/ssl/{name}.safetensors" for name in ("surrogate", "simclr", "moco", "vicreg")} <= set(written())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simclr_rn50", "mocov2_rn50", "vicreg_rn50"])
def test_recipes_for_imagenet_run_on_a_small_folder(source, pets, surrogate_file, name):
    own = [f"--data.source={source}", f"--data.target={pets}", f"--data.surrogate={surrogate_file(5)}"]
    own += ["--data.prune_ratio=0.5", "--data.selector.num_clusters=4", "--data.image_size=32", "--data.batch_size=8"]
    own += ["--data.num_workers=0", "--model.backbone=resnet18", "--trainer.precision=32-true", "--trainer.devices=1"]
    if name.startswith("moco"):
        own += ["--model.queue_size=32"]
    else:
        own += ["--trainer.sync_batchnorm=false"]
    if name.startswith("vicreg"):
        own += ["--model.hidden_dim=64", "--model.output_dim=64"]
    assert main(["fit", "--config", str(CONFIGS / f"ssl/{name}.yaml"), *own, *FAST]) == 0
    assert f"runs/ssl/{name}.safetensors" in written()


def test_a_reader_that_has_seen_enough_is_no_error():
    show = f"{sys.executable} -m tlprune datasets; echo status $? >&2"
    done = subprocess.run(["/bin/sh", "-c", f"({show}) | true"], capture_output=True, text=True, check=False)
    assert done.stderr == "status 141\n"
