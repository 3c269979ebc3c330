"""A run that is stopped and goes on ends with the same weights, bit for bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from tlprune import DownstreamDataModule, LitClassifier, PrunedSourceDataModule, RandomSelector, TransferModule
from tlprune.storage.checkpoints import load_torch

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")


class Stop(Callback):
    """Ends the run after some steps, as if it were killed."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


def weights_of(module):
    return torch.cat([value.detach().flatten().double() for value in module.state_dict().values()])


@pytest.fixture
def train(coloured, trainer, tmp_path):
    def run(name, augment="shift", workers=0, seed=0, stop=None, resume=None, epochs=3):
        seed_everything(seed, verbose=False)
        data = PrunedSourceDataModule(
            coloured(6, 10),
            selector=RandomSelector(1),
            keep_units=5,
            augment=augment,
            batch_size=8,
            num_workers=workers,
            val_share=0.2,
        )
        module = LitClassifier("resnet8_w8", optimizer=lambda parameters: torch.optim.SGD(parameters, 0.05, 0.9))
        save = ModelCheckpoint(tmp_path / name, "{step}", every_n_train_steps=1, save_top_k=-1)
        stopping = [] if stop is None else [Stop(stop)]
        fit = trainer(max_epochs=epochs, callbacks=[save, *stopping], enable_checkpointing=True)
        try:
            fit.fit(module, datamodule=data, ckpt_path=resume)
        except SystemExit:
            assert stop is not None
        return module, fit

    return run


@pytest.mark.parametrize("step", [2, 5, 7, 10])  # five batches an epoch
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_resume_at_any_batch_ends_with_the_same_weights(train, tmp_path, step, workers):
    whole, fit = train("whole", workers=workers)
    assert fit.global_step == 15
    train("stopped", workers=workers, stop=step)
    resumed, fit = train(
        "resumed", workers=workers, seed=99, resume=tmp_path / "stopped" / f"step={step}.ckpt"
    )  # the run's seed is in the checkpoint
    assert fit.global_step == 15
    assert torch.equal(weights_of(resumed), weights_of(whole))


def test_number_of_workers_does_not_matter(train):
    assert torch.equal(*(weights_of(train(f"w{workers}", workers=workers, epochs=1)[0]) for workers in (0, 2)))


@pytest.mark.parametrize("augment", ["none", "crop_flip"])
def test_seed_everything_decides_order_and_augmentation(train, augment):
    found = [weights_of(train(str(run), augment, seed=seed, epochs=1)[0]) for run, seed in enumerate((1, 1, 2))]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_each_kept_image_is_trained_on_once_an_epoch(train, tmp_path):
    seen = []

    class Watch(LitClassifier):
        def training_step(self, batch, batch_idx):
            seen.extend(round(float(image.sum()), 3) for image in batch[0])
            return super().training_step(batch, batch_idx)

    data = PrunedSourceDataModule(torch_images(40), augment="none", batch_size=8, val_share=0.0)
    from lightning.pytorch import Trainer

    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    fit = Trainer(accelerator="cpu", max_epochs=2, enable_model_summary=False, limit_val_batches=0, **silent)
    fit.fit(Watch("resnet8_w8"), datamodule=data)
    assert len(set(seen[:40])) == len(set(seen[40:])) == 40
    assert seen[:40] != seen[40:]
    assert sorted(seen[:40]) == sorted(seen[40:])


def torch_images(count):
    from tlprune.data.images import TensorImages

    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return TensorImages(pixels, torch.arange(count) % 2, ["even", "odd"])


def test_transfer_resumes_too(target, trainer, tmp_path):
    def run(name, epochs, resume=None):
        seed_everything(0, verbose=False)
        data = DownstreamDataModule(target, augment="shift", batch_size=8)
        module = TransferModule("resnet8_w8")
        save = ModelCheckpoint(tmp_path / name, "last", save_last=False)
        fit = trainer(max_epochs=epochs, callbacks=[save], enable_checkpointing=True)
        fit.fit(module, datamodule=data, ckpt_path=resume)
        return weights_of(module)

    whole = run("whole", 4)
    run("half", 2)
    assert torch.equal(run("rest", 4, tmp_path / "half" / "last.ckpt"), whole)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", ["1", "2"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [9, 12])  # six batches an epoch: in the middle of one, and between two
def test_ranks_killed_at_any_batch_end_with_the_same_weights(tmp_path, ranks, workers, step):
    script = str(Path(__file__).with_name("train_on_ranks.py"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", ranks, script]

    def command(name):
        return [*torchrun, str(tmp_path / name), str(workers), str(tmp_path / f"{name}.pt")]

    done = subprocess.run(command("whole"), check=False, timeout=200, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command("killed"), start_new_session=True, **quiet)
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / f"step={step}.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed.pt").exists()
    for late in (tmp_path / "killed").glob("step=*.ckpt"):  # the run went on until the signal came
        if int(late.stem.removeprefix("step=")) > step:
            late.unlink()
    done = subprocess.run(command("killed"), check=False, timeout=200, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    whole, resumed = (load_torch(tmp_path / f"{name}.pt") for name in ("whole", "killed"))
    assert whole["steps"] == resumed["steps"] == 24
    for key, value in whole["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][key]), key


class Sees(LitClassifier):
    """Remembers what it is given, and what loaders give meanwhile."""

    def __init__(self):
        super().__init__("resnet8_w8", optimizer=lambda parameters: torch.optim.SGD(parameters, 0.05))
        self.seen, self.loaded = [], set()

    def on_train_start(self):
        data = self.trainer.datamodule
        self.loaded = {next(iter(loader))[0].dtype for loader in (data.train_dataloader(), data.val_dataloader())}

    def on_train_batch_start(self, batch, batch_idx):
        self.seen.append(batch[0].clone())


class HasItsOwn(Sees):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        assert batch[0].dtype == torch.float32
        return [batch[0] + 1, batch[1]]


class NeverHeardOfUs(Sees):
    takes_bytes = False


@pytest.mark.filterwarnings("ignore:You have overridden `on_after_batch_transfer`")
@pytest.mark.parametrize("workers", [0, 1])
def test_images_travel_as_bytes_and_are_normalised_after_the_transfer(coloured, trainer, workers):
    def fitted(module):
        data = PrunedSourceDataModule(coloured(4, 10), augment="shift", batch_size=8, num_workers=workers)
        seed_everything(0, verbose=False)
        data.setup()
        alone = [images for images, _ in data.train_dataloader()]
        fit = trainer(max_epochs=1)
        fit.fit(module, datamodule=data)
        afterwards = next(iter(data.val_dataloader()))[0].dtype
        assert afterwards == torch.float32
        return alone, module

    alone, module = fitted(Sees())
    assert module.loaded == {torch.uint8}
    assert all(torch.equal(*pair) for pair in zip(alone, module.seen, strict=True))
    alone, module = fitted(NeverHeardOfUs())
    assert module.loaded == {torch.float32}
    assert all(torch.equal(*pair) for pair in zip(alone, module.seen, strict=True))
    alone, module = fitted(HasItsOwn())
    assert module.loaded == {torch.float32}
    assert all(torch.equal(one + 1, other) for one, other in zip(alone, module.seen, strict=True))


def test_images_have_the_precision_of_the_trainer(coloured, trainer):
    module = Sees()
    data = PrunedSourceDataModule(coloured(4, 10), augment="none", batch_size=8)
    trainer(max_epochs=1, precision="bf16-true").fit(module, datamodule=data)
    assert {one.dtype for one in module.seen} == {torch.bfloat16}


@pytest.mark.filterwarnings("ignore:You have overridden `on_after_batch_transfer`")
def test_a_module_keeps_its_own_transfer_when_another_was_trained_before(coloured, trainer):
    data = PrunedSourceDataModule(coloured(4, 10), augment="none", batch_size=8)
    trainer(max_epochs=1).fit(Sees(), datamodule=data)
    module = HasItsOwn()
    trainer(max_epochs=1).fit(module, datamodule=data)
    lowest = min(float(images.min()) for images, _ in data.val_dataloader())
    assert module.seen
    assert min(float(images.min()) for images in module.seen) > lowest + 0.5
