"""Reads official splits from the folders that the archives of the sets unpack to.

torchvision can read most of these lists, but it requires its own folder names, which differ from those of CoOp and
others, and its errors do not name damaged files or missing images. It has no split for SUN397, and only videos for
UCF101.
"""

import csv
import re
from collections.abc import Callable
from pathlib import Path

from tlprune.data.cifar import read_cifar10, read_cifar100
from tlprune.data.listed import Listing, OfficialSplits, in_short, parts_of_lists, read_json, read_rows
from tlprune.data.mat_files import read_mat
from tlprune.errors import InputError

__all__ = ["read_official"]

_WATERBIRDS = ("img_id", "img_filename", "y", "split", "place", "place_filename")


def read_official(name: str, folder: Path) -> OfficialSplits:
    """Reads the official split of a named set. Only the files of CIFAR, which hold many images each, are decoded.

    Args:
        name: A key of :data:`tlprune.data.target_catalogue.TARGET_SETS`.
        folder: Folder of the set.

    Returns:
        The parts of the split.

    Raises:
        InputError: A file is missing or damaged, or images are missing.
    """
    return _READERS[name](folder)


def _read_pets(folder: Path) -> OfficialSplits:
    """Oxford-IIIT Pet: ``annotations/trainval.txt`` and ``test.txt``, lines of ``Name_12 label species breed``."""
    names: dict[int, str] = {}
    listings = {}
    for part, name in (("train", "trainval.txt"), ("test", "test.txt")):
        file = folder / "annotations" / name
        entries = []
        for image, number, _, _ in read_rows(file, [4]):
            label = _integer(number, file) - 1
            breed = " ".join(word.title() for word in image.rpartition("_")[0].split("_"))
            if names.setdefault(label, breed) != breed:
                raise InputError(f"{file}: label {label + 1} is both {in_short(names[label])} and {in_short(breed)}")
            entries.append((f"{image}.jpg", label))
        listings[part] = Listing(file, entries)
    classes = [names.get(label, "") for label in range(len(names))]
    return parts_of_lists(folder / "images", classes, listings, "official")


def _read_flowers(folder: Path) -> OfficialSplits:
    """Oxford 102 Flower: ``setid.mat`` and ``imagelabels.mat``; the class names are those of torchvision."""
    from torchvision.datasets import Flowers102

    file = folder / "setid.mat"
    labels = read_mat(folder / "imagelabels.mat", "labels", int)
    listings = {}
    for part, name in (("train", "trnid"), ("val", "valid"), ("test", "tstid")):
        ids = read_mat(file, name, int)
        if odd := [number for number in ids if not 1 <= number <= len(labels)]:
            raise InputError(f"{file}: image {odd[0]} in {name!r} is not from 1 to {len(labels)}")
        listings[part] = Listing(file, [(f"image_{number:05}.jpg", labels[number - 1] - 1) for number in ids])
    return parts_of_lists(folder / "jpg", Flowers102.classes[: max(labels)], listings, "official")


def _read_dtd(folder: Path) -> OfficialSplits:
    """Describable Textures: partition 1 of 10, ``labels/train1.txt``, ``val1.txt``, ``test1.txt``: ``class/file``."""
    files = {part: folder / "labels" / f"{part}1.txt" for part in ("train", "val", "test")}
    paths = {part: [words[0] for words in read_rows(file, [1])] for part, file in files.items()}
    classes = sorted({_class_of(path) for path in paths["train"]})
    listings = {part: Listing(file, _labelled(paths[part], classes, file)) for part, file in files.items()}
    return parts_of_lists(folder / "images", classes, listings, "official, partition 1")


def _read_food(folder: Path) -> OfficialSplits:
    """Food-101: ``meta/train.json`` and ``test.json``, ``{class: [class/number, ...]}``, and ``meta/classes.txt``."""
    classes = sorted(words[0] for words in read_rows(folder / "meta" / "classes.txt", [1]))
    listings = {}
    for part in ("train", "test"):
        file = folder / "meta" / f"{part}.json"
        content = read_json(file)
        if not isinstance(content, dict) or sorted(content) != classes:
            raise InputError(f"{file}: must be an object with a list for each class of classes.txt")
        paths = [path for listed in content.values() for path in (listed if isinstance(listed, list) else [None])]
        if odd := [path for path in paths if not isinstance(path, str)]:
            raise InputError(f"{file}: must list paths such as 'apple_pie/134', got {in_short(odd[0])}")
        listings[part] = Listing(file, _labelled([f"{path}.jpg" for path in paths], classes, file))
    return parts_of_lists(folder / "images", classes, listings, "official")


def _read_cars(folder: Path) -> OfficialSplits:
    """Stanford Cars: ``devkit/cars_train_annos.mat``, ``cars_test_annos_withlabels.mat``, ``devkit/cars_meta.mat``."""
    classes = read_mat(folder / "devkit" / "cars_meta.mat", "class_names", str)
    listings = {}
    for part, name in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        file = folder / name
        paths = [f"cars_{part}/{image}" for image in read_mat(file, "annotations", str, "fname")]
        labels = [number - 1 for number in read_mat(file, "annotations", int, "class")]
        listings[part] = Listing(file, list(zip(paths, labels, strict=True)))
    return parts_of_lists(folder, classes, listings, "official")


def _read_sun(folder: Path) -> OfficialSplits:
    """SUN397: partition 1 of 10, ``Training_01.txt`` and ``Testing_01.txt`` of ``/a/abbey/file``."""
    names = [words[0].lstrip("/") for words in read_rows(folder / "SUN397" / "ClassName.txt", [1])]
    listings = {}
    for part, file in (("train", folder / "Training_01.txt"), ("test", folder / "Testing_01.txt")):
        # paths begin with a slash but are relative to the image folder
        paths = [words[0].removeprefix("/") for words in read_rows(file, [1])]
        listings[part] = Listing(file, _labelled(paths, names, file))
    # the class of a/abbey is abbey
    classes = [name.partition("/")[2] for name in names]
    return parts_of_lists(folder / "SUN397", classes, listings, "official, partition 1")


def _read_ucf(folder: Path) -> OfficialSplits:
    """UCF101 as one frame per video: list 1 of three in ``ucfTrainTestlist``, and frames in ``UCF-101-midframes``.

    A frame has the name of its video and the extension ``.jpg``. Its folder has the name of the class, or the name in
    CoOp, with underscores between words (``Apply_Eye_Makeup``).
    """
    lists, root = folder / "ucfTrainTestlist", folder / "UCF-101-midframes"
    classes = [name for _, name in read_rows(lists / "classInd.txt", [2])]
    folders = [name if (root / name).is_dir() else "_".join(re.findall("[A-Z][^A-Z]*", name)) for name in classes]
    listings = {}
    # the labels in the list of training videos repeat the folder names
    for part, columns in (("train", [2]), ("test", [1, 2])):
        file = lists / f"{part}list01.txt"
        videos = [words[0].removesuffix(".avi") for words in read_rows(file, columns)]
        entries = [
            (f"{folders[label]}/{video.rpartition('/')[2]}.jpg", label)
            for video, label in _labelled(videos, classes, file)
        ]
        listings[part] = Listing(file, entries)
    return parts_of_lists(root, classes, listings, "official, list 1")


def _read_waterbirds(folder: Path) -> OfficialSplits:
    """Waterbirds: ``metadata.csv`` with the column ``split``: 0 for training, 1 for validation, 2 for test images."""
    file = folder / "metadata.csv"
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: {getattr(error, 'strerror', None) or error}") from error
    if not rows or tuple(rows[0]) != _WATERBIRDS:
        raise InputError(f"{file}: the first line must be {','.join(_WATERBIRDS)}")
    entries: dict[str, list[tuple[str, int]]] = {"0": [], "1": [], "2": []}
    for number, row in enumerate(rows, 2):
        if None in row.values():
            raise InputError(f"{file}: line {number}: must have {len(_WATERBIRDS)} columns")
        if row["split"] not in entries:
            raise InputError(f"{file}: line {number}: 'split' must be 0, 1 or 2, got {in_short(row['split'])}")
        entries[row["split"]].append((row["img_filename"], _integer(row["y"], file)))
    listings = {part: Listing(file, entries[number]) for part, number in (("train", "0"), ("val", "1"), ("test", "2"))}
    return parts_of_lists(folder, ("landbird", "waterbird"), listings, "official, metadata.csv")


def _integer(text: str, file: Path) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise InputError(f"{file}: expected a number, got {in_short(text)}")
    return int(text)


def _class_of(path: str) -> str:
    return path.rpartition("/")[0]


def _labelled(paths: list[str], classes: list[str], file: Path) -> list[tuple[str, int]]:
    """Pairs each path with the label of its folder."""
    labels = {name: label for label, name in enumerate(classes)}
    if odd := [path for path in paths if _class_of(path) not in labels]:
        such_as = f", such as {classes[0]!r}" if classes else ""
        raise InputError(f"{file}: {in_short(odd[0])} is in no folder of a class{such_as}")
    return [(path, labels[_class_of(path)]) for path in paths]


_READERS: dict[str, Callable[[Path], OfficialSplits]] = {
    "oxford_pets": _read_pets,
    "sun397": _read_sun,
    "stanford_cars": _read_cars,
    "flowers102": _read_flowers,
    "dtd": _read_dtd,
    "ucf101": _read_ucf,
    "food101": _read_food,
    "cifar10": read_cifar10,
    "cifar100": read_cifar100,
    "waterbirds": _read_waterbirds,
}
"""Readers by name in TARGET_SETS."""
