"""Images kept on disk: the labels, order and pixels of the files, and damage noticed."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from tlprune.data.packed import PackedImages, bytes_of, shrunk
from tlprune.data.scanning import scan_class_folder
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform, TrainTransform


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twelve smooth pictures of several sizes, in three classes."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(12):
        rough = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        size = [(500, 375), (300, 400), (120, 90)][number % 3]
        folder = root / f"class{number // 4}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC).save(folder / f"{number:02}.jpg", quality=95)
    return scan_class_folder(root)


@pytest.fixture(params=["raw256", "jpeg256"])
def packed(request, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("tlprune.data.packed.SHARD_SIZE", 5)
    made = PackedImages(photos, tmp_path / "packed", request.param)
    assert made.missing == [0, 1, 2]
    made.make(made.missing, num_workers=0)
    return made


def test_labels_order_and_names_stay(packed, photos):
    assert len(packed) == 12
    assert packed.labels.tolist() == photos.labels.tolist()
    assert packed.classes == photos.classes
    assert [packed.name(index) for index in range(12)] == [photos.name(index) for index in range(12)]
    assert [packed[index][1] for index in range(12)] == photos.labels.tolist()
    assert packed.missing == []


def test_pixels_are_those_of_the_files_at_a_shorter_side_of_256(packed, photos):
    for index in range(12):
        theirs = photos[index][0]
        if min(theirs.shape[1:]) > 256:
            theirs = functional.resize(theirs, [256], antialias=True)
        ours = packed[index][0]
        assert ours.shape == theirs.shape
        if packed.packing == "raw256":
            assert torch.equal(ours, theirs)
        else:
            assert (ours.int() - theirs.int()).abs().float().mean() < 3


def test_the_evaluation_view_sees_the_same_pixels_in_raw(photos, tmp_path):
    packed = PackedImages(photos, tmp_path, "raw256")
    packed.make(packed.missing)
    indices = list(range(12))
    ours, theirs = (TransformedDataset(one, EvalTransform(224)).__getitems__(indices)[0] for one in (packed, photos))
    assert torch.equal(ours, theirs)


def test_the_same_crop_of_an_image_that_was_small_has_the_same_pixels_in_raw(photos, tmp_path):
    small = photos.subset(torch.tensor([2, 5, 8, 11]))
    packed = PackedImages(small, tmp_path, "raw256")
    packed.make(packed.missing)
    seen = []
    for one in (packed, small):
        torch.manual_seed(3)
        seen.append(TransformedDataset(one, TrainTransform(64, "crop_flip")).__getitems__([3, 0, 2])[0])
    assert torch.equal(*seen)


def test_processes_and_restarts_write_the_same(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("tlprune.data.packed.SHARD_SIZE", 5)
    first, second = (PackedImages(photos, tmp_path / name, "jpeg256") for name in "ab")
    first.make([0, 1, 2], num_workers=2)
    second.make([1])
    again = PackedImages(photos, tmp_path / "b", "jpeg256")
    assert again.missing == [0, 2]
    again.make(again.missing)
    for number in range(3):
        name = f"{number:06}.safetensors"
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_subset_and_another_process_see_the_same(packed):
    part = packed.subset(torch.tensor([7, 1]))
    assert torch.equal(part[0][0], packed[7][0])
    assert part[1][1] == packed[1][1]
    assert part.name(0) == packed.name(7)
    assert part.subset(torch.tensor([1])).fingerprint() != part.fingerprint() != packed.fingerprint()
    copied = pickle.loads(pickle.dumps(packed))  # noqa: S301 - our own
    assert torch.equal(copied[7][0], packed[7][0])


def test_the_size_is_told_within_a_tenth(packed, photos):
    sizes = [len(packed._shard(number).content) for number in range(3)]
    assert bytes_of(photos, packed.packing) == pytest.approx(sum(sizes), rel=0.1)


def test_a_changed_bit_in_an_image_is_noticed_and_the_file_read_in_its_place(packed):
    expected = [packed[index][0].clone() for index in range(5)]
    path = packed._path(0)
    whole = path.read_bytes()
    for place in range(len(whole) - 4000, len(whole), 997):
        content = bytearray(whole)
        content[place] ^= 1
        path.write_bytes(content)
        again = PackedImages(packed.images, packed.folder, packed.packing)
        with pytest.warns(UserWarning, match="000000.safetensors: damaged; decoding class"):
            found = [again[index][0] for index in range(5)]
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_a_changed_bit_in_the_index_or_a_cut_file_means_that_the_shard_is_missing(packed):
    path = packed._path(1)
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    index = len(packed._shard(1).ends) * (16 + 8 + 8)
    damaged = [whole[: len(whole) // 2], whole[:-1], b""]
    for place in [*range(8, header - 8, 41), *range(header, header + index, 7)]:
        content = bytearray(whole)
        content[place] ^= 1
        damaged.append(bytes(content))
    for content in damaged:
        path.write_bytes(content)
        again = PackedImages(packed.images, packed.folder, packed.packing)
        with pytest.warns(UserWarning, match="000001.safetensors: damaged; packing these images again"):
            assert again.missing == [1]


def test_an_image_that_is_small_is_left_as_it_is():
    pixels = torch.zeros((3, 256, 999), dtype=torch.uint8)
    assert shrunk(pixels) is pixels
    assert shrunk(torch.zeros((3, 512, 300), dtype=torch.uint8)).shape == (3, 436, 256)
