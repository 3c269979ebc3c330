import pickle

import numpy as np
import pytest
import torch
from torchvision import datasets

from real_layouts import write_official, write_python2_pickle
from tlprune.data.official_splits import read_official
from tlprune.data.target_splits import open_named
from tlprune.errors import InputError


@pytest.mark.parametrize(
    ("name", "folder", "make"),
    [
        ("cifar10", "cifar-10-batches-py", datasets.CIFAR10),
        ("cifar100", "cifar-100-python", datasets.CIFAR100),
    ],
)
def test_same_pixels_labels_and_classes_as_torchvision(name, folder, make, tmp_path):
    entry = write_official(name, tmp_path / folder)
    opened = read_official(entry.name, entry.home(tmp_path))
    for train, ours in ((True, opened.train), (False, opened.test)):
        theirs = make(tmp_path, train=train)
        assert torch.equal(ours.pixels, torch.from_numpy(theirs.data).permute(0, 3, 1, 2))
        assert ours.pixels.is_contiguous()
        assert ours.labels.tolist() == theirs.targets
        assert list(ours.classes) == theirs.classes


def test_a_folder_of_any_name_opens(tmp_path):
    entry = write_official("cifar100", tmp_path / "elsewhere")
    assert len(open_named(entry, tmp_path / "elsewhere").test) == 6


class Marker:
    """Unpickled, it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return exec, (f"open({str(self.path)!r}, 'w')",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("file", ["data_batch_1", "test_batch", "batches.meta"])
def test_nothing_in_a_pickle_is_run(file, protocol, tmp_path):
    entry = write_official("cifar10", tmp_path / "set")
    hostile = {"data": Marker(tmp_path / "ran"), "label_names": Marker(tmp_path / "ran")}
    (tmp_path / "set" / file).write_bytes(pickle.dumps(hostile, protocol=protocol))
    with pytest.raises(InputError, match=f"{file}: its MD5 is not that of the published file; unpack cifar-10-python"):
        open_named(entry, tmp_path / "set")
    assert not (tmp_path / "ran").exists()


def test_what_is_not_published_is_refused_though_it_can_be_read(tmp_path):
    entry = write_official("cifar100", tmp_path)
    pixels = np.zeros((6, 3072), np.uint8)
    write_python2_pickle(tmp_path / "test", {"data": pixels, "fine_labels": [0, 1, 2, 0, 1, 2]})
    with pytest.raises(InputError, match="test: its MD5 is not that of the published file; unpack cifar-100-python"):
        open_named(entry, tmp_path)


def test_a_random_byte_changed_is_noticed(tmp_path):
    entry = write_official("cifar10", tmp_path)
    raw = (tmp_path / "test_batch").read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(raw), 40):
        broken = bytearray(raw)
        broken[place] ^= int(rng.integers(1, 256))
        (tmp_path / "test_batch").write_bytes(broken)
        with pytest.raises(InputError, match="test_batch: its MD5") as caught:
            open_named(entry, tmp_path)
        assert "\n" not in str(caught.value)
