"""Any map-style Dataset as a source: what it lists, what is read of it, what is refused."""

import collections
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset, random_split
from torchvision import datasets as of_torchvision
from torchvision import transforms
from torchvision.datasets import ImageFolder

from real_layouts import write_batch, write_python2_pickle
from tlprune import FeatureMapping, InputError, RandomSelector, prune, select
from tlprune.data import uncached
from tlprune.data.adapters import as_images
from tlprune.data.datasets import FolderImages, TensorImages
from tlprune.data.official_splits import read_official
from tlprune.datamodules.packing import pack
from tlprune.models.backbones import Classifier, create_backbone
from torchvision_layouts import SETS

CLASSES = {"ant": 3, "bee": 5, "cat": 2}
NUMBERS = [0] * 3 + [1] * 5 + [2] * 2
TRAINING = transforms.Compose([transforms.RandomCrop(8), transforms.ToTensor(), transforms.Normalize([0.5], [0.1])])


@pytest.fixture
def folder(class_folder):
    return class_folder("src", CLASSES)


class Pictures(Dataset):
    """Somebody's Dataset that lists nothing, with samples of any shape."""

    def __init__(self, labels=NUMBERS, make=lambda image, label: (image, label), size=8):
        rng = np.random.default_rng(0)
        self.pixels = rng.integers(0, 256, (len(labels), size, size, 3), dtype=np.uint8)
        self.numbers, self.make, self.reads = labels, make, 0

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        self.reads += 1
        return self.make(Image.fromarray(self.pixels[index]), self.numbers[index])


def _tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


Named = collections.namedtuple("Named", "image label")
SHAPES = {
    "pairs": lambda image, label: (image, label),
    "lists": lambda image, label: [image, label, "a path"],
    "named tuples": Named,
    "arrays": lambda image, label: (np.array(image), np.int64(label)),
    "arrays, channels first": lambda image, label: (np.array(image).transpose(2, 0, 1), np.array([label])),
    "bytes": lambda image, label: (_tensor(image), torch.tensor(label)),
    "ToTensor": lambda image, label: (transforms.functional.to_tensor(image), label),
    "half": lambda image, label: (transforms.functional.to_tensor(image).half(), label),
    "torchgeo": lambda image, label: {"image": _tensor(image).float(), "label": torch.tensor(label)},
    "whole numbers": lambda image, label: {"img": _tensor(image).int(), "labels": label},
    "16 bits": lambda image, label: {"pixel_values": np.array(image).astype(np.uint16) * 257, "target": label},
    "processor": lambda image, label: collections.UserDict(pixel_values=_tensor(image) / 255, labels=label),
    "webdataset": lambda image, label: {"__key__": "a/b", "jpg": image, "cls": label},
    "cifar100": lambda image, label: {"img": image, "fine_label": label, "coarse_label": 0},
    "coarse alone": lambda image, label: {"image": image, "coarse_label": label},
}


LABEL_KEYS = ("label", "labels", "target", "cls", "fine_label", "coarse_label")


@pytest.mark.parametrize("shape", SHAPES)
def test_samples_of_any_shape_have_the_same_pixels_and_labels_and_get_new_ones(shape):
    dataset = Pictures(make=SHAPES[shape])
    images = as_images(dataset)
    assert images.labels.tolist() == NUMBERS
    for index in (0, 4, 9):
        assert torch.equal(images[index][0], torch.from_numpy(dataset.pixels[index]).permute(2, 0, 1))
    assert images.fingerprint() == as_images(Pictures()).fingerprint()
    selection = select(dataset, selector=RandomSelector(seed=2))
    kept = sorted(selection.ranking[:2].tolist())
    pruned = prune(dataset, selection, units=2)
    assert len(pruned) == sum(label in kept for label in NUMBERS)
    for place, index in enumerate(pruned.indices):
        sample, before = pruned[place], dataset[index]
        assert type(sample) is type(before)
        by_key = not isinstance(before, list | tuple)
        key = next(key for key in LABEL_KEYS if key in before) if by_key else 1
        assert type(sample[key]) is type(before[key])
        assert int(np.asarray(sample[key]).item()) == kept.index(NUMBERS[index])


def test_one_pass_gives_labels_and_fingerprint(capfd, monkeypatch):
    monkeypatch.setattr("tlprune.progress._Lines.delay", 0)
    dataset = Pictures(labels=[0, 1] * 100)
    images = as_images(dataset)
    assert "read Pictures once: 64 of 200 images" in capfd.readouterr().err
    reads = dataset.reads
    assert len(images.fingerprint()) == 64
    assert dataset.reads == reads <= 200 + 80  # the pass, and a few samples that are looked at first
    part = images.subset(torch.arange(50, 150))
    assert part.fingerprint() != images.fingerprint()
    assert dataset.reads == reads
    assert "once" not in capfd.readouterr().err


def test_processes_read_the_same(monkeypatch):
    assert as_images(Pictures(), num_workers=2).fingerprint() == as_images(Pictures()).fingerprint()


def test_labels_that_are_listed_are_not_read():
    dataset = Pictures(labels=[0, 1] * 100)
    dataset.targets = np.array(dataset.numbers)
    dataset.classes = ["no", "yes"]
    images = as_images(dataset)
    assert (images.labels.tolist(), images.classes) == (dataset.numbers, ("no", "yes"))
    assert dataset.reads <= 80


def test_labels_and_names_in_tables_and_arrays_are_lists_too():
    pandas = pytest.importorskip("pandas")
    dataset = Pictures()
    dataset.samples = pandas.DataFrame({"file": ["a.png"] * 10})
    dataset.labels, dataset.classes = pandas.Series(NUMBERS), np.array(["a", "b", "c"])
    images = as_images(dataset)
    assert (images.labels.tolist(), images.classes) == (NUMBERS, ("a", "b", "c"))

    dataset.labels, dataset.data = np.array(["x", "y"] * 5), np.array(["a.png"] * 10)
    assert as_images(dataset).labels.tolist() == NUMBERS

    class Unfinished(Pictures):
        @property
        def targets(self):
            raise NotImplementedError

    assert as_images(Unfinished()).labels.tolist() == NUMBERS


def test_labels_that_samples_contradict_are_read():
    dataset = Pictures()
    dataset.targets, dataset.classes = [2 - label for label in NUMBERS], ["a", "b", "c"]
    images = as_images(dataset)
    assert images.labels.tolist() == NUMBERS
    assert images.classes == ("0", "1", "2")  # names of a list that is wrong are not trusted


def test_cifar_of_torchvision_is_as_its_files(tmp_path, monkeypatch):
    home = tmp_path / "cifar-10-batches-py"
    home.mkdir()
    for file in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        write_batch(home / file, {"labels": list(range(10))})
    names = [f"class {number}" for number in range(10)]
    write_python2_pickle(home / "batches.meta", {"label_names": names, "num_cases_per_batch": 10, "num_vis": 3072})
    monkeypatch.setattr(of_torchvision.cifar, "check_integrity", lambda path, md5=None: True)
    opened = of_torchvision.CIFAR10(tmp_path, transform=TRAINING)
    before = opened.transform
    images = as_images(opened)
    assert isinstance(images, TensorImages)
    assert images.fingerprint() == read_official("cifar10", home).train.fingerprint()
    assert opened.transform is before
    assert torch.equal(images[1][0], torch.from_numpy(opened.data[1]).permute(2, 0, 1))
    selection = select(opened, selector=RandomSelector(seed=1))
    pruned = prune(opened, selection, units=2)
    assert [pruned[place][1] for place in range(len(pruned))] == pruned.targets
    opened.targets[3] = (opened.targets[3] + 1) % 10
    with pytest.raises(InputError, match=r"CIFAR10: .* another source: sample 3 .* has the label \d here and \d there"):
        prune(opened, selection, units=2)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # timm leaves files open
def test_lightly_and_timm_list_files_as_the_folder_does(folder):
    data = pytest.importorskip("lightly.data")
    of_timm = pytest.importorskip("timm.data")
    expected = select(str(folder), selector=RandomSelector(seed=3))
    lightly = data.LightlyDataset(str(folder), transform=TRAINING)
    timm = of_timm.create_dataset("", root=str(folder), split="train")
    timm.transform = of_timm.create_transform(16, is_training=True)
    for dataset in (lightly, timm, data.LightlyDataset.from_torch_dataset(ImageFolder(folder), TRAINING)):
        transform = dataset.transform
        assert isinstance(as_images(dataset), FolderImages)
        assert select(dataset, selector=RandomSelector(seed=3)).digest == expected.digest
        assert dataset.transform is transform
        pruned = prune(dataset, expected, units=2)
        assert [sample[1] for sample in pruned] == pruned.targets
        assert set(pruned.classes) < set(CLASSES)
    assert pruned[0][2].endswith(".png")  # lightly's file name is still there


def test_a_data_set_of_hugging_face_by_rows_with_any_format(folder, tmp_path):
    datasets = pytest.importorskip("datasets")
    files = sorted(str(path) for path in folder.rglob("*.png"))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    rows = datasets.Dataset.from_dict({"image": files, "label": NUMBERS}, features=features)
    plain = as_images(rows)
    assert (plain.labels.tolist(), plain.classes) == (NUMBERS, tuple(CLASSES))

    def theirs(batch):
        images = [TRAINING(image.convert("RGB")) for image in batch["image"]]
        return {"pixel_values": images, "labels": batch["label"]}

    for dataset in (rows.with_transform(theirs), rows.with_format("torch"), rows):
        assert as_images(dataset).fingerprint() == plain.fingerprint()
        selection = select(dataset, selector=RandomSelector(seed=4))
        pruned = prune(dataset, selection, units=1)
        key = "labels" if "labels" in dataset[0] else "label"
        assert {int(sample[key]) for sample in pruned} == {0}
        assert pruned.classes == (selection.unit_names[int(selection.ranking[0])],)
    names = datasets.Dataset.from_dict({"image": files, "label": ["x"] * 10}).cast_column("image", datasets.Image())
    with pytest.raises(InputError, match="must be whole numbers, column 'label' has text; .*class_encode_column"):
        as_images(names)
    numbers = datasets.Dataset.from_dict({"image": files, "label": [7, 3] * 5}).cast_column("image", datasets.Image())
    assert as_images(numbers).labels.tolist() == [7, 3] * 5
    with pytest.raises(InputError, match=r"DatasetDict holds several data sets \('train', 'test'\); give one of them"):
        as_images(datasets.DatasetDict(train=rows, test=rows))
    with pytest.raises(InputError, match="IterableDataset has no length or no samples by index"):
        as_images(rows.to_iterable_dataset())


def test_parts_of_parts_and_several_in_a_row(folder):
    whole = ImageFolder(folder, TRAINING)
    part = random_split(Subset(whole, range(1, 10)), [4, 5], generator=torch.Generator().manual_seed(0))[1]
    images = as_images(part)
    assert isinstance(images, FolderImages)
    assert images.labels.tolist() == [NUMBERS[range(1, 10)[index]] for index in part.indices]
    both = as_images(ConcatDataset([whole, part]))
    assert isinstance(both, FolderImages)
    assert both.labels.tolist() == NUMBERS + images.labels.tolist()
    mixed = ConcatDataset([whole, Pictures(labels=[1, 0])])
    assert as_images(mixed).labels.tolist() == [*NUMBERS, 1, 0]
    assert torch.equal(as_images(mixed)[10][0], _tensor(mixed[10][0]))
    other = Pictures(labels=[1, 0])
    other.classes = ["ant", "bug"]
    with pytest.raises(InputError, match="label 1 is 'bug' in part 1 and 'bee' in part 0"):
        as_images(ConcatDataset([whole, other]))


def test_a_part_of_a_set_without_a_list_reads_that_part_alone():
    dataset = Pictures(labels=[0, 1] * 100)
    images = as_images(Subset(Subset(dataset, range(100, 200)), [5, 7, 6]))
    assert images.labels.tolist() == [1, 1, 0]
    assert images.name(0) == "Pictures[105]"
    assert dataset.reads < 80


def test_labels_are_those_after_a_target_transform(folder):
    turned = ImageFolder(folder, TRAINING, target_transform=lambda label: 2 - label)
    images = as_images(turned)
    assert isinstance(images, FolderImages)
    assert images.labels.tolist() == [2 - label for label in NUMBERS]
    assert images.classes == ("cat", "bee", "ant")
    selection = select(turned, selector=RandomSelector(seed=1))
    pruned = prune(turned, selection, units=2)
    assert [label for _, label in pruned] == pruned.targets
    with pytest.raises(InputError, match="another source|other classes"):
        prune(ImageFolder(folder), selection, units=2)
    merged = as_images(ImageFolder(folder, target_transform=lambda label: min(label, 1)))
    assert merged.labels.tolist() == [min(label, 1) for label in NUMBERS]
    assert merged.classes == ("0", "1")


def test_files_that_a_loader_of_its_own_reads_are_left_to_it(tmp_path):
    for label, name in enumerate(("ant", "bee")):
        (tmp_path / "arrays" / name).mkdir(parents=True)
        for number in range(2):
            np.save(tmp_path / "arrays" / name / f"{number}.npy", np.full((8, 8, 3), 10 * label + number, np.uint8))
    dataset = of_torchvision.DatasetFolder(tmp_path / "arrays", np.load, (".npy",))
    images = as_images(dataset)
    assert (images.labels.tolist(), images.classes) == ([0, 0, 1, 1], ("ant", "bee"))
    assert [int(images[index][0].max()) for index in range(4)] == [0, 1, 10, 11]


def test_letters_that_torchvision_numbers_from_one_keep_their_numbers(tmp_path, monkeypatch):
    SETS["EMNIST,split=letters"](tmp_path, monkeypatch)
    opened = of_torchvision.EMNIST(tmp_path, "letters")
    images = as_images(opened)
    assert images.labels.tolist() == opened.targets.tolist()
    assert images.classes[:2] == ("N/A", "a")


class Wrapped(Dataset):
    """The usual wrapper that gives each part of a split a transform of its own, without asking whether there is one."""

    def __init__(self, dataset, transform):
        self.dataset, self.transform = dataset, transform

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        image, label = self.dataset[index]
        return self.transform(image), label


def test_a_wrapper_with_a_transform_is_read_without_it(folder):
    inner = ImageFolder(folder, transforms.RandomHorizontalFlip())
    dataset = Wrapped(Subset(inner, range(2, 9)), TRAINING)
    images = as_images(dataset)
    assert images.labels.tolist() == NUMBERS[2:9]
    assert images.classes == tuple(CLASSES)
    assert images.is_reproducible
    assert torch.equal(images[3][0], as_images(inner)[5][0])
    assert dataset.transform is TRAINING
    assert isinstance(inner.transform, transforms.RandomHorizontalFlip)


class Flipped(Pictures):
    """Augments inside."""

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return transforms.functional.hflip(image) if random.random() < 0.5 else image, label


@pytest.fixture
def _unwarned(monkeypatch):
    monkeypatch.setattr(uncached, "_warned", set())


def _surrogate():
    torch.manual_seed(0)
    return Classifier(create_backbone("resnet8_w8"), 3)


@pytest.mark.usefixtures("_unwarned")
def test_samples_that_change_are_not_cached_and_that_is_said_once(tmp_path, recwarn):
    cache = tmp_path / "own"
    dataset = Flipped()
    random.seed(1)
    state = random.getstate()
    options = {"selector": FeatureMapping(num_clusters=3), "surrogate": _surrogate(), "image_size": 32, "cache": cache}
    for _ in range(2):
        found = select(dataset, Pictures(), **options)
        assert "cached" not in found.metadata
    said = [str(one.message) for one in recwarn if "nothing of it is cached" in str(one.message)]
    assert said == [
        "Flipped: its samples change each time they are read, so nothing of it is cached; "
        "give it without random transforms, or with a `fingerprint`"
    ]
    assert [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    assert random.getstate() != state  # features see what the Dataset gives
    steady = select(Pictures(), Pictures(), **options)
    assert "cached" in select(Pictures(), Pictures(), **options).metadata
    assert len(steady.unit_of_sample) == len(found.unit_of_sample) == 10


@pytest.mark.usefixtures("_unwarned")
def test_samples_that_change_are_not_packed():
    with pytest.raises(
        InputError, match="`image_cache: raw256`: Flipped: its samples change .*, so they cannot be cached"
    ):
        pack(as_images(Flipped()), "raw256", Path("none"))
    assert not Path("none").exists()


def test_looking_at_samples_draws_nothing_from_the_callers_generators():
    random.seed(5)
    expected = random.random()
    random.seed(5)
    assert not as_images(Flipped()).is_reproducible
    assert random.random() == expected


@pytest.mark.parametrize("given", ["v1", lambda: "v1"])
def test_a_data_set_may_name_its_content_itself(given, tmp_path):
    dataset = Flipped()
    dataset.targets, dataset.fingerprint = NUMBERS, given
    before = dataset.reads
    images = as_images(dataset)
    assert images.is_reproducible
    first = images.fingerprint()
    assert dataset.reads - before <= 80
    dataset.fingerprint = "v2" if given == "v1" else lambda: "v2"
    assert as_images(dataset).fingerprint() != first
    selection = select(images, selector=RandomSelector())
    with pytest.raises(InputError, match="Flipped: .*|made for another source"):
        prune(dataset, selection, units=1)
    dataset.fingerprint = lambda: 3
    with pytest.raises(InputError, match=r"Flipped.fingerprint\(\) must return text, got int"):
        as_images(dataset)


def test_images_without_labels_are_a_source_for_those_who_need_none():
    dataset = Pictures(make=lambda image, label: image)
    found = select(dataset, selector=RandomSelector(unit="sample"))
    assert len(prune(dataset, found, images=4)) == 4
    with pytest.raises(InputError, match="LabelMapping needs a labelled source, and this one has no labels"):
        select(dataset, Pictures(), surrogate=_surrogate())
    with pytest.raises(InputError, match=r"Pictures\[1\]: all samples must have a label, or none; 1 of 2 samples"):
        as_images(Pictures(labels=[0, None]))


class Stream(IterableDataset):
    def __len__(self):
        return 3

    def __iter__(self):
        return iter([(BLACK, 0)] * 3)


def _of(tensor):
    return TensorDataset(tensor, torch.zeros(len(tensor), dtype=torch.int64))


BLACK = Image.new("RGB", (8, 8))
REFUSED = {
    "iterable": (Stream(), "Stream has no length or no samples by index, so it cannot be ordered; give a Dataset with"),
    "loader": (DataLoader([(BLACK, 0)]), "DataLoader has no .* by index, so it cannot be ordered; give its `dataset`"),
    "data module": (LightningDataModule(), "so it cannot be ordered; give the data set of its training loader"),
    "empty": ([], "list is empty: it has 0 samples"),
    "text": ([(BLACK, "cat")], r"list\[0\]: a label must be a whole number, got the text 'cat'; number the classes"),
    "one-hot": ([(BLACK, torch.ones(5))], r"a label must be one whole number, got torch.float32 of shape \(5,\)"),
    "negative": ([(BLACK, -3)], "a label must be at least 0, or -1 for none, got -3"),
    "ids": ([(BLACK, 10**9)], "list: a label must be below 1,000,000, got 1,000,000,000; number the classes from 0"),
    "boxes": ([(BLACK, {"boxes": []})], "a label must be a whole number, got dict"),
    "two labels": ([{"image": BLACK, "target": 0, "cls": 1}], "'target' and 'cls' may both be the label.*keys 'image'"),
    "no image": ([{"video": BLACK, "label": 0}], "no image among the keys 'video', 'label'; call one of them 'image'"),
    "path": ([("a.jpg", 0)], "an image must be Pillow's, .*, got str"),
    "normalised": (
        _of(torch.linspace(-2, 2, 64).view(8, 8).expand(2, 3, 8, 8)),
        "got float32 from -2 to 2; give the data",
    ),
    "not whole": (_of(torch.full((2, 3, 8, 8), 3.7)), "got float32 from 3.7 to 3.7"),
    "not a number": (_of(torch.full((2, 3, 8, 8), torch.nan)), "got float32 from nan to nan"),
    "bands": (_of(torch.zeros(2, 13, 8, 8)), r"TensorDataset\[0\]: .* 1 or 3 channels, got 13 in torch.float32"),
    "complex": (_of(torch.zeros(2, 3, 8, 8, dtype=torch.complex64)), "got torch.complex64"),
    "flat": (_of(torch.zeros(2, 64)), r"got torch.float32 of shape \(64,\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_a_line(case, tmp_path):
    dataset, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as raised:
        select(dataset, selector=RandomSelector(), cache=tmp_path / "none", output=tmp_path / "s.safetensors")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "none").exists()
    assert not (tmp_path / "s.safetensors").exists()


def test_one_image_in_another_range_is_named():
    images = torch.rand(100, 3, 8, 8)
    images[34] *= 255
    with pytest.raises(InputError, match=r"TensorDataset\[34\]: numbers from .* other images of it have in \[0, 1\]"):
        as_images(_of(images))[34]


def test_arrays_of_one_channel_are_read_by_sample():
    dataset = Pictures(make=lambda image, label: (image.convert("L"), label))
    dataset.targets, dataset.data = NUMBERS, np.zeros((10, 1, 8, 8), np.uint8)
    images = as_images(dataset)
    assert torch.equal(images[3][0], _tensor(dataset[3][0].convert("RGB")))


def test_one_channel_is_repeated():
    grey = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    images = as_images(_of(grey))
    assert torch.equal(images[2][0], grey[2].expand(3, 8, 8))


def test_the_surrogates_classes_are_compared_with_those_of_a_data_set(surrogate_file, tmp_path):
    dataset = Pictures()
    dataset.classes = ["ant", "bee", "cat"]
    with pytest.raises(InputError, match="its head has 4 outputs, the source has 3 classes"):
        select(dataset, dataset, surrogate=surrogate_file(4))
    with pytest.raises(InputError, match="trained on other classes \\('cow' where the source has 'cat'\\)"):
        select(dataset, dataset, surrogate=surrogate_file(["ant", "bee", "cow"]))


def test_a_wrapper_in_another_order_is_read(folder):
    class Shuffled(Wrapped):
        def __getitem__(self, index):
            return self.dataset[(index * 7 + 3) % 10]

    dataset = Shuffled(ImageFolder(folder), None)
    assert as_images(dataset).labels.tolist() == [NUMBERS[(index * 7 + 3) % 10] for index in range(10)]


def test_a_sample_that_cannot_be_read_is_named_or_skipped(folder):
    (folder / "bee" / "001.png").write_bytes(b"damaged")
    files = ImageFolder(folder)

    class Own(Pictures):
        def __getitem__(self, index):
            if index == 5:
                raise OSError("truncated file")
            return super().__getitem__(index)

    assert as_images(files).labels.tolist() == NUMBERS
    with pytest.raises(InputError, match=r"Own\[5\]: OSError: truncated file"):
        as_images(Own())
    own = Own(labels=[0, 1] * 100)
    own.targets = own.numbers
    with pytest.warns(UserWarning, match="1 of 200 images cannot be decoded and are skipped"):
        selection = select(own, selector=RandomSelector(unit="sample"), on_bad_image="skip")
    assert selection.skipped == ("Own[5]",)
