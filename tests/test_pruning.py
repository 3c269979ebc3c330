"""select() and prune(): from anything to a Selection, and from a Selection to fewer images of anything."""

import collections

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from tlprune import (
    InputError,
    PrunedSourceDataModule,
    RandomSelector,
    Selection,
    prune,
    select,
)
from tlprune.models.weights import load_classifier

CLASSES = {"ant": 4, "bee": 6, "cat": 2, "dog": 8}


@pytest.fixture
def folder(class_folder):
    return class_folder("src", CLASSES)


class Pairs(Dataset):
    """Somebody's own Dataset."""

    def __init__(self, images, labels):
        self.images, self.labels_ = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.labels_[index]


@pytest.fixture
def pairs(coloured):
    images = coloured(4, 5)
    shown = [Image.fromarray(images[index][0].permute(1, 2, 0).numpy()) for index in range(len(images))]
    return Pairs(shown, images.labels.tolist())


def test_names_folders_and_data_sets_give_one_selection(folder, target, surrogate_file, tmp_path):
    surrogate = str(surrogate_file(list(CLASSES)))
    by_name = select(str(folder), target, surrogate=surrogate)
    dataset = ImageFolder(folder, v2.RandomCrop(8))  # a transform is for training alone
    by_dataset = select(dataset, target, surrogate=surrogate, cache=tmp_path / "other")
    data = PrunedSourceDataModule(str(folder), target, surrogate=surrogate, prune_ratio=0.5)
    data.setup()
    assert by_name.digest == by_dataset.digest == data.selection.digest
    assert by_name.metadata["source"] == str(folder)
    assert "source" not in by_dataset.metadata


def test_a_network_is_a_surrogate_as_its_file_is(folder, target, surrogate_file):
    file = surrogate_file(list(CLASSES))
    by_file = select(str(folder), target, surrogate=file, image_size=32)
    network = load_classifier(file)[0]
    assert isinstance(network, nn.Module)
    assert select(str(folder), target, surrogate=network, image_size=32).digest == by_file.digest


def test_any_data_set_is_source_and_target(pairs, coloured, surrogate_file):
    surrogate = str(surrogate_file([str(label) for label in range(4)]))
    found = select(pairs, Subset(pairs, range(5, 10)), surrogate=surrogate, image_size=32)
    same = select(
        coloured(4, 5), coloured(4, 5).subset(torch.arange(5, 10)), surrogate=surrogate_file(4), image_size=32
    )
    assert found.votes.tolist() == same.votes.tolist()
    assert found.scores.tolist() == same.scores.tolist()
    assert found.unit_names == ("0", "1", "2", "3")


def test_changed_pixels_of_a_data_set_are_looked_at_again(pairs, surrogate_file, tmp_path):
    options = {"surrogate": str(surrogate_file(4)), "image_size": 32, "cache": tmp_path / "cache"}
    before = select(pairs, pairs, **options)
    pairs.images[7] = Image.new("RGB", (32, 32))
    after = select(pairs, pairs, **options)
    assert "cached" not in after.metadata
    assert after.scores.tolist() != before.scores.tolist()


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ((torch.full((3, 8, 8), -1.5), 0), "Odd: an image must be .*, got float32 from -1.5 to -1.5"),
        ((Image.new("RGB", (8, 8)), 0.5), r"Odd\[0\]: a label must be a whole number, got 0.5"),
        (Image.new("RGB", (8, 8)), "LabelMapping needs a labelled source, and this one has no labels"),
    ],
)
def test_samples_that_are_no_images_with_labels_are_named(sample, message, surrogate_file):
    dataset = Pairs([sample], [0])
    dataset.__class__ = type("Odd", (Pairs,), {"__getitem__": lambda self, index: sample})
    with pytest.raises(InputError, match=message):
        select(dataset, dataset, surrogate=surrogate_file(1))


def test_a_selection_is_written_where_that_is_wanted_and_only_there(folder, tmp_path):
    found = select(str(folder), selector=RandomSelector(), output=tmp_path / "s.safetensors")
    assert Selection.load(tmp_path / "s.safetensors").digest == found.digest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "digits"}, "needs `surrogate`"),
        ({"surrogate": "nowhere.safetensors"}, "nowhere.safetensors: no such file"),
        ({"target": ["digits", "digits"]}, "target digits is named twice"),
        ({"selector": RandomSelector(), "on_bad_image": "ignore"}, "`on_bad_image` must be 'error' or 'skip'"),
        ({"selector": RandomSelector(), "image_size": 0}, "`image_size`"),
        ({"target": "digits", "target_weights": [1, 2], "combine": "weighted_sum"}, "`target_weights` has 2 entries"),
    ],
)
def test_wrong_arguments_are_refused_in_a_line(options, message, folder):
    with pytest.raises(InputError, match=message):
        select(str(folder), **{"target": "photos"} | options if "target" not in options else options)


def test_pruned_samples_are_those_kept_with_labels_from_zero(folder):
    dataset = ImageFolder(folder, v2.PILToTensor())
    selection = select(dataset, selector=RandomSelector(seed=2))
    pruned = prune(dataset, selection, units=2)
    kept = selection.keep(units=2).tolist()
    assert pruned.indices == kept
    names = sorted(dataset.classes[unit] for unit in selection.ranking[:2].tolist())
    assert pruned.classes == tuple(names)
    assert pruned.targets == [names.index(dataset.classes[dataset.targets[index]]) for index in kept]
    for place, index in enumerate(kept):
        image, label = pruned[place]
        assert torch.equal(image, dataset[index][0])
        assert label == pruned.targets[place]
    batches = list(DataLoader(pruned, batch_size=3))
    assert torch.cat([labels for _, labels in batches]).tolist() == pruned.targets


def test_single_images_keep_their_labels(folder):
    dataset = ImageFolder(folder)
    selection = select(dataset, selector=RandomSelector(unit="sample"))
    pruned = prune(dataset, selection, images=7)
    assert len(pruned) == 7
    assert pruned.classes == tuple(dataset.classes)
    assert [label for _, label in pruned] == [dataset.targets[index] for index in pruned.indices]


@pytest.mark.parametrize("inside", [lambda dataset: dataset, lambda dataset: Subset(dataset, range(20))])
def test_a_transform_and_the_numbers_of_classes_are_where_scripts_look(folder, inside):
    """timm's create_loader() gives the data set its transform, scripts write ``class_to_idx`` to a file."""
    dataset = ImageFolder(folder)
    selection = select(str(folder), selector=RandomSelector(seed=2))
    pruned = prune(inside(dataset), selection, units=2)
    assert pruned.transform is None
    pruned.transform = v2.PILToTensor()
    assert pruned.transform is dataset.transform
    assert pruned[0][0].shape == (3, 32, 32)
    assert pruned.class_to_idx == {name: label for label, name in enumerate(pruned.classes)}
    for place, index in enumerate(pruned.indices):
        assert pruned.class_to_idx[dataset.classes[dataset.targets[index]]] == pruned[place][1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # timm leaves files open
def test_loaders_of_timm_and_data_sets_of_lightly_give_it_their_transform(folder):
    of_timm, of_lightly = pytest.importorskip("timm.data"), pytest.importorskip("lightly.data")
    selection = select(str(folder), selector=RandomSelector(seed=2))
    pruned = prune(of_timm.create_dataset("", root=str(folder), split="train"), selection, units=2)
    options = {"batch_size": 4, "is_training": True, "num_workers": 0, "device": torch.device("cpu")}
    loader = of_timm.create_loader(pruned, (3, 16, 16), use_prefetcher=False, **options)
    images, labels = next(iter(loader))
    assert (images.shape, images.dtype) == ((4, 3, 16, 16), torch.float32)
    assert set(labels.tolist()) <= {0, 1}
    pruned = prune(ImageFolder(folder), selection, units=2)
    named = of_lightly.LightlyDataset.from_torch_dataset(pruned, transform=v2.PILToTensor())
    image, label, _ = named[len(pruned) - 1]
    assert (image.shape, label) == ((3, 32, 32), 1)


def test_a_transform_that_nothing_would_use_is_refused(pairs):
    pruned = prune(pairs, select(pairs, selector=RandomSelector()), units=2)
    assert not hasattr(pruned, "transform")
    with pytest.raises(InputError, match="Pairs has no `transform` to set; transform its images in it"):
        pruned.transform = v2.PILToTensor()


def test_a_validation_set_follows_the_kept_classes(folder, class_folder):
    val = ImageFolder(class_folder("val", {"ant": 1, "bee": 2, "cat": 3, "dog": 4}), v2.PILToTensor())
    selection = select(str(folder), selector=RandomSelector(seed=2))
    train = prune(ImageFolder(folder), selection, units=2)
    pruned = train.prune_validation(val)
    expected = [index for index, label in enumerate(val.targets) if val.classes[label] in train.classes]
    assert pruned.indices == expected
    assert 0 < len(expected) < 10
    assert pruned.classes == train.classes
    for place, index in enumerate(expected):
        image, label = pruned[place]
        assert torch.equal(image, val[index][0])
        assert train.classes[label] == val.classes[val.targets[index]]
    with pytest.raises(InputError, match=r"of 20 images, this data set has 10; a validation set is pruned by `prune_v"):
        prune(val, selection, units=2)


def test_a_validation_set_of_other_classes_or_of_none_that_is_kept_is_refused(folder, class_folder):
    train = prune(ImageFolder(folder), select(str(folder), selector=RandomSelector(seed=2)), units=1)
    fewer = ImageFolder(class_folder("fewer", {"bee": 2, "cat": 3, "dog": 4}))
    with pytest.raises(InputError, match="made for other classes: 'ant' where this data set has 'bee'"):
        train.prune_validation(fewer)
    more = ImageFolder(class_folder("more", {**dict.fromkeys(CLASSES, 1), "eel": 1}))
    with pytest.raises(InputError, match="made for a source of 4 classes, got label 4 in validation images"):
        train.prune_validation(more)
    without = ImageFolder(class_folder("val", dict.fromkeys(CLASSES, 2)))
    label = without.class_to_idx[train.classes[0]]
    others = Subset(without, [index for index in range(8) if without.targets[index] != label])
    with pytest.raises(InputError, match="Subset: none of its 6 images has one of the 1 kept classes"):
        train.prune_validation(others)


def test_a_validation_set_stays_whole_where_images_are_pruned(folder):
    train = prune(ImageFolder(folder), select(str(folder), selector=RandomSelector(unit="sample")), images=7)
    val = ImageFolder(folder)
    assert train.prune_validation(val) is val


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({}, "give exactly one of `ratio`, `units`, `images`, `coverage`, `exactly`; got none"),
        ({"ratio": 0.5, "units": 2}, "; got `ratio` and `units`"),
        ({"ratio": 70}, r"`ratio` must be in \[0, 1\), got 70"),
        ({"coverage": 0}, r"`coverage` must be in \(0, 1\], got 0"),
        ({"coverage": 0.5}, "`coverage` needs votes, and this order was made without any; use `ratio`"),
        ({"images": 0}, "`images` must be at least 1, got 0"),
        ({"images": 1}, "`images` is 1, the best unit alone has"),
        ({"units": 9}, "`units` is 9, the source has 4 units"),
        ({"exactly": 99}, "`exactly` is 99, the source has 20 images"),
    ],
)
def test_budgets_are_refused_by_the_names_that_python_has(folder, budget, message):
    selection = select(str(folder), selector=RandomSelector())
    for refuse in (lambda: selection.keep(**budget), lambda: prune(ImageFolder(folder), selection, **budget)):
        with pytest.raises(InputError, match=message):
            refuse()


Named = collections.namedtuple("Named", "image label")


@pytest.mark.parametrize(
    "shape",
    [
        lambda image, label: (image, label),
        lambda image, label: [image, label],
        lambda image, label: (image, label, "more"),
        lambda image, label: {"image": image, "label": label},
        lambda image, label: Named(image, label),
        lambda image, label: (image, torch.tensor(label)),
        lambda image, label: (image, np.int64(label)),
    ],
)
def test_samples_of_any_shape_get_new_labels(shape, coloured):
    images = coloured(4, 3)
    selection = select(images, selector=RandomSelector(seed=1))
    dataset = [shape(*images[index]) for index in range(12)]
    pruned = prune(dataset, selection, units=2)
    names = sorted(selection.ranking[:2].tolist())
    for sample, index in zip(pruned, pruned.indices, strict=True):
        expected = shape(images[index][0], names.index(int(images.labels[index])))
        assert type(sample) is type(expected)
        label = sample["label"] if isinstance(sample, dict) else sample[1]
        assert int(label) == names.index(int(images.labels[index]))
        assert len(sample) == len(expected)


def test_another_data_set_is_refused(folder, coloured):
    selection = select(str(folder), selector=RandomSelector())
    with pytest.raises(InputError, match="made for a source of 20 images, this data set has 12"):
        prune(coloured(4, 3), selection, ratio=0.5)
    with pytest.raises(InputError, match="made for other classes"):
        prune(coloured(4, 5), selection, ratio=0.5)


def test_another_folder_is_refused_with_the_one_that_was_meant(folder, class_folder):
    selection = select(str(folder), selector=RandomSelector())
    (folder / "ant" / "000.png").rename(folder / "ant" / "0.png")
    with pytest.raises(InputError, match=f"another source: it names .*, ImageFolder is .*; it was made from {folder}$"):
        prune(ImageFolder(folder), selection, ratio=0.5)


def test_many_images_that_vote_for_a_handful_are_warned_of(coloured, surrogate_file):
    images = coloured(30, 2)
    alike = coloured(1, 250)
    with pytest.warns(
        UserWarning, match=r"250 target images vote for \d of 30 classes.* the surrogate hardly tells its images apart"
    ):
        found = select(images, alike, surrogate=surrogate_file(30), image_size=32)
    assert found.vote_entropy < 2.4
    even = select(images, selector=RandomSelector())
    assert even.vote_entropy == 0


def test_a_selector_may_be_named(folder):
    assert (
        select(str(folder), selector="RandomSelector").digest == select(str(folder), selector=RandomSelector()).digest
    )


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("LabelMaping", "`selector` 'LabelMaping' is no selector: did you mean 'LabelMapping'?"),
        ("ReverseSelector", "`selector` 'ReverseSelector' needs arguments; give an object in place of a name"),
        (RandomSelector, "must be a Selector such as LabelMapping(), or its name, got <class"),
        (7, "must be a Selector such as LabelMapping(), or its name, got 7"),
    ],
)
def test_what_is_no_selector_is_refused_by_name(folder, selector, message):
    with pytest.raises(InputError) as raised:
        select(str(folder), selector=selector)
    assert message in str(raised.value)


def test_labels_of_a_set_that_lists_none_are_counted():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(4), 5)).tolist()
    mine = Pairs([Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in labels], labels)
    selection = select(mine, selector=RandomSelector())
    pruned = prune(mine, selection, units=2)
    assert pruned.targets == [label for _, label in pruned]
    assert torch.bincount(torch.tensor(pruned.targets)).tolist() == [5, 5]
    assert not hasattr(prune(mine, select(mine, selector=RandomSelector(unit="sample")), images=4), "targets")


def test_a_checkpoint_of_an_unknown_network_says_what_to_give(folder, tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    state = {f"model.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.6.0"}, tmp_path / "mine.ckpt")
    images = ImageFolder(folder)
    with pytest.raises(InputError, match="give `surrogate_backbone`, .* or from Python the network itself"):
        select(images, images, surrogate=tmp_path / "mine.ckpt", selector="FeatureMapping", image_size=16)
