"""From sources and targets to a Selection, and from a Selection to fewer images. No Lightning.

``select()`` is called by the command, by DataModules, by sweeps and by notebooks, on one process or on many.
"""

import os
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch.utils.data import Dataset

from tlprune.data.damaged_images import known_path
from tlprune.data.image_size import ImageSize
from tlprune.data.pruned_dataset import PrunedDataset
from tlprune.distributed import broadcast_from_rank0
from tlprune.preprocessing import Preprocessing
from tlprune.selection.label_mapping import LabelMapping
from tlprune.selection.multi_target import Combination
from tlprune.selection.ranking import Budget
from tlprune.selection.selection import Selection
from tlprune.selection.selector import Selector
from tlprune.selection_inputs import (
    SelectionInputs,
    SelectOptions,
    Source,
    Surrogate,
    Target,
    as_list,
    check_names,
    open_images,
    usable_images,
    usual_size,
)
from tlprune.storage.cache import cache_root, forget

__all__ = ["prune", "select"]


def select(
    source: Source,
    target: Target | Sequence[Target] | None = None,
    *,
    surrogate: Surrogate | Sequence[Surrogate] | None = None,
    selector: Selector | None = None,
    surrogate_backbone: str | None = None,
    surrogate_preprocessing: Preprocessing | None = None,
    combine: Combination = "worst_case",
    target_weights: Sequence[float] | None = None,
    target_seed: int = 0,
    image_size: int | None = None,
    on_bad_image: Literal["error", "skip"] = "error",
    num_workers: int = 0,
    cache: str | os.PathLike[str] | None = None,
    verify_content: bool = False,
    fresh: bool = False,
    device: torch.device | str | None = None,
    output: str | os.PathLike[str] | None = None,
) -> Selection:
    """Orders the units of a source by what a target asks for.

    In a process group every rank calls this, and all get the same Selection.

    Args:
        source: The set to prune: a name or path as in ``tlprune select``, an :class:`~tlprune.ImageSet`, or any torch
            ``Dataset`` of images and labels. A transform of the Dataset is left out: the surrogate's own is used.
        target: Images that vote: a name or path, a Dataset of training images, or several of these.
        surrogate: A small model trained on the whole source: a file of weights, published weights by name, or the
            network itself; several for a selector that averages.
        selector: How units are ordered; None is Label Mapping.
        surrogate_backbone: As in :class:`SelectOptions`, and so are the next five.
        surrogate_preprocessing: Likewise.
        combine: Likewise.
        target_weights: Likewise.
        target_seed: Likewise.
        image_size: Likewise.
        on_bad_image: What happens to source images that cannot be decoded: ``error`` or ``skip``.
        num_workers: Processes that look for images to skip.
        cache: The cache folder; None for the user's.
        verify_content: Whether cached work counts only where every byte of every image is the same.
        fresh: Whether cached work of earlier calls is removed first.
        device: Where the surrogate runs; None for a GPU if there is one.
        output: A file to save the Selection to; None for none.

    Returns:
        The Selection.

    Raises:
        InputError: Something is missing, cannot be opened, or does not fit.

    Example:
        >>> from tlprune import RandomSelector
        >>> select("drawn", selector=RandomSelector(seed=1)).num_units
        100
    """
    options = SelectOptions(
        surrogate_backbone,
        surrogate_preprocessing,
        combine,
        None if target_weights is None else list(target_weights),
        target_seed,
        image_size,
    )
    targets, surrogates = as_list(target), as_list(surrogate)
    check_names(source, targets, surrogates, options)
    images = open_images(source, cache)
    if fresh and on_bad_image == "skip":
        broadcast_from_rank0(partial(forget, known_path(images, cache_root(cache))))
    images, skipped = usable_images(images, on_bad_image, cache, num_workers)
    inputs = SelectionInputs.open(
        images,
        targets,
        surrogates,
        selector or LabelMapping(),
        options,
        ImageSize(image_size, usual_size(source)),
        device=torch.device(device) if device is not None else _default_device(),
        source_name=source if isinstance(source, str) else None,
        skipped=skipped,
        cache=cache,
        verify_content=verify_content,
    )
    if fresh:
        inputs.forget()
    selection = inputs.select()
    if output is not None:
        broadcast_from_rank0(lambda: selection.save(output))
    return selection


def prune(
    dataset: Dataset[Any],
    selection: Selection | str | os.PathLike[str],
    *,
    ratio: float | None = None,
    units: int | None = None,
    images: int | None = None,
    coverage: float | None = None,
    exactly: int | None = None,
) -> PrunedDataset:
    """Keeps of a data set what a Selection keeps within a budget.

    Args:
        dataset: The set that the Selection was made for, in the same order, with any transform.
        selection: The Selection, or its file.
        ratio: Share of units to remove, in [0, 1).
        units: Units to keep.
        images: The most images to keep.
        coverage: Share of votes that the kept units hold, in (0, 1].
        exactly: Images to keep; the last unit is cut.

    Returns:
        A :class:`torch.utils.data.Subset`. Where classes are pruned, labels are numbered from 0 in the order of the
        classes that are kept.

    Raises:
        InputError: The budget is out of range, or the Selection was made for another data set.
    """
    found = selection if isinstance(selection, Selection) else Selection.load(selection)
    kept = found.kept(Budget(ratio, units, images, coverage, exactly))
    classes = found.unit_names if found.unit_kind == "class" else None
    return PrunedDataset(dataset, kept.samples, len(found.unit_of_sample), classes, kept.units)


def _default_device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
