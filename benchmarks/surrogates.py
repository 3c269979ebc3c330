"""Surrogates of the built-in source, as benchmarks need them."""

from functools import cache
from pathlib import Path

from training import Pretraining, pretrain

from tlprune import PrunedSourceDataModule
from tlprune.data.datasets import TensorImages
from tlprune.data.scanning import scan_class_folder
from tlprune.data.synthetic import synthetic_source
from tlprune.experiments.fitting import quiet
from tlprune.models.backbones import Classifier
from tlprune.models.weights import load_classifier
from tlprune.storage.cache import cache_root

__all__ = ["drawn", "train_surrogate"]


@cache
def drawn() -> TensorImages:
    """The built-in source, in memory."""
    return TensorImages.from_images(scan_class_folder(synthetic_source(cache_root(None))))


def train_surrogate(folder: str, backbone: str, epochs: int, seed: int = 0) -> tuple[Classifier, TensorImages]:
    """Trains on the whole source; the classifier, and the source."""
    path = Path(folder) / "surrogate.safetensors"
    with quiet():
        data = PrunedSourceDataModule(drawn(), image_size=32, augment="shift")
        data.setup()
        pretrain(data, Pretraining(backbone, epochs), seed, path)
    return load_classifier(path)[0], drawn()
