import os

import pytest
import torch

from tlprune.errors import InputError
from tlprune.selection.forgetting import Forgetting, ForgettingCounts


@pytest.fixture
def source(points):
    return points(torch.zeros(5, 1), torch.tensor([0, 0, 1, 1, 1]), ("ant", "bee"), digest="the source")


@pytest.fixture
def counted(tmp_path):
    counts = ForgettingCounts(
        "the source", torch.tensor([0, 2, 0, 1, 0]), 4, torch.tensor([True, True, False, True, True])
    )
    counts.save(tmp_path / "counts.safetensors")
    return tmp_path / "counts.safetensors"


def test_most_often_forgotten_first_but_never_learned_before_them(source, counted):
    found = Forgetting(str(counted)).select(source)
    assert found.ranking.tolist() == [2, 1, 3, 0, 4]
    assert found.scores.tolist() == [0, 2, 4, 1, 0]


def test_classes_by_the_mean_of_their_images(source, counted):
    found = Forgetting(str(counted), unit="class").select(source)
    assert found.scores.tolist() == pytest.approx([1, 5 / 3])
    assert found.ranking.tolist() == [1, 0]


def test_counts_of_another_source_are_refused(counted, points):
    with pytest.raises(InputError, match="counted on another source"):
        Forgetting(str(counted)).select(points(torch.zeros(5, 1), torch.zeros(5).long(), ("ant",), digest="other"))


def test_damaged_and_foreign_files_are_refused(counted, surrogate_file, tmp_path):
    with pytest.raises(InputError, match="no such file of forgetting counts"):
        Forgetting(str(tmp_path / "none.safetensors"))
    with pytest.raises(InputError, match="no file of CountForgetting"):
        Forgetting(str(surrogate_file(2)))
    content = bytearray(counted.read_bytes())
    content[-1] ^= 1
    counted.write_bytes(content)
    with pytest.raises(InputError, match="its checksum does not match"):
        Forgetting(str(counted))
    os.truncate(counted, 20)
    with pytest.raises(InputError, match="damaged"):
        Forgetting(str(counted))
