"""A run without images to train on is refused: it would take no step and end as if it had trained."""

import pytest
import torch
from lightning.pytorch import Trainer

from tlprune import (
    CountForgetting,
    DownstreamDataModule,
    ExportBackbone,
    ListSelector,
    LitClassifier,
    PrunedSourceDataModule,
    TransferModule,
)
from tlprune.cli import main
from tlprune.data.datasets import TensorImages
from tlprune.data.splits import stratified_holdout
from tlprune.data.target_splits import TargetSplits, open_target
from tlprune.errors import InputError

QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False, "logger": False}


@pytest.fixture
def first(tmp_path):
    """Makes a selector that ranks some units first."""

    def make(names, unit="class"):
        (tmp_path / "first.txt").write_text("".join(f"{name}\n" for name in names))
        return ListSelector(str(tmp_path / "first.txt"), unit)

    return make


def images(*each):
    labels = torch.arange(len(each)).repeat_interleave(torch.tensor(each))
    pixels = torch.randint(0, 256, (len(labels), 3, 32, 32), generator=torch.Generator().manual_seed(0))
    return TensorImages(pixels.to(torch.uint8), labels, [f"class {label}" for label in range(len(each))])


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"keep_units": 2}, "`keep_units` 2: units kept: 2, their images: 2"),
        ({"keep_images": 1}, "`keep_images` 1: units kept: 1, their images: 1"),
        ({"prune_ratio": 0.9}, "`prune_ratio` 0.9: units kept: 2, their images: 2"),
    ],
)
def test_kept_single_images_that_are_all_held_out(first, budget, said):
    source = images(10, 10)
    _, held = stratified_holdout(source.labels, 4, seed=0)
    options = {"selector": first(held.tolist(), "sample"), "val_share": 0.2, "batch_size": 4}
    data = PrunedSourceDataModule(source, **budget, **options)
    with pytest.raises(InputError, match=f"no image is left to train on within {said}, of these held out"):
        Trainer(accelerator="cpu", devices=1, max_epochs=1, **QUIET).fit(LitClassifier("resnet8_w8"), datamodule=data)
    enough = PrunedSourceDataModule(source, keep_units=5, **options)
    enough.setup()
    assert enough.images_kept == 1


def test_a_kept_class_without_images(first):
    source = images(0, 9, 9)
    data = PrunedSourceDataModule(source, selector=first(["class 0"]), keep_units=1)
    with pytest.raises(InputError, match="within `keep_units` 1: units kept: 1, their images: 0"):
        data.setup()


def test_a_source_without_images():
    with pytest.raises(InputError, match="no image is left to train on of the whole source, their images: 0"):
        PrunedSourceDataModule(images(0, 0)).setup()


def test_classes_of_one_image_are_trained_on(class_folder, first):
    root = class_folder("src", {f"class {number}": 1 if number < 2 else 10 for number in range(20)})
    data = PrunedSourceDataModule(
        str(root), selector=first(["class 0", "class 1"]), keep_units=2, image_size=32, batch_size=4
    )
    data.setup()
    assert data.images_kept == 2
    assert sum(len(labels) for _, labels in data.train_dataloader()) == 2


def test_a_batch_larger_than_the_set_is_one_batch():
    data = PrunedSourceDataModule(images(5, 5), batch_size=1000)
    data.setup()
    assert [len(labels) for _, labels in data.train_dataloader()] == [9]


def test_fewer_images_than_the_best_class_has_are_refused(first):
    data = PrunedSourceDataModule(images(5, 5), selector=first(["class 0"]), keep_images=3)
    with pytest.raises(InputError, match="`keep_images` is 3, the best unit alone has 5 images"):
        data.setup()


def test_a_target_without_training_images():
    target = TargetSplits("bare", images(0, 0), images(2, 2), images(2, 2), 32, "made for tests")
    data = DownstreamDataModule(target)
    with pytest.raises(InputError, match=r"target bare: no image to train on, .* \(made for tests\)"):
        data.setup("fit")
    data.setup("test")
    assert sum(len(labels) for _, labels in data.test_dataloader()) == 4


def test_the_command_ends_in_one_line(class_folder, first, tmp_path, monkeypatch, capsys):
    root = class_folder("src", {"cat": 10, "dog": 10})
    _, held = stratified_holdout(torch.arange(2).repeat_interleave(10), 10, seed=0)
    first(held.tolist(), "sample")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fit.yaml").write_text(
        "model: {class_path: tlprune.LitClassifier, init_args: {backbone: resnet8_w8}}\n"
        "data: {class_path: tlprune.PrunedSourceDataModule, init_args: {image_size: 32, val_share: 0.5}}\n"
        "trainer: {max_epochs: 1, accelerator: cpu, logger: false, enable_progress_bar: false,\n"
        "  callbacks: {class_path: tlprune.ExportBackbone, init_args: {path: out.safetensors}}}\n"
    )
    options = [f"--data.source={root}", "--data.selector=ListSelector", "--data.selector.unit=sample"]
    options += ["--data.selector.path=first.txt", "--data.keep_units=10"]
    assert main(["fit", "--config=fit.yaml", *options]) == 2
    assert "no image is left to train on within `keep_units` 10" in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_weights_that_no_step_was_taken_on_are_said(coloured, tmp_path):
    path = tmp_path / "model.safetensors"
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        limit_train_batches=0,
        callbacks=[ExportBackbone(str(path))],
        **QUIET,
    )
    with pytest.warns(
        UserWarning, match="model.safetensors: no training step was taken; it has the weights from before"
    ):
        trainer.fit(LitClassifier("resnet8_w8"), datamodule=PrunedSourceDataModule(coloured(3, 20), batch_size=8))


@pytest.mark.filterwarnings("ignore:Found .* in eval mode")
def test_a_target_of_one_image_a_class_is_said_to_have_none_to_validate_on(class_folder, tmp_path, surrogate_file):
    root = class_folder("pets/train", {"cat": 1, "dog": 1, "emu": 1}).parent
    with pytest.warns(UserWarning, match="0 samples are held out, not 1: each of 3 classes keeps one of 3 samples"):
        target = open_target(str(root))
    assert len(target.train) == 3
    data = DownstreamDataModule(target, image_size=32)
    weights = str(surrogate_file(3))
    options = {"accelerator": "cpu", "devices": 1, "max_epochs": 1, **QUIET}
    with pytest.raises(InputError, match="target pets: no image to validate on .* give it a part 'val'"):
        Trainer(**options).fit(TransferModule(weights=weights), datamodule=data)
    trainer = Trainer(**options, limit_val_batches=0)
    trainer.fit(TransferModule(weights=weights, mode="probe"), datamodule=data)
    assert trainer.global_step == 1


def test_counts_of_no_epoch_are_not_written(coloured, tmp_path):
    path = tmp_path / "counts.safetensors"
    callbacks = [CountForgetting(str(path))]
    trainer = Trainer(accelerator="cpu", devices=1, max_epochs=1, limit_train_batches=0, callbacks=callbacks, **QUIET)
    with pytest.warns(UserWarning, match="counts.safetensors: not written, no epoch was counted"):
        trainer.fit(LitClassifier("resnet8_w8"), datamodule=PrunedSourceDataModule(coloured(3, 20), batch_size=8))
    assert not path.exists()
