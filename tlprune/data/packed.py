"""Images decoded and shrunk once and kept on disk, as pixels or as small JPEGs: what is loaded again in every epoch.

Images lie in shards, each whole or not there, mapped into memory when they are read. Each image has a checksum, looked
at when it is first read; one that is damaged is decoded from its file again.
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
from tlprune.storage.atomic import atomic_path
from tlprune.storage.fingerprint import digest_json, digest_tensors

__all__ = ["QUALITY", "SHARD_SIZE", "SHORT_SIDE", "PackedImages", "Packing", "bytes_of", "shrunk"]

Packing = Literal["raw256", "jpeg256"]
"""``raw256``: pixels, some 260 kB an image; ``jpeg256``: JPEGs of quality 90, some 30 kB."""

SHORT_SIDE = 256
"""Pixels of the shorter side of what is kept."""

QUALITY = 90
"""Of JPEGs that are kept."""

SHARD_SIZE = 1024
"""Images in a shard."""

_SAMPLE = 64
"""Images that tell how much all will take."""


def shrunk(pixels: Tensor) -> Tensor:
    """An image with its shorter side at most :data:`SHORT_SIDE` pixels; of a very long image the middle alone.

    Args:
        pixels: ``[3, H, W]`` uint8.

    Returns:
        ``[3, h, w]`` uint8; itself where it is small enough.
    """
    pixels = middle_of_long(pixels)
    if min(pixels.shape[1:]) <= SHORT_SIDE:
        return pixels
    resized: Tensor = functional.resize(pixels, [SHORT_SIDE], antialias=True)
    return resized


def bytes_of(images: ImageSet, packing: Packing) -> int:
    """About how many bytes a whole set will take, by a sample of it.

    Args:
        images: At least one.
        packing: How they are kept.
    """
    step = max(1, len(images) // _SAMPLE)
    sizes = [len(_packed(images[index][0], packing)[0]) for index in range(0, len(images), step)]
    return round(sum(sizes) / len(sizes) * len(images))


class PackedImages(ImageSet):
    """Images kept in shards in a folder; labels, order and names are those of the set that they were made from.

    Each is :func:`shrunk`. So a view that shrinks images to a shorter side of 256 pixels first, as the evaluation view
    at 224 pixels does, sees the same pixels in ``raw256`` as in the files, and so does every view of images that are no
    larger. A random crop is taken out of the smaller image.

    Args:
        images: The set that is kept.
        folder: Where its shards are.
        packing: How images are kept.
        places: ``[M]`` int64, which of ``images`` this set holds; None for all.
    """

    def __init__(self, images: ImageSet, folder: Path, packing: Packing, places: Tensor | None = None) -> None:
        self.images = images
        self.folder = folder
        self.packing = packing
        self.places = torch.arange(len(images)) if places is None else places
        self.labels = images.labels if places is None else images.labels[places]
        self.classes = images.classes
        # shared by the processes that load: each image is checked once
        self._checked: Tensor = torch.zeros(len(images), dtype=torch.bool)
        self._checked.share_memory_()  # type: ignore[no-untyped-call]
        self._open: dict[int, _Shard | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Another process maps the shards itself."""
        return self.__dict__ | {"_open": {}}

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The image, ``[3, h, w]`` uint8, and its label."""
        place = int(self.places[index])
        return self._pixels(place), int(self.labels[index])

    def name(self, index: int) -> str:
        """As in the set that it was made from."""
        return self.images.name(int(self.places[index]))

    @property
    def display_names(self) -> tuple[str, ...]:
        """As in the set that it was made from."""
        return self.images.display_names

    def fingerprint(self, level: Level = "path") -> str:
        """Of the images that it was made from; ``path`` says also how they are kept."""
        if level != "path":
            return "" if level == "bytes" else self.images.fingerprint(level)
        kept = [self.packing, SHORT_SIDE, QUALITY, digest_tensors({"": self.places})]
        return digest_json([self.images.fingerprint(), *kept])

    @property
    def listed_fingerprint(self) -> str:
        """As in the set that it was made from."""
        return self.images.listed_fingerprint

    def subset(self, indices: Tensor) -> Self:
        """The images at ``indices`` (``[M]`` int64), in that order."""
        return type(self)(self.images, self.folder, self.packing, self.places[indices])

    @property
    def shards(self) -> list[range]:
        """The places of each shard's images."""
        total = len(self.images)
        return [range(start, min(start + SHARD_SIZE, total)) for start in range(0, total, SHARD_SIZE)]

    @property
    def missing(self) -> list[int]:
        """Numbers of the shards that are not there, or not whole."""
        return [number for number in range(len(self.shards)) if self._shard(number) is None]

    def make(self, numbers: Sequence[int], num_workers: int = 0) -> None:
        """Decodes and writes shards.

        Args:
            numbers: Which.
            num_workers: Processes that decode.

        Raises:
            InputError: An image cannot be decoded, or the disk is full.
        """
        wanted = [place for number in numbers for place in self.shards[number]]
        # a generator of its own: packing must not change what training draws afterwards
        loader: Any = DataLoader(
            _ToPack(self.images, self.packing, wanted),
            batch_size=None,
            num_workers=num_workers,
            generator=torch.Generator(),
        )
        arriving: Iterator[tuple[bytes, tuple[int, int]]] = iter(loader)
        for number in numbers:
            self._write(number, [next(arriving) for _ in self.shards[number]])

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
        """A shard, its content mapped into memory; None where it is not there or not whole."""
        if number not in self._open:
            self._open[number] = self._map(number)
        return self._open[number]

    def _map(self, number: int) -> "_Shard | None":
        path = self._path(number)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                found = {name: file.get_tensor(name) for name in ("sizes", "ends", "checksums", "content")}
                checksum = (file.metadata() or {}).get("checksum")
            index = {name: found[name] for name in ("sizes", "ends", "checksums")}
            if checksum == digest_tensors(index) and len(found["sizes"]) == len(self.shards[number]):
                return _Shard(**{name: values.tolist() for name, values in index.items()}, content=found["content"])
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
    """Images one after the other: heights and widths, where each ends, checksums, and their bytes."""

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
    """An image's bytes as they are kept, and its height and width."""
    small = shrunk(pixels).permute(1, 2, 0).contiguous().numpy()
    content: bytes = (
        small.tobytes() if packing == "raw256" else encode_jpeg(small, quality=QUALITY, colorsubsampling="420")
    )
    return content, (small.shape[0], small.shape[1])
