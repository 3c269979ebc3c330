import os

import pytest
import torch
from torch import nn

from tlprune.errors import InputError
from tlprune.selection.features import SHARD_SIZE, SourceFeatures, extract_features


@pytest.fixture
def many(points):
    """More than one shard, the last one short."""
    return points(torch.randn(SHARD_SIZE + 100, 3, generator=torch.Generator().manual_seed(0)))


def rounded(points):
    return points.half().float()


def test_features_are_those_of_each_image_rounded_to_float16(many):
    assert torch.equal(extract_features(nn.Flatten(), many), rounded(many.points))


def test_shards_hold_the_same_and_are_written_once(many, tmp_path):
    first = SourceFeatures(nn.Flatten(), many, tmp_path)
    assert first.extract() == 2
    asked = many.asked
    again = SourceFeatures(nn.Flatten(), many, tmp_path)
    assert again.extract() == 0
    assert many.asked == asked == len(many)
    parts = list(again)
    assert [(images.start, images.stop) for images, _ in parts] == [(0, SHARD_SIZE), (SHARD_SIZE, len(many))]
    assert torch.equal(torch.cat([shard for _, shard in parts]), rounded(many.points))


def test_an_interrupted_run_computes_only_what_is_missing(many, tmp_path):
    features = SourceFeatures(nn.Flatten(), many, tmp_path)
    features.extract()
    sorted(features.folder.iterdir())[1].unlink()
    many.asked = 0
    assert features.extract() == 1
    assert many.asked == 100


@pytest.mark.parametrize("world", [2, 3, 5])
def test_ranks_have_as_many_batches_as_each_other(many, tmp_path, world):
    features = SourceFeatures(nn.Flatten(), many, tmp_path)
    for numbers in ([0, 1], [0], [1], []):
        shares = features._shares(numbers, world)
        counts = [sum(part.batches for part in share) for share in shares]
        assert max(counts) - min(counts) <= 1
        images = [image for share in shares for part in share for image in part.images]
        assert images == [image for number in numbers for image in features.shards[number]]


def test_a_shard_that_ranks_split_is_joined_and_leftovers_go(many, tmp_path, monkeypatch):
    whole = SourceFeatures(nn.Flatten(), many, tmp_path / "whole")
    whole.extract()
    split = SourceFeatures(nn.Flatten(), many, tmp_path / "split")
    shares = split._shares([0, 1], 2)
    assert [part.number for share in shares for part in share] == [0, 0, 1]
    split._compute(shares[1])
    (leftover := split.folder / "000000-64.part").write_bytes(b"of a killed command")
    assert split.missing == [0]
    split._compute(shares[0])
    for rank in (1, 0):  # the second rank has nothing to join
        assert split.missing == [0]
        split._join(shares, rank)
    assert split.missing == []
    assert torch.equal(split.rows(torch.arange(len(many))), whole.rows(torch.arange(len(many))))
    assert leftover.exists()
    split.extract()
    assert [path.suffix for path in split.folder.iterdir()] == [".safetensors", ".safetensors"]


def test_a_part_that_was_damaged_on_its_way_is_not_joined(many, tmp_path):
    features = SourceFeatures(nn.Flatten(), many, tmp_path)
    shares = features._shares([0], 2)
    for share in shares:
        features._compute(share)
    path = features._path_of(shares[1][0])
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))
    with pytest.raises(InputError, match=r"a part that another rank wrote cannot be read .*000000-2048\.part: damaged"):
        features._join(shares, 0)


def test_rows_are_those_asked_for(many, tmp_path):
    features = SourceFeatures(nn.Flatten(), many, tmp_path)
    features.extract()
    for indices in ([], [0], [SHARD_SIZE - 1, SHARD_SIZE, SHARD_SIZE + 99], [SHARD_SIZE + 5]):
        wanted = torch.tensor(indices, dtype=torch.int64)
        found = features.rows(wanted)
        assert torch.equal(found, rounded(many.points[wanted])) or (found.numel() == 0 and not indices)


def test_other_weights_sources_and_views_have_other_folders(many, points, tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    first = SourceFeatures(network, many, tmp_path).folder
    assert SourceFeatures(network, points(many.points, digest="other"), tmp_path).folder != first
    many.transform_config = {"view": "none", "image_size": 2}
    assert SourceFeatures(network, many, tmp_path).folder != first
    many.transform_config = {"view": "none", "image_size": 1}
    assert SourceFeatures(network, many, tmp_path, num_workers=2).folder == first
    with torch.no_grad():
        network[1].bias += 1
    assert SourceFeatures(network, many, tmp_path).folder != first


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_shard_is_computed_again_with_a_warning(many, tmp_path, damage):
    features = SourceFeatures(nn.Flatten(), many, tmp_path)
    features.extract()
    path = sorted(features.folder.iterdir())[0]
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-5] ^= 1
        path.write_bytes(content)
    else:
        os.truncate(path, 0 if damage == "empty" else len(content) - 8)
    with pytest.warns(UserWarning, match=f"{path.name}: damaged; computing"):
        found = torch.cat([shard for _, shard in features])
    assert torch.equal(found, rounded(many.points))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 70_000.0])
def test_features_that_are_no_numbers_name_their_images(many, tmp_path, value):
    many.points[[3, 70], 1] = value
    with pytest.raises(InputError, match="NaN or beyond 65504 for point 3$"):
        extract_features(nn.Flatten(), many)
    with pytest.raises(InputError, match="NaN or beyond 65504 for point 3$"):
        SourceFeatures(nn.Flatten(), many, tmp_path).extract()
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_network_is_in_eval_mode_and_left_as_it_was(points):
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(2))
    extract_features(network, points(torch.randn(5, 2)))
    assert network.training
    assert network[1].num_batches_tracked == 0


def test_what_is_no_feature_vector_is_refused(points):
    with pytest.raises(InputError, match="gives 3 dimensions an image, not 1"):
        extract_features(nn.Identity(), points(torch.randn(5, 2)))


def test_no_images_are_refused(points):
    with pytest.raises(InputError, match="no images"):
        extract_features(nn.Flatten(), points(torch.randn(0, 2)))


def test_features_of_some_images_leave_other_shards_unread(many, tmp_path):
    features = SourceFeatures(nn.Flatten(), many, tmp_path)
    features.extract()
    for indices in ([], [0], [SHARD_SIZE - 1, SHARD_SIZE + 99], range(len(many))):
        wanted = torch.zeros(len(many), dtype=torch.bool)
        wanted[list(indices)] = True
        found = list(features.among(wanted))
        assert [index for some, _ in found for index in some.tolist()] == list(indices)
        assert all(torch.equal(rows.float(), rounded(many.points[some])) for some, rows in found)
    sorted(features.folder.iterdir())[0].unlink()
    many.asked = 0
    wanted = torch.arange(len(many)) >= SHARD_SIZE
    [(_, rows)] = features.among(wanted)
    assert torch.equal(rows.float(), rounded(many.points[wanted]))
    assert many.asked == 0


def test_a_shard_that_changes_after_it_was_read_is_checked_again(many, tmp_path):
    features = SourceFeatures(nn.Flatten(), many, tmp_path)
    features.extract()
    assert len(list(features)) == 2
    path = sorted(features.folder.iterdir())[1]
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=f"{path.name}: damaged; computing"):
        found = torch.cat([shard for _, shard in features])
    assert torch.equal(found, rounded(many.points))
