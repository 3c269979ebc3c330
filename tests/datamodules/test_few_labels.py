"""``shots`` of DownstreamDataModule: few labelled training images of each class."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from forked import run_ranks
from real_layouts import write_coop, write_official
from tlprune import DownstreamDataModule, TransferModule, cli
from tlprune.data.shots import few_of_each_class
from tlprune.data.target_splits import open_named
from tlprune.errors import InputError

resumes = pytest.mark.filterwarnings(
    "ignore:Found .* module", "ignore:The dirpath has changed", "ignore:Be aware that when using `ckpt_path`"
)


def opened(form, folder, class_folder):
    """A target in one of its forms, as the argument ``target``."""
    if form == "folder":
        for part in ("train", "test"):
            class_folder(f"pets/{part}", {"cat": 10, "dog": 7, "ox": 2})
        return str(folder / "pets")
    if form == "coop":
        return open_named(write_coop("oxford_pets", folder / "set"), folder / "set")
    if form == "cifar10":
        return open_named(write_official("cifar10", folder / "set"), folder / "set")
    return form


@pytest.mark.parametrize("form", ["digits", "folder", "coop", "cifar10"])
def test_training_images_are_few_and_the_others_all(form, tmp_path, class_folder):
    target = opened(form, tmp_path, class_folder)
    options = {"image_size": 32, "batch_size": 1}
    data, whole = (DownstreamDataModule(target, shots=shots, **options) for shots in (2, "all"))
    for one in (data, whole):
        one.setup()
    few = torch.cat([labels for _, labels in data.train_dataloader()])
    assert few.bincount().tolist() == [min(2, count) for count in whole.opened.train.labels.bincount().tolist()]
    assert len(few) < len(whole.train_dataloader())
    assert data.classes == whole.classes
    for part in ("val_dataloader", "test_dataloader"):
        assert len(getattr(data, part)()) == len(getattr(whole, part)()) > 0


def pixels_of(images):
    return {pixels.numpy().tobytes() for pixels in images.pixels}


def test_images_are_those_that_the_seed_draws(target):
    def drawn(**options):
        return pixels_of(DownstreamDataModule(target, **options).opened.train)

    by_hand = pixels_of(target.train.subset(few_of_each_class(target.train.labels, 2, 5)))
    assert drawn(shots=2, shots_seed=5) == by_hand
    assert drawn(shots=2, seed=5) == drawn(shots=2, seed=1, shots_seed=5) == by_hand
    assert by_hand < drawn(shots=4, shots_seed=5)
    assert drawn(shots=2, shots_seed=6) != by_hand
    torch.manual_seed(123)  # the seed of the run draws the order, and no images
    assert drawn(shots=2, shots_seed=5) == by_hand


def test_the_split_is_made_before_images_are_drawn(class_folder, tmp_path):
    class_folder("pets/train", {"cat": 10, "dog": 10})
    whole, few, others = (
        DownstreamDataModule(str(tmp_path / "pets"), **options).opened
        for options in ({}, {"shots": 3}, {"shots": 3, "shots_seed": 1})
    )
    assert whole.val.paths == few.val.paths == others.val.paths
    assert few.train.paths != others.train.paths
    assert set(few.train.paths) | set(others.train.paths) <= set(whole.train.paths)


def test_a_run_depends_on_the_images_that_are_drawn(class_folder, tmp_path):
    for part in ("train", "val"):
        class_folder(f"pets/{part}", {"cat": 6, "dog": 6})

    def depends_on(whole=None, **options):
        return DownstreamDataModule(str(tmp_path / "pets"), **options).depends_on(whole)

    different = [{}, {"shots": 2}, {"shots": 3}, {"shots": 2, "shots_seed": 1}]
    for whole in (False, True):
        assert len({json.dumps(depends_on(whole, **options)) for options in different}) == 4
    assert depends_on() == depends_on(shots="all") == depends_on(shots_seed=3)


@pytest.mark.parametrize("shots", [0, -1, "al", 2.5, None])
def test_a_wrong_number_is_refused_at_once(shots):
    with pytest.raises(InputError, match=f"`shots` must be .*, got {shots!r}"):
        DownstreamDataModule(shots=shots)


@pytest.fixture
def train(target, trainer, tmp_path, surrogate_file):
    weights = str(surrogate_file(6))

    def run(name, mode="finetune", seed=0, epochs=2, resume=None, **options):
        seed_everything(seed, verbose=False)
        data = DownstreamDataModule(target, batch_size=4, **options)
        module = TransferModule(weights=weights, mode=mode)
        save = ModelCheckpoint(tmp_path / name, "{step}", every_n_train_steps=1, save_top_k=-1)
        fit = trainer(max_epochs=epochs, callbacks=[save], enable_checkpointing=True)
        fit.fit(module, datamodule=data, ckpt_path=None if resume is None else tmp_path / resume)
        return torch.cat([value.flatten().double() for value in module.state_dict().values()]), fit.global_step

    return run


@resumes
@pytest.mark.parametrize("augment", ["none", "shift"])
def test_a_run_goes_on_in_the_middle_of_an_epoch_with_the_same_images(train, augment):
    whole, steps = train("whole", shots=3, augment=augment)
    assert steps == 2 * 3  # 4 classes x 3 images in batches of 4
    resumed, steps = train("rest", shots=3, augment=augment, seed=99, resume="whole/step=4.ckpt")
    assert (steps, torch.equal(whole, resumed)) == (6, True)


@resumes
@pytest.mark.parametrize("mode", ["probe", "finetune"])  # a probe trains on cached features
def test_other_images_are_refused_in_the_middle_of_an_epoch_alone(train, mode):
    train("run", mode, shots=3)
    with pytest.raises(InputError, match="training images were 12, are 16"):
        train("more", mode, shots=4, resume="run/step=4.ckpt")
    with pytest.raises(InputError, match="they were other images"):
        train("others", mode, shots=3, shots_seed=1, resume="run/step=4.ckpt")
    assert train("more", mode, shots=4, epochs=2, resume="run/step=3.ckpt")[1] == 3 + 4


def test_two_processes_share_the_images_that_are_drawn(tmp_path):
    script = Path(__file__).with_name("few_on_ranks.py")
    run_ranks(2, [sys.executable, script, tmp_path], tmp_path)
    one, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    drawn = few_of_each_class(torch.arange(40) % 4, 3, 7).tolist()
    for own, others in zip(one, other, strict=True):
        assert sorted(own + others) == drawn
        assert len(own) == len(others) == 6


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_config_says_how_many(class_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for part in ("train", "val"):
        class_folder(f"pets/{part}", {"cat": 9, "dog": 9})
    data = {"target": "pets", "image_size": 32, "batch_size": 2, "shots": 3}
    config = {
        "model": {"class_path": "TransferModule", "init_args": {"backbone": "resnet8_w8"}},
        "data": {"class_path": "DownstreamDataModule", "init_args": data},
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_progress_bar": False},
    }
    Path("fit.yaml").write_text(yaml.safe_dump(config))
    assert cli.main(["fit", "--config", "fit.yaml"]) == 0
    assert [path.name for path in Path("checkpoints").iterdir()] == ["epoch=0-step=3.ckpt"]
    capsys.readouterr()
    assert cli.main(["fit", "--config", "fit.yaml"]) == 0
    assert "this run ended" in capsys.readouterr().out
    for other in ("--data.shots=2", "--data.shots_seed=1", "--data.shots=all"):
        assert cli.main(["fit", "--config", "fit.yaml", other]) == 0
        assert "this run ended" not in capsys.readouterr().out
    for wrong in ("0", "-1", "al"):
        assert cli.main(["fit", "--config", "fit.yaml", f"--data.shots={wrong}"]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith("tlprune: error:")
        assert f"got {wrong}" in said
