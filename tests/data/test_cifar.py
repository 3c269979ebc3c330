import pickle

import numpy as np
import pytest
import torch
from torchvision import datasets

from real_layouts import write_batch, write_official, write_python2_pickle
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
def test_same_pixels_labels_and_classes_as_torchvision(name, folder, make, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.cifar, "check_integrity", lambda path, md5=None: True)
    entry = write_official(name, tmp_path / folder)
    opened = read_official(entry.name, entry.home(tmp_path))
    for train, ours in ((True, opened.train), (False, opened.test)):
        theirs = make(tmp_path, train=train)
        assert torch.equal(ours.pixels, torch.from_numpy(theirs.data).permute(0, 3, 1, 2))
        assert ours.labels.tolist() == theirs.targets
        assert list(ours.classes) == theirs.classes


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_newer_numpy_may_have_written_it(protocol, tmp_path):
    entry = write_official("cifar100", tmp_path)
    before = open_named(entry, tmp_path).test
    rng = np.random.default_rng([*b"test"])
    data = rng.integers(0, 256, (6, 3072), dtype=np.uint8)
    content = {"data": data, "fine_labels": [0, 1, 2, 0, 1, 2]}
    if protocol == 4:
        (tmp_path / "test").write_bytes(pickle.dumps(content, protocol=protocol))
    else:
        write_python2_pickle(tmp_path / "test", content)
    assert open_named(entry, tmp_path).test.fingerprint() == before.fingerprint()


class Marker:
    """Unpickled, it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return exec, (f"open({str(self.path)!r}, 'w')",)


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_in_a_pickle_is_run(protocol, tmp_path):
    entry = write_official("cifar10", tmp_path / "set")
    (tmp_path / "set" / "test_batch").write_bytes(pickle.dumps({"data": Marker(tmp_path / "ran")}, protocol=protocol))
    with pytest.raises(InputError, match=r"test_batch: .* it names .*builtin.*exec, which is refused"):
        open_named(entry, tmp_path / "set")
    assert not (tmp_path / "ran").exists()


HOSTILE = {
    "not a dictionary": ([1, 2], "expected a dictionary, got list"),
    "no pixels": ({"labels": [0]}, "'data' must be an array with 3072 columns, got None"),
    "a list of pixels": ({"data": [[0] * 3072], "labels": [0]}, "'data' must be an array with 3072 columns, got"),
    "other width": ({"data": np.zeros((1, 10), np.uint8), "labels": [0]}, r"3072 columns, got shape \(1, 10\)"),
    "other type": ({"data": np.zeros((1, 3072)), "labels": [0]}, "an array that is not of uint8"),
    "objects": ({"data": np.array([[None] * 3072]), "labels": [0]}, "an array that is not of uint8"),
    "column by column": (
        {"data": np.asfortranarray(np.zeros((2, 3072), np.uint8)), "labels": [0, 1]},
        "an array that is not of uint8, row by row",
    ),
    "too few labels": ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "'labels' must be a list of 2 labels"),
    "label beyond": ({"data": np.zeros((1, 3072), np.uint8), "labels": [3]}, "label 3 is not from 0 to 2"),
    "text as label": ({"data": np.zeros((1, 3072), np.uint8), "labels": ["0"]}, "label '0' is not from 0 to 2"),
    "truth as label": ({"data": np.zeros((1, 3072), np.uint8), "labels": [True]}, "label True is not from 0 to 2"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_not_of_the_form_is_refused_in_one_line(case, tmp_path):
    content, message = HOSTILE[case]
    entry = write_official("cifar10", tmp_path)
    write_python2_pickle(tmp_path / "data_batch_3", content)
    with pytest.raises(InputError, match=message) as caught:
        open_named(entry, tmp_path)
    assert "data_batch_3" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", [None, [], ["a", 3], ["a\n"], "airplane"])
def test_class_names_are_checked(names, tmp_path):
    entry = write_official("cifar10", tmp_path)
    write_python2_pickle(tmp_path / "batches.meta", {"label_names": names})
    with pytest.raises(InputError, match="batches.meta: 'label_names' must be a list of class names"):
        open_named(entry, tmp_path)


def test_a_shape_that_does_not_fit_its_bytes_is_refused(tmp_path):
    entry = write_official("cifar10", tmp_path)
    raw = (tmp_path / "test_batch").read_bytes()
    (tmp_path / "test_batch").write_bytes(raw.replace(b"K\x03M\x00\x0c", b"K\x04M\x00\x0c"))
    with pytest.raises(InputError, match="test_batch: .* cannot reshape"):
        open_named(entry, tmp_path)


def test_a_random_byte_changed_is_an_input_error_or_nothing(tmp_path):
    entry = write_official("cifar10", tmp_path)
    write_batch(tmp_path / "test_batch", {"labels": [0, 1, 2]})
    raw = (tmp_path / "test_batch").read_bytes()
    rng = np.random.default_rng(0)
    for place in [*range(120), *rng.integers(len(raw) - 400, len(raw), 80)]:
        broken = bytearray(raw)
        broken[place] ^= int(rng.integers(1, 256))
        (tmp_path / "test_batch").write_bytes(broken)
        try:
            open_named(entry, tmp_path)
        except InputError as error:
            assert "\n" not in str(error)
