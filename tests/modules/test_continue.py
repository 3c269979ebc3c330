"""Pretraining that starts from weights: LitClassifier, LitAdversarialClassifier and LitSSL."""

import logging
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import BackboneFinetuning, ModelCheckpoint

from forked import run_ranks
from tlprune import ExportBackbone, LitAdversarialClassifier, LitClassifier, LitSSL, PrunedSourceDataModule
from tlprune.cli import main
from tlprune.data.datasets import TensorImages
from tlprune.models.weights import load_backbone, load_classifier, read_weights
from tlprune.modules.optim import WarmupCosineLR
from tlprune.preprocessing import Preprocessing

HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.25, 0.5), 24, 0.75, "bicubic")
"""How the weights of these tests expect images."""

BLACK = {LitClassifier: {}, LitAdversarialClassifier: {"epsilon": 1e-6}, LitSSL: {"hidden_dim": 8, "output_dim": 8}}
"""Options of each module; the attack leaves images as they are."""

pytestmark = pytest.mark.filterwarnings(
    "ignore:You defined a `validation_step`", "ignore:The provided params to be frozen", "ignore:Checkpoint directory"
)


def data_for(made, images, **options):
    augment = "simclr_small" if made is LitSSL else "none"
    return PrunedSourceDataModule(images, augment=augment, batch_size=8, val_share=0.2, **options)


def small(made):
    return {"hidden_dim": 8, "output_dim": 8} if made is LitSSL else {}


@pytest.mark.parametrize("method", ["simclr", "moco"])
def test_contrastive_training_starts_with_the_features_of_the_weights(surrogate_file, method):
    file = str(surrogate_file(9))
    module = LitSSL(weights=file, method=method, hidden_dim=8, output_dim=8, queue_size=16).eval()
    images = torch.randn(3, 3, 32, 32)
    expected = load_backbone(file).eval()(images)
    assert torch.equal(module(images), expected)
    if method == "moco":
        assert torch.equal(module.key_backbone(images), expected)


@pytest.mark.parametrize("made", [LitClassifier, LitAdversarialClassifier])
def test_the_first_forward_is_that_of_the_source_network_where_classes_are_the_same(
    coloured, surrogate_file, trainer, made
):
    images = coloured(4, 8)
    file = str(surrogate_file(list(images.classes)))
    module = made(weights=file)
    trainer().validate(module, datamodule=data_for(made, images), verbose=False)
    network, _ = load_classifier(file)
    pixels = torch.randn(3, 3, 32, 32)
    assert torch.equal(module.eval()(pixels), network.eval()(pixels))


def test_a_head_of_other_classes_is_new_and_the_log_says_so(coloured, surrogate_file, trainer, caplog):
    images = coloured(4, 8)
    for classes, said in (
        (9, r"54 tensors loaded, 2 left out \(head.bias, head.weight\); its head of 9 classes is not used"),
        (list(images.classes), "56 tensors loaded, 0 left out$"),
    ):
        module = LitClassifier(weights=str(surrogate_file(classes)))
        with caplog.at_level(logging.INFO):
            trainer(max_steps=1).fit(module, datamodule=data_for(LitClassifier, images))
        assert re.search(rf"starting from \S+surrogate.safetensors: {said}", caplog.text, re.M)
        assert module.head.out_features == 4
        caplog.clear()


def test_a_second_fit_goes_on_with_the_head_that_the_first_has_trained(coloured, surrogate_file, trainer):
    images = coloured(4, 8)
    module = LitClassifier(weights=str(surrogate_file(list(images.classes))))
    trainer(max_steps=2).fit(module, datamodule=data_for(LitClassifier, images))
    trained = module.head.weight.clone()
    trainer().validate(module, datamodule=data_for(LitClassifier, images), verbose=False)
    assert torch.equal(module.head.weight, trained)


@pytest.mark.parametrize("made", BLACK)
def test_images_are_seen_as_the_weights_expect_and_what_is_exported_says_so(surrogate_file, trainer, tmp_path, made):
    black = TensorImages(torch.zeros(20, 3, 32, 32, dtype=torch.uint8), torch.arange(20) % 2, "ab")
    module = made(weights=str(surrogate_file(9, preprocessing=HALF)), **BLACK[made])
    seen = []
    module.backbone.register_forward_hook(lambda _, inputs, __: seen.extend(inputs[0]))
    run = trainer(callbacks=[ExportBackbone(str(tmp_path / "out.safetensors"))])
    run.fit(module, datamodule=data_for(made, black))
    run.save_checkpoint(tmp_path / "out.ckpt")
    assert {tuple(image.shape) for image in seen} == {(3, 24, 24)}
    if made is not LitSSL:  # whose views have other colours
        torch.testing.assert_close(
            torch.stack(seen).mean((0, 2, 3)), torch.tensor([-1.0, -2.0, -1.0]), atol=1e-3, rtol=0
        )
    for file in ("out.safetensors", "out.ckpt"):
        assert read_weights(tmp_path / file).preprocessing == HALF
        assert read_weights(tmp_path / file).backbone == "resnet8_w8"
    again = made.load_from_checkpoint(tmp_path / "out.ckpt", weights_only=True)
    assert (again.preprocessing, again.weights) == (HALF, None)
    if made is LitAdversarialClassifier:
        assert (again.attack.mean, again.attack.std) == (module.attack.mean, module.attack.std) == (HALF.mean, HALF.std)


def test_the_users_mean_beats_that_of_the_weights(surrogate_file):
    module = LitAdversarialClassifier(weights=str(surrogate_file(9, preprocessing=HALF)), mean=[0.4, 0.4, 0.4])
    assert (module.preprocessing.mean, module.attack.mean, module.attack.std) == ((0.4,) * 3, (0.4,) * 3, HALF.std)
    assert LitClassifier("resnet8_w8", preprocessing=HALF).preprocessing == HALF


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize("made", BLACK)
@pytest.mark.parametrize("frozen", [False, True])
def test_a_run_goes_on_from_its_checkpoint_and_not_from_the_weights(
    coloured, surrogate_file, trainer, tmp_path, made, frozen
):
    """Bit for bit, also where Lightning has unfrozen the backbone before the run was stopped."""
    first, other = str(surrogate_file(9)), str(surrogate_file(9, "other.safetensors"))
    state = read_weights(other).state

    def fit(epochs, weights, resume=None):
        seed_everything(0, verbose=False)
        module = made(weights=weights, layer_decay=0.5, lr_scheduler=WarmupCosineLR, **small(made))
        if resume:
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.mul_(0.5)
        freeze = [BackboneFinetuning(unfreeze_backbone_at_epoch=1, verbose=False)] if frozen else []
        save = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
        run = trainer(max_epochs=epochs, callbacks=[save, *freeze], enable_checkpointing=True)
        run.fit(module, datamodule=data_for(made, coloured(3, 8)), ckpt_path=resume, weights_only=False)
        return module.state_dict()

    whole = fit(3, first)
    resumed = fit(3, other, tmp_path / "epoch=1.ckpt")
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    stem = "backbone.network.stem.weight"
    assert not torch.equal(whole[stem], state[stem])


@pytest.mark.parametrize("made", [LitClassifier, LitSSL])
def test_what_a_callback_of_the_user_froze_stays_frozen(coloured, surrogate_file, trainer, made):
    class Freeze(Callback):
        def on_fit_start(self, trainer, module):
            module.backbone.requires_grad_(False)

    module = made(weights=str(surrogate_file(9)), **small(made))
    before = {name: value.clone() for name, value in module.backbone.named_parameters()}
    trainer(max_epochs=1, callbacks=[Freeze()]).fit(module, datamodule=data_for(made, coloured(3, 8)))
    assert all(torch.equal(value, before[name]) for name, value in module.backbone.named_parameters())


def test_lightnings_schedules_see_the_rate_that_freezing_gives(coloured, surrogate_file, trainer):
    module = LitClassifier(weights=str(surrogate_file(9)), lr_scheduler=WarmupCosineLR)
    freeze = BackboneFinetuning(1, lambda epoch: 1.0, 0.25, should_align=False, verbose=False)
    run = trainer(max_epochs=3, callbacks=[freeze])
    run.fit(module, datamodule=data_for(LitClassifier, coloured(3, 8)))
    head, backbone = run.optimizers[0].param_groups
    assert head["lr"] == pytest.approx(0)
    assert 0 < backbone["lr"] <= 0.25 * 0.1


@pytest.fixture
def fit(class_folder, tmp_path, monkeypatch):
    """Runs `tlprune fit` with a yaml file for two steps, and gives the exit code."""
    monkeypatch.chdir(tmp_path)
    source = class_folder("src", dict.fromkeys(("ant", "bee", "cat"), 10))

    def run(module, **options):
        augment = "simclr_small" if module == "LitSSL" else "shift"
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "devices": 1}
        config = {
            "model": {"class_path": module, "init_args": options},
            "data": {
                "class_path": "PrunedSourceDataModule",
                "init_args": {"source": str(source), "image_size": 32, "batch_size": 8, "augment": augment},
            },
            "trainer": quiet
            | {
                "max_steps": 2,
                "logger": False,
                "callbacks": [{"class_path": "ExportBackbone", "init_args": {"path": "out.safetensors"}}],
            },
        }
        Path("fit.yaml").write_text(yaml.safe_dump(config))
        return main(["fit", "--config", "fit.yaml"])

    return run


@pytest.mark.parametrize("module", ["LitClassifier", "LitSSL", "LitAdversarialClassifier"])
def test_yaml_starts_from_weights(fit, surrogate_file, module):
    more = {"hidden_dim": 8, "output_dim": 8} if module == "LitSSL" else {}
    assert fit(module, weights=str(surrogate_file(9)), layer_decay=0.5, **more) == 0
    assert read_weights("out.safetensors").backbone == "resnet8_w8"


def test_other_weights_are_another_run(fit, surrogate_file, capsys):
    file = surrogate_file(9)
    assert fit("LitClassifier", weights=str(file)) == 0
    assert fit("LitClassifier", weights=str(file)) == 0
    assert "this run ended on" in capsys.readouterr().out
    surrogate_file(8)  # another file of that name
    assert fit("LitClassifier", weights=str(file)) == 0
    assert "this run ended on" not in capsys.readouterr().out


def test_wrong_weights_end_with_status_2_and_no_file(fit, surrogate_file, tmp_path, capsys):
    file = str(surrogate_file(9))
    for options, message in (
        ({"weights": "none.ckpt"}, "weights none.ckpt: no such file"),
        ({"weights": file, "backbone": "resnet18"}, f"`backbone` is 'resnet18', but {file} holds 'resnet8_w8'"),
        ({"weights": file, "layer_decay": 0}, "`layer_decay` must be in (0, 1], got 0"),
    ):
        before = sorted(path.name for path in tmp_path.iterdir())
        assert fit("LitClassifier", **options) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith(f"tlprune: error: {message}")
        assert {*before, "fit.yaml"} == {path.name for path in tmp_path.iterdir()}


def test_two_ranks_start_from_the_same_weights(surrogate_file, tmp_path):
    script = Path(__file__).with_name("continue_on_ranks.py")
    said = run_ranks(2, [sys.executable, script, surrogate_file(["a", "b", "c", "d"])], tmp_path)
    first, second = (re.findall(r"^digests (\S+) (\S+)$", one, re.M) for one in said)
    assert len(first) == 1
    assert first == second
    assert first[0][0] == first[0][1]
