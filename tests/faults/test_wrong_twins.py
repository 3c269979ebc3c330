"""The wrong twin of a Dataset, a transform, a shard or a file of weights: one line with both sides, or a warning."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, random_split
from torchvision.transforms import v2

from shards import picture, samples, write_parquet, write_tar
from tlprune import (
    FeatureMapping,
    InputError,
    LitClassifier,
    LitSSL,
    MixupCutMix,
    PrunedSourceDataModule,
    RandomSelector,
    apply,
    prune,
    select,
)
from tlprune.cli import main
from tlprune.models.backbones import Classifier, create_backbone

NAMES = ["ant", "bee", "cat", "dog"]
LABELS = [0, 1, 2, 3] * 10


class Pictures(Dataset):
    """Somebody's Dataset that lists nothing."""

    def __init__(self, labels=LABELS, label=lambda number: number, turn=0):
        self.numbers, self.label, self.turn = labels, label, turn

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        image = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        return image.rotate(self.turn), self.label(self.numbers[index])


def clusters(source):
    network = Classifier(create_backbone("resnet8_w8"), 4)
    selector = FeatureMapping(num_clusters=3)
    return select(source, Pictures(), surrogate=network, selector=selector, image_size=16, device="cpu")


def test_clusters_of_one_split_are_refused_for_another_of_the_same_length():
    whole = Pictures()
    one, other = (random_split(whole, [20, 20], torch.Generator().manual_seed(seed))[0] for seed in (0, 1))
    selection = clusters(one)
    assert len(prune(one, selection, units=3)) == 20
    place = next(place for place in range(20) if whole[one.indices[place]][1] != whole[other.indices[place]][1])
    with pytest.raises(InputError, match=r"sample \d+ has the label \d here and \d there"):
        prune(other, selection, units=3)
    assert place < 20


def test_other_pixels_under_the_same_labels_are_warned_of(tmp_path):
    selection = clusters(Pictures())
    selection.save(tmp_path / "s.safetensors")
    message = (
        r"Pictures: 16 of 16 samples have other pixels than those .*, first sample 0; it must hold the same images"
    )
    with pytest.warns(UserWarning, match=message):
        prune(Pictures(turn=90), tmp_path / "s.safetensors", units=3)
    prune(Pictures(), tmp_path / "s.safetensors", units=3)  # the same images: no word


def test_images_that_only_training_can_use_are_compared_by_length_alone():
    class Normalised(Pictures):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 50 - 3, label

    assert len(prune(Normalised(), clusters(Pictures()), units=3)) == 40


@pytest.mark.parametrize("label", [float("inf"), -float("inf")])
def test_labels_without_end_are_no_whole_numbers(label):
    with pytest.raises(InputError, match=r"Pictures\[0\]: a label must be a whole number, got -?inf"):
        select(Pictures(label=lambda _: label), selector=RandomSelector())


def test_labels_from_1_are_warned_of():
    with pytest.warns(
        UserWarning, match="no image of the source has a label below 1, and classes are counted from 0 to 4"
    ):
        selection = select(Pictures(label=lambda number: number + 1), selector=RandomSelector())
    assert selection.unit_sizes.tolist() == [0, 10, 10, 10, 10]


@pytest.mark.parametrize("given", ["src", Path("src"), b"src"])
def test_a_path_is_no_dataset_to_prune(given):
    with pytest.raises(InputError, match=r"a torch Dataset is needed, got the \w+ 'src'"):
        prune(given, select(Pictures(), selector=RandomSelector()), ratio=0.5)


@pytest.mark.parametrize("given", [None, 3, Pictures()])
def test_a_selection_is_a_selection_or_its_file(given):
    with pytest.raises(InputError, match=f"a Selection or the path of its file is needed, got {type(given).__name__}"):
        prune(Pictures(), given, ratio=0.5)


def test_paths_may_be_path_objects(class_folder, tmp_path, surrogate_file):
    source, target = class_folder("src", dict.fromkeys(NAMES, 4)), class_folder("pets/train", {"x": 2, "y": 2}).parent
    made = select(
        source, target, surrogate=surrogate_file(NAMES), image_size=32, device="cpu", output=tmp_path / "s.st"
    )
    named = select(str(source), [target], surrogate=str(surrogate_file(NAMES)), image_size=32, device="cpu")
    assert made.ranking.tolist() == named.ranking.tolist()
    assert made.metadata["source"] == str(source)
    assert apply(made, source, tmp_path / "out", units=2).kept == 8
    # a Selection by its Path was left aside without a word, and another selector ranked the classes
    data = PrunedSourceDataModule(
        source, selection=tmp_path / "s.st", selector=RandomSelector(seed=3), keep_units=1, image_size=32, val_share=0
    )
    data.setup("fit")
    assert list(data.classes) == [NAMES[int(made.ranking[0])]]


def test_a_surrogate_is_a_network_or_weights():
    with pytest.raises(InputError, match="`surrogate` must be a network, a file of weights, .*, got int"):
        select(Pictures(), Pictures(), surrogate=3)


@pytest.mark.parametrize(
    ("budget", "what"),
    [
        ({"ratio": "0.5"}, "`ratio` must be a number, got '0.5'"),
        ({"ratio": True}, "`ratio` must be a number, got True"),
        ({"units": 2.5}, "`units` must be a whole number, got 2.5"),
        ({"images": "7"}, "`images` must be a whole number, got '7'"),
        ({"coverage": [0.5]}, r"`coverage` must be a number, got \[0.5\]"),
    ],
)
def test_budgets_are_numbers(budget, what):
    with pytest.raises(InputError, match=what):
        select(Pictures(), selector=RandomSelector()).keep(**budget)


def test_one_shard_under_two_names_is_refused(tmp_path):
    one = write_tar(tmp_path / "a.tar", samples([(0, 1), (1, 1)], NAMES))
    (tmp_path / "b.tar").symlink_to(one)
    for pattern in (f"{tmp_path}/*.tar", f"{tmp_path}/{{a,./a}}.tar"):
        with pytest.raises(InputError, match=rf"{re.escape(str(one))} and \S+[ab].tar are one file"):
            select(f"webdataset:{pattern}", selector=RandomSelector())
    with pytest.raises(InputError, match=r"a.tar is named twice"):
        select(f"webdataset:{tmp_path}/{{a,a}}.tar", selector=RandomSelector())


@pytest.mark.parametrize(("labels", "kind"), [([0.0, 1.0], "double"), ([[0], [1]], "list")])
def test_a_named_column_of_labels_holds_text_or_whole_numbers(tmp_path, labels, kind):
    pytest.importorskip("pyarrow")
    path = write_parquet(tmp_path / "a.parquet", [(0, 1), (1, 1)], labels)
    with pytest.raises(InputError, match=f"column 'label' holds {kind}.*, and labels are text or whole numbers"):
        select(f"parquet:label=label:{path}", selector=RandomSelector())


def test_a_column_of_labels_in_a_dictionary_of_arrow_is_text(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    labels = pyarrow.array(["bee", "ant"]).dictionary_encode()
    path = write_parquet(tmp_path / "a.parquet", [(0, 1), (1, 1)], labels)
    assert select(f"parquet:{path}", selector=RandomSelector()).unit_names == ("ant", "bee")


def _resized(image):
    return v2.functional.resize(image, [16, 16])


def data_with(class_folder, transform, **options):
    source = class_folder("src", dict.fromkeys(NAMES, 4))
    return PrunedSourceDataModule(str(source), transform=transform, image_size=16, batch_size=4, **options)


@pytest.mark.parametrize(
    ("change", "numbers"),
    [
        (lambda image: _resized(image).float(), r"\d+ to 2\d\d"),
        (lambda image: _resized(image).float() / 255, r"0[\d.]* to [01][\d.]*"),
        (lambda image: (_resized(image).float() - 0.5) / 0.25, r"-?\d+ to [89]\d\d|1\d\d\d"),
    ],
)
def test_floats_that_are_not_normalised_are_warned_of(class_folder, change, numbers):
    with pytest.warns(UserWarning, match=rf"`transform` \(<lambda>\) gives floats from ({numbers}), normalised images"):
        data_with(class_folder, change).setup("fit")


@pytest.mark.filterwarnings("error")
def test_normalised_floats_and_bytes_are_taken_without_a_word(class_folder, tmp_path):
    data_with(class_folder, lambda image: (_resized(image).float() / 255 - 0.5) / 0.25).setup("fit")
    source = str(tmp_path / "src")
    PrunedSourceDataModule(source, transform=_resized, image_size=16).setup("fit")


def test_numbers_that_are_not_finite_and_classes_are_refused(class_folder, tmp_path):
    with pytest.raises(InputError, match=r"`transform` \(<lambda>\) gives numbers that are not finite"):
        data_with(class_folder, lambda image: _resized(image).float() * float("nan")).setup("fit")
    with pytest.raises(InputError, match="got the class RandomHorizontalFlip: call it"):
        PrunedSourceDataModule(str(tmp_path / "src"), transform=v2.RandomHorizontalFlip)


def test_one_view_is_refused_by_ssl_with_what_came(class_folder, trainer):
    data = data_with(class_folder, _resized)
    with pytest.raises(InputError, match="LitSSL compares two views of each image, got one view"):
        trainer().fit(LitSSL("resnet8_w8"), datamodule=data)


def test_mixing_for_another_number_of_classes_is_refused(class_folder, trainer):
    data = data_with(class_folder, None)
    with pytest.raises(InputError, match="`num_classes` is 9, LitClassifier has 4"):
        trainer(callbacks=[MixupCutMix(num_classes=9)]).fit(LitClassifier("resnet8_w8"), datamodule=data)


def test_mixing_takes_finite_numbers_alone():
    with pytest.raises(InputError, match="`mixup_alpha` must be at least 0 and finite, got inf"):
        MixupCutMix(mixup_alpha=float("inf"))
    with pytest.raises(InputError, match="`cutmix_alpha` must be a number, got 'a'"):
        MixupCutMix(cutmix_alpha="a")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--model=LitSSL", "--data.source=src"],
            "LitSSL compares two views of each image, `augment` 'crop_flip' gives one",
        ),
        (
            ["--model=LitClassifier", "--data.source=src", "--data.augment=simclr"],
            "LitClassifier takes one view of each image, `augment` 'simclr' gives two",
        ),
        (["--model=LitClassifier", "--data.source=heap"], "the source has no labels"),
        (["--model=LitClassifier", "--data.source=src", "--model.num_classes=3"], "`num_classes` is 3, the data has 4"),
        (
            ["--model=LitClassifier", "--data.source=src", "--model.weights=s.safetensors"],
            "s.safetensors: a selection of tlprune, not weights",
        ),
    ],
)
def test_fit_refuses_in_one_line_and_writes_nothing(class_folder, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    class_folder("src", dict.fromkeys(NAMES, 4))
    (tmp_path / "heap").mkdir()
    (tmp_path / "heap" / "1.png").write_bytes(picture(0, 1))
    (tmp_path / "heap" / "2.png").write_bytes(picture(0, 2))
    select(str(tmp_path / "src"), selector=RandomSelector(), output="s.safetensors")
    before = sorted(os.listdir())
    network = [] if any("weights" in option for option in options) else ["--model.backbone=resnet8_w8"]
    data = ["--data=PrunedSourceDataModule", "--data.image_size=32", "--data.batch_size=4"]
    quiet = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--trainer.logger=false"]
    assert main(["fit", options[0], *network, *data, *options[1:], *quiet]) == 2
    line = [one for one in capsys.readouterr().err.splitlines() if one.startswith("tlprune: error: ")]
    assert len(line) == 1
    assert message in line[0]
    assert sorted(os.listdir()) == before
