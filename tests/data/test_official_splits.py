from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat
from torchvision import datasets

from real_layouts import write_official
from tlprune.data.official_splits import read_official
from tlprune.data.target_catalogue import TARGET_SETS
from tlprune.data.target_splits import open_named
from tlprune.errors import InputError


@pytest.fixture(autouse=True)
def _small_files_pass_torchvision(monkeypatch):
    """Torchvision compares some files with the MD5 of the real ones."""
    monkeypatch.setattr(datasets.flowers102, "check_integrity", lambda path, md5=None: Path(path).exists())


def listed(images):
    return [(images.root / path, int(label)) for path, label in zip(images.paths, images.labels, strict=True)]


@pytest.mark.parametrize("name", TARGET_SETS)
def test_every_set_opens_and_its_images_can_be_read(name, tmp_path):
    entry = write_official(name, tmp_path / "set")
    target = open_named(entry, tmp_path / "set", seed=3)
    assert (target.name, target.image_size) == (name, 32 if name.startswith("cifar") else 224)
    assert target.train.classes == target.val.classes == target.test.classes
    train, val, test = entry.official_sizes
    held = round(train / 5) if val is None else val
    assert [len(target.train), len(target.val), len(target.test)] == [train - (held if val is None else 0), held, test]
    assert target.split.startswith("official")
    assert target.split.endswith(", a fifth of train held out, seed 3") == (val is None)
    for images in (target.train, target.val, target.test):
        pixels, label = images[len(images) - 1]
        assert (pixels.dtype, pixels.shape[0], label) == (torch.uint8, 3, int(images.labels[-1]))


@pytest.mark.parametrize(
    ("name", "folder", "make", "parts"),
    [
        ("oxford_pets", "oxford-iiit-pet", datasets.OxfordIIITPet, {"train": "trainval", "test": "test"}),
        ("flowers102", "flowers-102", datasets.Flowers102, {"train": "train", "val": "val", "test": "test"}),
        ("dtd", "dtd/dtd", datasets.DTD, {"train": "train", "val": "val", "test": "test"}),
        ("food101", "food-101", datasets.Food101, {"train": "train", "test": "test"}),
        ("stanford_cars", "stanford_cars", datasets.StanfordCars, {"train": "train", "test": "test"}),
    ],
)
def test_same_images_labels_and_classes_as_torchvision(name, folder, make, parts, tmp_path):
    entry = write_official(name, tmp_path / folder)
    opened = read_official(entry.name, entry.home(tmp_path / folder))
    for part, split in parts.items():
        theirs = make(tmp_path, split=split)
        if name == "stanford_cars":
            pairs = [(Path(path), int(label)) for path, label in theirs._samples]
        else:
            files = theirs._images if name == "oxford_pets" else theirs._image_files
            pairs = list(zip(files, theirs._labels, strict=True))
        ours = getattr(opened, part)
        assert listed(ours) == pairs
        assert list(ours.classes) == list(theirs.classes)[:3]


def test_sun_agrees_with_torchvision_which_has_no_split(tmp_path):
    entry = write_official("sun397", tmp_path)
    opened, theirs = read_official(entry.name, tmp_path), datasets.SUN397(tmp_path)
    pairs = zip(theirs._image_files, theirs._labels, strict=True)
    assert sorted(listed(opened.train) + listed(opened.test)) == sorted(pairs)
    assert list(opened.train.classes) == theirs.classes == ["abbey", "apartment_building/outdoor", "bakery/shop"]


def test_ucf_has_a_frame_for_each_video_of_list_1(tmp_path):
    entry = write_official("ucf101", tmp_path)
    opened = read_official(entry.name, tmp_path)
    assert opened.test.paths[2:4] == (
        "Handstand_Pushups/v_HandStandPushups_g01_c01.jpg",
        "Handstand_Pushups/v_HandStandPushups_g02_c01.jpg",
    )
    assert opened.train.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert opened.train.classes == ("ApplyEyeMakeup", "HandstandPushups", "YoYo")
    frames = tmp_path / "UCF-101-midframes"
    (frames / "Yo_Yo").rename(frames / "YoYo")
    assert read_official(entry.name, tmp_path).test.paths[-1] == "YoYo/v_YoYo_g02_c01.jpg"


def test_waterbirds_follow_the_column_split(tmp_path):
    entry = write_official("waterbirds", tmp_path)
    opened = open_named(entry, tmp_path)
    assert opened.split == "official, metadata.csv"
    assert opened.classes == ("landbird", "waterbird")
    assert opened.val.paths == tuple(
        f"{number % 4:03}.Black_footed_Albatross/Black_Footed_Albatross_{number:04}.jpg" for number in (3, 9, 15, 21)
    )
    assert opened.val.labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "message"),
    [
        ("oxford_pets", "annotations/trainval.txt", " 1 1 1", " 1 1", r"trainval.txt: line 1 must have 4 words"),
        ("oxford_pets", "annotations/test.txt", " 3 2 1", " x 2 1", r"test.txt: expected a number, got 'x'"),
        ("oxford_pets", "annotations/test.txt", " 3 2 1", " 2 2 1", "label 2 is both 'American Bulldog' and 'York"),
        ("oxford_pets", "annotations/test.txt", "Abyssinian_7", "../Abyssinian_7", "is both 'Abyssinian' and '../"),
        ("dtd", "labels/val1.txt", "banded/", "bandaged/", r"val1.txt: 'bandaged/banded_0006.jpg' is in no folder"),
        ("dtd", "labels/val1.txt", "_0006", "_0002", "val1.txt: 'banded/banded_0002.jpg' is listed twice, in 'train'"),
        ("food101", "meta/test.json", '"waffles"', '"waffle"', "must be an object with a list for each class"),
        ("food101", "meta/test.json", '"waffles/2"', "7", "must list paths such as 'apple_pie/134', got 7"),
        ("food101", "meta/test.json", "waffles/2", "../waffles/2", "'../waffles/2.jpg' is in no folder of a class"),
        ("food101", "meta/test.json", "{", "[", "test.json: not JSON: "),
        ("sun397", "Testing_01.txt", "/a/abbey/", "//a/abbey/", "is in no folder of a class"),
        ("ucf101", "ucfTrainTestlist/classInd.txt", "1 ", "one 1 ", "classInd.txt: line 1 must have 2 words"),
        ("waterbirds", "metadata.csv", "img_id", "id", "metadata.csv: the first line must be img_id,img_filename,y"),
        ("waterbirds", "metadata.csv", ",0,0,0,", ",0,3,0,", "line 2: 'split' must be 0, 1 or 2, got '3'"),
        ("waterbirds", "metadata.csv", "\r\n1,000", "\r\n1,/000", "must be a relative path without '..'"),
        ("waterbirds", "metadata.csv", "\r\n1,000", "\r\n1,x/../../000", "must be a relative path without '..'"),
        ("waterbirds", "metadata.csv", ",0,0,0,", ",2,0,0,", r"label 2 of '000.* is not from 0 to 1"),
    ],
)
def test_a_damaged_list_is_one_line_that_names_it(name, file, old, new, message, tmp_path):
    entry = write_official(name, tmp_path)
    path = tmp_path / file
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode(), 1))
    with pytest.raises(InputError, match=message) as caught:
        open_named(entry, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "file"),
    [("dtd", "labels/train1.txt"), ("sun397", "SUN397/ClassName.txt"), ("ucf101", "ucfTrainTestlist/classInd.txt")],
)
def test_an_empty_list_of_classes_is_one_line(name, file, tmp_path):
    entry = write_official(name, tmp_path)
    (tmp_path / file).write_text("")
    with pytest.raises(InputError, match="is in no folder of a class$"):
        open_named(entry, tmp_path)


@pytest.mark.parametrize(
    ("name", "file"),
    [("flowers102", "setid.mat"), ("stanford_cars", "devkit/cars_train_annos.mat"), ("cifar10", "test_batch")],
)
@pytest.mark.parametrize("content", [b"", b"<html>", None])
def test_a_damaged_binary_file_is_one_line_that_names_it(name, file, content, tmp_path):
    entry = write_official(name, tmp_path)
    raw = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(raw[: len(raw) // 2] if content is None else content)
    with pytest.raises(InputError, match=Path(file).name) as caught:
        open_named(entry, tmp_path)
    assert "\n" not in str(caught.value)


def test_mat_files_of_something_else_are_named(tmp_path):
    entry = write_official("stanford_cars", tmp_path)
    meta, train = tmp_path / "devkit" / "cars_meta.mat", tmp_path / "devkit" / "cars_train_annos.mat"
    names = meta.read_bytes()
    meta.write_bytes(train.read_bytes())
    with pytest.raises(InputError, match=r"cars_meta.mat: no vector 'class_names' in it"):
        open_named(entry, tmp_path)
    meta.write_bytes(names)
    train.write_bytes(names)
    with pytest.raises(InputError, match=r"cars_train_annos.mat: no vector 'annotations' in it"):
        open_named(entry, tmp_path)


def test_missing_images_are_counted_and_the_first_is_named(tmp_path):
    entry = write_official("dtd", tmp_path)
    for path in ("banded/banded_0007.jpg", "zigzagged/zigzagged_0010.jpg"):
        (tmp_path / "images" / path).unlink()
    message = r"2 of 27 listed images are missing, first 'banded/banded_0007.jpg' \(listed by val1.txt\)"
    with pytest.raises(InputError, match=message):
        open_named(entry, tmp_path)


def test_numbers_of_matlab_may_be_floats(tmp_path):
    entry = write_official("flowers102", tmp_path)
    before = open_named(entry, tmp_path).train.fingerprint()
    labels = loadmat(tmp_path / "imagelabels.mat")["labels"]
    savemat(tmp_path / "imagelabels.mat", {"labels": labels.astype(np.float64)})
    assert open_named(entry, tmp_path).train.fingerprint() == before
    savemat(tmp_path / "imagelabels.mat", {"labels": labels + 0.5})
    with pytest.raises(InputError, match="imagelabels.mat: 'labels' must hold integers, got "):
        open_named(entry, tmp_path)
