"""Every yaml in configs/ runs a step: on small files in the real layout, or on the embedded data."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from real_layouts import write_official
from tlprune.cli import main
from tlprune.data.synthetic import synthetic_classes
from tlprune.data.target_catalogue import TARGET_SETS
from tlprune.models.backbones import create_backbone
from tlprune.models.weights import save_classifier

CONFIGS = Path(__file__).parent.parent / "configs"
STARTS = CONFIGS / "experiment/drawn_starts.yaml"
FIT = sorted(CONFIGS.glob("s*/*.yaml")) + sorted(CONFIGS.glob("transfer/*.yaml"))
FIT = [path for path in FIT if path.parent.name != "select" and path.name != "drawn_bolts.yaml"]  # tests/test_bolts.py
FAST = [
    "--trainer.fast_dev_run=1",
    "--trainer.accelerator=cpu",
    "--trainer.devices=1",
    "--trainer.precision=32-true",
    "--trainer.enable_progress_bar=false",
    "--data.num_workers=0",
]
_IDS = ("n01440764", "n02099601", "n02123045", "n04285008")
_ADAM = ("oxford_pets", "flowers102", "dtd", "ucf101", "cifar10", "cifar100")
_SGD = ("stanford_cars", "sun397", "food101", "waterbirds")
pytestmark = [
    pytest.mark.usefixtures("drawn_cached"),
    pytest.mark.filterwarnings(
        "ignore:Found .* in eval mode", "ignore:.* units are kept, but only", "ignore:Total length of"
    ),
]


def name_of(path):
    return f"{path.parent.name}/{path.stem}"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def imagenet(tmp_path):
    """torchvision's layout, without the archives."""
    for part, count in (("train", 4), ("val", 2)):
        for label, name in enumerate(_IDS):
            (tmp_path / "imagenet" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.random.default_rng([label, number]).integers(0, 256, (90, 120, 3), dtype=np.uint8)
                file = (
                    f"{name}_{number}.JPEG" if part == "train" else f"ILSVRC2012_val_{label * count + number:08}.JPEG"
                )
                Image.fromarray(pixels).save(tmp_path / "imagenet" / part / name / file)
    return tmp_path / "imagenet"


def write_weights(path, backbone, classes=()):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    network = create_backbone(backbone)
    head = None
    if classes:
        from torch import nn

        head = nn.Linear(network.num_features, len(classes))
    save_classifier(path, backbone, network, head, classes)


@pytest.fixture
def needed():
    """What configs name that other configs would have written."""
    write_weights("runs/drawn/surrogate.safetensors", "resnet8_w8", [drawn.name for drawn in synthetic_classes()])
    write_weights("runs/drawn/pruned.safetensors", "resnet8_w16")
    write_weights("runs/ssl/surrogate.safetensors", "resnet8_w8")
    write_weights("runs/ssl/simclr.safetensors", "resnet8_w16")
    write_weights("runs/imagenet/rn18.safetensors", "resnet18")


@pytest.fixture
def set_of(tmp_path, monkeypatch):
    """Writes a small set in its real layout and lets its name mean that."""

    def write(name):
        entry = write_official(name, tmp_path / name)
        monkeypatch.setitem(TARGET_SETS, name, entry)
        return f"--data.target={name}:{tmp_path / name}"

    return write


def arguments_of(path, set_of, imagenet):
    """What a user would have to say besides."""
    if path.stem.startswith(("drawn", "digits", "photos")):
        return []
    if path.stem.startswith("sweep"):
        return ["--data.target=digits", "--model.weights=runs/drawn/pruned.safetensors"]
    if path.parent.name == "transfer":
        target = yaml.safe_load(path.read_text())["data"]["init_args"]["target"].partition(":")[0]
        return [set_of(target), "--data.batch_size=4"]
    small = [] if "vit" in path.stem or path.parent.name == "ssl" else ["--data.image_size=64", "--data.eval_size=64"]
    if "continued" in path.stem:  # published weights are not fetched in tests
        file = "runs/imagenet/rn18.safetensors"
        small += [
            f"--model.weights={file}",
            f"--data.surrogate={file}",
            set_of("oxford_pets"),
            "--data.prune_ratio=0.5",
        ]
    if path.stem.startswith("vicreg"):  # its projection head alone has 150 million weights
        small += ["--model.hidden_dim=64", "--model.output_dim=64"]
    return [f"--data.source={imagenet}", "--data.batch_size=2", *small]


LARGE = (
    "imagenet_vit_b_16",
    "imagenet_rn101",
    "imagenet_rn152",
    "vicreg_rn50",
    "mocov2_rn50",
    "simclr_rn50",
    "imagenet_rn50_modern",
)
"""Configs whose networks take from ten seconds to half a minute for a step."""


@pytest.mark.usefixtures("needed")
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=name_of(path), marks=[pytest.mark.slow] * (path.stem in LARGE)) for path in FIT],
)
def test_it_runs_a_step(path, set_of, imagenet):
    assert main(["fit", "--config", str(path), *FAST, *arguments_of(path, set_of, imagenet)]) == 0
    config = yaml.safe_load(path.read_text())
    for callback in config["trainer"].get("callbacks", []):
        if callback["class_path"] == "ExportBackbone":
            assert Path(callback["init_args"]["path"]).is_file()


@pytest.mark.usefixtures("needed")
def test_a_sweep_of_starts_can_be_forecast(tmp_path, capsys):
    (tmp_path / "configs").symlink_to(CONFIGS)  # a sweep names other configs, and this one weights that others write
    assert main(["sweep", "--config", "configs/experiment/drawn_starts.yaml", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "42 cells left" in said
    assert said.count("weights alone") == 2


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(set(CONFIGS.glob("experiment/*.yaml")) - {STARTS}), ids=name_of)
def test_a_sweep_can_be_forecast(path, capsys, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)  # a sweep names other configs
    status = main(["sweep", "--config", str(path), "--dry-run"])
    said = capsys.readouterr()
    if path.stem.startswith("drawn"):
        assert status == 0
        assert " cells left" in said.out
    else:
        assert status == 2
        assert "/data/" in said.err


def test_none_is_left_out():
    assert len(FIT) >= 20
    assert {path.parent.name for path in CONFIGS.glob("*/*.yaml")} == {
        "select",
        "source",
        "ssl",
        "transfer",
        "experiment",
    }


@pytest.mark.usefixtures("needed")
@pytest.mark.parametrize("name", [*_ADAM, *_SGD])
def test_probe_and_finetuning_of_each_target(name, set_of):
    target = set_of(name)
    write_weights("small.safetensors", "resnet8_w8")
    small = [*FAST, target, "--data.batch_size=4", "--data.image_size=32", "--model.weights=small.safetensors"]
    finetune = "finetune_adam" if name in _ADAM else "finetune_sgd"
    for recipe in ("probe", finetune):
        assert main(["fit", "--config", str(CONFIGS / f"transfer/{recipe}.yaml"), *small]) == 0


def test_each_finetuning_recipe_says_for_which_targets_it_is():
    for recipe, names in (("finetune_adam", _ADAM), ("finetune_sgd", _SGD)):
        text = (CONFIGS / f"transfer/{recipe}.yaml").read_text().replace("\n#", "")
        said = re.search(r"For ([^;]*);", text).group(1)
        assert tuple(said.split(", ")) == names
    assert {*_ADAM, *_SGD} == set(TARGET_SETS)


@pytest.mark.usefixtures("needed")
def test_three_commands_from_imagenet_and_pets_to_a_finetuned_model(imagenet, set_of, capsys):
    """As docs/from-dp4tl.md has them, with small networks and one step each."""
    pets = set_of("oxford_pets")
    source = [f"--data.source={imagenet}", "--data.batch_size=4", "--data.image_size=32", "--data.eval_size=32"]
    source += [*FAST, "--model.backbone=resnet8_w8"]
    rn18, rn50 = (str(CONFIGS / f"source/imagenet_{name}.yaml") for name in ("rn18", "rn50"))
    assert main(["fit", "--config", rn18, *source]) == 0
    prune = [pets, "--data.surrogate=runs/imagenet/rn18.safetensors", "--data.prune_ratio=0.5"]
    assert main(["fit", "--config", rn50, *source, *prune]) == 0
    finetune = ["--config", str(CONFIGS / "transfer/finetune_adam.yaml"), pets, "--data.batch_size=4", *FAST]
    assert main(["fit", *finetune, "--model.weights=runs/imagenet/rn50.safetensors", "--data.image_size=32"]) == 0


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/*.yaml")), ids=name_of)
def test_it_opens_with_what_it_reproduces(path):
    lines = path.read_text().splitlines()
    comment = lines[: next(place for place, line in enumerate(lines) if not line.startswith("#"))]
    assert len(comment) >= 2
    if "imagenet" in path.stem or path.stem.startswith(("probe", "finetune", "scratch")):
        assert "Zhang et al." in " ".join(comment)
