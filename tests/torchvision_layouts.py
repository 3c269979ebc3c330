"""Small sets in exactly the files that torchvision's classes read, and what must be found in them."""

import bz2
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision.datasets as theirs
from scipy.io import savemat

from real_layouts import write_images, write_official

DIGITS = ["0 - zero", "1 - one", "2 - two", "3 - three", "4 - four"]
DIGITS += ["5 - five", "6 - six", "7 - seven", "8 - eight", "9 - nine"]


@dataclass
class Expected:
    """What a source must hold.

    Args:
        classes: Class names.
        labels: Of each image, in torchvision's order.
        shift: What is to be added to these for torchvision's own labels.
    """

    classes: list[str]
    labels: list[int]
    shift: int = 0


def write_idx(file: Path, array: np.ndarray, kind: int = 8) -> None:
    header = bytes([0, 0, kind, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(header + array.tobytes())


def digits(folder: Path, prefix: str, labels: np.ndarray, test: str = "t10k") -> None:
    """Images and labels of the training and the test part; the latter has the labels in reverse."""
    rng = np.random.default_rng(0)
    for part, these in (("train", labels), (test, labels[::-1])):
        pixels = rng.integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
        write_idx(folder / f"{prefix}{part}-images-idx3-ubyte", pixels)
        write_idx(folder / f"{prefix}{part}-labels-idx1-ubyte", these.astype(np.uint8))


def mnist(root, monkeypatch, name="MNIST", classes=None):
    labels = np.arange(12) * 7 % 10
    digits(root / name / "raw", "", labels)
    return Expected(classes or DIGITS, labels.tolist())


def fashion_mnist(root, monkeypatch):
    return mnist(root, monkeypatch, "FashionMNIST", theirs.FashionMNIST.classes)


def kmnist(root, monkeypatch):
    return mnist(root, monkeypatch, "KMNIST", theirs.KMNIST.classes)


def emnist(split, classes, first=0):
    def write(root, monkeypatch):
        labels = np.arange(70) * 7 % len(classes) + first
        digits(root / "EMNIST" / "raw", f"emnist-{split}-", labels, "test")
        return Expected(list(classes), (labels - first).tolist(), first)

    return write


def qmnist(root, monkeypatch):
    labels = np.arange(12) * 7 % 10
    rows = np.arange(12 * 8).reshape(12, 8)
    rows[:, 0] = labels
    folder = root / "QMNIST" / "raw"
    pixels = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    for images, table in (("qmnist-train", rows), ("xnist", rows[::-1])):
        write_idx(folder / f"{images}-images-idx3-ubyte", pixels)
        write_idx(folder / f"{images}-labels-idx2-int", table.astype(">i4"), 12)
    return Expected(DIGITS, labels.tolist())


def qmnist_nist(root, monkeypatch):
    return Expected(DIGITS, qmnist(root, monkeypatch).labels[::-1])


def usps(root, monkeypatch):
    rng = np.random.default_rng(0)
    labels = np.arange(12) * 7 % 10
    rows = [
        f"{label + 1} " + " ".join(f"{place}:{value:.4f}" for place, value in enumerate(rng.uniform(-1, 1, 256), 1))
        for label in labels
    ]
    (root / "usps.bz2").write_bytes(bz2.compress("\n".join([*rows, ""]).encode()))
    return Expected([str(number) for number in range(10)], labels.tolist())


def svhn(root, monkeypatch):
    monkeypatch.setattr(theirs.SVHN, "_check_integrity", lambda self: True)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 11), dtype=np.uint8)
    numbers = np.array([10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], np.uint8)  # 10 is zero
    savemat(root / "train_32x32.mat", {"X": pixels, "y": numbers[:, None]})
    return Expected([str(number) for number in range(10)], (numbers % 10).tolist())


def svhn_of_one(root, monkeypatch):
    monkeypatch.setattr(theirs.SVHN, "_check_integrity", lambda self: True)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 1), dtype=np.uint8)
    savemat(root / "train_32x32.mat", {"X": pixels, "y": np.array([[1]], np.uint8)})
    return Expected(["0", "1"], [1])


STL = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]


def stl10(root, monkeypatch):
    monkeypatch.setattr(theirs.STL10, "_check_integrity", lambda self: True)
    folder = root / "stl10_binary"
    folder.mkdir()
    rng = np.random.default_rng(0)
    labels = np.arange(20, dtype=np.uint8) % 10
    for part in ("train", "test"):
        (folder / f"{part}_X.bin").write_bytes(rng.integers(0, 256, 20 * 3 * 96 * 96, dtype=np.uint8).tobytes())
        (folder / f"{part}_y.bin").write_bytes((labels + 1).tobytes())
    (folder / "unlabeled_X.bin").write_bytes(rng.integers(0, 256, 5 * 3 * 96 * 96, dtype=np.uint8).tobytes())
    (folder / "class_names.txt").write_text("\n".join([*STL, ""]))
    (folder / "fold_indices.txt").write_text(
        "".join(" ".join(map(str, range(fold, 20, 5))) + " \n" for fold in range(10))
    )
    return Expected(STL, labels.tolist())


def stl10_fold(root, monkeypatch):
    return Expected(STL, stl10(root, monkeypatch).labels[1::5])


def stl10_unlabeled(root, monkeypatch):
    stl10(root, monkeypatch)
    return Expected([], [0] * 5, -1)


def places(root, monkeypatch):
    monkeypatch.setattr(theirs.Places365, "_CATEGORIES_META", ("categories_places365.txt", None))
    lists = {"train-standard": ("places365_train_standard.txt", None), "val": ("places365_val.txt", None)}
    monkeypatch.setattr(theirs.Places365, "_FILE_LIST_META", lists)
    (root / "categories_places365.txt").write_text("/a/airfield 0\n/b/bar 1\n/f/field/wild 2\n")
    rows = ["/a/airfield/00000003.jpg 0", "/f/field/wild/00000001.jpg 2", "/b/bar/00000001.jpg 1"]
    (root / "places365_train_standard.txt").write_text("\n".join([*rows, ""]))
    (root / "places365_val.txt").write_text("Places365_val_00000001.jpg 2\nPlaces365_val_00000002.jpg 0\n")
    write_images(root / "data_large_standard", [row.split()[0][1:] for row in rows])
    write_images(root / "val_large", ["Places365_val_00000001.jpg", "Places365_val_00000002.jpg"])
    return Expected(["/a/airfield", "/b/bar", "/f/field/wild"], [0, 2, 1])


def places_val(root, monkeypatch):
    return Expected(places(root, monkeypatch).classes, [2, 0])


def class_folders(folder, ending, classes, names=None):
    """Two images in each of some class folders."""

    def write(root, monkeypatch):
        write_images(root / folder, [f"{name}/{number:05}{ending}" for name in classes for number in (1, 2)])
        return Expected(names or classes, [label for label in range(len(classes)) for _ in (1, 2)])

    return write


def imagenet(root, monkeypatch):
    words = {"n01440764": ("tench", "Tinca tinca"), "n02012849": ("crane",), "n03126707": ("crane",)}
    torch.save((words, ["n01440764"]), root / "meta.bin")
    names = ["tench", "crane (n02012849)", "crane (n03126707)"]
    return class_folders("train", ".JPEG", list(words), names)(root, monkeypatch)


def aircraft(level, classes, labels):
    def write(root, monkeypatch):
        data = root / "fgvc-aircraft-2013b" / "data"
        data.mkdir(parents=True)
        file = {"variant": "variants", "family": "families", "manufacturer": "manufacturers"}[level]
        (data / f"{file}.txt").write_text("\n".join([*classes, ""]))
        numbers = [f"{1025794 + place}" for place in range(len(labels))]
        rows = [f"{number} {classes[label]}" for number, label in zip(numbers, labels, strict=True)]
        (data / f"images_{level}_trainval.txt").write_text("\n".join([*rows, ""]))
        write_images(data / "images", [f"{number}.jpg" for number in numbers])
        return Expected(classes, labels)

    return write


def gtsrb(root, monkeypatch):
    return class_folders("gtsrb/GTSRB/Training", ".ppm", ["00000", "00001", "00002"], ["0", "1", "2"])(
        root, monkeypatch
    )


def gtsrb_test(root, monkeypatch):
    write_images(root / "gtsrb" / "GTSRB" / "Final_Test" / "Images", ["00000.ppm", "00001.ppm", "00002.ppm"])
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    rows += [f"{number:05}.ppm;53;54;6;5;48;49;{label}" for number, label in enumerate((2, 0, 1))]
    (root / "gtsrb" / "GT-final_test.csv").write_text("\n".join([*rows, ""]))
    return Expected(["0", "1", "2"], [2, 0, 1])


def pets(root, monkeypatch):
    write_official("oxford_pets", root / "oxford-iiit-pet")
    return Expected(["Abyssinian", "American Bulldog", "Yorkshire Terrier"], [0] * 5 + [1] * 5 + [2] * 5)


def pets_by_species(root, monkeypatch):
    write_official("oxford_pets", root / "oxford-iiit-pet")
    return Expected(["Cat", "Dog"], [0] * 5 + [1] * 10)


def flowers(root, monkeypatch):
    monkeypatch.setattr(theirs.Flowers102, "_check_integrity", lambda self: True)
    write_official("flowers102", root / "flowers-102")
    ids = np.random.default_rng(0).permutation(np.arange(1, 25))[:9]
    return Expected(theirs.Flowers102.classes, [(number - 1) % 3 for number in ids.tolist()])


def cars(root, monkeypatch):
    write_official("stanford_cars", root / "stanford_cars")
    return Expected(["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "smart fortwo 2012"], [0, 1, 2] * 5)


def sun(root, monkeypatch):
    write_official("sun397", root)
    return Expected(["abbey", "apartment_building/outdoor", "bakery/shop"], [])  # in the order of the file system


def dtd(root, monkeypatch):
    write_official("dtd", root / "dtd" / "dtd")
    return Expected(["banded", "blotchy", "zigzagged"], [0] * 4 + [1] * 4 + [2] * 4)


def food(root, monkeypatch):
    write_official("food101", root / "food-101")
    return Expected(["apple_pie", "baby_back_ribs", "waffles"], [2] * 5 + [0] * 5 + [1] * 5)


LETTERS, ALL = "abcdefghijklmnopqrstuvwxyz", theirs.EMNIST.classes_split_dict
SETS = {
    "Country211": class_folders("country211/train", ".jpg", ["AD", "AE", "AF"]),
    "Country211,split=valid": class_folders("country211/valid", ".jpg", ["AD", "AE"]),
    "DTD": dtd,
    "EMNIST,split=letters": emnist("letters", LETTERS, 1),
    "EMNIST,split=letters,train=true": emnist("letters", LETTERS, 1),
    "EMNIST,split=byclass": emnist("byclass", ALL["byclass"]),
    "EMNIST,split=bymerge": emnist("bymerge", ALL["bymerge"]),
    "EMNIST,split=balanced": emnist("balanced", ALL["balanced"]),
    "EMNIST,split=digits": emnist("digits", ALL["digits"]),
    "EMNIST,split=mnist": emnist("mnist", ALL["mnist"]),
    "EuroSAT": class_folders("eurosat/2750", ".jpg", ["AnnualCrop", "Forest", "SeaLake"]),
    "FGVCAircraft": aircraft("variant", ["707-320", "727-200", "737-200"], [2, 0, 1, 1]),
    "FGVCAircraft,annotation_level=family": aircraft("family", ["A300", "Boeing 707"], [1, 0]),
    "FGVCAircraft,annotation_level=manufacturer": aircraft("manufacturer", ["Airbus", "Boeing"], [1, 1, 0]),
    "FashionMNIST": fashion_mnist,
    "Flowers102": flowers,
    "Food101": food,
    "GTSRB": gtsrb,
    "GTSRB,split=test": gtsrb_test,
    "ImageFolder": class_folders("", ".png", ["ant", "bee"]),
    "ImageNet": imagenet,
    "Imagenette": class_folders("imagenette2/train", ".JPEG", ["n01440764", "n03888257"], ["tench", "parachute"]),
    "Imagenette,size=160px": class_folders("imagenette2-160/train", ".JPEG", ["n03888257"], ["parachute"]),
    "Imagenette,split=val": class_folders("imagenette2/val", ".JPEG", ["n02979186"], ["cassette player"]),
    "KMNIST": kmnist,
    "MNIST": mnist,
    "OxfordIIITPet": pets,
    "OxfordIIITPet,target_types=binary-category": pets_by_species,
    "Places365": places,
    "Places365,split=val": places_val,
    "QMNIST": qmnist,
    "QMNIST,what=nist": qmnist_nist,
    "QMNIST,compat=false": qmnist,
    "RenderedSST2": class_folders("rendered-sst2/train", ".png", ["negative", "positive"]),
    "STL10": stl10,
    "STL10,folds=1": stl10_fold,
    "STL10,split=unlabeled": stl10_unlabeled,
    "SUN397": sun,
    "SVHN": svhn,
    "StanfordCars": cars,
    "USPS": usps,
}
"""A writer for each set by the name that a source has."""

EDGES = {"SVHN": svhn_of_one}


def opened_by_torchvision(name: str, root: Path):
    """What torchvision itself makes of a set."""
    kind, *options = name.split(",")
    given = dict(option.split("=") for option in options)
    plain = {"true": True, "false": False, **{str(number): number for number in range(10)}}
    return getattr(theirs, kind)(root, **{key: plain.get(value, value) for key, value in given.items()})
