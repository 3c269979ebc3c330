import hashlib
import json
from types import SimpleNamespace

import pytest
import torch
import torchvision.models
from safetensors.torch import save_file

from tlprune.errors import InputError
from tlprune.models import published
from tlprune.models.weights import check_weights, load_classifier

HALF = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "input_size": [3, 96, 96],
    "crop_pct": 0.9,
    "interpolation": "bicubic",
}
"""How the weights of a test expect images, in timm's words."""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of torchvision's weights, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refused(url, *args, **kwargs):
        raise OSError("no network in tests")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refused)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_torchvision_weights_in_its_cache_are_read(hub, tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = torchvision.models.resnet18().eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    name = f"resnet18-{hashlib.sha256((tmp_path / 'w.pth').read_bytes()).hexdigest()[:8]}.pth"
    (tmp_path / "w.pth").rename(hub / name)
    published_by_them = torchvision.models.ResNet50_Weights.IMAGENET1K_V2  # its crop is not the usual one
    weights = SimpleNamespace(url=f"https://download.example/models/{name}", transforms=published_by_them.transforms)
    monkeypatch.setattr(published, "_weights_of", lambda rest: weights)
    classifier, saved = load_classifier("torchvision:resnet18")
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(classifier.eval()(images), network(images))
    assert (saved.backbone, saved.num_classes) == ("resnet18", 1000)
    assert saved.preprocessing.as_json() == {"image_size": 224, "crop_share": 224 / 232}


def test_another_file_under_that_name_is_refused(hub):
    torch.save({}, hub / "resnet18-f37072fd.pth")
    with pytest.raises(InputError, match="resnet18-f37072fd.pth: not what torchvision published"):
        load_classifier("torchvision:resnet18.IMAGENET1K_V1")


def test_what_cannot_be_fetched_is_said_in_one_line(hub):
    with pytest.raises(
        InputError, match=r"cannot fetch https://\S+resnet18-\w+.pth to .*no network.*by hand, or take package:"
    ) as said:
        load_classifier("torchvision:resnet18")
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision:resnet17", "torchvision has no network 'resnet17' that is supported: did you mean 'resnet18'"),
        ("torchvision:resnet50.IMAGENET1K_V3", "resnet50 has no weights 'IMAGENET1K_V3': did you mean 'IMAGENET1K_V"),
        ("timm:resnet18.a1_in2k", "timm has no weights 'resnet18.a1_in2k': did you mean"),
        ("https://example.com/w.pth", "https://example.com/w.pth: read from local files only"),
    ],
)
def test_names_that_there_are_not_are_refused_without_fetching(hub, name, message):
    if name.startswith("timm"):
        pytest.importorskip("timm")
    with pytest.raises(InputError, match=message):
        check_weights(name)


def test_timm_weights_are_read_by_name(tmp_path):
    """From a folder laid out as timm's own export; weights of its hub are read the same way."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model("resnet18", pretrained=False, num_classes=4).eval()
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": "resnet18", "num_classes": 4, "pretrained_cfg": {"num_classes": 4, **HALF}})
    )
    classifier, saved = load_classifier(f"timm:local-dir:{tmp_path}")
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(classifier.eval()(images), network(images))
    assert saved.num_classes == 4
    said = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "image_size": 96, "interpolation": "bicubic"}
    assert saved.preprocessing.as_json() == said | {"crop_share": 96 / 106}


def test_vision_transformers_of_torchvision_for_larger_images_are_read(hub, tmp_path, monkeypatch):
    torch.manual_seed(0)
    torch.save(torchvision.models.vit_b_16(image_size=384).state_dict(), tmp_path / "w.pth")
    name = f"vit_b_16-{hashlib.sha256((tmp_path / 'w.pth').read_bytes()).hexdigest()[:8]}.pth"
    (tmp_path / "w.pth").rename(hub / name)
    transforms = torchvision.models.ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1.transforms
    weights = SimpleNamespace(url=f"https://download.example/models/{name}", transforms=transforms)
    monkeypatch.setattr(published, "_weights_of", lambda rest: weights)
    _, saved = load_classifier("torchvision:vit_b_16.IMAGENET1K_SWAG_E2E_V1")
    assert saved.backbone == "vit_b_16_384"
    assert saved.preprocessing.as_json() == {"image_size": 384, "crop_share": 1.0, "interpolation": "bicubic"}


def test_every_published_network_of_timm_is_seen_as_it_expects_or_refused():
    timm = pytest.importorskip("timm")
    refused = []
    for name in timm.list_pretrained():
        try:
            said = published.timm_preprocessing(f"timm:{name}", timm.get_pretrained_cfg(name).to_dict())
        except InputError as error:
            refused.append(name)
            assert "\n" not in str(error)
        else:
            assert None not in vars(said).values()
    # images that are not square, or laid on a border
    assert len(refused) < 0.02 * len(timm.list_pretrained())


def test_weights_whose_images_cannot_be_seen_so_are_refused_before_they_are_fetched():
    timm = pytest.importorskip("timm")
    config = timm.get_pretrained_cfg("resnet18.a1_in1k").to_dict()
    with pytest.raises(InputError, match="timm:odd: expects images of 256 x 128 pixels; only square images are supp"):
        published.timm_preprocessing("timm:odd", config | {"input_size": (3, 256, 128)})
    with pytest.raises(InputError, match="timm:odd: its preprocessing is not supported: `crop_mode` must be one of"):
        published.timm_preprocessing("timm:odd", config | {"crop_mode": "border"})


def test_timm_weights_that_are_not_there_are_one_line(tmp_path):
    pytest.importorskip("timm")
    with pytest.raises(InputError, match="cannot be fetched or read") as said:
        load_classifier(f"timm:local-dir:{tmp_path}/none")
    assert "\n" not in str(said.value)
