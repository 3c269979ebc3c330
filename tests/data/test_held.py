"""Files are decoded once a process, as long as they are as they were."""

import os

import pytest
import torch

from tlprune.data import datasets
from tlprune.data.held import HeldImages
from tlprune.data.scanning import scan_class_folder
from tlprune.errors import InputError


@pytest.fixture
def decodings(monkeypatch):
    """Paths of the files that were decoded, in order."""
    paths, decode = [], datasets.decode_image

    def count(path):
        paths.append(path)
        return decode(path)

    monkeypatch.setattr(datasets, "decode_image", count)
    return paths


@pytest.fixture
def images(class_folder):
    return scan_class_folder(class_folder("source", {"ant": 3, "bee": 4}))


def test_what_is_held_is_what_is_in_the_files_and_is_decoded_once(images, decodings):
    held = HeldImages(10**6)
    first = held.decoded(images)
    assert len(decodings) == 7
    part = images.subset(torch.tensor([5, 0, 6]))
    again = held.decoded(part)
    assert len(decodings) == 7
    assert torch.equal(again.pixels, first.pixels[[5, 0, 6]])
    assert torch.equal(again.pixels, torch.stack([part[index][0] for index in range(3)]))
    assert again.labels.tolist() == [1, 0, 1]
    assert again.classes == ("ant", "bee")
    again.pixels.zero_()
    assert torch.equal(held.decoded(images).pixels, first.pixels)


def test_a_file_that_was_written_again_is_decoded_again(images, decodings):
    held = HeldImages(10**6)
    before = held.decoded(images)
    path = images.root / images.paths[2]
    path.write_bytes((images.root / images.paths[3]).read_bytes())
    os.utime(path, ns=(1, 1))
    after = held.decoded(scan_class_folder(images.root))
    assert len(decodings) == 14
    assert not torch.equal(after.pixels[2], before.pixels[2])
    assert torch.equal(after.pixels[2], after.pixels[3])


def test_no_more_is_held_than_the_limit(images, class_folder, decodings):
    held = HeldImages(7 * 3 * 32 * 32)
    held.decoded(images)
    held.decoded(images)
    assert len(decodings) == 7
    held.decoded(scan_class_folder(class_folder("other", {"cat": 1})))  # takes the place of the first
    held.decoded(images)
    assert len(decodings) == 7 + 1 + 7
    small = HeldImages(100)
    for _ in range(2):
        small.decoded(images)
    assert len(decodings) == 15 + 14


def test_images_of_two_sizes_are_refused_though_both_are_held(class_folder):
    held = HeldImages(10**6)
    small = class_folder("small", {"ant": 2})
    held.decoded(scan_class_folder(small))
    (small / "bee").symlink_to(class_folder("large", {"bee": 2}, size=40) / "bee")
    both = scan_class_folder(small)
    held.decoded(both.subset(torch.tensor([2, 3])))
    with pytest.raises(InputError, match="must have one size: image 2 is 40 x 40"):
        held.decoded(both)
