"""The DataModule of a target."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from tlprune.data.datasets import ImageSet
from tlprune.data.image_size import ImageSize
from tlprune.data.loaders import batches
from tlprune.data.own_transform import ImageTransform, OwnTransform
from tlprune.data.sampler import Batched
from tlprune.data.shots import ALL_SHOTS, Shots, few_of_each_class, read_shots
from tlprune.data.target_splits import TargetSplits, check_target, open_target
from tlprune.data.transformed import Batch, TransformedDataset
from tlprune.data.transforms import MAX_SIZE, Augment, EvalTransform, Transform
from tlprune.datamodules.image_transforms import ONE_VIEW, augmented, check_transforms
from tlprune.datamodules.resumable import ResumableDataModule
from tlprune.errors import InputError, require_within
from tlprune.preprocessing import Preprocessing
from tlprune.selection.forward import running

__all__ = ["DownstreamDataModule"]


class DownstreamDataModule(ResumableDataModule):
    """DataModule with training, validation and test loaders of a target.

    Batches are normalised images ``[B, 3, S, S]`` float32 and labels ``[B]`` int64; after :meth:`cache_features`,
    training and validation batches have features ``[B, D]`` instead of images.

    Args:
        target: Target to load: ``digits``, ``photos``, a folder with class folders in ``train`` and optionally ``val``
            and ``test``, a named set (``oxford_pets:FOLDER``, or ``oxford_pets`` for a set in ``$TLPRUNE_DATA``), or an
            opened target.
        image_size: Height and width in pixels; None for the size that the Trainer's module expects, else the target's.
        augment: Augmentation of training images; None for ``none``.
        transform: Any callable in place of ``augment``, as :class:`tlprune.PrunedSourceDataModule` takes it.
        eval_transform: The same for validation and test images.
        batch_size: Batch size, at least 1.
        num_workers: Number of loading processes.
        seed: Seed of the split if the set has no split of its own.
        preprocessing: Normalisation, resizing and cropping of images, for modules that do not define a preprocessing;
            those of tlprune do.
        shots: Labelled training images per class, at least 1, or ``all``. A class with fewer gives all of them.
            Validation and test images stay whole.
        shots_seed: Seed of the draw of these images; None for ``seed``. More shots with the same seed add images and
            remove none. The seed of the run has no effect on the draw.

    Raises:
        InputError: There is no such target, or an argument is out of range.
    """

    def __init__(
        self,
        target: str | TargetSplits = "digits",
        image_size: int | None = None,
        augment: Augment | None = None,
        transform: ImageTransform | None = None,
        eval_transform: ImageTransform | None = None,
        batch_size: int = 128,
        num_workers: int = 0,
        seed: int = 0,
        preprocessing: Preprocessing | None = None,
        shots: Shots = ALL_SHOTS,
        shots_seed: int | None = None,
    ) -> None:
        super().__init__()
        if isinstance(target, str):
            check_target(target)
        require_within("batch_size", batch_size, 1)
        require_within("num_workers", num_workers, 0)
        if image_size is not None:
            require_within("image_size", image_size, 1, MAX_SIZE)
        read_shots(shots)
        check_transforms(augment, ONE_VIEW, transform, eval_transform)
        self.target = target
        self.image_size = image_size
        self.augment: Augment = augment or "none"
        self.transform, self.eval_transform = transform, eval_transform
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.preprocessing = preprocessing or Preprocessing()
        self.shots = shots
        self.shots_seed = shots_seed
        self._sets: dict[str, Batched] = {}
        self._opened: TargetSplits | None = None

    @property
    def opened(self) -> TargetSplits:
        """The target, opened on first access, with ``shots`` training images per class."""
        if self._opened is None:
            target = open_target(self.target, self.seed) if isinstance(self.target, str) else self.target
            target.require_labels(type(self).__name__)
            self._opened = self._with_few_labels(target)
        return self._opened

    def _with_few_labels(self, target: TargetSplits) -> TargetSplits:
        shots = read_shots(self.shots)
        if shots is None:
            return target
        seed = self.seed if self.shots_seed is None else self.shots_seed
        few = few_of_each_class(target.train.labels, shots, seed)
        return replace(target, train=target.train.subset(few))

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self.opened.classes

    @property
    def num_classes(self) -> int:
        """Number of classes; known before :meth:`setup`."""
        return len(self.classes)

    @property
    def eval_image_size(self) -> int:
        """Height and width in pixels of images, which checkpoints of a trained model record."""
        return ImageSize(self.image_size, self.opened.image_size).expected(self._expected())

    def check_inputs(self) -> None:
        """Opens the target without other effects, so that wrong input is reported before anything is written.

        Raises:
            InputError: The folder has another layout, or a transform does not give images.
        """
        images = self.opened.train
        for transform in (self._view("train"), self._view("val")):
            if isinstance(transform, OwnTransform):
                transform.check(images, size_is_known=self.image_size is not None)

    def _all_images(self) -> Sequence[ImageSet | None]:
        return self.opened.train, self.opened.val, self.opened.test

    def setup(self, stage: str | None = None) -> None:
        """Opens the target without decoding images, and drops features cached by an earlier run.

        Args:
            stage: Stage of the Trainer; None for all.

        Raises:
            InputError: The folder has another layout, there is no training image, or there is no validation image
                although the Trainer validates.
        """
        target = self.opened
        if len(target.train) == 0 and stage in (None, "fit"):
            raise InputError(f"target {target.name}: no image to train on, its training part is empty ({target.split})")
        if len(target.val) == 0 and self.trainer is not None and stage == "fit" and self.trainer.limit_val_batches != 0:
            more = "give it a part 'val', two images of a class, or `limit_val_batches: 0`"
            raise InputError(f"target {target.name}: no image to validate on ({target.split}); {more}")
        if stage in (None, "fit"):
            self.check_inputs()
        parts = {"train": target.train, "val": target.val, "test": target.test}
        self._sets = {part: TransformedDataset(of, self._view(part)) for part, of in parts.items() if of is not None}

    @property
    def can_cache_features(self) -> bool:
        """Whether training images are the same in every epoch, so that their features are."""
        return self.augment == "none" and self.transform is None and self.train_sizes is None

    def cache_features(self, backbone: nn.Module) -> bool:
        """Replaces training and validation images by their features, unless training images are augmented.

        Args:
            backbone: Network from images ``[B, 3, S, S]`` to features ``[B, D]``, run as described in
                :mod:`tlprune.selection.forward`.

        Returns:
            Whether batches contain features from now on. Test batches always contain images.
        """
        if not self.can_cache_features:
            return False
        with running(backbone) as run:
            for part in (name for name in ("train", "val") if len(self._sets[name])):
                loader = batches(self._seen(part), self.batch_size, shuffle=False, num_workers=self.num_workers)
                pairs = [(run(images).cpu().clone(), labels) for images, labels in loader]
                features, labels = (torch.cat(column) for column in zip(*pairs, strict=True))
                self._sets[part] = _Features(features, labels, self._sets[part])
        return True

    def train_dataloader(self) -> DataLoader[Batch]:
        """Returns the loader of shuffled training batches; a resumed run continues in the same order."""
        return self._train_loader(self._seen("train"), self.batch_size, self.num_workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Returns the loader of validation batches, in order."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Returns the loader of test batches, in order."""
        if "test" not in self._sets:
            raise InputError(f"target {self.opened.name}: no folder 'test' in it")
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Returns the loader of test batches."""
        return self.test_dataloader()

    def _loader(self, part: str) -> DataLoader[Batch]:
        return self._in_order(self._seen(part), self.batch_size, self.num_workers)

    def _seen(self, part: str) -> Batched:
        """Returns features, or images with the module's preprocessing, which a checkpoint may change after setup."""
        images = self._sets[part]
        return images.with_transform(self._view(part)) if isinstance(images, TransformedDataset) else images

    def _content(self, images: Batched) -> str:
        return super()._content(images.images if isinstance(images, _Features) else images)

    def _view(self, part: str) -> Transform:
        expected, size = self._expected(), self.eval_image_size
        argument = "transform" if part == "train" else "eval_transform"
        if (own := getattr(self, argument)) is not None:
            return OwnTransform(size, own, argument, "image_size", expected)
        return augmented(size, self.augment, expected) if part == "train" else EvalTransform(size, expected)

    def _expected(self) -> Preprocessing:
        expected, configured = super()._expected(), self.preprocessing
        module = None if self.trainer is None else self.trainer.lightning_module
        if not hasattr(module, "preprocessing"):
            return configured
        if configured.over(expected).filled() != expected.filled():
            other = f"{type(module).__name__} expects {expected.described() or 'as ImageNet'!r}"
            pair = f"{configured.described()!r}, {other}"
            raise InputError(f"`preprocessing` of DownstreamDataModule is {pair}; give it to the model alone")
        return expected


class _Features(Dataset[tuple[Tensor, int]]):
    """Features instead of images, which are kept to tell training sets of the same size apart."""

    def __init__(self, features: Tensor, labels: Tensor, images: Batched) -> None:
        self.features = features
        self.labels = labels
        self.images = images

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.features[index], int(self.labels[index])

    def __getitems__(self, indices: list[int]) -> Batch:
        picked = torch.as_tensor(indices)
        return self.features[picked], self.labels[picked]
