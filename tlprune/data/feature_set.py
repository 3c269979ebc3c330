"""A set of features in place of images: whoever has features of a source and a target needs no surrogate."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import sha256
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tlprune.data.columns import classes_of_labels
from tlprune.data.datasets import ImageSet, Level
from tlprune.data.embedding import Embedding
from tlprune.data.path_list import PathList
from tlprune.errors import InputError
from tlprune.storage.fingerprint import digest_json

__all__ = ["FeatureRows", "FeatureSet", "numbered_labels"]

_AT_ONCE = 2**24
"""Numbers that are read at once: 64 MB of float32."""


class FeatureRows(Protocol):
    """Rows of numbers ``[N, D]`` of which a part can be read: an array, a mapped file, or a tensor."""

    @property
    def shape(self) -> Sequence[int]: ...  # noqa: D102

    @property
    def dtype(self) -> Any: ...  # noqa: D102

    def __getitem__(self, rows: slice, /) -> Any: ...


class FeatureSet(ImageSet):
    """Features of images, with their labels and paths where these are known. There are no pixels.

    It is a source or a target for selectors that need features only.

    Args:
        features: ``[N, D]`` float16, float32 or float64: an array, a tensor, or an ``np.memmap``, read in parts.
        labels: ``N`` class numbers from 0, or class names; None for a set without labels.
        classes: Class names in the order of the class numbers; None numbers them, or sorts the names in ``labels``.
        paths: Paths of the ``N`` images, all different; None where they are not known.
        where: Name of the set in messages.
        embedding: What ``tlprune embed`` recorded of the features.

    Attributes:
        paths: Paths of the images; None where they are not known.
        width: ``D``.

    Raises:
        InputError: There are no rows, numbers of rows differ, a label is out of range, or a path stands twice.

    Example:
        >>> FeatureSet(np.ones((3, 2)), labels=["cat", "ant", "cat"]).labels
        tensor([1, 0, 1])
    """

    def __init__(
        self,
        features: FeatureRows,
        labels: Sequence[int] | Sequence[str] | NDArray[Any] | Tensor | None = None,
        classes: Sequence[str] | None = None,
        paths: Sequence[str] | None = None,
        *,
        where: str = "features",
        embedding: Embedding | None = None,
    ) -> None:
        total = _number_of_rows(features, where)
        for what, values in (("paths", paths), ("labels", labels)):
            if values is not None and len(values) != total:
                raise InputError(f"{where}: {total:,} rows of features, and {len(values):,} {what}")
        if paths is not None:
            _refuse_repeated(paths, where)
        self.rows = features
        self.width = int(features.shape[1])
        self.paths = None if paths is None else PathList(paths)
        self.where = where
        self.embedding = embedding
        self.labels = torch.zeros(total, dtype=torch.int64)
        self.classes = ()
        if labels is not None:
            self.labels, self.classes = numbered_labels(labels, classes, self.name, where)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Refuses: there are no pixels.

        Raises:
            InputError: Always.
        """
        raise InputError(f"{self.where}: features, and no images, so {self.name(index)} cannot be shown or trained on")

    def name(self, index: int) -> str:
        """Returns the path of an image; its row number, from 0, where paths are not known."""
        return f"row {index}" if self.paths is None else self.paths[index]

    @property
    def display_names(self) -> tuple[str, ...]:
        """Readable class names."""
        return tuple(self.embedding.display_names) if self.embedding is not None else self.classes

    def read_features(self, images: range) -> Tensor:
        """Reads the features of consecutive images: float32 ``[n, D]``."""
        rows = self.rows[images.start : images.stop]
        if isinstance(rows, Tensor):
            return rows.to("cpu", torch.float32, copy=True)
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is refused as that
            return torch.from_numpy(np.array(rows, dtype=np.float32, order="C"))

    def digest_features(self) -> str:
        """Returns a digest of the features as float32. The first call reads all of them.

        Raises:
            InputError: Features are not finite, or not those that ``tlprune embed`` wrote.
        """
        return self._features_digest

    @cached_property
    def _features_digest(self) -> str:
        whole = sha256(f"{len(self)} x {self.width}|".encode())
        bad: list[int] = []
        for images, rows in self._blocks():
            bad += (images.start + (~rows.isfinite().all(1)).nonzero().squeeze(1)).tolist()
            whole.update(rows.numpy().tobytes())
        if bad:
            first = f"row {bad[0]}" + ("" if self.paths is None else f" ({self.paths[bad[0]]})")
            raise InputError(f"{self.where}: NaN or infinite in {len(bad):,} of {len(self):,} rows, first in {first}")
        found = whole.hexdigest()
        if self.embedding is not None and (found, self.listing) != (self.embedding.features, self.embedding.listing):
            raise InputError(f"{self.where}: damaged or changed: not what tlprune embed wrote; embed again")
        return found

    def _blocks(self) -> Iterator[tuple[range, Tensor]]:
        step = max(1, _AT_ONCE // self.width)
        for start in range(0, len(self), step):
            images = range(start, min(start + step, len(self)))
            yield images, self.read_features(images)

    @cached_property
    def listing(self) -> str:
        """Digest of paths, labels and class names."""
        return digest_json([self.paths, self.labels, self.classes])

    def fingerprint(self, level: Level = "path") -> str:
        """Returns that of the images where ``tlprune embed`` recorded it, else one of features, paths and labels."""
        if level != "path":
            return ""
        digest = self.digest_features()
        return self.embedding.fingerprint if self.embedding is not None else digest_json([digest, self.listing])

    @property
    def surrogate_digest(self) -> str | None:
        """Digest of the network that the features come from; None where it is not known."""
        return None if self.embedding is None else self.embedding.surrogate_digest

    @property
    def transform_config(self) -> dict[str, Any]:
        """How the network saw the images; empty where it is not known."""
        return {} if self.embedding is None else self.embedding.view

    @property
    def source_paths(self) -> dict[str, str] | None:
        """First path and digest of all, by which features of others are matched with images; None for our own."""
        if self.embedding is not None:
            return None
        return {} if self.paths is None else {"first": self.paths[0], "digest": digest_json(self.paths)}

    def metadata(self, targets: Sequence[ImageSet]) -> dict[str, Any]:
        """What a Selection notes of this source and its targets: where they and their images lie.

        Args:
            targets: Those that vote.
        """
        voters = [one for one in targets if isinstance(one, FeatureSet)]
        noted: dict[str, Any] = {"features": {"source": self.where, "targets": [one.where for one in voters]}}
        if voters:
            noted["targets"] = [one.recorded_name for one in voters]
        if self.recorded_name is not None:
            noted["source"] = self.recorded_name
        if (made := self.embedding) is not None:
            noted |= {"surrogates": [made.surrogate], "image_size": made.image_size}
            noted |= {"skipped": made.skipped} if made.skipped else {}
            noted |= {} if made.surrogate_seconds is None else {"surrogate_seconds": made.surrogate_seconds}
        seeds = {one.embedding.target_seed for one in voters if one.embedding is not None}
        return noted | ({"target_seed": seeds.pop()} if len(seeds) == 1 else {})

    @property
    def recorded_name(self) -> str | None:
        """Name of the images that ``tlprune embed`` recorded; that of the features where nothing is recorded."""
        return self.where if self.embedding is None else self.embedding.name

    def subset(self, indices: Tensor) -> Self:
        """Returns the features at ``indices`` (``[M]`` int64), in that order, in memory."""
        picked = indices.tolist()
        rows = torch.cat([self.read_features(range(index, index + 1)) for index in picked])
        paths = None if self.paths is None else [self.paths[index] for index in picked]
        return type(self)(rows, self.labels[indices] if self.classes else None, self.classes, paths, where=self.where)


def numbered_labels(
    labels: Sequence[int] | Sequence[str] | NDArray[Any] | Tensor,
    classes: Sequence[str] | None,
    name: Any,
    where: str,
) -> tuple[Tensor, tuple[str, ...]]:
    """Class numbers, and class names.

    Args:
        labels: Class numbers from 0, or class names.
        classes: Class names in the order of the numbers; None derives them: numbers name themselves, names are sorted,
            by their value where all are whole numbers.
        name: Function from a row to its name in messages.
        where: Prefix of messages.

    Returns:
        ``[N]`` int64, and the names.

    Raises:
        InputError: A label is out of range or not among the classes, or a class name stands twice.
    """
    names = tuple(map(str, classes)) if classes else None
    if names is not None and len(set(names)) != len(names):
        twice = next(one for one in names if names.count(one) > 1)
        raise InputError(f"{where}: class {twice!r} stands twice in its classes")
    values = np.asarray(labels)
    if values.ndim != 1 or values.dtype.kind not in "iuU":
        got = f"{values.dtype} of shape {values.shape}"
        raise InputError(f"{where}: labels must be whole numbers or text, [N]; got {got}")
    if values.dtype.kind == "U":
        if bare := np.flatnonzero(values == "").tolist():
            raise InputError(f"{where}: {name(bare[0])} has no label, others have")
        if names is None:
            names = classes_of_labels(values.tolist())
        place = {one: number for number, one in enumerate(names)}
        if unknown := [row for row, one in enumerate(values.tolist()) if one not in place]:
            what = f"label {str(values[unknown[0]])!r} of {name(unknown[0])}"
            raise InputError(f"{where}: {what} is not among its {len(names)} classes")
        return torch.tensor([place[one] for one in values.tolist()], dtype=torch.int64), names
    most = len(names) if names is not None else int(values.max()) + 1
    if outside := np.flatnonzero((values < 0) | (values >= most)).tolist():
        what = f"label {int(values[outside[0]])} of {name(outside[0])}"
        raise InputError(f"{where}: {what} is not from 0 to {max(most - 1, 0)}")
    return torch.from_numpy(values.astype(np.int64)), names or tuple(map(str, range(most)))


def _number_of_rows(features: FeatureRows, where: str) -> int:
    shape = tuple(features.shape)
    if len(shape) != 2:
        raise InputError(f"{where}: features must have two dimensions, [N, D]; got the shape {shape}")
    kind = str(features.dtype).removeprefix("torch.").lstrip("<>=|")
    if kind not in ("float16", "float32", "float64", "bfloat16", "f2", "f4", "f8"):
        raise InputError(f"{where}: features must be float16, float32 or float64, got {kind}")
    if 0 in shape:
        raise InputError(f"{where}: no features in it: its shape is {shape}")
    return int(shape[0])


def _refuse_repeated(paths: Sequence[str], where: str) -> None:
    seen: dict[str, int] = {}
    for row, path in enumerate(paths):
        if (before := seen.setdefault(path, row)) != row:
            raise InputError(f"{where}: path {path!r} stands in row {before} and in row {row}")
