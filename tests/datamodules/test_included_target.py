"""Training images of the target in each batch of pretraining without labels."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from forked import run_ranks
from tlprune import ImportanceResampling, LitSSL, PrunedSourceDataModule, RandomSelector, SelectOptions, select
from tlprune.cli import main
from tlprune.data.datasets import TensorImages
from tlprune.data.target_splits import TargetSplits, open_target
from tlprune.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step`", "ignore:Be aware that when using")


def grey(shades):
    """Images of one grey each, whose views tell the image by their mean, since nothing but flips changes it."""
    shades = torch.as_tensor(shades, dtype=torch.uint8)
    pixels = shades[:, None, None, None].expand(-1, 3, 8, 8).contiguous()
    return TensorImages(pixels, torch.arange(len(shades)) % 2, ["even", "odd"])


def target_of(shades, name="greys"):
    return TargetSplits(name, grey(shades), grey([201, 202]), grey([211, 212]), 8, "made for tests")


@pytest.fixture
def colourless(monkeypatch):
    """Two views that keep the mean of an image of one grey."""
    from tlprune.data.two_views import RECIPES, ContrastRecipe

    monkeypatch.setitem(RECIPES, "simclr_small", ContrastRecipe(0.5, 0.0, 0.0, 0.0, 0.0, blur=0.0))


def data_of(count=40, targets=None, share=0.25, batch_size=8, **options):
    targets = targets or [target_of([101, 102, 103])]
    options = {"augment": "simclr_small", "val_share": 0.0} | options
    return PrunedSourceDataModule(
        grey(range(count)), targets, batch_size=batch_size, include_target=share, image_size=8, **options
    )


def shades_in(views):
    return (views[:, 0, 0, 0] * 0.229 + 0.485).mul(255).round().int().tolist()


def seen_by(data):
    if not data._sets:
        data.setup()
    return [(shades_in(views[0]), shades_in(views[1]), labels.tolist()) for views, labels in data.train_dataloader()]


@pytest.mark.usefixtures("colourless")
def test_training_images_of_the_target_are_a_share_of_each_batch_and_nothing_else_is():
    data = data_of()
    batches = seen_by(data)
    assert len(batches) == 40 // 6
    for first, second, labels in batches:
        assert first == second
        assert [shade > 100 for shade in first] == [False] * 6 + [True] * 2
        assert [label == -1 for label in labels] == [shade > 100 for shade in first]
    included = [shade for first, _, _ in batches for shade in first if shade > 100]
    assert {shade: included.count(shade) for shade in set(included)} == {101: 4, 102: 4, 103: 4}
    source = [shade for first, _, _ in batches for shade in first if shade < 100]
    assert len(set(source)) == len(source) == 36


@pytest.mark.usefixtures("colourless")
def test_they_are_not_counted_as_kept():
    for options in ({}, {"selector": RandomSelector(unit="sample"), "prune_ratio": 0.5}):
        found, plain = data_of(**options), data_of(share=None, **options)
        found.setup()
        plain.setup()
        for name in ("images_kept", "units_kept", "images_before_pruning", "num_classes", "classes"):
            assert getattr(found, name) == getattr(plain, name)
        assert len(found.val_dataloader().dataset) == len(plain.val_dataloader().dataset)


@pytest.mark.usefixtures("colourless")
def test_all_of_several_targets_are_included():
    data = data_of(targets=[target_of([101, 102, 103]), target_of([111, 112], "more")])
    shades = {shade for first, _, _ in seen_by(data) for shade in first if shade > 100}
    assert shades == {101, 102, 103, 111, 112}


@pytest.mark.usefixtures("colourless")
def test_images_of_other_sizes_are_seen_at_the_sources_size(class_folder):
    """A target in files of several sizes beside a source that is held in memory."""
    root = class_folder("target/train", {"a": 3}, size=20).parent
    class_folder("target/train/b", {".": 2}, size=31)
    class_folder("target/val", {"a": 1, "b": 1})
    data = data_of(targets=[str(root)], in_memory=True)
    data.setup()
    for views, labels in data.train_dataloader():
        assert {view.shape for view in views} == {(8, 3, 8, 8)}
        assert labels.tolist()[6:] == [-1, -1]


def test_the_split_is_that_of_the_selection():
    """The built-in digits are split by a seed: what validates at that seed is never trained on."""
    options = {"augment": "simclr_small", "include_target": 0.5, "batch_size": 8, "image_size": 8}
    selection = select(grey(range(8)), selector=RandomSelector(unit="sample"), target_seed=3)
    for given in ({"selection": SelectOptions(target_seed=3)}, {"selection": selection, "keep_images": 8}):
        data = PrunedSourceDataModule(grey(range(8)), "digits", **given, **options)
        data.setup()
        [included] = data.train_dataloader().dataset.images.parts[1:]
        expected = open_target("digits", 3)
        assert torch.equal(included.images.pixels, expected.train.pixels)
        assert included.images.fingerprint() == data._all_images()[-1].fingerprint()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"augment": "shift"},
            "an `augment` of two views (simclr, simclr_small, simclr_colour, moco, vicreg), got 'shift'",
        ),
        ({"target": None}, "`include_target` needs `target`"),
        ({"include_target": 1.0}, "`include_target` must be in (0, 1), got 1.0"),
        ({"include_target": 0.001}, "`include_target` is 0.001, which is 0 of the 128 images in a batch"),
        ({"target": TargetSplits("none", grey([]), grey([1]), None, 8, "made")}, "the target has no training images"),
    ],
)
def test_what_could_not_be_done_is_refused_in_one_line(options, message):
    given = {"target": target_of([101]), "include_target": 0.2, "augment": "simclr", "batch_size": 128} | options
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        PrunedSourceDataModule(grey(range(8)), **given).check_inputs()
    assert "\n" not in str(raised.value)


class Notes(LitSSL):
    """Remembers what it is trained on."""

    def __init__(self):
        super().__init__("resnet8_w8", hidden_dim=8, output_dim=8)
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(torch.stack(batch[0]).clone())
        return super().training_step(batch, batch_idx)


@pytest.fixture
def fitted(trainer, tmp_path):
    def run(resume=None, seed=0, shades=(101, 102, 103), epochs=3, **options):
        seed_everything(seed, verbose=False)
        save = ModelCheckpoint(tmp_path / "saved", "{step}", every_n_train_steps=1, save_top_k=-1)
        keep = {"limit_val_batches": 0, "callbacks": [] if resume else [save], "enable_checkpointing": not resume}
        module, fit = Notes(), trainer(max_epochs=epochs, **keep)
        fit.fit(module, datamodule=data_of(targets=[target_of(shades)], **options), ckpt_path=resume)
        return module

    return run


WEIGHTED = {"selector": ImportanceResampling(RandomSelector(), smoothing=1.0), "sampling": "weighted"}


@pytest.mark.parametrize("step", [6, 8])  # six batches an epoch
@pytest.mark.parametrize("options", [{}, WEIGHTED], ids=["once", "weighted"])
def test_a_run_that_goes_on_sees_the_same_batches(fitted, tmp_path, step, options):
    whole = fitted(**options)
    rest = fitted(tmp_path / "saved" / f"step={step}.ckpt", seed=9, **options)
    assert len(whole.seen) == 18
    assert len(rest.seen) == 18 - step
    assert all(torch.equal(one, other) for one, other in zip(whole.seen[step:], rest.seen, strict=True))
    assert all(torch.equal(value, rest.state_dict()[key]) for key, value in whole.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 0.5}, "target images in a batch were 2, are 4"),
        ({"share": None}, "target images in a batch were 2, are 0"),
        ({"shades": (101, 102, 104)}, "they were other images"),
        (WEIGHTED, "they were other images"),
    ],
)
def test_other_batches_in_the_middle_of_an_epoch_are_refused(fitted, tmp_path, options, message):
    fitted(epochs=1)
    with pytest.raises(InputError, match=message):
        fitted(tmp_path / "saved" / "step=2.ckpt", **options)


def test_processes_share_both_sets(tmp_path):
    script = Path(__file__).with_name("include_on_ranks.py")
    run_ranks(2, [sys.executable, script, tmp_path], tmp_path)
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    for one, other in zip(*ranks, strict=True):  # epochs
        assert all([shade > 100 for shade in batch] == [False] * 6 + [True] * 2 for batch in one + other)
        both = [shade for batch in one + other for shade in batch]
        source = [shade for shade in both if shade < 100]
        assert len(set(source)) == len(source) == 36
        times = [both.count(shade) for shade in (101, 102, 103)]
        assert max(times) - min(times) <= 1
    assert ranks[0][0] != ranks[0][1]


def test_the_command_line_takes_it_and_refuses_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = Path(__file__).parents[2] / "configs/ssl/drawn_surrogate_target.yaml"
    assert main(["fit", "--config", str(config), "--data.augment=crop"]) == 2
    said = capsys.readouterr().err
    assert "`include_target` needs an `augment` of two views" in said
    assert not Path("runs").exists()
