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
    weights = SimpleNamespace(url=f"https://download.example/models/{name}")
    monkeypatch.setattr(published, "_weights_of", lambda rest: weights)
    classifier, saved = load_classifier("torchvision:resnet18")
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(classifier.eval()(images), network(images))
    assert (saved.backbone, saved.num_classes) == ("resnet18", 1000)


def test_another_file_under_that_name_is_refused(hub):
    torch.save({}, hub / "resnet18-f37072fd.pth")
    with pytest.raises(InputError, match="resnet18-f37072fd.pth: not what torchvision published"):
        load_classifier("torchvision:resnet18.IMAGENET1K_V1")


def test_what_cannot_be_fetched_is_said_in_one_line(hub):
    with pytest.raises(InputError, match=r"cannot fetch https://\S+resnet18-\w+.pth to .*no network.*by hand$") as said:
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
        json.dumps({"architecture": "resnet18", "num_classes": 4, "pretrained_cfg": {"num_classes": 4}})
    )
    classifier, saved = load_classifier(f"timm:local-dir:{tmp_path}")
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(classifier.eval()(images), network(images))
    assert saved.num_classes == 4


def test_timm_weights_that_are_not_there_are_one_line(tmp_path):
    pytest.importorskip("timm")
    with pytest.raises(InputError, match="cannot be fetched or read") as said:
        load_classifier(f"timm:local-dir:{tmp_path}/none")
    assert "\n" not in str(said.value)
