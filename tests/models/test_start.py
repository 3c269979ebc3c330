import re

import pytest
import torch

from tlprune.errors import InputError
from tlprune.models.backbones import create_backbone
from tlprune.models.start import start_backbone
from tlprune.preprocessing import Preprocessing


def start(backbone=None, weights=None, default=None, preprocessing=None):
    return start_backbone("LitClassifier", backbone, weights, default, preprocessing)


def test_without_weights_the_usual_network_is_random():
    assert start(default="resnet8_w4").name == "resnet8_w4"
    made = start("resnet8_w8", default="resnet8_w4")
    assert (made.name, made.beside, made.preprocessing) == ("resnet8_w8", None, Preprocessing())


def test_the_file_names_the_network_and_the_user_beats_its_preprocessing(surrogate_file):
    file = str(surrogate_file(9, preprocessing=Preprocessing(image_size=24, crop_share=1.0)))
    made = start(weights=file, default="resnet8_w4", preprocessing=Preprocessing(image_size=40))
    assert made.name == "resnet8_w8"
    assert made.preprocessing == Preprocessing(image_size=40, crop_share=1.0)


def test_another_network_is_refused_with_both_names(surrogate_file):
    message = "`backbone` is 'resnet8_w16', but .*surrogate.safetensors holds 'resnet8_w8'"
    with pytest.raises(InputError, match=message):
        start("resnet8_w16", str(surrogate_file(9)))


def test_a_file_without_a_name_is_held_against_the_network_key_by_key(tmp_path):
    state = create_backbone("resnet18").network.state_dict()
    torch.save({"state_dict": state}, tmp_path / "plain.pth")
    assert start(weights=str(tmp_path / "plain.pth")).name == "resnet18"
    with pytest.raises(InputError, match=r"weights of another network: \d+ missing \(.*left over"):
        start("vit_b_32", str(tmp_path / "plain.pth"))
    del state["layer4.1.bn2.weight"], state["layer1.0.conv1.weight"]
    state["layer9.weight"] = torch.zeros(1)
    torch.save({"state_dict": state}, tmp_path / "less.pth")
    with pytest.raises(InputError, match=re.escape("2 missing (network.layer1.0.conv1.weight, network.layer4.1.bn2.")):
        start("resnet18", str(tmp_path / "less.pth"))
    with pytest.raises(InputError, match="LitClassifier needs `backbone`"):
        start(weights=str(tmp_path / "less.pth"), default="resnet18")


def test_a_network_of_timm_and_of_torchvision_may_have_one_name(tmp_path):
    pytest.importorskip("timm")
    torch.save({"arch": "resnet18", "state_dict": create_backbone("resnet18").network.state_dict()}, tmp_path / "a.pth")
    assert start("timm:resnet18", str(tmp_path / "a.pth")).name == "timm:resnet18"
    with pytest.raises(InputError, match="`backbone` is 'timm:resnetblur18', but .* holds 'resnet18'"):
        start("timm:resnetblur18", str(tmp_path / "a.pth"))


@pytest.mark.parametrize(
    ("classes", "loaded"), [(["a", "b", "c"], True), (["a", "c", "b"], False), (["a", "b"], False), ([], False)]
)
def test_a_head_is_loaded_where_its_classes_are_the_same_in_order(surrogate_file, classes, loaded):
    beside = start(weights=str(surrogate_file(["a", "b", "c"]))).beside
    head = torch.nn.Linear(32, len(classes) or 3)
    before = head.weight.clone()
    assert beside.load_into(head, classes) == loaded
    assert torch.equal(head.weight, before) != loaded
    said = beside.described(loaded)
    assert said.endswith("56 tensors loaded, 0 left out" if loaded else "its head of 3 classes is not used")
    assert loaded or "54 tensors loaded, 2 left out (head.bias, head.weight)" in said


def test_a_head_without_class_names_is_not_loaded(surrogate_file):
    beside = start(weights=str(surrogate_file(3))).beside
    assert not beside.load_into(torch.nn.Linear(32, 3), ["a", "b", "c"])
    assert not beside.load_into(torch.nn.Linear(32, 3), [])
