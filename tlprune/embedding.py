"""From images and a surrogate to a file of features, which stands for these images wherever features are enough."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from tlprune.data.class_names import refuse_class_names
from tlprune.data.datasets import ImageSet
from tlprune.data.embedding import Embedding
from tlprune.data.feature_names import absolute_features, is_features
from tlprune.data.feature_set import FeatureSet
from tlprune.data.feature_writing import check_feature_output, write_features
from tlprune.data.image_size import ImageSize
from tlprune.data.opening import Source, Target, open_images, set_version, training_images, usable_images, usual_size
from tlprune.data.sources import absolute_source
from tlprune.data.transformed import TransformedDataset
from tlprune.data.uncached import cache_for
from tlprune.distributed import broadcast_from_rank0
from tlprune.errors import InputError, require_within
from tlprune.preprocessing import Preprocessing
from tlprune.selection.features import SourceFeatures
from tlprune.selection.forward import Precision, require_precision
from tlprune.selection_inputs import SelectOptions, as_list, check_names
from tlprune.storage.cache import cache_root, forget
from tlprune.storage.fingerprint import digest_tensors
from tlprune.surrogates import ReadSurrogate, Surrogate, common_transform, default_device

__all__ = ["embed"]


def embed(
    source: Source | os.PathLike[str] | None = None,
    target: Target | os.PathLike[str] | None = None,
    *,
    surrogate: Surrogate,
    output: str | os.PathLike[str],
    surrogate_backbone: str | None = None,
    surrogate_preprocessing: Preprocessing | None = None,
    target_seed: int = 0,
    image_size: int | None = None,
    on_bad_image: Literal["error", "skip"] = "error",
    num_workers: int = 0,
    precision: Precision = "float32",
    cache: str | os.PathLike[str] | None = None,
    verify_content: bool = False,
    fresh: bool = False,
    device: torch.device | str | None = None,
) -> str:
    """Writes the features of a source, or of the training images of a target, as :func:`select` would compute them.

    A Selection that is made from ``features:FILE`` orders units as one that is made from the images, and fits them.
    In a process group every rank calls this; ranks share the work, and rank 0 writes. A call that was stopped goes on.

    Args:
        source: The set to prune, as :func:`select` takes it; or
        target: a target, whose training images are embedded. Exactly one of both.
        surrogate: The network: a file of weights, published weights by name, or the network itself.
        output: File to write: ``.safetensors``, ``.npy`` (with a ``.csv`` and a ``.json`` beside it), ``.npz`` or
            ``.parquet``. Features are float16, in Parquet float32.
        surrogate_backbone: As in :class:`SelectOptions`, and so are the next three.
        surrogate_preprocessing: Likewise.
        target_seed: Likewise.
        image_size: Likewise.
        on_bad_image: What happens to source images that cannot be decoded: ``error`` or ``skip``.
        num_workers: Processes of each rank that load images.
        precision: Precision of the network: ``float32`` or ``bfloat16``.
        cache: The cache folder; None for the user's.
        verify_content: Whether cached work counts only where every byte of every image is the same.
        fresh: Whether cached work of earlier calls is removed first.
        device: Where the network runs; None for a GPU if there is one.

    Returns:
        ``features:FILE`` with an absolute path, which :func:`select` takes as source or target.

    Raises:
        InputError: Something is missing, cannot be opened, or does not fit.
    """
    if (source is None) == (target is None):
        raise InputError(f"give a source or a target to embed, {'not both' if source is not None else 'got neither'}")
    require_precision(precision)
    require_within("num_workers", num_workers, 0)
    check_feature_output(output)
    whole: Source | None = as_list([source])[0]
    voting: Target | None = as_list([target])[0]
    refuse_class_names(whole, "embedded")
    options = SelectOptions(surrogate_backbone, surrogate_preprocessing, target_seed=target_seed, image_size=image_size)
    if given := next((one for one in (whole, voting) if is_features(one) or isinstance(one, FeatureSet)), None):
        raise InputError(f"{given if isinstance(given, str) else given.where}: these are features already")
    check_names(whole, [] if voting is None else [voting], [surrogate], options)
    images, name, skipped = _images(whole, voting, options, on_bad_image, num_workers, cache)
    read = ReadSurrogate.read(surrogate, surrogate_preprocessing)
    size = ImageSize(image_size, usual_size(whole if whole is not None else images))
    transform = common_transform([read], size)
    size.warn_if_far(read.preprocessing, f"surrogate {read.name}")
    network = read.network("backbone", surrogate_backbone, images.classes)
    backbone: nn.Module = getattr(network, "backbone", network)
    seen = TransformedDataset(images, transform)
    set_version(seen, verify_content)
    where = torch.device(device) if device is not None else default_device()
    embedding = Embedding(
        role="source" if source is not None else "target",
        name=name,
        fingerprint=images.fingerprint(),
        features="",
        listing="",
        surrogate=read.location,
        surrogate_digest=digest_tensors(backbone.state_dict()),
        view=seen.transform_config,
        image_size=transform.image_size,
        precision=precision,
        classes=list(images.classes),
        display_names=list(images.display_names),
        skipped=list(skipped),
        target_seed=target_seed,
        surrogate_seconds=read.saved.seconds if read.saved is not None else None,
    )
    with cache_for([images], cache_root(cache)) as folder:
        features = SourceFeatures(backbone.to(where), seen, folder, num_workers, precision)
        if fresh:
            broadcast_from_rank0(lambda: forget(features.folder))
        features.extract()
        broadcast_from_rank0(lambda: write_features(_as_set(features, images, embedding), output))
    return absolute_features(f"features:{os.fspath(output)}")


def _images(
    source: Source | None,
    target: Target | None,
    options: SelectOptions,
    on_bad_image: str,
    num_workers: int,
    cache: str | os.PathLike[str] | None,
) -> tuple[ImageSet, str | None, Sequence[str]]:
    """The images to embed, their name, and the names of those that are left out."""
    if source is not None:
        images, skipped = usable_images(open_images(source, cache), on_bad_image, cache, num_workers)
        return images, absolute_source(source) if isinstance(source, str) else None, skipped
    if on_bad_image != "error":
        raise InputError("`on_bad_image` is for sources; every training image of a target must be readable")
    ((name, images),) = training_images([target] if target is not None else [], options.target_seed, cache)
    return images, name, ()


def _as_set(features: SourceFeatures, images: ImageSet, embedding: Embedding) -> FeatureSet:
    names = [images.name(index) for index in range(len(images))]
    labels = images.labels if images.classes else None
    found = FeatureSet(_Shards(features), labels, images.classes, names, where=type(images).__name__)
    found.embedding = replace(embedding, features=found.digest_features(), listing=found.listing)
    return found


class _Shards:
    """Features of shards as one array, of which a part is read at a time."""

    dtype = torch.float16

    def __init__(self, features: SourceFeatures) -> None:
        self.features = features
        self.shape = (len(features), features.rows(torch.zeros(1, dtype=torch.int64)).shape[1])

    def __getitem__(self, rows: slice) -> Tensor:
        """Returns ``[n, D]`` float16."""
        return self.features.rows(torch.arange(*rows.indices(self.shape[0]))).half()
