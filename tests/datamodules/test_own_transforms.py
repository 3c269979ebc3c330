"""DataModules with a user's transforms: what is trained and validated on, what never sees them, and what is refused."""

from dataclasses import replace

import pytest
import torch
import yaml
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torchvision.transforms import v2

from tlprune import (
    CountForgetting,
    DownstreamDataModule,
    LabelMapping,
    LitClassifier,
    LitSSL,
    Preprocessing,
    ProgressiveResize,
    PrunedSourceDataModule,
    TransferModule,
)
from tlprune.cli import main
from tlprune.data.datasets import TensorImages
from tlprune.datamodules import resumable
from tlprune.errors import InputError

HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.25, 0.5))
CLASSES = [f"colour{label:02}" for label in range(6)]


def white(pixels):
    return torch.full((3, 32, 32), 255, dtype=torch.uint8)


def minus_seven(pixels):
    return torch.full((3, 32, 32), -7.0)


class Sees(LitClassifier):
    """Remembers the images of each part."""

    def __init__(self):
        super().__init__("resnet8_w8", preprocessing=HALF)
        self.seen = {"train": [], "val": []}

    def training_step(self, batch, batch_idx):
        self.seen["train"].append(batch[0])
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        self.seen["val"].append(batch[0])
        return super().validation_step(batch, batch_idx)


@pytest.mark.parametrize(("kind", "accelerated"), [(PrunedSourceDataModule, True), (DownstreamDataModule, False)])
def test_bytes_are_normalised_and_floats_are_not(kind, coloured, target, trainer, monkeypatch, accelerated):
    monkeypatch.setattr(resumable, "_worth_bytes", lambda trainer: accelerated)
    images = target if kind is DownstreamDataModule else coloured(4, 10)
    module = Sees()
    trainer().fit(module, datamodule=kind(images, transform=white, eval_transform=minus_seven, batch_size=8))
    for batch in module.seen["train"]:
        assert torch.equal(batch[:, :, 0, 0], torch.tensor([1.0, 2.0, 1.0]).expand(len(batch), 3))
    assert {float(batch.min()) for batch in module.seen["val"]} == {-7.0}
    assert {float(batch.max()) for batch in module.seen["val"]} == {-7.0}


def test_votes_never_see_a_users_transform(coloured, target, surrogate_file):
    weights = str(surrogate_file(CLASSES))

    def selected(votes_of=target, **options):
        selector = LabelMapping(votes="soft")
        data = PrunedSourceDataModule(
            coloured(6, 5), votes_of, selector=selector, surrogate=weights, prune_ratio=0.0, **options
        )
        data.setup()
        return data

    usual, own = selected(), selected(transform=white, eval_transform=white)
    assert own.selection.digest == usual.selection.digest
    assert own.selection.votes.tolist() == usual.selection.votes.tolist()
    assert torch.equal(own.transformed_source[3][0], usual.transformed_source[3][0])
    blank = TensorImages(torch.full_like(target.train.pixels, 255), target.train.labels, target.classes)
    assert selected(replace(target, train=blank)).selection.votes.tolist() != usual.selection.votes.tolist()


def test_a_transform_to_two_views_trains_without_labels(coloured, trainer):
    crop = v2.Compose([v2.RandomResizedCrop(32, (0.2, 1.0), antialias=True), v2.RandomHorizontalFlip()])
    data = PrunedSourceDataModule(coloured(4, 10), transform=lambda pixels: [crop(pixels), crop(pixels)], batch_size=8)
    fit = trainer()
    fit.fit(LitSSL("resnet8_w8", hidden_dim=16, output_dim=8), datamodule=data)
    assert 0 < float(fit.callback_metrics["train/loss"]) < 10


class Stop(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 6:
            raise KeyboardInterrupt


@pytest.mark.filterwarnings(
    "ignore:Checkpoint directory",
    "ignore:The dirpath has changed",
    "ignore:Be aware that when",
    "ignore:You defined a `validation_step`",
)
@pytest.mark.parametrize(
    "options", [{"augment": "randaugment"}, {"transform": v2.RandomResizedCrop(32, antialias=True)}]
)
def test_a_run_that_is_stopped_ends_with_the_same_weights(options, coloured, trainer, tmp_path):
    def run(name, stop=None, resume=None, workers=0):
        seed_everything(9 if resume else 0, verbose=False)
        data = PrunedSourceDataModule(coloured(4, 10), batch_size=8, num_workers=workers, **options)
        module = LitClassifier("resnet8_w8", optimizer=lambda parameters: torch.optim.SGD(parameters, 0.05))
        save = ModelCheckpoint(tmp_path / name, "{step}", every_n_train_steps=6, save_top_k=-1)
        callbacks, skip = [save, *([stop] if stop else [])], {"limit_val_batches": 0, "num_sanity_val_steps": 0}
        fit = trainer(max_epochs=2, callbacks=callbacks, enable_checkpointing=True, **skip)
        try:
            fit.fit(module, datamodule=data, ckpt_path=resume)
        except SystemExit:
            assert stop is not None
        return torch.cat([value.flatten().double() for value in module.state_dict().values()])

    whole = run("whole")
    run("stopped", stop=Stop())
    assert torch.equal(run("resumed", resume=tmp_path / "stopped" / "step=6.ckpt", workers=1), whole)


@pytest.mark.filterwarnings("ignore:Found .* in eval mode")
def test_a_probe_computes_no_features_of_images_that_change(target, trainer, surrogate_file):
    data = DownstreamDataModule(target, transform=v2.RandomHorizontalFlip(), batch_size=8)
    module = TransferModule(weights=str(surrogate_file(6)), mode="probe")
    trainer().fit(module, datamodule=data)
    assert next(iter(data.train_dataloader()))[0].shape[1:] == (3, 32, 32)


def test_images_from_the_cache_are_said_to_be_smaller(tmp_path, caplog):
    pixels = torch.randint(0, 256, (4, 3, 300, 280), generator=torch.Generator().manual_seed(0)).byte()
    images = TensorImages(pixels, torch.arange(4) % 2, ["a", "b"])
    given = []

    def watch(pixels):
        given.append(tuple(pixels.shape))
        return pixels[:, :32, :32]

    for options, shape in (({}, (3, 300, 280)), ({"image_cache": "raw256"}, (3, 274, 256))):
        given.clear()
        data = PrunedSourceDataModule(images, image_size=32, transform=watch, val_share=0.0, batch_size=4, **options)
        with caplog.at_level("INFO"):
            data.setup()
        list(data.train_dataloader())
        said = "`transform` (watch) is given images from image_cache: raw256, where the shorter side has at most 256"
        assert (said in caplog.text) == bool(options)
        assert set(given) == {shape}


@pytest.mark.parametrize("kind", [PrunedSourceDataModule, DownstreamDataModule])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": white, "augment": "crop"}, "give `transform` in place of `augment`, not both: got 'crop' too"),
        ({"transform": "crop"}, "`transform` must be a callable from an image to a tensor, got 'crop'"),
        ({"eval_transform": 3}, "`eval_transform` must be a callable from an image to a tensor, got 3"),
        ({"augment": "randaug"}, "`augment` has no 'randaug': did you mean 'randaugment'?"),
    ],
)
def test_what_cannot_be_meant_is_refused(kind, options, message):
    with pytest.raises(InputError) as refused:
        kind(**options)
    assert str(refused.value) == message


def test_other_options_that_need_an_augmentation_by_name_say_so(coloured, target, trainer, tmp_path):
    with pytest.raises(InputError, match="`include_target` needs an `augment` of two views"):
        PrunedSourceDataModule(coloured(4, 10), target, include_target=0.5, transform=white)
    data = PrunedSourceDataModule(coloured(4, 10), transform=white, batch_size=8)
    with pytest.raises(
        InputError, match=r"`transform` \(white\) gives images of 32 pixels, and images of 16 are asked"
    ):
        trainer(callbacks=[ProgressiveResize(16, 32, 0, 2, 8)]).fit(LitClassifier("resnet8_w8"), datamodule=data)
    data = PrunedSourceDataModule(coloured(4, 10), eval_transform=white, batch_size=8)
    counting = CountForgetting(str(tmp_path / "counts.safetensors"))
    with pytest.raises(InputError, match="set no `eval_transform`"):
        trainer(callbacks=[counting]).fit(LitClassifier("resnet8_w8"), datamodule=data)


def written(folder, transform, **data):
    config = {
        "model": {"class_path": "LitClassifier", "init_args": {"backbone": "resnet8_w8"}},
        "data": {
            "class_path": "PrunedSourceDataModule",
            "init_args": {"source": str(folder), "batch_size": 4, "transform": transform, **data},
        },
        "trainer": {
            "max_epochs": 1,
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
    }
    (folder.parent / "own.yaml").write_text(yaml.safe_dump(config))
    return ["fit", "--config", str(folder.parent / "own.yaml")]


def of_torchvision(name, **options):
    return {"class_path": f"torchvision.transforms.v2.{name}", "init_args": options}


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_yaml_builds_transforms_of_torchvision_and_of_users(class_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "brighter_by.py").write_text("def some(pixels):\n    return pixels.clamp(min=9)\n")
    steps = [of_torchvision("RandomResizedCrop", size=24, antialias=True), of_torchvision("RandAugment")]
    arguments = written(
        class_folder("src", {"a": 6, "b": 6}, size=40),
        of_torchvision("Compose", transforms=[*steps, "brighter_by.some"]),
        image_size=24,
    )
    assert main(arguments) == 0
    capsys.readouterr()
    assert main(arguments) == 0
    assert "this run ended on" in capsys.readouterr().out
    (tmp_path / "brighter_by.py").write_text("def some(pixels):\n    return pixels.clamp(min=99)\n")
    assert main(arguments) == 0  # other code makes it another run
    assert "this run ended on" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (
            of_torchvision("ToPILImage"),
            "`transform` (ToPILImage) must give tensors of 3 x 24 x 24 (`image_size`), got a PIL",
        ),
        (of_torchvision("CenterCrop", size=16), "got 3 x 16 x 16: set `image_size` to 16"),
        (of_torchvision("NoSuch"), "NoSuch"),
    ],
)
def test_a_wrong_transform_ends_the_command_before_anything_is_written(
    transform, message, class_folder, tmp_path, monkeypatch, capsys
):
    folder = class_folder("src", {"a": 6, "b": 6}, size=40)
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    assert main(written(folder, transform, image_size=24)) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert list((tmp_path / "run").iterdir()) == []
