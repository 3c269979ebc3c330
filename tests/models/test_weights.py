import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tlprune.errors import InputError
from tlprune.models.backbones import Classifier, create_backbone
from tlprune.models.weights import load_backbone, load_classifier, read_weights, save_classifier
from tlprune.preprocessing import Preprocessing


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    return Classifier(create_backbone("resnet8_w8"), 3).eval()


@pytest.fixture
def file(classifier, tmp_path):
    path = tmp_path / "w.safetensors"
    save_classifier(path, "resnet8_w8", classifier.backbone, classifier.head, ["a", "b", "c"])
    return path


def checkpoint(path, classifier, prefix="", **more):
    state = {prefix + key: value for key, value in classifier.state_dict().items()}
    torch.save({"state_dict": state, "hyper_parameters": {"backbone": "resnet8_w8"}, **more}, path)
    return path


def test_reads_what_it_wrote(classifier, file):
    images = torch.randn(2, 3, 32, 32)
    again, saved = load_classifier(file)
    assert torch.equal(again.eval()(images), classifier(images))
    assert (saved.classes, saved.num_classes, saved.backbone) == (("a", "b", "c"), 3, "resnet8_w8")
    assert torch.equal(load_backbone(file).eval()(images), classifier.backbone(images))


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_reads_lightning_checkpoints_of_ddp_and_compiled_modules(classifier, tmp_path, prefix):
    path = checkpoint(tmp_path / "c.ckpt", classifier, prefix, classes=["x", "y", "z"])
    images = torch.randn(2, 3, 32, 32)
    again, saved = load_classifier(path)
    assert torch.equal(again.eval()(images), classifier(images))
    assert saved.classes == ("x", "y", "z")


HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 64, 0.9, "bicubic")


def test_how_images_are_expected_is_kept_in_the_file(classifier, file, tmp_path):
    assert read_weights(file).preprocessing == Preprocessing()  # as in files that are older than this
    path = tmp_path / "half.safetensors"
    save_classifier(path, "resnet8_w8", classifier.backbone, None, preprocessing=HALF)
    assert read_weights(path).preprocessing == HALF
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"0.9", b"0.8", 1))
    with pytest.raises(InputError, match="half.safetensors: damaged or no safetensors file .its checksum"):
        read_weights(path)


def test_what_is_usual_leaves_the_file_as_it_was(classifier, file, tmp_path):
    path = tmp_path / "usual.safetensors"
    usual = Preprocessing().filled()
    save_classifier(path, "resnet8_w8", classifier.backbone, classifier.head, ["a", "b", "c"], preprocessing=usual)
    with safe_open(path, "pt") as ours, safe_open(file, "pt") as older:
        assert ours.metadata() == older.metadata()  # the checksum of all tensors is in it


def test_how_images_are_expected_is_read_from_checkpoints(classifier, tmp_path):
    assert read_weights(checkpoint(tmp_path / "a.ckpt", classifier)).preprocessing == Preprocessing()
    kept = checkpoint(tmp_path / "b.ckpt", classifier, preprocessing=HALF.as_json())
    assert read_weights(kept).preprocessing == HALF
    for odd, message in (({"mean": [0.5]}, "`mean` must be three numbers"), ("half", "`preprocessing` must be an obj")):
        wrong = checkpoint(tmp_path / "c.ckpt", classifier, preprocessing=odd)
        with pytest.raises(InputError, match=f"c.ckpt: {message}"):
            read_weights(wrong)


def test_other_network_lists_what_differs(file):
    with pytest.raises(InputError, match=r"weights of another network: .* of another shape \(network.bn.bias"):
        load_backbone(file, "resnet8_w16")
    with pytest.raises(InputError, match=r"\d+ missing .*; \d+ left over"):
        load_backbone(file, "resnet18")


def test_missing_and_left_over_keys_are_listed(file, tmp_path):
    state = load_file(file)
    state["backbone.network.extra"] = state.pop("backbone.network.stem.weight")
    save_file(state, tmp_path / "odd.safetensors", {"backbone": "resnet8_w8"})
    with pytest.raises(InputError, match=r"1 missing \(network.stem.weight\); 1 left over \(network.extra\)"):
        load_backbone(tmp_path / "odd.safetensors")


def test_nameless_network_must_be_named(file, tmp_path):
    save_file(load_file(file), tmp_path / "n.safetensors")
    assert load_backbone(tmp_path / "n.safetensors").num_features == 32  # its weights tell
    state = {key: value[:-1] if key.endswith("stem.weight") else value for key, value in load_file(file).items()}
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(InputError, match="does not say which network it holds"):
        load_backbone(tmp_path / "odd.safetensors")
    with pytest.raises(InputError, match="1 of another shape"):
        load_backbone(tmp_path / "odd.safetensors", "resnet8_w8")


def test_backbone_without_head_cannot_vote(classifier, tmp_path):
    save_classifier(tmp_path / "b.safetensors", "resnet8_w8", classifier.backbone, None)
    load_backbone(tmp_path / "b.safetensors")
    with pytest.raises(InputError, match="a backbone without a head"):
        load_classifier(tmp_path / "b.safetensors")


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["safetensors", "ckpt"])
def test_truncated_files_are_refused(classifier, file, tmp_path, kind, share):
    path = file if kind == "safetensors" else checkpoint(tmp_path / "c.ckpt", classifier)
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(InputError, match=f"{path.name}: damaged"):
        read_weights(path)


class Touch:
    """Pickles to a call that creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mknod, (self.path,)


@pytest.mark.parametrize("allowed", ["0", "1"])
def test_hostile_checkpoint_is_not_executed(tmp_path, monkeypatch, allowed):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", allowed)
    marker = str(tmp_path / "executed")
    for name, content in (("a.ckpt", {"state_dict": Touch(marker)}), ("b.ckpt", Touch(marker))):
        torch.save(content, tmp_path / name)
        with pytest.raises(InputError, match=f"{name}: damaged, or holds more than tensors"):
            read_weights(tmp_path / name)
    (tmp_path / "c.ckpt").write_bytes(pickle.dumps(Touch(marker), 2))
    with pytest.raises(InputError):
        read_weights(tmp_path / "c.ckpt")
    assert not Path(marker).exists()


def test_urls_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="local files only"):
        read_weights("https://example.com/w.ckpt")
    with pytest.raises(InputError, match="weights .*none.ckpt: no such file"):
        read_weights(tmp_path / "none.ckpt")
    torch.save({"epoch": 3}, tmp_path / "e.ckpt")
    with pytest.raises(InputError, match=r"no weights of a network in it \(nothing at all\)"):
        read_weights(tmp_path / "e.ckpt")
    torch.save({"state_dict": {"fc.weight": torch.zeros(1)}}, tmp_path / "f.ckpt")
    with pytest.raises(InputError, match="does not say which network it holds"):
        load_backbone(tmp_path / "f.ckpt")


def test_every_changed_byte_of_our_weights_is_noticed(surrogate_file):
    import random

    path = surrogate_file(["ant", "bee"])
    whole = path.read_bytes()
    for place in [*random.Random(0).sample(range(len(whole)), 200), *range(8, 400)]:
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 7
        path.write_bytes(changed)
        with pytest.raises(InputError, match=r"surrogate\.safetensors"):
            read_weights(path)
