"""A pruned source that is kept on disk: what is kept, how much room it takes, and that it is made once."""

import json
import logging
import os
import sys
from pathlib import Path

import pytest
import torch

from forked import run_ranks
from tlprune import PrunedSourceDataModule, RandomSelector
from tlprune.data.packed import PackedImages
from tlprune.datamodules import packing
from tlprune.errors import InputError


@pytest.fixture
def source(class_folder):
    return class_folder("photos", {"a": 6, "b": 7, "c": 8, "d": 9}, size=40, ending=".jpg")


def opened(source, image_cache, **options):
    data = PrunedSourceDataModule(
        str(source),
        selector=RandomSelector(1),
        keep_units=2,
        image_size=32,
        batch_size=4,
        image_cache=image_cache,
        **options,
    )
    data.setup()
    return data


def batches(data):
    torch.manual_seed(0)
    return list(data.train_dataloader())


def test_batches_are_those_of_the_files_in_the_same_order(source):
    ours, theirs = (batches(opened(source, packed, num_workers=1)) for packed in ("raw256", None))
    assert len(ours) == len(theirs) > 2
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_of_jpegs_labels_and_order_are_the_same_and_pixels_nearly(source):
    ours, theirs = (batches(opened(source, packed)) for packed in ("jpeg256", None))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one[1], other[1])
        assert 0 < (one[0] - other[0]).abs().mean() < 0.5


def test_only_what_is_kept_is_packed_and_validation_reads_files(source):
    data = opened(source, "raw256")
    train, val = (data._sets[part].images for part in ("train", "val"))
    assert isinstance(train, PackedImages)
    assert len(train) == data.images_kept < 30
    assert not isinstance(val, PackedImages)


def test_the_room_is_told_before_and_nothing_is_packed_twice(source, caplog):
    with caplog.at_level(logging.INFO):
        first = opened(source, "raw256")
    assert "raw256 cache of 1" in caplog.text
    assert "which has room for" in caplog.text
    made = {path: path.stat().st_mtime_ns for path in first._sets["train"].images.folder.iterdir()}
    assert made
    caplog.clear()
    with caplog.at_level(logging.INFO):
        again = opened(source, "raw256")
    assert "raw256" not in caplog.text
    assert {path: path.stat().st_mtime_ns for path in again._sets["train"].images.folder.iterdir()} == made


def test_too_little_room_is_refused_before_anything_is_decoded(source, monkeypatch, tmp_path):
    monkeypatch.setattr(packing, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(InputError, match=r"raw256 cache of \d+ images: about \d+\.\d kB, and .* has room for 1\.0 kB"):
        opened(source, "raw256")
    assert not list((tmp_path / "cache" / "images").rglob("*.safetensors"))


def test_files_that_changed_are_packed_anew(source):
    before = opened(source, "raw256")._sets["train"].images.folder
    for path in source.rglob("*.jpg"):
        os.utime(path, ns=(1, 1))
    assert opened(source, "raw256")._sets["train"].images.folder != before
    assert opened(source, "raw256", verify_content=True)._sets["train"].images.folder != before


def test_to_start_over_is_to_pack_again(source, tmp_path):
    folder = opened(source, "raw256")._sets["train"].images.folder
    [shard] = folder.glob("*.safetensors")
    inode = shard.stat().st_ino
    (tmp_path / "held").hardlink_to(shard)  # so that its number is not given to another file
    data = PrunedSourceDataModule(
        str(source), selector=RandomSelector(1), keep_units=2, image_size=32, image_cache="raw256"
    )
    data.start_over()
    data.setup()
    assert shard.stat().st_ino != inode


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_cache": "raw512"}, "`image_cache` must be 'raw256' or 'jpeg256', got 'raw512'"),
        ({"image_cache": "raw256", "in_memory": True}, "not both"),
    ],
)
def test_what_does_not_go_together_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        PrunedSourceDataModule(**options)


def test_ranks_share_the_packing_and_end_with_the_same(source, tmp_path):
    found = {}
    for ranks in (1, 2):
        folder = tmp_path / f"of-{ranks}"
        folder.mkdir()
        script = Path(__file__).with_name("pack_on_ranks.py")
        run_ranks(ranks, [sys.executable, script, source, folder], folder, TLPRUNE_CACHE=str(folder / "cache"))
        found[ranks] = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(ranks)]
    [alone], both = found[1], found[2]
    assert {one["pixels"] for one in both} == {alone["pixels"]}
    shards = list(range(alone["shards"]))
    assert alone["made"] == shards
    assert sorted(both[0]["made"] + both[1]["made"]) == shards
    assert both[0]["made"]
    assert both[1]["made"]
