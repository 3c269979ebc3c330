"""Diagnostics of a Selection by names, files and data sets: how near, how varied, how many copies. No Lightning."""

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from tlprune.data.class_names import refuse_class_names
from tlprune.data.datasets import ImageSet
from tlprune.data.image_size import ImageSize
from tlprune.data.opening import Source, Target, open_images, set_version, training_images, usual_size
from tlprune.data.transformed import TransformedDataset
from tlprune.data.uncached import cache_for
from tlprune.preprocessing import Preprocessing
from tlprune.pruning import require_source
from tlprune.selection.diagnostics import Diagnosis, diagnose_kept
from tlprune.selection.ranking import ArgumentBudget
from tlprune.selection.selection import Selection
from tlprune.selection_inputs import SelectOptions, as_list, check_names
from tlprune.storage.cache import cache_root
from tlprune.surrogates import ReadSurrogate, Surrogate, common_transform

__all__ = ["diagnose", "diagnose_images", "without_skipped"]


def diagnose(
    selection: Selection | str | os.PathLike[str],
    source: Source | os.PathLike[str],
    target: Target | os.PathLike[str],
    surrogate: Surrogate,
    *,
    ratio: float | None = None,
    units: int | None = None,
    images: int | None = None,
    coverage: float | None = None,
    exactly: int | None = None,
    surrogate_backbone: str | None = None,
    surrogate_preprocessing: Preprocessing | None = None,
    target_seed: int = 0,
    image_size: int | None = None,
    num_workers: int = 0,
    cache: str | os.PathLike[str] | None = None,
    verify_content: bool = False,
    device: torch.device | str | None = None,
) -> Diagnosis:
    """Diagnoses what a Selection keeps within a budget, without any training. Exactly one budget must be given.

    In a process group every rank calls this, and all get the same. Features of the source are computed once and cached.

    Args:
        selection: The Selection, or its file. Any selector may have made it, with or without a surrogate or a target.
        source: The set that it was made for: a name or path, an :class:`~tlprune.ImageSet`, or a torch ``Dataset``.
        target: The target that kept images are held against: a name or path, or a Dataset of training images.
        surrogate: Model whose features are compared: a file of weights, published weights by name, or the network.
        ratio: Share of units to remove, in [0, 1).
        units: Units to keep.
        images: The most images to keep.
        coverage: Share of votes that the kept units hold, in (0, 1].
        exactly: Images to keep; the last unit is cut.
        surrogate_backbone: As in :class:`SelectOptions`, and so are the next three.
        surrogate_preprocessing: Likewise.
        target_seed: Likewise.
        image_size: Likewise.
        num_workers: Processes that load images on each rank.
        cache: The cache folder; None for the user's.
        verify_content: Whether cached features count only where every byte of every image is the same.
        device: Where the surrogate runs; None for a GPU if there is one.

    Returns:
        Diagnostics of what is kept, and of as many random images of the source.

    Raises:
        InputError: The budget is out of range, the source is not that of the Selection, or something cannot be opened.

    Example:
        >>> from tlprune import RandomSelector, select
        >>> from tlprune.data.datasets import TensorImages
        >>> pixels = torch.randint(0, 256, (20, 3, 4, 4), dtype=torch.uint8)
        >>> images = TensorImages(pixels, torch.arange(20) % 2, ["a", "b"])
        >>> made = select(images, selector=RandomSelector())
        >>> found = diagnose(made, images, images, torch.nn.Flatten(), units=1, image_size=4)
        >>> found.images, 0 < found.kept.similarity < 1
        (10, True)
    """
    found = selection if isinstance(selection, Selection) else Selection.load(selection)
    whole: Source = as_list([source])[0]
    targets: list[Target] = as_list([target])
    refuse_class_names(whole, "diagnosed")
    options = SelectOptions(surrogate_backbone, surrogate_preprocessing, target_seed=target_seed, image_size=image_size)
    check_names(whole, targets, [surrogate], options)
    kept = found.kept(ArgumentBudget(ratio, units, images, coverage, exactly)).samples
    opened = without_skipped(open_images(whole, cache), found)
    require_source(found, opened, f"source {whole if isinstance(whole, str) else ''}".strip())
    [(_, voters)] = training_images(targets, target_seed)
    size = ImageSize(image_size, usual_size(whole))
    how = (options, size, num_workers, cache, verify_content, device)
    [diagnosis] = diagnose_images(opened, voters, surrogate, [kept], *how)
    return diagnosis


def diagnose_images(
    source: ImageSet,
    target: ImageSet,
    surrogate: Surrogate,
    kept: Sequence[Tensor],
    options: SelectOptions,
    image_size: ImageSize,
    num_workers: int = 0,
    cache: str | os.PathLike[str] | None = None,
    verify_content: bool = False,
    device: torch.device | str | None = None,
) -> list[Diagnosis]:
    """Diagnoses several sets of kept images of one opened source.

    Args:
        source: The source.
        target: Training images of the target.
        surrogate: Model whose features are compared.
        kept: Int64 tensors of source images, ascending.
        options: Network and preprocessing of the surrogate.
        image_size: Height and width in pixels that the surrogate sees.
        num_workers: Processes that load images on each rank.
        cache: The cache folder; None for the user's.
        verify_content: Whether cached features count only where every byte of every image is the same.
        device: Where the surrogate runs; None for a GPU if there is one.

    Raises:
        InputError: Nothing is kept, or the surrogate cannot be read or run.
    """
    read = ReadSurrogate.read(surrogate, options.surrogate_preprocessing)
    network = read.network("backbone", options.surrogate_backbone, source.classes)
    network = getattr(network, "backbone", network)
    network.to(device if device is not None else "cuda" if torch.cuda.is_available() else "cpu")
    transform = common_transform([read], image_size)
    seen = [TransformedDataset(images, transform) for images in (source, target)]
    set_version(seen[0], verify_content)
    with cache_for([source, target], cache_root(cache)) as folder:
        return diagnose_kept(seen[0], seen[1], network, kept, folder, num_workers)


def without_skipped(images: ImageSet, selection: Selection) -> ImageSet:
    """Leaves out the images that were left out when a Selection was made, because they cannot be decoded."""
    if not selection.skipped:
        return images
    left_out = set(selection.skipped)
    stay = [index for index in range(len(images)) if images.name(index) not in left_out]
    return images.subset(torch.tensor(stay, dtype=torch.int64))
