"""One WebDataset shard: an uncompressed tar whose members are indexed once and read in place.

Nothing is extracted or unpickled: of a sample only its image and its label are read. Other members are copied as bytes.
"""

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from tlprune.data.decoding import EXTENSIONS, decode_bytes
from tlprune.errors import InputError

__all__ = ["TarShard"]

_LABELS = ("cls", "cls.txt")
"""Extensions of members that hold a label."""

_LONGEST_LABEL = 1024
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
"""First bytes of files of gzip, bzip2, xz and zstandard."""

_BLOCK = tarfile.BLOCKSIZE
_AT_ONCE = 2**22


class _Sample(NamedTuple):
    """Place of a sample in a tar.

    Args:
        key: WebDataset's ``__key__``.
        offset: First byte of the image.
        size: Bytes of the image.
        span: First byte of the first header, and the byte after the last member.
    """

    key: str
    offset: int
    size: int
    span: tuple[int, int]


class TarShard:
    """Samples of a tar that have an image, in the order of the tar.

    Args:
        path: Path of the tar.

    Attributes:
        labels: The label of each sample, from its member ``.cls``; None where no sample has one.

    Raises:
        InputError: The file is no plain tar, is damaged or truncated, has no images, two samples have one key or
            two images, or only some have labels.
    """

    key_column = "key"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._samples: list[_Sample] = []
        labels: list[str] = []
        other: set[str] = set()
        try:
            with tarfile.open(path, "r:") as tar:
                for members in _grouped(path, tar):
                    image = _image_of(path, members)
                    if image is None:
                        other |= {extension for _, extension, _ in members}
                        continue
                    span = (min(one.offset for *_, one in members), max(_end(one) for *_, one in members))
                    self._samples.append(_Sample(members[0][0], image.offset_data, image.size, span))
                    labels += _label_of(path, tar, members)
                _require_end(path, tar)
        except (tarfile.TarError, OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            reason = " ".join(str(getattr(error, "strerror", None) or error).split())
            if _is_compressed(path):
                reason = "compressed, and images are read in place; unpack it to a plain tar"
            raise InputError(f"{path}: cannot be read as a tar: {reason}") from error
        if not self._samples:
            names, endings = ", ".join(sorted(other)[:5]) or "no members at all", ", ".join(sorted(EXTENSIONS))
            raise InputError(f"{path}: a shard without images; it has {names}, and images end in {endings}")
        if labels and len(labels) != len(self._samples):
            counts = f"{len(labels):,} of {len(self._samples):,} samples have a label (.cls)"
            raise InputError(f"{path}: {counts}; all must have one, or none")
        self.labels = labels or None
        self.classes: tuple[str, ...] | None = None
        _refuse_repeated(path, [sample.key for sample in self._samples])

    def __len__(self) -> int:
        """Returns the number of samples with an image."""
        return len(self._samples)

    def key(self, row: int) -> str:
        """Returns the key of a sample, as WebDataset forms it."""
        return self._samples[row].key

    def name(self, row: int) -> str:
        """Returns the name of a sample for messages."""
        return f"{self.path.name}/{self.key(row)}"

    def size(self, row: int) -> int:
        """Returns the number of bytes of an image."""
        return self._samples[row].size

    def decode(self, row: int) -> Tensor:
        """Decodes an image.

        Returns:
            ``[3, H, W]`` uint8.

        Raises:
            InputError: The file cannot be read, or the image cannot be decoded.
        """
        sample = self._samples[row]
        try:
            with self.path.open("rb") as file:
                file.seek(sample.offset)
                content = file.read(sample.size)
        except OSError as error:
            raise InputError(f"{self.path}: {error.strerror or error}") from error
        return decode_bytes(content, f"{self.path}/{sample.key}")

    def copy(self, rows: Sequence[int], to: Path) -> None:
        """Writes a tar of some samples, headers and bytes unchanged.

        Args:
            rows: Places of the samples, ascending.
            to: Path of the new tar.
        """
        with self.path.open("rb") as file, to.open("wb") as written:
            for row in rows:
                begin, end = self._samples[row].span
                file.seek(begin)
                while begin < end:
                    content = file.read(min(end - begin, _AT_ONCE))
                    if not content:
                        raise InputError(f"{self.path}: shorter than when it was indexed")
                    written.write(content)
                    begin += len(content)
            written.write(bytes(2 * _BLOCK))


Member = tuple[str, str, tarfile.TarInfo]
"""Key and extension of a member, and its header."""


def _grouped(path: Path, tar: tarfile.TarFile) -> Iterator[list[Member]]:
    """Yields the files of each sample: those that follow each other and have one key."""
    total = path.stat().st_size
    group: list[Member] = []
    for member in tar:
        if not member.isreg():
            continue
        if member.offset_data + member.size > total:
            need = member.offset_data + member.size
            raise InputError(f"{path}: truncated: {member.name!r} ends at byte {need:,}, the file at {total:,}")
        folder, slash, name = member.name.rpartition("/")
        stem, dot, extension = name.partition(".")
        if not dot or not stem:  # WebDataset skips these too
            continue
        key = f"{folder}{slash}{stem}"
        if group and group[0][0] != key:
            yield group
            group = []
        group.append((key, extension.lower(), member))
    if group:
        yield group


def _image_of(path: Path, members: list[Member]) -> tarfile.TarInfo | None:
    """Returns the image of a sample: the member with the extension of an image and nothing before it."""
    images = [(extension, one) for _, extension, one in members if f".{extension}" in EXTENSIONS]
    images = images or [
        (extension, one) for _, extension, one in members if f".{extension.rpartition('.')[2]}" in EXTENSIONS
    ]
    if len(images) > 1:
        pair = " and ".join(f".{extension}" for extension, _ in images[:2])
        raise InputError(f"{path}: sample {members[0][0]!r} has two images, {pair}")
    return images[0][1] if images else None


def _label_of(path: Path, tar: tarfile.TarFile, members: list[Member]) -> list[str]:
    """Returns the label of a sample as a list of one text, or no text."""
    label = next((one for _, extension, one in members if extension in _LABELS), None)
    if label is None:
        return []
    if label.size > _LONGEST_LABEL:
        raise InputError(f"{path}: {label.name!r} has {label.size:,} bytes, and a label at most {_LONGEST_LABEL:,}")
    content = tar.extractfile(label)
    text = "" if content is None else content.read().decode(errors="replace").strip()
    if not text:
        raise InputError(f"{path}: {label.name!r} has no label in it")
    return [text]


def _end(member: tarfile.TarInfo) -> int:
    return member.offset_data + -(-member.size // _BLOCK) * _BLOCK


def _require_end(path: Path, tar: tarfile.TarFile) -> None:
    """Refuses a tar that stops where there is no end: ``tarfile`` takes a damaged header for the end of the archive."""
    with path.open("rb") as file:
        file.seek(tar.offset)
        if any(file.read(_BLOCK)):
            raise InputError(f"{path}: damaged: no member of a tar at byte {tar.offset:,} of {path.stat().st_size:,}")


def _is_compressed(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(6).startswith(_COMPRESSED)
    except OSError:
        return False


def _refuse_repeated(path: Path, keys: Sequence[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise InputError(f"{path}: two samples have the key {key!r}")
        seen.add(key)
