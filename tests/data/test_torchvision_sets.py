"""torchvision's own classes on small files in the real layout: images, labels and class names must equal theirs."""

import re

import numpy as np
import pytest
import torch
import torchvision.datasets as theirs
from scipy.io import savemat
from torchvision.transforms.functional import pil_to_tensor

from real_layouts import write_images, write_official
from tlprune.data import named_targets
from tlprune.data.datasets import FolderImages, TensorImages
from tlprune.data.sources import absolute_source, open_source, source_classes
from tlprune.data.target_catalogue import TARGET_SETS
from tlprune.data.torchvision_sets import _KNOWN
from tlprune.errors import InputError
from torchvision_layouts import EDGES, SETS, opened_by_torchvision


def _equal(ours, opened):
    assert len(ours) == len(opened) > 0
    assert list(ours.classes) == list(opened.classes)
    for index in range(len(opened)):
        image, label = opened[index]
        assert int(ours.labels[index]) == label
        assert torch.equal(ours[index][0], pil_to_tensor(image.convert("RGB")))


def _write_idx(file, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(header + array.tobytes())


def _write_mnist(folder, prefix, classes):
    rng = np.random.default_rng(0)
    for part in ("train", "t10k" if prefix == "" else "test"):
        _write_idx(folder / f"{prefix}{part}-images-idx3-ubyte", rng.integers(0, 256, (12, 28, 28), dtype=np.uint8))
        _write_idx(
            folder / f"{prefix}{part}-labels-idx1-ubyte", (np.arange(12) % classes + (prefix != "")).astype("u1")
        )


def test_images_in_memory(tmp_path):
    _write_mnist(tmp_path / "MNIST" / "raw", "", 10)
    ours, val = open_source(f"torchvision:MNIST:{tmp_path}")
    assert isinstance(ours, TensorImages)
    assert val is None
    _equal(ours, theirs.MNIST(tmp_path))


@pytest.mark.parametrize("name", SETS)
def test_every_set_opens_as_torchvision_has_it(tmp_path, monkeypatch, name):
    expected = SETS[name](tmp_path, monkeypatch)
    ours, val = open_source(f"torchvision:{name}:{tmp_path}")
    opened = opened_by_torchvision(name, tmp_path)
    assert val is None
    assert len(ours) == len(opened) == len(ours.labels) > 0
    assert list(ours.classes) == expected.classes
    assert ours.labels.tolist() == expected.labels or not expected.labels
    for index in range(len(opened)):
        image, label = opened[index]
        label = int(label) if not isinstance(label, torch.Tensor) else int(label[0])
        assert int(ours.labels[index]) == label - expected.shift
        assert torch.equal(ours[index][0], pil_to_tensor(image.convert("RGB")))


def test_every_set_that_is_read_is_tested():
    assert {name.partition(",")[0] for name in SETS} | {"CIFAR10", "CIFAR100"} == set(_KNOWN)


def test_a_set_of_one_image(tmp_path, monkeypatch):
    expected = EDGES["SVHN"](tmp_path, monkeypatch)
    ours, _ = open_source(f"torchvision:SVHN:{tmp_path}")
    assert (list(ours.classes), ours.labels.tolist()) == (expected.classes, expected.labels)


def test_class_names_follow_their_numbers(tmp_path, monkeypatch):
    places = SETS["Places365"](tmp_path, monkeypatch)
    (tmp_path / "categories_places365.txt").write_text("/a/airfield 2\n/b/bar 0\n/f/field/wild 1\n")
    ours, _ = open_source(f"torchvision:Places365:{tmp_path}")
    assert list(ours.classes) == ["/b/bar", "/f/field/wild", "/a/airfield"]
    assert ours.labels.tolist() == places.labels


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("STL10,split=train+unlabeled", "torchvision's STL10 does not list a label for each image"),
        ("OxfordIIITPet,target_types=segmentation", "`target_types` must be 'category' or 'binary-category'"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path, monkeypatch, name, message):
    SETS[name.partition(",")[0]](tmp_path, monkeypatch)
    with pytest.raises(InputError, match=re.escape(message)):
        open_source(f"torchvision:{name}:{tmp_path}")


@pytest.mark.parametrize("missing", ["meta.bin", "train"])
def test_archives_of_imagenet_are_not_unpacked(tmp_path, monkeypatch, missing):
    SETS["ImageNet"](tmp_path, monkeypatch)
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(b"")
    with pytest.raises(InputError, match=f"no '{missing}' in it, and nothing is unpacked here"):
        open_source(f"torchvision:ImageNet:{tmp_path}")


def test_colour_images_with_channels_first(tmp_path, monkeypatch):
    monkeypatch.setattr(theirs.SVHN, "_check_integrity", lambda self: True)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 8), dtype=np.uint8)
    savemat(tmp_path / "train_32x32.mat", {"X": pixels, "y": np.arange(8)[:, None] + 1})
    ours, _ = open_source(f"torchvision:SVHN:{tmp_path}")
    opened = theirs.SVHN(tmp_path)
    opened.classes = [str(number) for number in range(9)]
    _equal(ours, opened)


@pytest.mark.parametrize("small", [False, True])
def test_places(tmp_path, monkeypatch, small):
    monkeypatch.setattr(theirs.Places365, "_CATEGORIES_META", ("categories_places365.txt", None))
    files = {"train-standard": ("places365_train_standard.txt", None)}
    monkeypatch.setattr(theirs.Places365, "_FILE_LIST_META", files)
    (tmp_path / "categories_places365.txt").write_text("/a/airfield 0\n/b/bar 1\n")
    rows = [f"/a/airfield/{number:08}.jpg 0" for number in (3, 1)] + ["/b/bar/00000001.jpg 1"]
    (tmp_path / "places365_train_standard.txt").write_text("\n".join(rows) + "\n")
    folder = tmp_path / ("data_256_standard" if small else "data_large_standard")
    write_images(folder, [row.split()[0][1:] for row in rows])
    ours, _ = open_source(f"torchvision:Places365{',small=true' if small else ''}:{tmp_path}")
    assert isinstance(ours, FolderImages)
    assert ours.root == folder
    assert ours.paths == ("a/airfield/00000003.jpg", "a/airfield/00000001.jpg", "b/bar/00000001.jpg")
    _equal(ours, theirs.Places365(tmp_path, small=small))


@pytest.mark.parametrize(("name", "folder", "made"), [("dtd", "dtd/dtd", "DTD"), ("food101", "food-101", "Food101")])
def test_files_with_labels_beside_them(tmp_path, name, folder, made):
    made = getattr(theirs, made)
    write_official(name, tmp_path / folder)
    ours, _ = open_source(f"torchvision:{made.__name__}:{tmp_path}")
    assert isinstance(ours, FolderImages)
    _equal(ours, made(tmp_path))


def test_class_folders_by_name(tmp_path, class_folder):
    class_folder("eurosat/2750", {"Forest": 2, "River": 3})
    name = f"torchvision:EuroSAT:{tmp_path}"
    _equal(open_source(name)[0], theirs.EuroSAT(tmp_path))
    assert source_classes(name) == ("Forest", "River")


@pytest.mark.parametrize("folder", ["cifar-100-python", ""])
def test_cifar_is_found_in_the_folder_and_in_one_inside(folder, tmp_path, monkeypatch):
    entry = write_official("cifar100", tmp_path / folder)
    monkeypatch.setitem(TARGET_SETS, "cifar100", entry)
    ours, _ = open_source(f"torchvision:CIFAR100:{tmp_path}")
    assert len(ours) == 15
    assert ours.classes == ("apple", "aquarium_fish", "baby")
    expected = named_targets.open_set(entry, tmp_path).train
    assert torch.equal(ours.pixels, expected.pixels)


def test_a_name_that_means_the_same_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    assert absolute_source("torchvision:Places365,small=true:data") == (
        f"torchvision:Places365,small=true:{tmp_path / 'data'}"
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("torchvision:Places356:{}", "torchvision has no such data set: did you mean 'Places365'?"),
        (
            "torchvision:LSUN:{}",
            "torchvision:LSUN: not read here; give class folders or a list file (read are CIFAR10, ",
        ),
        ("torchvision:Places365", "give its folder, as torchvision:Places365:FOLDER"),
        ("torchvision:Places365:{}/none", "none: no such folder"),
        ("torchvision:Places365,smal=true:{}", "it has no argument 'smal': did you mean 'small'?"),
        ("torchvision:Places365,small:{}", "'small' must be KEY=VALUE"),
        ("torchvision:MNIST:{}", "Dataset not found"),
        ("torchvision:EMNIST:{}", "split"),
        ("torchvision:FakeData,size=4:{}", "not read here"),
        ("torchvision:MNIST,download=true:{}", "it has no argument 'download'"),
        ("torchvision:MNIST,transform=x:{}", "it has no argument 'transform'"),
        ("torchvision:CIFAR10,train=false:{}", "CIFAR10 takes no arguments here"),
    ],
)
def test_what_cannot_be_opened_is_said(tmp_path, source, message):
    with pytest.raises(InputError, match=re.escape(message)) as error:
        open_source(source.format(tmp_path))
    assert "\n" not in str(error.value)
