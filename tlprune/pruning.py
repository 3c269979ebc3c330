"""From sources and targets to a Selection, and from a Selection to fewer images. No Lightning.

``select()`` is called by the command, by DataModules, by sweeps and by notebooks, on one process or on many.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, cast

import torch
from torch.utils.data import Dataset

from tlprune.data.adapters import DatasetImages, as_images, check_by_index, labels_of_some
from tlprune.data.damaged_images import known_path
from tlprune.data.datasets import FolderImages, ImageSet, TensorImages
from tlprune.data.decoding import DamagedImageError
from tlprune.data.feature_files import open_features
from tlprune.data.image_size import ImageSize
from tlprune.data.listing import Listing, listing_of
from tlprune.data.opening import Source, Target, open_images, usable_images, usual_size
from tlprune.data.pruned_dataset import PrunedDataset, check_classes
from tlprune.data.reading import own_fingerprint
from tlprune.data.sample_records import compare_samples
from tlprune.distributed import broadcast_from_rank0
from tlprune.errors import InputError, did_you_mean
from tlprune.preprocessing import Preprocessing
from tlprune.selection import registry
from tlprune.selection.label_mapping import LabelMapping
from tlprune.selection.multi_target import Combination
from tlprune.selection.ranking import ArgumentBudget
from tlprune.selection.registry import selector_names
from tlprune.selection.selection import Selection
from tlprune.selection.selector import Selector
from tlprune.selection_inputs import SelectionInputs, SelectOptions, as_list, check_names
from tlprune.storage.cache import cache_root, forget
from tlprune.storage.fingerprint import digest_json
from tlprune.surrogates import Surrogate, default_device

__all__ = ["prune", "require_dataset", "require_source", "select"]


def select(
    source: Source | os.PathLike[str],
    target: Target | os.PathLike[str] | Sequence[Target | os.PathLike[str]] | None = None,
    *,
    surrogate: Surrogate | Sequence[Surrogate] | None = None,
    selector: Selector | str | None = None,
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
            map-style ``Dataset`` of images and labels. A transform of the Dataset is left out: the surrogate's own is
            used. Nothing is cached of a Dataset whose samples change each time they are read.
        target: Images that vote: a name or path, a Dataset of training images, or several of these.
        surrogate: A small model trained on the whole source: a file of weights, published weights by name, or the
            network itself; several for a selector that averages.
        selector: How units are ordered: a Selector, or the name of one to use as it is; None is Label Mapping.
        surrogate_backbone: As in :class:`SelectOptions`, and so are the next five.
        surrogate_preprocessing: Likewise.
        combine: Likewise.
        target_weights: Likewise.
        target_seed: Likewise.
        image_size: Likewise.
        on_bad_image: What happens to source images that cannot be decoded: ``error`` or ``skip``.
        num_workers: Processes that look for images to skip, and that read a Dataset once.
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
    chosen = LabelMapping() if selector is None else _selector(selector)
    pruned: Source = as_list([source])[0]
    targets, surrogates = as_list(target), as_list(surrogate)
    check_names(pruned, targets, surrogates, options)
    images = open_images(pruned, cache, num_workers)
    images.share_reading()
    if fresh and on_bad_image == "skip":
        broadcast_from_rank0(partial(forget, known_path(images, cache_root(cache))))
    images, skipped = usable_images(images, on_bad_image, cache, num_workers)
    inputs = SelectionInputs.open(
        images,
        targets,
        surrogates,
        chosen,
        options,
        ImageSize(image_size, usual_size(pruned)),
        device=torch.device(device) if device is not None else default_device(),
        source_name=pruned if isinstance(pruned, str) else None,
        skipped=skipped,
        cache=cache,
        verify_content=verify_content,
    )
    if fresh:
        inputs.forget()
    try:
        selection = inputs.select()
    except DamagedImageError as error:
        hint = "repair or remove it (`on_bad_image: skip` skips images of the source, not of a target)"
        raise InputError(f"{error}; {hint}") from error
    if output is not None:
        broadcast_from_rank0(lambda: selection.save(output))
    return selection


def _selector(given: Selector | str) -> Selector:
    if isinstance(given, str):
        if given not in selector_names():
            raise InputError(f"`selector` {given!r} is no selector: {did_you_mean(given, selector_names())}")
        try:
            return cast(Selector, getattr(registry, given)())
        except TypeError as error:
            raise InputError(f"`selector` {given!r} needs arguments; give an object in place of a name") from error
    if not isinstance(given, Selector):
        raise InputError(f"`selector` must be a Selector such as LabelMapping(), or its name, got {given!r}")
    return given


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
        InputError: The budget is out of range, the Selection was made for another data set, or this one is iterable.
    """
    found = selection if isinstance(selection, Selection) else Selection.load(selection)
    found.require_images()
    for_validation = "a validation set is pruned by `prune_validation()` of the pruned training set"
    if_shorter = for_validation if found.unit_kind == "class" else ""
    listed = require_dataset(found, dataset, type(dataset).__name__, if_shorter)
    kept = found.kept(ArgumentBudget(ratio, units, images, coverage, exactly))
    classes = found.unit_names if found.unit_kind == "class" else None
    return PrunedDataset(dataset, kept.samples, len(found.unit_of_sample), classes, kept.units, listed)


def require_dataset(selection: Selection, dataset: Dataset[Any], where: str, if_shorter: str = "") -> Listing:
    """Refuses a Dataset other than the one that a Selection was made for.

    Files and images in memory are compared as a whole. Of any other Dataset its length and labels are compared: all
    that it lists where classes are ranked, or those of a few samples. Other pixels of these are warned of.

    Args:
        selection: The Selection.
        dataset: The Dataset.
        where: Name of the Dataset in the error message.
        if_shorter: Advice in the error message where the Dataset has fewer samples.

    Returns:
        What the Dataset lists, which takes long where it has millions of files. Where classes are ranked and it lists
        no labels, they are those that the Selection was made with.

    Raises:
        InputError: It is another Dataset, or has no samples by index.
    """
    check_by_index(dataset)
    total, here = len(selection.unit_of_sample), len(dataset)  # type: ignore[arg-type]
    if here != total:
        advice = f"; {if_shorter}" if if_shorter and here < total else ""
        raise InputError(
            f"{where}: this selection was made for a source of {total:,} images, this data set has {here:,}{advice}"
        )
    listed = listing_of(dataset)
    images = listed.images
    if selection.unit_kind == "class":
        check_classes(selection.unit_names, listed.names, where)
        labels = dict(enumerate(listed.labels)) if listed.labels is not None else labels_of_some(dataset)
        classes = selection.unit_of_sample.tolist()
        odd = next((index for index, label in labels.items() if label != classes[index]), None)
        if odd is not None:
            name = f"sample {odd}" if images is None else f"sample {odd} ({images.name(odd)})"
            pair = f"{name} has the label {labels[odd]} here and {classes[odd]} there"
            raise InputError(f"{where}: this selection was made for another source: {pair}")
    if images is None and own_fingerprint(dataset) is not None and listed.labels is not None:
        images = as_images(dataset)
    if isinstance(images, FolderImages | TensorImages | DatasetImages):
        require_source(selection, images, where)
    elif images is None and (records := selection.metadata.get("source_samples")):
        compare_samples(dataset, records, where)
    if selection.unit_kind == "class" and listed.labels is None:
        return replace(listed, labels=tuple(classes))
    return listed


def require_source(selection: Selection, images: ImageSet, where: str) -> None:
    """Refuses images other than those that a Selection was made for.

    A Selection that was made from somebody's own features fits images of the same paths in the same order. Paths may
    all begin with one folder more or less.

    Raises:
        InputError: These are other images, or features without paths do not say which images they are of.
    """
    listed = selection.config.get("source_paths")
    fingerprint = images.fingerprint()
    if listed is None or selection.config.get("source_digest") == fingerprint:
        selection.require_source(fingerprint, where)
        return
    made_from = str((selection.metadata.get("features") or {}).get("source"))
    if not listed:
        no_paths = "features that do not say which images they are of; give them paths and select again"
        raise InputError(f"{where}: this selection was made from {made_from}, {no_paths}")
    names = [images.name(index) for index in range(len(images))]
    aligned = _aligned(names, listed["first"])
    if digest_json(aligned) != listed["digest"]:
        difference = _difference(made_from, listed, len(selection.unit_of_sample), aligned)
        raise InputError(f"{where}: this selection was made from {made_from}, {difference}")
    if selection.unit_kind == "class" and not torch.equal(selection.unit_of_sample.long(), images.labels):
        place = int((selection.unit_of_sample.long() != images.labels).nonzero()[0])
        theirs, ours = int(selection.unit_of_sample[place]), int(images.labels[place])
        classes = f"where {names[place]} has class number {theirs}; here it has {ours}"
        raise InputError(f"{where}: this selection was made from {made_from}, {classes}")


def _aligned(names: list[str], first: str) -> list[str]:
    """Puts the folder before all names that the first path has before the first name, or takes it away."""
    if first.endswith(f"/{names[0]}"):
        return [f"{first.removesuffix(names[0])}{name}" for name in names]
    folder = names[0].removesuffix(first)
    if names[0].endswith(f"/{first}") and all(name.startswith(folder) for name in names):
        return [name.removeprefix(folder) for name in names]
    return names


def _difference(made_from: str, listed: dict[str, str], total: int, names: list[str]) -> str:
    """How the paths of features differ from names of images, in words."""
    counts = f"{total:,} rows; here are {len(names):,} images"
    try:
        paths = open_features(made_from).paths or ()
    except InputError:
        paths = ()
    if digest_json(paths) != listed["digest"]:  # moved or changed since
        return f"{counts}, in another order or of other paths (first {listed['first']!r}, here {names[0]!r})"
    differing = [row for row, pair in enumerate(zip(paths, names, strict=False)) if pair[0] != pair[1]]
    if not differing:
        return counts
    row = differing[0]
    return f"{counts}; {len(differing):,} paths differ, first row {row}: {paths[row]!r}, here {names[row]!r}"
