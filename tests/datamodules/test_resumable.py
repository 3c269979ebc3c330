"""A run that is stopped and goes on ends with the same weights, bit for bit."""

import itertools
import json
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from forked import run_ranks, start_ranks
from job import appears
from tlprune import DownstreamDataModule, LitClassifier, PrunedSourceDataModule, RandomSelector, TransferModule
from tlprune.datamodules import resumable
from tlprune.errors import InputError
from tlprune.modules.optim import WarmupCosineLR
from tlprune.storage.checkpoints import load_torch

pytestmark = pytest.mark.filterwarnings(
    "ignore:The dirpath has changed",
    "ignore:Checkpoint directory",
    "ignore:You defined a `validation_step`",
    "ignore:Be aware that when using `ckpt_path`",
)


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
    from tlprune.data.datasets import TensorImages

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


@pytest.mark.parametrize(
    ("step", "workers", "ranks"),  # six batches an epoch: in the middle of one, and between two
    [
        pytest.param(*one, marks=[] if one == (9, 2, 2) else pytest.mark.slow)
        for one in itertools.product((9, 12), (0, 2), (1, 2))
    ],
)
def test_ranks_killed_at_any_batch_end_with_the_same_weights(tmp_path, ranks, workers, step):
    script = Path(__file__).with_name("train_on_ranks.py")

    def command(name):
        return [sys.executable, script, tmp_path / name, workers, tmp_path / f"{name}.pt"]

    run_ranks(ranks, command("whole"), tmp_path)
    killed = start_ranks(ranks, command("killed"), tmp_path)
    appears(tmp_path / "killed" / f"step={step}.ckpt")
    for rank in killed:
        rank.kill()
    assert {rank.wait(20) for rank in killed} == {-signal.SIGKILL}
    assert not (tmp_path / "killed.pt").exists()
    for late in (tmp_path / "killed").glob("step=*.ckpt"):  # the run went on until the signal came
        if int(late.stem.removeprefix("step=")) > step:
            late.unlink()
    run_ranks(ranks, command("killed"), tmp_path)
    whole, resumed = (load_torch(tmp_path / f"{name}.pt") for name in ("whole", "killed"))
    assert whole["steps"] == resumed["steps"] == 24
    for key, value in whole["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][key]), key


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_another_number_of_processes_goes_on_from_an_epochs_end_alone(before, after, tmp_path):
    script = Path(__file__).with_name("train_on_ranks.py")

    def command(name):
        return [sys.executable, script, tmp_path / name, 0, tmp_path / f"{name}.pt"]

    run_ranks(before, command("whole"), tmp_path)
    for name, step in (("end", 12), ("middle", 9)):  # six batches an epoch
        (tmp_path / name).mkdir()
        shutil.copy(tmp_path / "whole" / f"step={step}.ckpt", tmp_path / name)
    run_ranks(after, command("end"), tmp_path)
    assert load_torch(tmp_path / "end.pt")["steps"] == 24
    ranks = start_ranks(after, command("middle"), tmp_path)
    assert all(rank.wait(60) for rank in ranks)
    assert f"processes were {before}, are {after}" in (tmp_path / "rank0.log").read_text()
    assert not (tmp_path / "middle.pt").exists()


class Sees(LitClassifier):
    """Remembers what it is given, and what loaders give meanwhile."""

    def __init__(self):
        super().__init__("resnet8_w8", optimizer=lambda parameters: torch.optim.SGD(parameters, 0.05))
        self.seen, self.asked, self.own = [], set(), set()

    def on_train_start(self):
        data = self.trainer.datamodule
        self.asked = {next(iter(loader))[0].dtype for loader in (data.train_dataloader(), data.val_dataloader())}
        self.own = {next(iter(self.trainer.train_dataloader))[0].dtype}

    def on_train_batch_start(self, batch, batch_idx):
        self.seen.append(batch[0].clone())


class AddsOne(Sees):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        assert batch[0].dtype == torch.float32
        return [batch[0] + 1, batch[1]]


class AddsOneBefore(Sees):
    def on_before_batch_transfer(self, batch, dataloader_idx):
        return [batch[0] + 1, batch[1]]


class AddsOneMeanwhile(Sees):
    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return [batch[0] + 1, batch[1]]


class NeverHeardOfUs(Sees):
    takes_bytes = False


class AddingData(PrunedSourceDataModule):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [batch[0] + 1, batch[1]]


class AddingDataToo(PrunedSourceDataModule):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        images, labels = super().on_after_batch_transfer(batch, dataloader_idx)
        return [images + 1, labels]


class AddingDataBefore(PrunedSourceDataModule):
    def on_before_batch_transfer(self, batch, dataloader_idx):
        return [batch[0] + 1, batch[1]]


ours = pytest.mark.parametrize(
    ("module", "data", "added", "travels"),
    [
        (Sees, PrunedSourceDataModule, 0, torch.uint8),
        (NeverHeardOfUs, PrunedSourceDataModule, 0, torch.float32),
        (AddsOne, PrunedSourceDataModule, 1, torch.uint8),
        (AddsOneBefore, PrunedSourceDataModule, 1, torch.float32),
        (AddsOneMeanwhile, PrunedSourceDataModule, 1, torch.float32),
        (Sees, AddingData, 1, torch.float32),
        (Sees, AddingDataToo, 1, torch.float32),
        (Sees, AddingDataBefore, 1, torch.float32),
        (AddsOneBefore, AddingData, 2, torch.float32),
    ],
)


@pytest.mark.filterwarnings("ignore:You have overridden `.*` in")  # Lightning, of a hook in a module beside any data
@pytest.mark.parametrize("accelerated", [False, True], ids=["processor", "accelerator"])
@pytest.mark.parametrize(("workers", "held"), [(0, False), (0, True), pytest.param(1, False, marks=pytest.mark.slow)])
@ours
def test_hooks_of_all_run_on_normalised_images(
    coloured, trainer, monkeypatch, workers, accelerated, held, module, data, added, travels
):
    monkeypatch.setattr(resumable, "_worth_bytes", lambda trainer: accelerated)
    monkeypatch.setattr(resumable, "_free_on_gpu", lambda trainer: accelerated * 10**9)
    data = data(coloured(4, 10), augment="shift", batch_size=8, num_workers=workers, in_memory=held)
    seed_everything(0, verbose=False)
    data.setup()
    alone = [images for images, _ in data.train_dataloader()]
    module = module()
    run = trainer(max_epochs=1)
    run.fit(module, datamodule=data)
    assert all(torch.allclose(one + added, other) for one, other in zip(alone, module.seen, strict=True))
    assert module.asked == {torch.float32}
    assert module.own == {travels if accelerated else torch.float32}
    on_device = run.train_dataloader.dataset.images.on_device
    assert (on_device is not None) == (accelerated and held and travels == torch.uint8)
    assert next(iter(data.val_dataloader()))[0].dtype == torch.float32


def test_images_have_the_precision_of_the_trainer(coloured, trainer, monkeypatch):
    for accelerated in (False, True):
        monkeypatch.setattr(resumable, "_worth_bytes", lambda trainer, answer=accelerated: answer)
        module = Sees()
        data = PrunedSourceDataModule(coloured(4, 10), augment="none", batch_size=8)
        trainer(max_epochs=1, precision="bf16-true").fit(module, datamodule=data)
        assert {one.dtype for one in module.seen} == {torch.bfloat16}


@pytest.mark.filterwarnings("ignore:You have overridden `on_after_batch_transfer`")
def test_a_module_keeps_its_own_transfer_when_another_was_trained_before(coloured, trainer):
    data = PrunedSourceDataModule(coloured(4, 10), augment="none", batch_size=8)
    trainer(max_epochs=1).fit(Sees(), datamodule=data)
    module = AddsOne()
    trainer(max_epochs=1).fit(module, datamodule=data)
    lowest = min(float(images.min()) for images, _ in data.val_dataloader())
    assert module.seen
    assert min(float(images.min()) for images in module.seen) > lowest + 0.5


@pytest.mark.parametrize("how", ["loader_alone", "datamodule", "fabric", "loop", "resharded"])
def test_two_processes_share_each_epoch_however_they_train(how, tmp_path):
    script = Path(__file__).with_name("loop_on_ranks.py")
    run_ranks(2, [sys.executable, script, how, tmp_path], tmp_path)
    one, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    for own, others in zip(one, other, strict=True):
        assert sorted(own + others) == list(range(40))
        assert len(own) == len(others)
    assert one[0] + other[0] != one[1] + other[1]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("new_loader", [False, True])
def test_a_plain_loop_sees_every_image_once_an_epoch_in_another_order_and_other_crops(coloured, new_loader, workers):
    def epochs(augment):
        seed_everything(0, verbose=False)
        data = PrunedSourceDataModule(torch_images(40), augment=augment, batch_size=8, val_share=0, num_workers=workers)
        data.setup()
        loader = data.train_dataloader()
        return [
            torch.cat([images for images, _ in (data.train_dataloader() if new_loader else loader)]) for _ in range(3)
        ]

    plain = epochs("none")
    assert all(sorted(images.sum((1, 2, 3)).tolist()) == sorted(plain[0].sum((1, 2, 3)).tolist()) for images in plain)
    assert not torch.equal(plain[0], plain[1])
    assert not torch.equal(plain[1], plain[2])
    by_image = [images[images[:, 0].sum((1, 2)).argsort()] for images in epochs("shift")]
    assert not torch.allclose(by_image[0], by_image[1])
    assert all(torch.equal(*pair) for pair in zip(epochs("shift"), epochs("shift"), strict=True))


def test_a_callback_that_takes_a_loader_in_the_middle_of_an_epoch_gets_all_of_it(trainer):
    found = {}

    class Takes(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if (trainer.current_epoch, batch_idx) == (1, 2):
                for name, loader in (("new", trainer.datamodule.train_dataloader()), ("own", trainer.train_dataloader)):
                    found[name] = sum(len(labels) for _, labels in loader)

    seen = []

    class Watch(LitClassifier):
        def training_step(self, batch, batch_idx):
            seen.append(len(batch[0]))
            return super().training_step(batch, batch_idx)

    data = PrunedSourceDataModule(torch_images(40), augment="none", batch_size=8, val_share=0.0)
    trainer(max_epochs=3, limit_val_batches=0, callbacks=[Takes()]).fit(Watch("resnet8_w8"), datamodule=data)
    assert found == {"new": 40, "own": 40}
    assert sum(seen) == 3 * 40


def test_a_second_fit_follows_the_seed_that_is_given_for_it(trainer):
    data = PrunedSourceDataModule(torch_images(40), augment="none", batch_size=8, val_share=0.0)
    orders = []
    for seed in (1, 1, 2):
        seed_everything(seed, verbose=False)
        module = Counts()
        trainer(max_epochs=1, limit_val_batches=0).fit(module, datamodule=data)
        orders.append(module.epochs[0])
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])


class Counts(LitClassifier):
    """Notes which images each epoch trains on."""

    def __init__(self, lr_scheduler=None):
        optimizer = lambda parameters: torch.optim.SGD(parameters, 0.01)  # noqa: E731
        super().__init__("resnet8_w8", optimizer=optimizer, lr_scheduler=lr_scheduler)
        self.epochs = {}

    def training_step(self, batch, batch_idx):
        self.epochs.setdefault(self.current_epoch, []).extend(batch[0].sum((1, 2, 3)).tolist())
        return super().training_step(batch, batch_idx)


@pytest.fixture
def resume(trainer, tmp_path):
    """Trains for two epochs and a half on 120 images, eight at a time, then goes on with other options to four."""

    def run(step, lr_scheduler=None, images=120, before=None, forget=False, **options):
        def fit(count, epochs, resume=None, **given):
            seed_everything(0, verbose=False)
            asked = {"batch_size": 8, "augment": "none", "val_share": 0.0} | given
            limits = {
                name: asked.pop(name) for name in ("limit_train_batches", "accumulate_grad_batches") if name in asked
            }
            data = PrunedSourceDataModule(torch_images(count), **asked)
            module = Counts(lr_scheduler)
            save = [] if resume else [ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)]
            keep = {"limit_val_batches": 0, "callbacks": save, "enable_checkpointing": bool(save)}
            fit = trainer(max_epochs=epochs, **keep, **limits)
            fit.fit(module, datamodule=data, ckpt_path=resume)
            return module.epochs

        whole = fit(120, 3, **(before or {}))
        path = tmp_path / f"step={step}.ckpt"
        if forget:  # as checkpoints were before they said what their epochs are made of
            content = load_torch(path)
            del content["PrunedSourceDataModule"]["epoch"]
            content["loops"]["fit_loop"]["state_dict"]["combined_loader"] = [{}]
            torch.save(content, path)
        return whole, fit(images, 4, path, **options)

    return run


LIMITS = ("limit_train_batches", "accumulate_grad_batches")
SCHEDULE = WarmupCosineLR  # asks the Trainer for the length of the run, which makes the loader before the state is read


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("schedule", [None, SCHEDULE])
def test_a_resumed_epoch_is_the_rest_of_it(resume, schedule, workers):
    whole, rest = resume(20, schedule, num_workers=workers)  # fifteen batches an epoch
    assert rest[1] == whole[1][40:]
    assert rest[2] == whole[2]
    assert len(set(rest[3])) == 120


@pytest.mark.parametrize("forget", [False, True])
@pytest.mark.parametrize("schedule", [None, SCHEDULE])
@pytest.mark.parametrize(
    ("step", "before", "options"),
    [
        (30, {}, {"batch_size": 10}),
        (30, {}, {"batch_size": 5}),
        (15, {}, {"batch_size": 60}),
        (30, {}, {"images": 130}),
        (30, {}, {"images": 60}),
        (10, {"limit_train_batches": 5}, {}),
        (30, {}, {"accumulate_grad_batches": 3}),
    ],
)
def test_after_an_epoch_other_batches_go_on_in_whole_epochs(resume, step, before, options, schedule, forget):
    if forget and step == 15:
        pytest.skip("in its first epoch an old checkpoint does not tell how long that is")
    _, rest = resume(step, schedule, before=before, forget=forget, **options)
    count, size = options.get("images", 120), options.get("batch_size", 8)
    assert sorted(rest) == ([2, 3] if step in (10, 30) else [1, 2, 3])
    for seen in rest.values():
        assert len(set(seen)) == len(seen) == count // size * size


@pytest.mark.parametrize("schedule", [None, SCHEDULE])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 10}, "after 5 of 15 batches.*images in a batch were 8, are 10"),
        ({"images": 121}, "training images were 120, are 121"),
        ({"images": 112}, "training images were 120, are 112"),
        ({"forget": True, "batch_size": 10}, "an epoch had 15 batches, has 12"),
    ],
)
def test_in_the_middle_of_an_epoch_other_batches_are_refused_by_name(resume, options, message, schedule):
    with pytest.raises(InputError, match=message):
        resume(20, schedule, **options)


def test_in_the_middle_of_an_epoch_as_many_other_images_are_refused(trainer, tmp_path):
    seed_everything(0, verbose=False)
    save = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_top_k=-1)
    for seed, resume in ((1, None), (2, tmp_path / "step=2.ckpt")):
        selector = RandomSelector(seed, "sample")
        data = PrunedSourceDataModule(
            torch_images(80), selector=selector, prune_ratio=0.5, augment="none", batch_size=8
        )
        if resume is None:
            fit = trainer(max_epochs=1, limit_val_batches=0, callbacks=[save], enable_checkpointing=True)
            fit.fit(Counts(), datamodule=data)
            continue
        fit = trainer(max_epochs=1, limit_val_batches=0)
        with pytest.raises(InputError, match="they were other images|training images were"):
            fit.fit(Counts(), datamodule=data, ckpt_path=resume)


@pytest.fixture
def resume_loader(trainer, tmp_path):
    """Trains on a loader alone for two epochs of fifteen batches, then goes on from a step to three epochs."""

    def run(step, batch_size=8):
        def fit(size, seed, epochs, resume=None):
            seed_everything(seed, verbose=False)
            data = PrunedSourceDataModule(torch_images(120), augment="none", batch_size=size, val_share=0.0)
            data.setup()
            module = Counts()
            module._build_head(2)
            save = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
            keep = {"limit_val_batches": 0, "callbacks": [save], "enable_checkpointing": True}
            trainer(max_epochs=epochs, **keep).fit(module, data.train_dataloader(), ckpt_path=resume)
            return module.epochs

        return fit(8, 0, 2), fit(batch_size, 1, 3, tmp_path / f"step={step}.ckpt")

    return run


@pytest.mark.parametrize("step", [7, 15, 20])
def test_a_run_on_a_loader_alone_goes_on_where_it_was(resume_loader, step):
    whole, rest = resume_loader(step)
    epoch, behind = divmod(step, 15)
    assert rest[epoch] == whole[epoch][8 * behind :]
    assert {number: len(set(seen)) for number, seen in rest.items() if number > epoch} == dict.fromkeys(
        range(epoch + 1, 3), 120
    )


@pytest.mark.parametrize("step", [7, 15])
def test_a_run_on_a_loader_alone_with_other_batches_is_refused(resume_loader, step):
    with pytest.raises(InputError, match="had other batches: images in a batch were 8, are 10"):
        resume_loader(step, batch_size=10)


@pytest.mark.parametrize("schedule", [None, SCHEDULE])
def test_a_run_on_a_loader_alone_goes_on_with_its_datamodule(trainer, tmp_path, schedule):
    def fit(with_data, batch_size=8, seed=0, resume=None, kind=PrunedSourceDataModule):
        seed_everything(seed, verbose=False)
        data = kind(torch_images(120), augment="none", batch_size=batch_size, val_share=0.0)
        module = Counts(schedule)
        if not with_data:
            data.setup()
            module._build_head(2)
        save = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=5, save_top_k=-1)
        keep = {"limit_val_batches": 0, "callbacks": [save], "enable_checkpointing": True}
        given = {"datamodule": data} if with_data else {"train_dataloaders": data.train_dataloader()}
        trainer(max_epochs=2, **keep).fit(module, ckpt_path=resume, **given)
        return module.epochs

    class KeepsNothing(PrunedSourceDataModule):
        def state_dict(self):
            return {"own": 1}

        def load_state_dict(self, state_dict):
            assert state_dict == {"own": 1}

    for first, kind in ((False, PrunedSourceDataModule), (True, KeepsNothing)):
        whole = fit(first, kind=kind)
        with pytest.raises(InputError, match="images in a batch were 8, are 4|an epoch had 15 batches, has 30"):
            fit(True, batch_size=4, resume=tmp_path / "step=20.ckpt", kind=kind)
        if schedule is None:  # with one Lightning makes the loader before it reads the checkpoint, and its state never
            rest = fit(True, seed=1, resume=tmp_path / "step=20.ckpt", kind=kind)
            assert rest == {1: whole[1][40:]}


@pytest.mark.filterwarnings("ignore:You called `self.log")
@pytest.mark.parametrize("batch_size", [8, 4, 10])
def test_an_epoch_that_was_cut_short_is_over_and_that_is_said(trainer, tmp_path, batch_size):
    def fit(size, resume=None, **options):
        data = PrunedSourceDataModule(torch_images(120), augment="none", batch_size=size, val_share=0.0)
        module, save = Counts(), ModelCheckpoint(tmp_path, "{step}", save_top_k=-1)
        keep = {"limit_val_batches": 0, "callbacks": [save], "enable_checkpointing": True}
        trainer(**keep, **options).fit(module, datamodule=data, ckpt_path=resume)
        return module.epochs

    fit(8, max_steps=20, max_epochs=-1)
    with pytest.warns(UserWarning, match="cut short: 10 of 15 batches of it are never trained on"):
        rest = fit(batch_size, tmp_path / "step=20.ckpt", max_epochs=4)
    assert {number: len(set(seen)) for number, seen in rest.items()} == {2: 120, 3: 120}
