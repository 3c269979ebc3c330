"""One byte changed, or a file cut off, in everything that is read back: noticed each time."""

import random
import re
import warnings
from functools import partial

import pytest
import torch

from tlprune.checkpoint_io import AtomicCheckpointIO
from tlprune.data.damaged_images import find_damaged
from tlprune.data.decoding import decode_image
from tlprune.data.scanning import scan_class_folder
from tlprune.data.synthetic import synthetic_source
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform
from tlprune.errors import InputError
from tlprune.models.backbones import create_backbone
from tlprune.models.weights import load_classifier, read_weights
from tlprune.pruning import select
from tlprune.selection.features import SourceFeatures
from tlprune.selection.kmeans import cached_clusters
from tlprune.selection.selection import Selection

CPU = torch.device("cpu")


def damaged(content, seed):
    """The content damaged in eight ways: five bytes changed, one at a time, and three cuts."""
    chance = random.Random(seed)
    for place in chance.sample(range(len(content)), 5):
        changed = bytearray(content)
        changed[place] ^= chance.randrange(1, 256)
        if content[place] not in b" 0123456789":  # padding, and the last digit of a measured time, may say nothing
            yield bytes(changed)
    for share in (0, 0.5, 0.99):
        yield content[: int(share * len(content))]


def check_refused(path, read):
    content = path.read_bytes()
    for worse in damaged(content, path.name):
        path.write_bytes(worse)
        with pytest.raises(InputError, match=re.escape(f"{path}: ")):
            read(path)
    path.write_bytes(content)
    read(path)


def check_made_again(path, read, wanted, warns=True):
    """``wanted`` is what ``read()`` gives, before and after."""
    assert read() == wanted
    for worse in damaged(path.read_bytes(), path.name):
        path.write_bytes(worse)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert read() == wanted
        assert [str(path) in str(one.message) for one in caught] == [True] * warns
        assert path.read_bytes() != worse
        assert read() == wanted  # warnings are errors here: nothing is said any more


@pytest.fixture
def selecting(surrogate_file, target, tmp_path):
    """Label Mapping of a source of six colours."""
    options = {"surrogate": str(surrogate_file(6)), "image_size": 32, "device": "cpu"}
    return partial(select, target=target, cache=tmp_path / "cache", **options)


@pytest.fixture
def features(coloured, tmp_path):
    torch.manual_seed(0)
    source = TransformedDataset(coloured(6, 20), EvalTransform(32))
    found = SourceFeatures(create_backbone("resnet8_w8"), source, tmp_path / "cache")
    found.extract()
    return found


def test_selections_are_refused(selecting, coloured, tmp_path):
    selecting(coloured(6, 20)).save(tmp_path / "s.safetensors")
    check_refused(tmp_path / "s.safetensors", Selection.load)


def test_weights_are_refused(surrogate_file):
    check_refused(surrogate_file(["ant", "bee"]), read_weights)


def test_checkpoints_are_refused_or_replaced_aloud(surrogate_file, tmp_path):
    classifier, _ = load_classifier(surrogate_file(3))
    state = {"state_dict": classifier.state_dict()}
    AtomicCheckpointIO().save_checkpoint(state | {"epoch": 2}, tmp_path / "run" / "last.ckpt")
    check_refused(tmp_path / "run" / "last.ckpt", AtomicCheckpointIO().load_checkpoint)
    older = tmp_path / "run" / "epoch=1.ckpt"
    AtomicCheckpointIO().save_checkpoint(state | {"epoch": 1}, older)
    for worse in damaged((tmp_path / "run" / "last.ckpt").read_bytes(), 0):
        (tmp_path / "run" / "last.ckpt").write_bytes(worse)
        with pytest.warns(UserWarning, match=r"last\.ckpt: damaged.*; going on from " + re.escape(str(older))):
            found = AtomicCheckpointIO(fall_back=True).load_checkpoint(tmp_path / "run" / "last.ckpt")
        assert found["epoch"] == 1


def test_features_are_computed_again(features):
    [path] = features.folder.glob("*.safetensors")
    all_rows = torch.arange(len(features))
    check_made_again(path, lambda: features.rows(all_rows).tolist(), features.rows(all_rows).tolist())


def test_clusters_are_made_again(features, tmp_path):
    def read():
        found = cached_clusters(features, 5, 0, tmp_path / "cache")
        return found.centroids.tolist(), found.unit_of_sample.tolist(), found.empty

    wanted = read()
    [path] = (tmp_path / "cache" / "clusters").glob("*.safetensors")
    check_made_again(path, read, wanted)


def test_cached_selections_are_made_again(selecting, coloured, tmp_path):
    source = coloured(6, 20)
    wanted = selecting(source).digest
    [path] = (tmp_path / "cache" / "selections").glob("*.safetensors")
    check_made_again(path, lambda: selecting(source).digest, wanted)


def test_the_note_of_damaged_images_is_made_again(class_folder, tmp_path):
    root = class_folder("src", {"ant": 60, "bee": 60}, size=8)
    (root / "bee" / "001.png").write_bytes(b"<html>")
    source = scan_class_folder(root)
    wanted = find_damaged(source, tmp_path / "cache")
    assert [one.name for one in wanted] == ["bee/001.png"]
    [path] = (tmp_path / "cache" / "damaged").glob("*.json")
    check_made_again(path, lambda: find_damaged(source, tmp_path / "cache"), wanted, warns=False)


@pytest.mark.parametrize("name", ["glyph_digit_0", "texture_noise_0.0"])
def test_drawn_images_are_drawn_again(tmp_path, name):
    path = synthetic_source(tmp_path, 1) / name / "0000.png"
    content = path.read_bytes()

    def read():
        synthetic_source(tmp_path, 1)
        return decode_image(path).tolist(), path.read_bytes()

    check_made_again(path, read, read())
    path.unlink()
    with pytest.warns(UserWarning, match=r"0000\.png: damaged or missing; drawing it again"):
        synthetic_source(tmp_path, 1)
    assert path.read_bytes() == content


def test_damage_that_pillow_does_not_see_is_noticed(tmp_path):
    """Pillow skips the checksums of a PNG file's pixels: about one changed byte in a hundred gives another image."""
    path = synthetic_source(tmp_path, 1) / "shape_crescent" / "0000.png"
    content, pixels = path.read_bytes(), decode_image(path)
    unseen = 0
    for place in range(len(content) - 200, len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        try:
            unseen += not torch.equal(decode_image(path), pixels)
        except InputError:
            continue
        with pytest.warns(UserWarning, match="drawing it again"):
            synthetic_source(tmp_path, 1)
        assert path.read_bytes() == content
    assert unseen > 0
