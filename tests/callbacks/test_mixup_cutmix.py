import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it
from torch.utils.data import DataLoader, Dataset

from tlprune import (
    DownstreamDataModule,
    LitAdversarialClassifier,
    LitClassifier,
    LitSSL,
    MixupCutMix,
    ProgressiveResize,
    PrunedDataModule,
    PrunedSourceDataModule,
    RandomSelector,
    TransferModule,
    select,
)
from tlprune.cli import main
from tlprune.data.target_splits import TargetSplits
from tlprune.errors import InputError

CLASSES, SIZE = 4, 8


class Numbered(Dataset):
    """Images ``[3, 8, 8]`` whose pixels are all the number of the image; its class is the number modulo 4."""

    def __init__(self, count=32, as_dict=False, labels=lambda number: number % CLASSES):
        self.count, self.as_dict, self.label = count, as_dict, labels

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        image, label = torch.full((3, SIZE, SIZE), float(number)), self.label(number)
        return {"image": image, "class": label} if self.as_dict else (image, label)


class Theirs(LightningModule):
    """Anybody's module: remembers what it is given."""

    def __init__(self, keys=(0, 1)):
        super().__init__()
        self.keys, self.layer, self.seen, self.validated = keys, nn.Linear(3 * SIZE * SIZE, CLASSES), [], []

    def training_step(self, batch, batch_idx):
        images, labels = (batch[key] for key in self.keys)
        self.seen.append((images.clone(), labels.clone()))
        return F.cross_entropy(self.layer(images.flatten(1)) / 100, labels, label_smoothing=0.1)

    def validation_step(self, batch, batch_idx):
        self.validated.append(batch[self.keys[1]].dtype)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-4)


class TheirData(LightningDataModule):
    num_classes = CLASSES

    def __init__(self, **options):
        super().__init__()
        self.options = options

    def train_dataloader(self):
        return DataLoader(Numbered(**self.options), batch_size=8)

    def val_dataloader(self):
        return DataLoader(Numbered(8, **self.options), batch_size=8)


@pytest.fixture
def mixed(trainer):
    """The batches that anybody's module is given, of four batches of eight images in order."""

    def run(seed=0, **options):
        seed_everything(seed, verbose=False)
        module = Theirs()
        trainer(callbacks=[MixupCutMix(**options)]).fit(module, datamodule=TheirData())
        assert module.validated == [torch.int64] * 2  # one of them before training
        return module.seen

    return run


def shares(images, labels, numbers):
    """The share of each image that is its own in pixels and in labels; the rest is of the image before it."""
    own, before = np.array(numbers), np.roll(numbers, 1)
    pixels = images.mean((1, 2, 3)).double().numpy()
    in_pixels = (pixels - before) / (own - before)
    classes = np.eye(CLASSES)
    in_labels = [
        np.linalg.lstsq(np.stack([classes[one % CLASSES], classes[other % CLASSES]], 1), found, rcond=None)[0]
        for one, other, found in zip(own, before, labels.double().numpy(), strict=True)
    ]
    return in_pixels, np.array(in_labels)


@pytest.mark.parametrize("options", [{"cutmix_alpha": 0.0, "mixup_alpha": 1.0}, {"mixup_alpha": 0.0}, {}])
def test_labels_are_mixed_in_the_proportion_of_pixels(mixed, options):
    for number, (images, labels) in enumerate(mixed(**options)):
        in_pixels, in_labels = shares(images, labels, range(8 * number, 8 * number + 8))
        np.testing.assert_allclose(in_pixels, in_labels[:, 0], atol=1e-4)
        np.testing.assert_allclose(1 - in_pixels, in_labels[:, 1], atol=1e-4)
        np.testing.assert_allclose(in_pixels, in_pixels[0], atol=1e-4)  # a batch draws once


def test_mixup_blends_and_cutmix_pastes_one_rectangle(mixed):
    blended = {len(image.unique()) for images, _ in mixed(cutmix_alpha=0.0) for image in images}
    assert blended == {1}
    for number, (images, _) in enumerate(mixed(mixup_alpha=0.0)):
        own = torch.arange(8 * number, 8 * number + 8.0).view(8, 1, 1, 1)
        pasted = images[0] != own[0]
        rows, columns = pasted[0].any(1), pasted[0].any(0)
        assert torch.equal(pasted, (rows[:, None] & columns[None, :]).expand_as(pasted))
        assert torch.equal(images, torch.where(pasted, own.roll(1, 0), own.expand_as(images)))


def test_both_are_drawn_by_the_seed_of_the_run(mixed):
    def kinds(seed):
        return [len(images[0].unique()) for images, _ in mixed(seed)]

    drawn = [kinds(seed) for seed in range(4)]
    assert kinds(2) == drawn[2]
    assert {kind for one in drawn for kind in one} == {1, 2}
    assert len({tuple(one) for one in drawn}) > 1


def test_dictionaries_are_mixed_by_their_keys(trainer):
    module = Theirs(("image", "class"))
    mixing = MixupCutMix(images="image", labels="class")
    trainer(callbacks=[mixing]).fit(module, datamodule=TheirData(as_dict=True))
    assert {labels.shape for _, labels in module.seen} == {(8, CLASSES)}


class Scaling(TheirData):
    """Somebody's DataModule whose images become floats on the device."""

    def __init__(self, images):
        super().__init__()
        self.images = images

    def train_dataloader(self):
        return DataLoader(self.images, 5)

    val_dataloader = train_dataloader

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [batch[0][:, :, :SIZE, :SIZE] / 255, batch[1]]


def test_pruned_data_of_anybody_is_mixed_over_the_classes_kept(coloured, trainer):
    images = coloured(CLASSES, 10)
    data = PrunedDataModule(Scaling(images), select(images, selector=RandomSelector(1)), keep_units=2)
    module = Theirs()
    module.layer = nn.Linear(3 * SIZE * SIZE, 2)
    trainer(callbacks=[MixupCutMix()]).fit(module, datamodule=data)
    assert [labels.shape for _, labels in module.seen] == [(5, 2)] * 4


class Stop(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 6:
            raise KeyboardInterrupt


@pytest.mark.filterwarnings(
    "ignore:Checkpoint directory", "ignore:The dirpath has changed", "ignore:Be aware that when"
)
@pytest.mark.filterwarnings("ignore:You defined a `val")
def test_a_stopped_run_ends_with_the_same_weights_and_others_draw_as_without_it(coloured, trainer, tmp_path):
    def run(name, mixing=True, stop=(), resume=None):
        seed_everything(9 if resume else 0, verbose=False)
        data = PrunedSourceDataModule(coloured(CLASSES, 10), augment="randaugment", batch_size=8)
        module = LitClassifier(
            "resnet8_w8", label_smoothing=0.1, optimizer=lambda parameters: torch.optim.SGD(parameters, 0.05)
        )
        save = ModelCheckpoint(tmp_path / name, "{step}", every_n_train_steps=6, save_top_k=-1)
        callbacks = [save, *([MixupCutMix()] if mixing else []), *stop]
        skip = {"limit_val_batches": 0, "num_sanity_val_steps": 0, "enable_checkpointing": True}
        fit = trainer(max_epochs=2, callbacks=callbacks, **skip)
        try:
            fit.fit(module, datamodule=data, ckpt_path=resume)
        except SystemExit:
            assert stop
        return torch.cat([value.flatten().double() for value in module.state_dict().values()]), float(torch.rand(()))

    whole, draws = run("whole")
    run("stopped", stop=[Stop()])
    assert torch.equal(run("resumed", resume=tmp_path / "stopped" / "step=6.ckpt")[0], whole)
    without, draws_without = run("without", mixing=False)
    assert draws == draws_without
    assert not torch.equal(without, whole)


@pytest.mark.parametrize("kind", [LitClassifier, TransferModule, LitAdversarialClassifier])
def test_our_modules_train_on_mixed_labels(kind, coloured, trainer):
    seed_everything(0, verbose=False)
    data = PrunedSourceDataModule(coloured(CLASSES, 20), batch_size=16)
    fit = trainer(callbacks=[MixupCutMix()], precision="bf16-mixed")
    fit.fit(kind("resnet8_w8", label_smoothing=0.1), datamodule=data)
    assert 0 <= float(fit.callback_metrics["train/accuracy"]) <= 1
    assert np.isfinite(float(fit.callback_metrics["train/loss"]))


def test_probability_labels_have_the_loss_of_numpy_and_count_by_the_likeliest_class(trainer):
    module = LitClassifier("resnet8_w8", num_classes=CLASSES, label_smoothing=0.2)
    module.log = lambda *arguments, **options: None
    torch.manual_seed(0)
    images, labels = torch.rand(6, 3, 32, 32), torch.rand(6, CLASSES).softmax(1)
    loss = float(module.eval().training_step([images, labels], 0).detach())
    logits = module(images).detach().double().numpy()
    log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    smooth = 0.8 * labels.double().numpy() + 0.2 / CLASSES
    np.testing.assert_allclose(loss, -(smooth * log).sum(1).mean(), rtol=1e-5)
    right = (logits.argmax(1) == labels.numpy().argmax(1)).mean()
    np.testing.assert_allclose(float(module.train_accuracy.compute()), right, rtol=1e-6)


class Collated(TheirData):
    def __init__(self, collate):
        super().__init__()
        self.collate = collate

    def train_dataloader(self):
        return DataLoader(
            Numbered(), batch_size=8, collate_fn=lambda samples: self.collate(*zip(*samples, strict=True))
        )


@pytest.mark.parametrize(
    ("collate", "message"),
    [
        (
            lambda images, labels: (torch.stack(images), torch.tensor(labels)),
            "cannot change a batch of Theirs, which is of type tuple: return a list or a dictionary from `collate_fn` ",
        ),
        (
            lambda images, labels: [torch.stack(images).byte(), torch.tensor(labels)],
            r"needs images \[B, 3, H, W\] in floats in a batch of Theirs, got \[8, 3, 8, 8\] uint8",
        ),
        (
            lambda images, labels: [torch.stack(images), torch.rand(8, 4)],
            r"needs class numbers \[8\] as labels in a batch of Theirs, got \[8, 4\] float32",
        ),
        (
            lambda images, labels: [[torch.stack(images)] * 2, torch.tensor(labels)],
            "in a batch of Theirs, got 2 views",
        ),
        (lambda images, labels: [torch.stack(images)], "labels at 1 of a batch of Theirs, which has 1 parts"),
        (lambda images, labels: {"image": torch.stack(images)}, "which has keys image"),
        (
            lambda images, labels: [torch.stack(images), torch.tensor(labels) + 1],
            r"needs labels from 0 to 3 \(`num_classes` is 4\), got 1 to 4",
        ),
    ],
)
def test_batches_that_cannot_be_mixed_are_refused_by_name(collate, message, trainer):
    with pytest.raises(InputError, match=rf"^MixupCutMix .*{message}"):
        trainer(callbacks=[MixupCutMix()], limit_val_batches=0).fit(Theirs(), datamodule=Collated(collate))


def test_what_cannot_be_meant_is_refused(coloured, trainer):
    with pytest.raises(InputError, match="`mixup_alpha` must be at least 0, got -1"):
        MixupCutMix(-1)
    with pytest.raises(InputError, match="are both 0"):
        MixupCutMix(0, 0)
    with pytest.raises(InputError, match="`num_classes` must be at least 1, got 0"):
        MixupCutMix(num_classes=0)
    data = PrunedSourceDataModule(coloured(4, 10), augment="simclr_small", batch_size=8)
    with pytest.raises(InputError, match="'simclr_small' gives two views, which LitSSL compares without labels"):
        trainer(callbacks=[MixupCutMix()]).fit(LitSSL("resnet8_w8"), datamodule=data)
    with pytest.raises(InputError, match="needs `num_classes`: Theirs and its data do not say it"):
        trainer(callbacks=[MixupCutMix()]).fit(Theirs(), DataLoader(Numbered(), 8), DataLoader(Numbered(), 8))


@pytest.fixture
def probe(coloured, surrogate_file):
    """A linear probe with its weights, and the data of a target of four colours."""

    def make(**options):
        target = TargetSplits("colours", *(coloured(CLASSES, each, each) for each in (8, 2, 2)), 32, "made for tests")
        return TransferModule(weights=str(surrogate_file(9)), mode="probe"), DownstreamDataModule(
            target, batch_size=8, **options
        )

    return make


def test_a_probe_on_features_is_refused_before_any_is_computed(probe, trainer):
    module, data = probe()
    ran = []
    module.backbone.register_forward_hook(lambda *_: ran.append(True))
    with pytest.raises(InputError, match="the linear probe of TransferModule trains on features, .* set `augment`"):
        trainer(callbacks=[MixupCutMix()]).fit(module, datamodule=data)
    assert ran == []


@pytest.mark.filterwarnings("ignore:Found .* in eval mode")
@pytest.mark.parametrize("first", ["mixup", "sizes", None])
def test_a_probe_on_images_that_change_is_mixed(probe, trainer, first):
    module, data = probe(**({} if first else {"augment": "crop_flip"}))
    callbacks = [MixupCutMix(), *([ProgressiveResize(16, 32, 0, 2, 8)] if first else [])]
    trainer(callbacks=callbacks[:: -1 if first == "sizes" else 1]).fit(module, datamodule=data)
    assert np.isfinite(float(module.trainer.callback_metrics["train/loss"]))


def test_the_command_refuses_a_probe_on_features_and_writes_no_file(
    class_folder, surrogate_file, tmp_path, monkeypatch, capsys
):
    class_folder("pets/train", {"x": 6, "y": 6})
    model = ["--model=TransferModule", "--model.mode=probe", f"--model.weights={surrogate_file(9)}"]
    data = ["--data=DownstreamDataModule", f"--data.target={tmp_path / 'pets'}"]
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    assert main(["fit", *model, *data, "--trainer.callbacks+=MixupCutMix", "--trainer.accelerator=cpu"]) == 2
    [line] = [one for one in capsys.readouterr().err.splitlines() if one.startswith("tlprune: error")]
    assert line.startswith("tlprune: error: MixupCutMix mixes images, and the linear probe of TransferModule trains")
    assert list((tmp_path / "run").iterdir()) == []
