"""Small real files and sets that tests share."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tlprune.data.datasets import TensorImages
from tlprune.data.synthetic import synthetic_source
from tlprune.data.target_splits import TargetSplits
from tlprune.models.backbones import Classifier, create_backbone
from tlprune.models.weights import save_classifier
from tlprune.preprocessing import Preprocessing

# Lightning 2.6 calls what jsonargparse 5 will remove; pyproject.toml keeps to jsonargparse 4
os.environ["JSONARGPARSE_DEPRECATION_WARNINGS"] = "off"


_TRAINS = {"trainer", "train", "resume", "fitted", "on_ranks"}
"""Fixtures of tests that train."""


def pytest_collection_modifyitems(items):
    """Marks the tests that train: by the fixture that they take, or since all of their folder do."""
    for item in items:
        if _TRAINS & set(getattr(item, "fixturenames", ())) or "/tests/modules/" in item.path.as_posix():
            item.add_marker("trains")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("TLPRUNE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def _drawn_once(tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()  # each process of pytest-xdist has one of its own beside the others'
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*another process is creating it")
        return synthetic_source((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "drawn")


@pytest.fixture
def drawn_cached(_drawn_once, _own_cache, tmp_path):
    """The built-in source lies in this test's cache already: it is drawn once for all tests."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / _drawn_once.name).symlink_to(_drawn_once)


@pytest.fixture
def class_folder(tmp_path):
    """Writes a class folder: ``class_folder("src", {"cat": 3, "dog": 2})``."""

    def write(name: str, counts: dict[str, int], size: int = 32, ending: str = ".png") -> Path:
        root = tmp_path / name
        for label, (folder, count) in enumerate(counts.items()):
            (root / folder).mkdir(parents=True)
            for number in range(count):
                rng = np.random.default_rng([label, number])
                pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / folder / f"{number:03}{ending}")
        return root

    return write


@pytest.fixture(scope="session")
def coloured():
    """A set whose classes are plain colours with noise: easy to learn in a few steps."""

    def make(classes: int, each: int, seed: int = 0) -> TensorImages:
        generator = torch.Generator().manual_seed(seed)
        palette = torch.randint(0, 256, (classes, 3, 1, 1), generator=torch.Generator().manual_seed(7))
        labels = torch.arange(classes).repeat_interleave(each)
        noise = torch.randint(-20, 21, (len(labels), 3, 32, 32), generator=generator)
        pixels = (palette[labels] + noise).clamp(0, 255).to(torch.uint8)
        return TensorImages(pixels, labels, [f"colour{label:02}" for label in range(classes)])

    return make


@pytest.fixture
def target(coloured):
    """A target of four of the colours."""
    train, val, test = (coloured(4, each, seed) for seed, each in enumerate((8, 5, 6), 1))
    return TargetSplits("colours", train, val, test, 32, "made for tests")


@pytest.fixture
def surrogate_file(tmp_path):
    """Writes random weights of a surrogate with so many outputs."""

    def write(
        classes: int | list[str], name: str = "surrogate.safetensors", preprocessing: Preprocessing | None = None
    ) -> Path:
        torch.manual_seed(0)
        names = [] if isinstance(classes, int) else classes
        classifier = Classifier(create_backbone("resnet8_w8"), classes if isinstance(classes, int) else len(classes))
        path = tmp_path / name
        save_classifier(path, "resnet8_w8", classifier.backbone, classifier.head, names, None, preprocessing)
        return path

    return write


@pytest.fixture
def trainer():
    """Makes a Trainer of one process that writes nothing and trains for one epoch, unless told otherwise."""

    def make(**options) -> Trainer:
        silent = {"logger": False, "enable_checkpointing": False}
        silent |= {"enable_progress_bar": False, "enable_model_summary": False}
        return Trainer(**{"accelerator": "cpu", "devices": 1, "max_epochs": 1, **silent, **options})

    return make


@pytest.fixture
def events():
    """Reads what a TensorBoardLogger has written to a folder."""

    def read(folder: Path) -> EventAccumulator:
        found = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0, "histograms": 0})
        found.Reload()
        return found

    return read


class PointImages:
    """Images that are their own features: image ``i`` is row ``i`` of ``points``, ``[N, D]``."""

    def __init__(self, points, labels=None, classes=(), digest="points"):
        self.points = points
        self.labels = torch.zeros(len(points), dtype=torch.int64) if labels is None else labels
        self.classes = tuple(classes)
        self.digest = digest
        self.transform_config = {"view": "none", "image_size": 1}
        self.asked = 0

    def fingerprint(self):
        return self.digest

    def __len__(self):
        return len(self.points)

    def __getitem__(self, index):
        self.asked += 1
        return self.points[index][:, None, None], int(self.labels[index])

    def name(self, index):
        return f"point {index}"


@pytest.fixture
def points():
    """Makes images that are their own features, for a surrogate that is ``nn.Flatten()``."""
    return PointImages
