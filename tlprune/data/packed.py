"""Images decoded and resized once and stored on disk, as pixels or small JPEGs, for fast loading in every epoch.

Images are stored in shards, which are written atomically and memory-mapped for reading. The checksum of an image is
verified when it is first read; a damaged image is decoded from its original file again.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self
from warnings import warn
from zlib import crc32

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from simplejpeg import encode_jpeg
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional

from tlprune.data.datasets import ImageSet, Level
from tlprune.data.decoding import decode_bytes
from tlprune.data.long_images import middle_of_long
from tlprune.progress import show_progress
from tlprune.storage.atomic import atomic_path
from tlprune.storage.fingerprint import digest_json, digest_tensors

__all__ = ["QUALITY", "SHARD_SIZE", "SHORT_SIDE", "PackedImages", "Packing", "bytes_of", "shrunk"]

Packing = Literal["raw256", "jpeg256"]
"""``raw256``: pixels, about 260 kB per image; ``jpeg256``: JPEGs of quality 90, about 30 kB per image."""

SHORT_SIDE = 256
"""Shorter side of a stored image in pixels."""

QUALITY = 90
"""Quality of stored JPEGs."""

SHARD_SIZE = 1024
"""Number of images in a shard."""

_SAMPLE = 64
"""Number of images from which the size of the whole set is estimated."""


def shrunk(pixels: Tensor) -> Tensor:
    """Resizes an image so that its shorter side has at most :data:`SHORT_SIDE` pixels; crops very long images first.

    Args:
        pixels: Image, ``[3, H, W]`` uint8.

    Returns:
        ``[3, h, w]`` uint8; ``pixels`` if the image is small enough.
    """
    pixels = middle_of_long(pixels)
    if min(pixels.shape[1:]) <= SHORT_SIDE:
        return pixels
    resized: Tensor = functional.resize(pixels, [SHORT_SIDE], antialias=True)
    return resized


def bytes_of(images: ImageSet, packing: Packing) -> int:
    """Estimates the bytes that a packed set takes from a sample of its images.

    Args:
        images: The set, with at least one image.
        packing: Storage format.
    """
    step = max(1, len(images) // _SAMPLE)
    sizes = [len(_packed(images[index][0], packing)[0]) for index in range(0, len(images), step)]
    return round(sum(sizes) / len(sizes) * len(images))


class PackedImages(ImageSet):
    """Images stored in shards in a folder, with the labels, order and names of the original set.

    Every stored image is :func:`shrunk`. Transforms that first resize the shorter side to 256 pixels, such as the
    evaluation transform at 224 pixels, therefore see the same pixels in ``raw256`` as in the files. So does every
    transform of images that are no larger. Random crops are taken from the smaller image.

    Args:
        images: The original set.
        folder: Folder of the shards.
        packing: Storage format.
        places: Positions in ``images`` of the images of this set, ``[M]`` int64; None for all.
    """

    def __init__(self, images: ImageSet, folder: Path, packing: Packing, places: Tensor | None = None) -> None:
        self.images = images
        self.folder = folder
        self.packing = packing
        self.places = torch.arange(len(images)) if places is None else places
        self.labels = images.labels if places is None else images.labels[places]
        self.classes = images.classes
        # shared by the loading processes, so that each image is verified only once
        self._checked: Tensor = torch.zeros(len(images), dtype=torch.bool)
        self._checked.share_memory_()  # type: ignore[no-untyped-call]
        self._open: dict[int, _Shard | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Drops the memory maps: another process maps the shards itself."""
        return self.__dict__ | {"_open": {}}

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Returns an image, ``[3, h, w]`` uint8, and its label."""
        place = int(self.places[index])
        return self._pixels(place), int(self.labels[index])

    def name(self, index: int) -> str:
        """Returns the name of an image in the original set."""
        return self.images.name(int(self.places[index]))

    @property
    def display_names(self) -> tuple[str, ...]:
        """Readable class names of the original set."""
        return self.images.display_names

    def fingerprint(self, level: Level = "path") -> str:
        """Returns the fingerprint of the original images; for ``path`` it also depends on the storage format."""
        if level != "path":
            return "" if level == "bytes" else self.images.fingerprint(level)
        kept = [self.packing, SHORT_SIDE, QUALITY, digest_tensors({"": self.places})]
        return digest_json([self.images.fingerprint(), *kept])

    @property
    def listed_fingerprint(self) -> str:
        """The ``listed_fingerprint`` of the original images."""
        return self.images.listed_fingerprint

    def subset(self, indices: Tensor) -> Self:
        """Returns the images at ``indices`` (``[M]`` int64), in that order."""
        return type(self)(self.images, self.folder, self.packing, self.places[indices])

    @property
    def shards(self) -> list[range]:
        """Returns the positions of the images in each shard."""
        total = len(self.images)
        return [range(start, min(start + SHARD_SIZE, total)) for start in range(0, total, SHARD_SIZE)]

    @property
    def missing(self) -> list[int]:
        """Returns the numbers of the shards that are missing or incomplete."""
        return [number for number in range(len(self.shards)) if self._shard(number) is None]

    def make(self, numbers: Sequence[int], num_workers: int = 0) -> None:
        """Decodes images and writes them to shards.

        Raises:
            InputError: An image cannot be decoded, or the disk is full.
        """
        wanted = [place for number in numbers for place in self.shards[number]]
        # a separate generator, so that packing does not change the random numbers of the training that follows
        loader: Any = DataLoader(
            _ToPack(self.images, self.packing, wanted),
            batch_size=None,
            num_workers=num_workers,
            generator=torch.Generator(),
        )
        arriving: Iterator[tuple[bytes, tuple[int, int]]] = iter(loader)
        with show_progress(f"pack as {self.packing}", len(wanted)) as advance:
            for number in numbers:
                packed = []
                for _ in self.shards[number]:
                    packed.append(next(arriving))
                    advance(1)
                self._write(number, packed)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}.safetensors"

    def _write(self, number: int, packed: list[tuple[bytes, tuple[int, int]]]) -> None:
        index = {
            "sizes": torch.tensor([shape for _, shape in packed], dtype=torch.int64),
            "ends": torch.tensor([len(content) for content, _ in packed]).cumsum(0),
            "checksums": torch.tensor([crc32(content) for content, _ in packed]),
        }
        content = torch.frombuffer(bytearray().join(content for content, _ in packed), dtype=torch.uint8)
        path = self._path(number)
        with atomic_path(path) as temporary:
            save_file({**index, "content": content}, temporary, {"checksum": digest_tensors(index)})
        self._open.pop(number, None)

    def _shard(self, number: int) -> "_Shard | None":
        """Memory-maps a shard; returns None if it is missing or incomplete."""
        if number not in self._open:
            self._open[number] = self._map(number)
        return self._open[number]

    def _map(self, number: int) -> "_Shard | None":
        path = self._path(number)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in ("sizes", "ends", "checksums", "content")}
                checksum = (file.metadata() or {}).get("checksum")
            index = {name: tensors[name] for name in ("sizes", "ends", "checksums")}
            if checksum == digest_tensors(index) and len(tensors["sizes"]) == len(self.shards[number]):
                return _Shard(**{name: values.tolist() for name, values in index.items()}, content=tensors["content"])
        except (SafetensorError, OSError, ValueError):
            pass
        warn(f"{path}: damaged; packing these images again", stacklevel=2)
        return None

    def _pixels(self, place: int) -> Tensor:
        number, row = divmod(place, SHARD_SIZE)
        shard = self._shard(number)
        if shard is None:
            return self._from_file(place, f"{self._path(number)} is gone")
        content = shard.content[shard.ends[row - 1] if row else 0 : shard.ends[row]]
        if not self._checked[place]:
            if crc32(content.numpy().data) != shard.checksums[row]:
                return self._from_file(place, f"{self._path(number)}: damaged")
            self._checked[place] = True
        if self.packing == "jpeg256":
            return decode_bytes(content.numpy().tobytes(), self.images.name(place))
        return content.view(*shard.sizes[row], 3).permute(2, 0, 1)

    def _from_file(self, place: int, why: str) -> Tensor:
        warn(f"{why}; decoding {self.images.name(place)} again", stacklevel=2)
        pixels = shrunk(self.images[place][0])
        if self.packing == "raw256":
            return pixels
        return decode_bytes(_packed(pixels, self.packing)[0], self.images.name(place))


class _Shard(NamedTuple):
    """Consecutive images: heights and widths, end offsets, checksums, and bytes."""

    sizes: list[list[int]]
    ends: list[int]
    checksums: list[int]
    content: Tensor


class _ToPack(Dataset[tuple[bytes, tuple[int, int]]]):
    def __init__(self, images: ImageSet, packing: Packing, places: Sequence[int]) -> None:
        self.images = images
        self.packing = packing
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[bytes, tuple[int, int]]:
        return _packed(self.images[self.places[index]][0], self.packing)


def _packed(pixels: Tensor, packing: Packing) -> tuple[bytes, tuple[int, int]]:
    """Encodes an image to its stored bytes, and returns them with its height and width."""
    small = shrunk(pixels).permute(1, 2, 0).contiguous().numpy()
    content: bytes = (
        small.tobytes() if packing == "raw256" else encode_jpeg(small, quality=QUALITY, colorsubsampling="420")
    )
    return content, (small.shape[0], small.shape[1])
