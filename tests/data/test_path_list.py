"""Paths in one block of bytes: as a tuple of strings in all that is asked of them, and small."""

import copy
import pickle
import random

import pytest
import torch

from tlprune.data.datasets import FolderImages
from tlprune.data.path_list import PathList
from tlprune.storage.fingerprint import digest_json

ODD = ["", "ant/1.png", "käfer/2.png", "虫/3.png", "broken\udcff/4.png", "half\ud800.png", "two\nlines.png"]


def made(count: int) -> list[str]:
    drawn = random.Random(0)
    return [f"n{drawn.randrange(10**8):08}/n{drawn.randrange(10**8):08}_{number}.JPEG" for number in range(count)]


@pytest.mark.parametrize("paths", [[], ODD, made(2**16 + 3)], ids=["none", "odd", "more than a block"])
def test_it_is_a_tuple_of_strings(paths):
    packed = PathList(iter(paths))
    assert len(packed) == len(paths)
    assert list(packed) == paths
    assert packed == tuple(paths)
    assert packed == PathList(paths)
    assert hash(packed) == hash(PathList(paths))
    assert copy.deepcopy(packed) == packed
    for index in (0, 3, -1, -len(paths)):
        if paths and index < len(paths):
            assert packed[index] == paths[index]
    assert packed[1:7:2] == tuple(paths[1:7:2])
    assert packed[::-1][:5] == tuple(paths[::-1][:5])
    for beyond in (len(paths), -len(paths) - 1):
        with pytest.raises(IndexError):
            packed[beyond]
    if paths:
        assert packed.index(paths[-1]) == len(paths) - 1
        assert packed != (*paths[:-1], "another")
        assert packed != PathList(paths[1:])
    assert packed != "".join(paths)


def test_other_bounds_of_the_same_text_are_other_paths():
    assert PathList(["ab", "c"]) != PathList(["a", "bc"])


@pytest.mark.parametrize("count", [0, 1, 5, 2**14, 2**14 + 1])
def test_its_digest_is_that_of_a_list(count):
    paths, numbers = made(count), torch.arange(count)
    plain = digest_json([paths, numbers.tolist(), ("a", "b"), {"k": 1}])
    assert digest_json([PathList(paths), numbers, ("a", "b"), {"k": 1}]) == plain
    assert digest_json(PathList(paths)) == digest_json(paths)


def test_an_image_takes_at_most_64_bytes(tmp_path):
    """Path of 31 characters, size, time of change and label."""
    paths = [f"n01440764/n01440764_{number:06}.JPEG"[:31] for number in range(10_000)]
    stats = [(1000 + number, 1_700_000_000_000_000_000 + number) for number in range(10_000)]
    images = FolderImages(tmp_path, paths, torch.arange(10_000) % 7, list("abcdefg"), stats=stats)
    held = len(pickle.dumps(images, protocol=5))
    assert held <= 64 * len(images) + 2000
    assert images.files[9_999] == (str(tmp_path / paths[9_999]), stats[9_999])
    half = images.subset(torch.arange(0, 10_000, 2))
    assert half.files == images.files[::2]
