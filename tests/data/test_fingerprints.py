"""Fingerprints of named sets, as they were when Selections were first saved with them: a saved Selection still fits."""

from pathlib import Path

import pytest

from real_layouts import write_coop, write_official
from tlprune.data.named_targets import open_set
from tlprune.data.sources import open_source
from tlprune.data.target_catalogue import TARGET_SETS
from tlprune.storage.fingerprint import digest_json
from torchvision_layouts import SETS

OFFICIAL = {
    "oxford_pets": "410f292523d35b0b",
    "sun397": "84638f5903666f95",
    "stanford_cars": "926ad569f2911922",
    "flowers102": "ade5d70bc10fee40",
    "dtd": "5f063ff2e896a41f",
    "ucf101": "4d47d48f1b610ae9",
    "food101": "694569b12bb8cd32",
    "cifar10": "4212cda218a53e0a",
    "cifar100": "7c81623786eb8ce4",
    "waterbirds": "104b2c2932384122",
}
COOP = {
    "oxford_pets": "22dae1045a0e070a",
    "sun397": "a7722dd09cab6881",
    "stanford_cars": "fe44588f230f5421",
    "flowers102": "2af866f7651c0225",
    "dtd": "e8f676e4c0ea5554",
    "ucf101": "12a7f669f998eba3",
    "food101": "2f81432bf9a8f97b",
}
TORCHVISION = {
    "Country211": "23f861d2d0f7bf85",
    "Country211,split=valid": "5399ba57e0f540a2",
    "DTD": "673070deee2a324c",
    "EMNIST,split=balanced": "e899fbb41cd13e96",
    "EMNIST,split=byclass": "7f9159b00efcc63a",
    "EMNIST,split=bymerge": "e899fbb41cd13e96",
    "EMNIST,split=digits": "bbf2bbc6115a3da7",
    "EMNIST,split=letters": "73c8eccd12208358",
    "EMNIST,split=letters,train=true": "73c8eccd12208358",
    "EMNIST,split=mnist": "bbf2bbc6115a3da7",
    "EuroSAT": "3e805162a3172065",
    "FGVCAircraft": "e6bf509ad758822e",
    "FGVCAircraft,annotation_level=family": "fda68187c59f68a7",
    "FGVCAircraft,annotation_level=manufacturer": "f0e46cf45f72b745",
    "FashionMNIST": "4af6e1b68343a0d1",
    "Flowers102": "2c15492dfe5bffe8",
    "Food101": "6e7bd80fde82eaec",
    "GTSRB": "b18cd4a705e31fc1",
    "GTSRB,split=test": "13bae73817e1ca50",
    "ImageFolder": "72af6322fa54f444",
    "ImageNet": "4ae486216a371555",
    "Imagenette": "31cc27b3f2a07903",
    "Imagenette,size=160px": "23ca50ae48ca5e95",
    "Imagenette,split=val": "e52559bcce11c20d",
    "KMNIST": "7c065562449d7c38",
    "MNIST": "066d1883a438bd50",
    "OxfordIIITPet": "fd05f7aae9c6bce4",
    "OxfordIIITPet,target_types=binary-category": "4aa2cebb7ef1acad",
    "Places365": "0551f25d5eff7617",
    "Places365,split=val": "6280730b4116dce6",
    "QMNIST": "066d1883a438bd50",
    "QMNIST,compat=false": "066d1883a438bd50",
    "QMNIST,what=nist": "55c01183df6bcd41",
    "RenderedSST2": "018fe9720859d86d",
    "STL10": "1c1a9455d2d23b55",
    "STL10,folds=1": "cbbc5ef90fb865fe",
    "STL10,split=unlabeled": "2aed6fd6dd230f21",
    "SVHN": "7988693c9689f82c",
    "StanfordCars": "54e0f0b997ed35c8",
    "USPS": "ca96ab16c5932e15",
}


def alike(root: Path) -> None:
    """Makes each image file one byte long: a fingerprint has sizes in it, and encoders of other versions differ."""
    for path in root.rglob("*"):
        if path.suffix in (".jpg", ".JPEG", ".png", ".ppm"):
            path.write_bytes(b" ")


def fingerprint_of_parts(entry, root: Path) -> str:
    alike(root)
    parts = open_set(entry, root)
    return digest_json([one and one.fingerprint() for one in (parts.train, parts.val, parts.test)])[:16]


@pytest.mark.parametrize("name", TARGET_SETS)
def test_official_splits(name, tmp_path):
    assert fingerprint_of_parts(write_official(name, tmp_path), tmp_path) == OFFICIAL[name]


@pytest.mark.parametrize("name", [name for name, entry in TARGET_SETS.items() if entry.coop_file])
def test_splits_of_coop(name, tmp_path):
    assert fingerprint_of_parts(write_coop(name, tmp_path), tmp_path) == COOP[name]


# torchvision lists SUN397 in the order of the file system
@pytest.mark.parametrize("name", sorted(SETS.keys() - {"SUN397"}))
def test_sources_of_torchvision(name, tmp_path, monkeypatch):
    SETS[name](tmp_path, monkeypatch)
    alike(tmp_path)
    assert open_source(f"torchvision:{name}:{tmp_path}")[0].fingerprint()[:16] == TORCHVISION[name]
