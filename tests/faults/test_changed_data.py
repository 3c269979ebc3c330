import os
from shutil import copyfile

import numpy as np
import pytest
import torch
from PIL import Image

from tlprune import FeatureMapping, LabelMapping, Moderate, PrunedSourceDataModule
from tlprune.data.datasets import FolderImages
from tlprune.data.scanning import scan_class_folder
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform
from tlprune.models.backbones import Classifier, create_backbone
from tlprune.models.weights import save_classifier
from tlprune.selection import feature_mapping, features, kmeans, label_mapping


@pytest.fixture
def folders(class_folder, tmp_path):
    """A source, and a target that is not in it."""
    class_folder("pets/train", {"x": 12, "y": 9})
    return class_folder("src", dict.fromkeys(("ant", "bee", "cat"), 20)), tmp_path / "pets"


@pytest.fixture
def select(folders, surrogate_file):
    """Selects, and says whether the Selection came from the cache, and how many shards of features were computed."""
    surrogate = surrogate_file(3)

    def run(selector=None, **options):
        computed = []
        given = {"image_size": 32, "surrogate": str(surrogate), "keep_units": 1} | options
        data = PrunedSourceDataModule(
            str(folders[0]), str(folders[1]), selector or FeatureMapping(num_clusters=6), **given
        )
        with pytest.MonkeyPatch.context() as patch:
            compute = features.SourceFeatures._compute
            patch.setattr(
                features.SourceFeatures,
                "_compute",
                lambda self, numbers: (computed.extend(numbers), compute(self, numbers)),
            )
            data.setup()
        return "cached" in data.selection.metadata, len(computed)

    return run


def added(source):
    copyfile(source / "ant" / "000.png", source / "ant" / "new.png")


def removed(source):
    (source / "bee" / "003.png").unlink()


def renamed(source):
    (source / "bee" / "003.png").rename(source / "bee" / "003b.png")


def moved(source):
    (source / "bee" / "003.png").rename(source / "cat" / "003b.png")


def replaced(source):
    file = source / "bee" / "003.png"
    file.write_bytes(file.read_bytes() + b"\0")


def written_anew(source):
    file = source / "bee" / "003.png"
    changed = file.stat().st_mtime_ns
    copyfile(source / "bee" / "004.png", file)
    os.utime(file, ns=(changed, changed + 1000))


@pytest.mark.parametrize("change", [added, removed, renamed, moved, replaced, written_anew])
def test_a_change_of_the_source_is_noticed(change, select, folders):
    assert select() == (False, 1)
    assert select() == (True, 0)
    change(folders[0])
    assert select() == (False, 1)
    assert select() == (True, 0)


@pytest.mark.parametrize("change", [added, removed, renamed, moved, replaced, written_anew])
def test_a_change_of_the_target_is_noticed_and_the_source_is_not_looked_at_again(change, select, folders):
    train = folders[1] / "train"
    for old, new in (("x", "bee"), ("y", "cat")):
        (train / old).rename(train / new)
    (train / "ant").mkdir()
    copyfile(train / "bee" / "000.png", train / "ant" / "000.png")
    select()
    change(train)
    assert select() == (False, 0)


def test_other_bytes_of_the_same_size_and_time_are_noticed_when_asked_for(select, folders):
    files = [folders[0] / "bee" / f"{number:03}.png" for number in (3, 4)]
    for file in files:
        file.write_bytes(file.read_bytes().ljust(4096, b"\0"))
    assert select() == (False, 1)
    assert select(verify_content=True) == (False, 1)
    changed = files[0].stat().st_mtime_ns
    copyfile(files[1], files[0])
    os.utime(files[0], ns=(changed, changed))
    assert select() == (True, 0)
    assert select(verify_content=True) == (False, 1)
    assert select(verify_content=True) == (True, 0)


def test_whatever_changes_the_outcome_changes_the_key(select, tmp_path, monkeypatch):
    assert select() == (False, 1)
    assert select(FeatureMapping(num_clusters=6, seed=1)) == (False, 0)
    assert select(FeatureMapping(num_clusters=7)) == (False, 0)
    assert select(FeatureMapping(num_clusters=6, balance=True)) == (False, 0)
    assert select(FeatureMapping(num_clusters=6, center=True)) == (False, 0)
    assert select(FeatureMapping("classes")) == (False, 0)
    assert select(image_size=48) == (False, 1)
    assert select(LabelMapping()) == (False, 0)
    assert select(LabelMapping("soft")) == (False, 0)
    torch.manual_seed(5)
    other = Classifier(create_backbone("resnet8_w8"), 3)
    save_classifier(tmp_path / "surrogate.safetensors", "resnet8_w8", other.backbone, other.head, [])
    assert select() == (False, 1)
    assert select(LabelMapping()) == (False, 0)
    for module in (feature_mapping, label_mapping, features):
        monkeypatch.setattr(module, "BATCH_SIZE", 32)
    assert select() == (False, 1)
    assert select(LabelMapping()) == (False, 0)
    for module in (kmeans, feature_mapping):
        monkeypatch.setattr(module, "ITERATIONS", 5)
    assert select() == (False, 0)


def test_how_the_work_is_done_does_not_change_the_key(select):
    select()
    assert select(batch_size=3, num_workers=2, val_share=0.3, augment="none", keep_units=2) == (True, 0)
    assert select(FeatureMapping(num_clusters=6, num_workers=2)) == (True, 0)


def inverted(source):
    """Other pixels in a file of the same size, written a second later."""
    for file in source.glob("*/*.bmp"):
        changed = file.stat().st_mtime_ns
        pixels = np.asarray(Image.open(file))
        Image.fromarray(255 - pixels).save(file)
        os.utime(file, ns=(changed, changed + 1_000_000_000))


@pytest.fixture
def bitmaps(class_folder):
    return class_folder("bitmaps", {"ant": 9, "bee": 9}, ending=".bmp")


@pytest.mark.parametrize("listed", ["again", "once"])
@pytest.mark.parametrize("seen", ["again", "once"])
def test_features_that_are_taken_without_a_datamodule_follow_the_files(bitmaps, tmp_path, listed, seen):
    network = create_backbone("resnet8_w8")
    images = scan_class_folder(bitmaps)
    viewed = TransformedDataset(images, EvalTransform(32))
    features.SourceFeatures(network, viewed, tmp_path / "cache").extract()
    assert features.SourceFeatures(network, viewed, tmp_path / "cache").extract() == 0
    sizes = [file.stat().st_size for file in bitmaps.glob("*/*")]
    inverted(bitmaps)
    assert sizes == [file.stat().st_size for file in bitmaps.glob("*/*")]
    images = scan_class_folder(bitmaps) if listed == "again" else images
    viewed = TransformedDataset(images, EvalTransform(32)) if "again" in (seen, listed) else viewed
    after = features.SourceFeatures(network, viewed, tmp_path / "cache")
    assert after.extract() == 1
    expected = features.extract_features(network, TransformedDataset(scan_class_folder(bitmaps), EvalTransform(32)))
    torch.testing.assert_close(after.rows(torch.arange(18)), expected, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("selector", [FeatureMapping("classes"), Moderate()])
def test_a_selector_that_is_called_directly_follows_the_files(bitmaps, folders, tmp_path, selector):
    torch.manual_seed(0)
    network = create_backbone("resnet8_w8")
    target = TransformedDataset(scan_class_folder(folders[1] / "train"), EvalTransform(32))

    def scores(cache):
        source = TransformedDataset(scan_class_folder(bitmaps), EvalTransform(32))
        return selector.select(source, target, network, cache=cache).scores

    before = scores(tmp_path / "cache")
    inverted(bitmaps)
    after = scores(tmp_path / "cache")
    assert torch.equal(after, scores(tmp_path / "empty"))
    assert not torch.equal(after, before)


class MyMapping(FeatureMapping):
    """Of another package: its Selections are not taken from the cache, its features are."""


def test_a_selector_of_somebody_else_follows_the_files(select, folders):
    assert select(MyMapping(num_clusters=6)) == (False, 1)
    assert select(MyMapping(num_clusters=6)) == (False, 0)
    written_anew(folders[0])
    assert select(MyMapping(num_clusters=6)) == (False, 1)
    assert select(MyMapping(num_clusters=6), verify_content=True) == (False, 1)
    assert select(MyMapping(num_clusters=6), verify_content=True) == (False, 0)


def test_the_times_of_files_are_asked_for_once_in_a_datamodule(select, folders, monkeypatch):
    """A million files take seconds to ask for: what the listing knows is enough."""
    asked = []
    look_up = FolderImages._look_up
    monkeypatch.setattr(FolderImages, "_look_up", lambda self: (asked.append(len(self)), look_up(self))[1])
    assert select() == (False, 1)
    assert asked == []
