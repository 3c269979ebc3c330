"""Checkpoints laid out as other libraries lay them out, with random weights."""

import pytest
import torch
import torchvision.models
from lightly.models.modules import MoCoProjectionHead, SimCLRProjectionHead
from safetensors.torch import save_file
from torch import nn

from tlprune.errors import InputError
from tlprune.models.backbones import create_backbone
from tlprune.models.weights import load_backbone, load_classifier, read_weights


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=7).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def under(prefix, state):
    return {f"{prefix}{key}": value for key, value in state.items()}


def features(resnet, images):
    body = nn.Sequential(*list(resnet.children())[:-1], nn.Flatten())
    with torch.inference_mode():
        return body(images)


def trunk(resnet):
    return {key: value for key, value in resnet.state_dict().items() if not key.startswith("fc.")}


def moco_v2(resnet):
    """As MoCo's own code and lightning-bolts write it: two encoders whose last layer is a projection, and a queue."""
    projection = {"fc.0.weight": torch.zeros(512, 512), "fc.0.bias": torch.zeros(512)}
    projection |= {"fc.2.weight": torch.zeros(128, 512), "fc.2.bias": torch.zeros(128)}
    encoder = trunk(resnet) | projection
    queue = {"queue": torch.zeros(128, 64), "queue_ptr": torch.zeros(1, dtype=torch.int64)}
    return under("encoder_q.", encoder) | under("encoder_k.", encoder) | queue


def lightly_benchmark(resnet, head):
    more = under("projection_head.", head(512, 512, 128).state_dict())
    more |= under("online_classifier.linear.", nn.Linear(512, 7).state_dict())
    return under("backbone.", trunk(resnet)) | under("key_backbone.", trunk(resnet)) | more


def lightly_sequence(resnet):
    body = nn.Sequential(*list(resnet.children())[:-1])
    return under("backbone.", body.state_dict()) | under("backbone_momentum.", body.state_dict())


LAYOUTS = {
    "torchvision": lambda resnet: resnet.state_dict(),
    "torchvision's training script": lambda resnet: {"model": resnet.state_dict(), "epoch": 3},
    "torch's ImageNet example": lambda resnet: {
        "state_dict": under("module.", resnet.state_dict()),
        "arch": "resnet18",
    },
    "the method's reference code": lambda resnet: {
        "state_dicts": {
            "network": under("module.", resnet.state_dict()),
            "optimizer": {
                "state": {0: {"momentum_buffer": torch.zeros(3)}},
                "param_groups": [{"lr": 0.5, "params": [0]}],
            },
            "scheduler": {"base_lrs": [1e-4], "last_epoch": 7, "_scale_fn_custom": None},
        },
        "current_epoch": 16,
        "best_acc": 0.7,
        "relative_time": 3600.0,
    },
    "somebody's Lightning module": lambda resnet: {"state_dict": under("model.", resnet.state_dict())},
    "MoCo": lambda resnet: {"arch": "resnet18", "state_dict": under("module.", moco_v2(resnet))},
    "bolts Moco_v2": lambda resnet: {
        "state_dict": moco_v2(resnet) | {"val_queue": torch.zeros(128, 64), "val_queue_ptr": torch.zeros(1)},
        "hyper_parameters": {"base_encoder": "resnet18", "emb_dim": 128},
    },
    "bolts SimCLR": lambda resnet: {
        "state_dict": under("encoder.", resnet.state_dict())
        | under("projection.model.", SimCLRProjectionHead(512, 512, 128).layers.state_dict()),
        "hyper_parameters": {"arch": "resnet18"},
    },
    "lightly SimCLR": lambda resnet: {"state_dict": lightly_benchmark(resnet, SimCLRProjectionHead)},
    "lightly MoCo": lambda resnet: {"state_dict": lightly_benchmark(resnet, MoCoProjectionHead)},
    "lightly's tutorials": lambda resnet: {"state_dict": lightly_sequence(resnet)},
}
WITH_HEAD = list(LAYOUTS)[:5]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_network_is_found_named_and_loaded(resnet, images, tmp_path, layout):
    torch.save(LAYOUTS[layout](resnet), tmp_path / "w.ckpt")
    with torch.inference_mode():
        found = load_backbone(tmp_path / "w.ckpt").eval()(images)
    torch.testing.assert_close(found, features(resnet, images))
    saved = read_weights(tmp_path / "w.ckpt")
    assert saved.backbone == "resnet18"
    assert saved.num_classes == (7 if layout in WITH_HEAD else None)


@pytest.mark.parametrize("layout", WITH_HEAD)
def test_head_of_a_classifier_is_kept_for_label_mapping(resnet, images, tmp_path, layout):
    torch.save(LAYOUTS[layout](resnet), tmp_path / "w.pth")
    classifier, _ = load_classifier(tmp_path / "w.pth")
    with torch.inference_mode():
        torch.testing.assert_close(classifier.eval()(images), resnet(images))


@pytest.mark.parametrize("layout", [one for one in LAYOUTS if one not in WITH_HEAD])
def test_a_projection_is_no_head(resnet, tmp_path, layout):
    torch.save(LAYOUTS[layout](resnet), tmp_path / "w.ckpt")
    with pytest.raises(InputError, match="a backbone without a head"):
        load_classifier(tmp_path / "w.ckpt")


def test_vision_transformers_of_torchvision(tmp_path):
    torch.manual_seed(0)
    network = torchvision.models.vit_b_32(num_classes=5).eval()
    save_file(network.state_dict(), tmp_path / "vit.safetensors")
    classifier, saved = load_classifier(tmp_path / "vit.safetensors")
    pixels = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(classifier.eval()(pixels), network(pixels))
    assert saved.backbone == "vit_b_32"


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convnext_atto", "mobilenetv3_small_050"])
def test_timm_networks_with_their_heads(tmp_path, name):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, num_classes=5).eval()
    save_file(network.state_dict(), tmp_path / "t.safetensors")
    classifier, _ = load_classifier(tmp_path / "t.safetensors", f"timm:{name}")
    pixels = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(classifier.eval()(pixels), network(pixels))
    assert create_backbone(f"timm:{name}").num_features == classifier.head.in_features


def test_what_is_missing_or_left_over_is_listed(resnet, tmp_path):
    state = resnet.state_dict()
    state["layer9.weight"] = state.pop("layer4.1.bn2.weight")
    torch.save(state, tmp_path / "w.pth")
    message = r"1 missing \(network.layer4.1.bn2.weight\); 1 left over \(network.layer9.weight\)"
    with pytest.raises(InputError, match=message):
        load_backbone(tmp_path / "w.pth", "resnet18")


def test_unknown_parts_beside_the_network_are_said(resnet, tmp_path):
    state = under("backbone.", trunk(resnet)) | under("auxiliary.", nn.Linear(2, 2).state_dict())
    torch.save({"state_dict": state}, tmp_path / "w.ckpt")
    with pytest.warns(UserWarning, match=r"2 beside the network left aside \(auxiliary.bias, auxiliary.weight\)"):
        load_backbone(tmp_path / "w.ckpt")


def test_counts_of_batches_may_be_missing(resnet, tmp_path):
    state = {key: value for key, value in resnet.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    assert load_backbone(tmp_path / "old.pth").num_features == 512


def test_code_in_a_checkpoint_is_refused(resnet, tmp_path):
    class Settings:
        pass

    Settings.__qualname__ = "Settings"
    globals()["Settings"] = Settings
    torch.save({"model": resnet.state_dict(), "args": Settings()}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="holds more than tensors and is not loaded"):
        read_weights(tmp_path / "w.pth")
