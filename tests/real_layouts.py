"""Small sets of three classes, in exactly the files and folders that the real ones have."""

import csv
import json
import pickle
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import calculate_md5

from tlprune.data.target_catalogue import TARGET_SETS, Sizes, TargetSet


def write_official(name: str, root: Path) -> TargetSet:
    """Writes a small set by its official split into ``root``, and gives its entry with the sizes of that."""
    sizes, classes = _WRITERS[name](root)
    return replace(TARGET_SETS[name], official_sizes=Sizes(*sizes), num_classes=classes)


def write_coop(name: str, root: Path, per_class: tuple[int, int, int] = (4, 1, 2), classes: int = 3) -> TargetSet:
    """Writes images and CoOp's split file into ``root``, and gives the set's entry with the sizes of that."""
    entry = TARGET_SETS[name]
    document: dict[str, list[tuple[str, int, str]]] = {"train": [], "val": [], "test": []}
    number = 0
    for label in range(classes):
        for part, count in zip(document, per_class, strict=True):
            for _ in range(count):
                number += 1
                kind = f"Kind{label:02}"
                path = _COOP_PATHS[name].format(c=kind, n=number, part="test" if part == "test" else "train")
                document[part].append((path, label, kind.lower()))
    write_images(root / entry.images, [path for rows in document.values() for path, _, _ in rows])
    (root / entry.coop_file).write_text(json.dumps(document))
    sizes = Sizes(*(count * classes for count in per_class))
    return replace(entry, coop_sizes=sizes, num_classes=classes)


_COOP_PATHS = {
    "oxford_pets": "{c}_{n}.jpg",
    "sun397": "k/{c}/sun_{n}.jpg",
    "stanford_cars": "cars_{part}/{n:05}.jpg",
    "flowers102": "image_{n:05}.jpg",
    "dtd": "{c}/{c}_{n:04}.jpg",
    "ucf101": "{c}/v_{c}_g01_c{n:02}.jpg",
    "food101": "{c}/{n}.jpg",
}


def write_images(root: Path, paths: list[str]) -> None:
    """One picture under many names: links, since a set has thousands."""
    root.mkdir(parents=True, exist_ok=True)
    first = root / paths[0]
    first.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(first)
    for path in paths[1:]:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).hardlink_to(first)


def _pets(root: Path):
    lists = {"trainval": [], "test": []}
    for label, breed in enumerate(("Abyssinian", "american_bulldog", "yorkshire_terrier"), 1):
        for number in range(1, 8):
            lists["trainval" if number < 6 else "test"].append(f"{breed}_{number} {label} {1 if label == 1 else 2} 1")
    (root / "annotations").mkdir(parents=True)
    for name, lines in lists.items():
        (root / "annotations" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    write_images(root / "images", [f"{line.split()[0]}.jpg" for lines in lists.values() for line in lines])
    return (15, None, 6), 3


def _sun(root: Path):
    classes = ["/a/abbey", "/a/apartment_building/outdoor", "/b/bakery/shop"]
    train = [f"{name}/sun_{letter * 5}.jpg" for name in classes for letter in "abcde"]
    test = [f"{name}/sun_{letter * 5}.jpg" for name in classes for letter in "fg"]
    write_images(root / "SUN397", [path[1:] for path in train + test])
    (root / "SUN397" / "ClassName.txt").write_text("\n".join(classes) + "\n")
    (root / "Training_01.txt").write_text("\n".join(train) + "\n")
    (root / "Testing_01.txt").write_text("\n".join(test) + "\n")
    return (15, None, 6), 3


def _cars(root: Path):
    (root / "devkit").mkdir(parents=True)
    names = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "smart fortwo 2012"], dtype=object)
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": names.reshape(1, -1)})
    for part, count, file in (
        ("train", 15, root / "devkit" / "cars_train_annos.mat"),
        ("test", 6, root / "cars_test_annos_withlabels.mat"),
    ):
        fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
        annotations = np.zeros((1, count), dtype=[(field, object) for field in fields])
        for number in range(count):
            annotations[0, number] = (1, 2, 30, 40, np.uint8(number % 3 + 1), f"{number + 1:05}.jpg")
        savemat(file, {"annotations": annotations})
        write_images(root / f"cars_{part}", [f"{number + 1:05}.jpg" for number in range(count)])
    return (15, None, 6), 3


def _flowers(root: Path):
    root.mkdir(parents=True, exist_ok=True)
    ids = np.random.default_rng(0).permutation(np.arange(1, 25, dtype=np.uint16))
    labels = np.arange(24, dtype=np.uint8) % 3 + 1
    parts = {"trnid": ids[:9], "valid": ids[9:15], "tstid": ids[15:]}
    savemat(root / "setid.mat", {name: part.reshape(1, -1) for name, part in parts.items()})
    savemat(root / "imagelabels.mat", {"labels": labels.reshape(1, -1)})
    write_images(root / "jpg", [f"image_{number:05}.jpg" for number in range(1, 25)])
    return (9, 6, 9), 3


def _dtd(root: Path):
    (root / "labels").mkdir(parents=True)
    lists = {
        part: [f"{name}/{name}_{number:04}.jpg" for name in ("banded", "blotchy", "zigzagged") for number in numbers]
        for part, numbers in (("train", range(2, 6)), ("val", range(6, 8)), ("test", range(8, 11)))
    }
    for part, lines in lists.items():
        (root / "labels" / f"{part}1.txt").write_text("\n".join(lines) + "\n")
    write_images(root / "images", [line for lines in lists.values() for line in lines])
    return (12, 6, 9), 3


def _food(root: Path):
    (root / "meta").mkdir(parents=True)
    classes = ["apple_pie", "baby_back_ribs", "waffles"]
    (root / "meta" / "classes.txt").write_text("\n".join(classes) + "\n")
    numbers = {"train": (134, 9, 1005, 70, 3), "test": (2, 1)}
    paths = []
    for part in numbers:
        listed = {name: [f"{name}/{number}" for number in numbers[part]] for name in ("waffles", *classes[:2])}
        (root / "meta" / f"{part}.json").write_text(json.dumps(listed))
        paths += [f"{path}.jpg" for each in listed.values() for path in each]
    write_images(root / "images", paths)
    return (15, None, 6), 3


def _ucf(root: Path):
    classes = {"ApplyEyeMakeup": "ApplyEyeMakeup", "HandstandPushups": "HandStandPushups", "YoYo": "YoYo"}
    folders = dict(zip(classes, ("Apply_Eye_Makeup", "Handstand_Pushups", "Yo_Yo"), strict=True))
    lists, frames = {"trainlist01": [], "testlist01": []}, []
    for label, (name, spelt) in enumerate(classes.items(), 1):
        for group in range(1, 8):
            video = f"v_{spelt}_g{group:02}_c01"
            frames.append(f"{folders[name]}/{video}.jpg")
            if group < 3:
                lists["testlist01"].append(f"{name}/{video}.avi")
            else:
                lists["trainlist01"].append(f"{name}/{video}.avi {label}")
    (root / "ucfTrainTestlist").mkdir(parents=True)
    rows = [f"{label} {name}" for label, name in enumerate(classes, 1)]
    for name, lines in {**lists, "classInd": rows}.items():
        (root / "ucfTrainTestlist" / f"{name}.txt").write_bytes("\r\n".join([*lines, ""]).encode())
    write_images(root / "UCF-101-midframes", frames)
    return (15, None, 6), 3


def _waterbirds(root: Path):
    root.mkdir(parents=True, exist_ok=True)
    paths = []
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["img_id", "img_filename", "y", "split", "place", "place_filename"])
        for number in range(24):
            paths.append(f"{number % 4:03}.Black_footed_Albatross/Black_Footed_Albatross_{number:04}.jpg")
            split = (0, 0, 0, 1, 2, 2)[number % 6]
            writer.writerow([number + 1, paths[-1], number // 6 % 2, split, number % 3 % 2, "/b/bamboo_forest/1.jpg"])
    write_images(root, paths)
    return (12, 4, 8), 2


def _cifar10(root: Path):
    root.mkdir(parents=True, exist_ok=True)
    names = ["airplane", "automobile", "bird"]
    for file in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        write_batch(root / file, {"labels": [0, 1, 2]})
    write_python2_pickle(root / "batches.meta", {"label_names": names, "num_cases_per_batch": 3, "num_vis": 3072})
    publish(CIFAR10, root)
    return (15, None, 3), 3


def _cifar100(root: Path):
    root.mkdir(parents=True, exist_ok=True)
    for file, count in (("train", 15), ("test", 6)):
        fine = [number % 3 for number in range(count)]
        write_batch(root / file, {"fine_labels": fine, "coarse_labels": [0] * count})
    names = ["apple", "aquarium_fish", "baby"]
    write_python2_pickle(root / "meta", {"fine_label_names": names, "coarse_label_names": ["all"]})
    publish(CIFAR100, root)
    return (15, None, 6), 3


def publish(cifar: type[CIFAR10], root: Path) -> None:
    """Gives torchvision's class the MD5s of these files, which are the same each time, in place of the real ones."""
    for files in (cifar.train_list, cifar.test_list):
        files[:] = [[name, calculate_md5(root / name)] for name, _ in files]
    cifar.meta["md5"] = calculate_md5(root / cifar.meta["filename"])


def write_batch(file: Path, labels: dict[str, list[int]]) -> None:
    """One file of CIFAR: random pixels, a row for each label."""
    count = len(next(iter(labels.values())))
    rng = np.random.default_rng([*file.name.encode()])
    data = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
    names = [f"picture_{number}.png" for number in range(count)]
    write_python2_pickle(file, {"data": data, **labels, "batch_label": "training batch 1 of 5", "filenames": names})


def write_python2_pickle(file: Path, document: dict[str, object]) -> None:
    """As Python 2 wrote it: text and bytes are strings of bytes, numpy's module has its old name, truth is 0 or 1."""
    stream = BytesIO()
    _Python2Pickler(stream, protocol=2).dump(document)
    content = stream.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    file.write_bytes(content.replace(pickle.NEWFALSE + pickle.NEWTRUE + pickle.TUPLE3, b"K\0K\1" + pickle.TUPLE3, 1))


class _Python2Pickler(pickle._Pickler):
    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, text):
        raw = text.encode("latin1") if isinstance(text, str) else bytes(text)
        self.write(pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw)
        self.memoize(text)

    dispatch[str] = save_string
    dispatch[bytes] = save_string


_WRITERS = {
    "oxford_pets": _pets,
    "sun397": _sun,
    "stanford_cars": _cars,
    "flowers102": _flowers,
    "dtd": _dtd,
    "ucf101": _ucf,
    "food101": _food,
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "waterbirds": _waterbirds,
}
