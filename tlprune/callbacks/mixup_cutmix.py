"""Mixup and CutMix of training batches."""

from collections.abc import MutableMapping, MutableSequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor
from torchvision.transforms import v2

from tlprune.callbacks.progressive_resize import ProgressiveResize
from tlprune.data.sampler import seed_from
from tlprune.data.two_views import RECIPES
from tlprune.distributed import broadcast_from_rank0
from tlprune.errors import InputError, OfLightning, require_within

__all__ = ["MixupCutMix"]

_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class MixupCutMix(OfLightning, Callback):
    """Mixes the images of each training batch by mixup or CutMix, and their labels in the same proportion.

    The transforms are torchvision's ``v2.MixUp`` (Zhang et al., 2018) and ``v2.CutMix`` (Yun et al., 2019): each image
    is mixed with the one before it in the batch. Each batch draws which of the two is applied, with probability one
    half, and how much. Draws depend only on the seed of the run, the step and the rank, so a resumed run mixes alike.

    Labels become probabilities, ``[B, C]`` float, which :class:`tlprune.LitClassifier` and ``cross_entropy`` of torch
    take with label smoothing or without. Batches are changed in place, before the training step of any LightningModule:
    they must be lists or dictionaries, as torch's collation makes them. Validation is left as it is.

    Args:
        mixup_alpha: Parameter of the Beta distribution of mixup's proportions, at least 0; 0 for CutMix alone.
        cutmix_alpha: Parameter of the Beta distribution of the areas that CutMix leaves, at least 0; 0 for mixup alone.
        num_classes: Number of classes; None for ``num_classes`` of the module, else of the DataModule.
        images: Place of the images ``[B, 3, H, W]`` in a batch: an index, or a key of a dictionary.
        labels: Place of the labels ``[B]``, which are class numbers.

    Raises:
        InputError: A number is out of range, or both parameters are 0.
    """

    def __init__(
        self,
        mixup_alpha: float = 0.2,
        cutmix_alpha: float = 1.0,
        num_classes: int | None = None,
        images: int | str = 0,
        labels: int | str = 1,
    ) -> None:
        require_within("mixup_alpha", mixup_alpha, 0)
        require_within("cutmix_alpha", cutmix_alpha, 0)
        if mixup_alpha == cutmix_alpha == 0:
            raise InputError("`mixup_alpha` and `cutmix_alpha` are both 0, so nothing would be mixed")
        if num_classes is not None:
            require_within("num_classes", num_classes, 1)
        self.mixup_alpha = mixup_alpha
        self.cutmix_alpha = cutmix_alpha
        self.num_classes = num_classes
        self.images = images
        self.labels = labels
        self._seed: int | None = None
        self._checked = False
        self._classes = 0
        self._mix: v2.Transform | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks the training data, and makes the next fit draw by its own seed."""
        self._seed = self._mix = None
        self._checked = False
        if stage == "fit":
            self.check_data(trainer, pl_module, getattr(trainer, "datamodule", None))

    def check_data(self, trainer: Trainer, pl_module: LightningModule, data: LightningDataModule | None) -> None:
        """Refuses training data that are known to be no images with labels; changes nothing.

        Args:
            trainer: Trainer of the fit.
            pl_module: Module to train.
            data: Its DataModule; None for loaders, of which nothing is known before the first batch.

        Raises:
            InputError: Batches have two views of each image, or features that a linear probe computes once.
        """
        augment, module = getattr(data, "augment", None), type(pl_module).__name__
        if isinstance(augment, str) and augment in RECIPES:
            views = f"`augment` {augment!r} gives two views, which {module} compares without labels"
            raise InputError(f"MixupCutMix mixes images and their labels, and {views}: leave one of them out")
        caches_features_of = getattr(pl_module, "caches_features_of", None)
        resizes = any(isinstance(one, ProgressiveResize) for one in trainer.callbacks)  # type: ignore[attr-defined]
        if caches_features_of is not None and not resizes and caches_features_of(data):
            features = f"the linear probe of {module} trains on features, computed once of images that never change"
            mend = "set `augment` of the data, or leave MixupCutMix out"
            raise InputError(f"MixupCutMix mixes images, and {features}: {mend}")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the number of classes, and the seed of the run.

        Raises:
            InputError: Nobody says how many there are.
        """
        data = getattr(trainer, "datamodule", None)
        of_module = getattr(pl_module, "num_classes", None) or pl_module.hparams.get("num_classes")
        number = of_module if self.num_classes is None else self.num_classes
        if isinstance(of_module, int) and number != of_module:
            pair = f"`num_classes` is {number}, {type(pl_module).__name__} has {of_module}"
            raise InputError(f"MixupCutMix makes as many probabilities as the module has classes: {pair}; leave it out")
        number = getattr(data, "num_classes", None) if number is None else number
        if not isinstance(number, int):
            raise InputError(f"MixupCutMix needs `num_classes`: {type(pl_module).__name__} and its data do not say it")
        self._classes = number
        if self._seed is None:  # else it is that of a checkpoint
            self._seed = broadcast_from_rank0(torch.initial_seed)
        kinds = ((v2.MixUp, self.mixup_alpha), (v2.CutMix, self.cutmix_alpha))
        self._mix = v2.RandomChoice([kind(alpha=alpha, num_classes=number) for kind, alpha in kinds if alpha > 0])

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Mixes a batch in place.

        Raises:
            InputError: It does not hold one view of each image and its class number.
        """
        images, labels = self._images_and_labels(batch, pl_module)
        if self._mix is None or self._seed is None:
            raise RuntimeError("on_fit_start() has not run")
        if not self._checked or labels.device.type == "cpu":  # a look at each batch would make a GPU wait
            self._check_range(labels)
            self._checked = True
        with torch.random.fork_rng(devices=[]):  # proportions and places are drawn on the CPU wherever images are
            seed = seed_from(self._seed, trainer.global_step, batch_idx, trainer.global_rank)
            torch.default_generator.manual_seed(seed)
            mixed, probabilities = self._mix(images, labels.long())
        batch[self.images], batch[self.labels] = mixed, probabilities.to(mixed.dtype)

    def _images_and_labels(self, batch: Any, module: LightningModule) -> tuple[Tensor, Tensor]:
        what = f"a batch of {type(module).__name__}"
        if not isinstance(batch, (MutableSequence, MutableMapping)):
            kind = f"{what}, which is of type {type(batch).__name__}"
            more = "return a list or a dictionary from `collate_fn` and from hooks such as `on_after_batch_transfer`"
            raise InputError(f"MixupCutMix cannot change {kind}: {more}")
        try:
            images, labels = batch[self.images], batch[self.labels]  # type: ignore[index]  # each fits one of the two
        except (IndexError, KeyError, TypeError) as error:
            holds = f"keys {', '.join(map(str, batch))}" if isinstance(batch, MutableMapping) else f"{len(batch)} parts"
            places = f"images at {self.images!r} and labels at {self.labels!r}"
            raise InputError(f"MixupCutMix needs {places} of {what}, which has {holds}") from error
        if not (isinstance(images, Tensor) and images.ndim == 4 and images.is_floating_point()):
            raise InputError(f"MixupCutMix needs images [B, 3, H, W] in floats in {what}, got {_described(images)}")
        if not isinstance(labels, Tensor) or labels.dtype not in _WHOLE or labels.shape != images.shape[:1]:
            wanted = f"class numbers [{len(images)}]"
            raise InputError(f"MixupCutMix needs {wanted} as labels in {what}, got {_described(labels)}")
        return images, labels

    def _check_range(self, labels: Tensor) -> None:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= self._classes:
            allowed = f"from 0 to {self._classes - 1} (`num_classes` is {self._classes})"
            raise InputError(f"MixupCutMix needs labels {allowed}, got {low} to {high}")

    def state_dict(self) -> dict[str, int | None]:
        """Returns the seed of the run."""
        return {"seed": self._seed}

    def load_state_dict(self, state_dict: dict[str, int | None]) -> None:
        """Restores the seed of the resumed run."""
        self._seed = state_dict["seed"]


def _described(found: object) -> str:
    if isinstance(found, Tensor):
        return f"{[*found.shape]} {str(found.dtype).removeprefix('torch.')}"
    return f"{len(found)} views" if isinstance(found, (list, tuple)) else type(found).__name__
