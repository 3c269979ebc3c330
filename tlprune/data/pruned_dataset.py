"""A subset of any Dataset with labels renumbered from 0."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from tlprune.errors import InputError

__all__ = ["PrunedDataset"]

_LABEL_KEYS = ("label", "labels", "target")


class PrunedDataset(Subset[Any]):
    """The kept samples of a Dataset.

    Samples are tuples or lists that begin with an image and its label, or mappings with the key ``label``, ``labels``
    or ``target``. If classes are pruned, the label of a sample is the position of its class among the kept classes.

    Args:
        dataset: The whole Dataset.
        indices: Positions of the kept samples, in the order of the Dataset, ``[n]`` int64.
        total: Expected number of samples of the Dataset.
        classes: Names of all classes if classes are pruned; None keeps labels unchanged.
        kept_classes: Kept classes, in any order, ``[k]`` int64.

    Attributes:
        classes: Names of the kept classes, by new label; empty if the Dataset has no class names.
        targets: The ``n`` labels, if the Dataset lists its labels.

    Raises:
        InputError: The Dataset has another number of samples, or other classes.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        indices: Tensor,
        total: int,
        classes: Sequence[str] | None = None,
        kept_classes: Tensor | None = None,
    ) -> None:
        if len(dataset) != total:  # type: ignore[arg-type]
            got = f"this data set has {len(dataset):,}"  # type: ignore[arg-type]
            raise InputError(f"this selection was made for a source of {total:,} images, {got}")
        super().__init__(dataset, indices.tolist())
        named = tuple(map(str, getattr(dataset, "classes", ())))
        if classes is not None and named and named != tuple(classes):
            theirs, ours = next(
                (pair for pair in zip(named, classes, strict=False) if pair[0] != pair[1]), (len(named), len(classes))
            )
            raise InputError(f"this selection was made for other classes: {ours!r} where this data set has {theirs!r}")
        self.classes = named
        self._new_labels: Tensor | None = None
        if classes is not None and kept_classes is not None:
            kept = torch.zeros(len(classes), dtype=torch.bool).index_fill_(0, kept_classes, True)
            self._new_labels = torch.where(kept, kept.cumsum(0) - 1, -1)
            self.classes = tuple(name for name, is_kept in zip(classes, kept.tolist(), strict=True) if is_kept)
        labels = getattr(dataset, "targets", None)
        if labels is not None and len(labels) == total:
            self.targets = [self._new_label(int(labels[index])) for index in self.indices]

    def __getitem__(self, index: int) -> Any:
        """Returns a sample with its new label."""
        return self._relabelled(self.dataset[self.indices[index]])

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """Returns samples with their new labels."""
        return [self[index] for index in indices]

    def _relabelled(self, sample: Any) -> Any:
        if self._new_labels is None:
            return sample
        if isinstance(sample, Mapping):
            key = next((key for key in _LABEL_KEYS if key in sample), None)
            if key is not None:
                return {**sample, key: self._new_label(sample[key])}
        elif isinstance(sample, Sequence) and len(sample) > 1:
            parts = (sample[0], self._new_label(sample[1]), *sample[2:])
            return type(sample)(*parts) if hasattr(sample, "_fields") else type(sample)(parts)  # type: ignore[call-arg]
        expected = f"(image, label, ...) or a mapping with {', '.join(map(repr, _LABEL_KEYS))}"
        raise InputError(f"samples must be {expected} to have their labels numbered, got {type(sample).__name__}")

    def _new_label(self, label: Any) -> Any:
        """Returns the new label with the type of the old one: ``int`` or an integer tensor."""
        if self._new_labels is None:
            return label
        new = self._new_labels[int(label)]
        if int(new) < 0:
            raise InputError(f"a sample that is kept has the label {int(label)}, whose class is not kept")
        return new.to(label.dtype) if isinstance(label, Tensor) else int(new)
