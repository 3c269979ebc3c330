import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from tlprune import (
    DownstreamDataModule,
    LitClassifier,
    LitSSL,
    ProgressiveResize,
    PrunedSourceDataModule,
    TransferModule,
)
from tlprune.errors import InputError


class Sizes(Callback):
    """Notes the size of training and validation images."""

    def __init__(self):
        self.train, self.val = [], set()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        views = batch[0] if isinstance(batch[0], list) else [batch[0]]
        assert len({view.shape for view in views}) == 1
        self.train.append(views[0].shape[-1])

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.val.add(batch[0].shape[-1])


def resize():
    return ProgressiveResize(16, 32, begin=0, end=2, multiple=8)


def data(coloured, **options):
    return PrunedSourceDataModule(coloured(3, 10), batch_size=8, val_share=0.2, image_size=32, eval_size=40, **options)


@pytest.mark.parametrize("augment", ["none", "shift", "crop_flip", "simclr_small"])
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_training_images_grow_and_validation_images_do_not(coloured, trainer, augment, workers):
    sizes = Sizes()
    ssl = augment.startswith("simclr")
    module = LitSSL("resnet8_w8", "simclr") if ssl else LitClassifier("resnet8_w8")
    run = trainer(max_epochs=4, callbacks=[resize(), sizes])
    run.fit(module, datamodule=data(coloured, augment=augment, num_workers=workers))
    assert sizes.train == [16] * 3 + [24] * 3 + [32] * 6
    assert sizes.val == {40}
    assert run.logged_metrics["train/image_size"] == 32


@pytest.mark.filterwarnings("ignore:The dirpath has changed", "ignore:Checkpoint directory")
@pytest.mark.parametrize("step", [2, 5, 7])
def test_a_run_that_goes_on_sees_the_sizes_that_it_would_have_seen(coloured, trainer, tmp_path, step):
    class Stop(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == step:
                raise KeyboardInterrupt

    def fit(*callbacks, resume=None):
        seed_everything(0, verbose=False)
        save = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
        run = trainer(max_epochs=3, callbacks=[resize(), save, *callbacks], enable_checkpointing=True)
        module = LitClassifier("resnet8_w8")
        try:
            run.fit(module, datamodule=data(coloured, augment="crop_flip"), ckpt_path=resume)
        except SystemExit:
            assert resume is None
        return torch.cat([value.flatten().double() for value in module.state_dict().values()])

    whole = fit()
    fit(Stop())
    sizes = Sizes()
    resumed = fit(sizes, resume=tmp_path / f"step={step}.ckpt")
    assert sizes.train == ([16] * 3 + [24] * 3 + [32] * 3)[step:]
    assert torch.equal(resumed, whole)


@pytest.mark.filterwarnings("ignore:Found .* in eval mode")
def test_a_probe_computes_no_features_beforehand(trainer, target, surrogate_file):
    sizes = Sizes()
    run = trainer(max_epochs=3, callbacks=[resize(), sizes])
    module = TransferModule(weights=str(surrogate_file(3)), mode="probe")
    run.fit(module, datamodule=DownstreamDataModule(target, batch_size=32))
    assert sizes.train == [16, 24, 32]


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
@pytest.mark.parametrize("made", [lambda: None, LightningDataModule])
def test_other_data_is_refused(coloured, trainer, made):
    other = data(coloured)
    other.setup()
    foreign = made()
    if foreign is not None:
        foreign.train_dataloader = other.train_dataloader
    loaders = {"train_dataloaders": other.train_dataloader()} if foreign is None else {"datamodule": foreign}
    with pytest.raises(InputError, match="ProgressiveResize needs PrunedSourceDataModule or DownstreamDataModule, got"):
        trainer(callbacks=[resize()]).fit(LitClassifier("resnet8_w8", num_classes=3), **loaders)
