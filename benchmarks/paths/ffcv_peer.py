"""FFCV's writer and loader, to be run by the Python of an environment that has it; needs nothing of tlprune.

``write`` writes a file, ``load`` runs an epoch for each line that it reads. All JPEG: every image a JPEG of a shorter
side of at most 256 pixels; raw: as the reference writes its source, at most 400 pixels for the longer side and 90 % of
images as pixels.
"""

import json
import sys
from pathlib import Path

import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import RandomHorizontalFlip, ToTensor, ToTorchImage
from ffcv.writer import DatasetWriter
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import resize


class ShorterSide:
    """Images with a shorter side of 256 pixels."""

    def __init__(self, images: object) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[object, int]:
        image, label = self.images[index]
        return resize(image, 256) if min(image.size) > 256 else image, label


def main() -> None:
    """Does what the first argument says."""
    asked = json.loads(Path(sys.argv[2]).read_text())
    if sys.argv[1] == "write":
        images = Subset(ImageFolder(asked["root"]), asked["half"])
        if asked["how"] == "jpeg":
            images, field = ShorterSide(images), RGBImageField(write_mode="jpg", jpeg_quality=90)
        else:
            field = RGBImageField(
                write_mode="proportion", compress_probability=0.1, max_resolution=400, jpeg_quality=90
            )
        np.random.seed(0)  # noqa: NPY002 - FFCV draws from it
        writer = DatasetWriter(asked["file"], {"image": field, "label": IntField()}, num_workers=1)
        writer.from_indexed_dataset(images)
        return
    loader = Loader(
        asked["file"],
        batch_size=64,
        num_workers=2,
        order=OrderOption.RANDOM,
        os_cache=True,
        drop_last=True,
        pipelines={
            "image": [RandomResizedCropRGBImageDecoder((224, 224)), RandomHorizontalFlip(), ToTensor(), ToTorchImage()],
            "label": [IntDecoder(), ToTensor()],
        },
    )
    for _ in sys.stdin:
        for _ in loader:
            pass
        print("done", flush=True)


if __name__ == "__main__":
    main()
