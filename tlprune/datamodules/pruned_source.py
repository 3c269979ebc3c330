"""The pruned source as a DataModule: it selects when it is set up, then gives loaders over what is kept."""

import os
from dataclasses import replace
from pathlib import Path
from warnings import warn

import torch
import torch.distributed as dist
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tlprune.data.downstream import Downstream, check_target, open_target
from tlprune.data.images import FolderImages, ImageSet, TensorImages
from tlprune.data.sources import EMBEDDED_SOURCE, find_source, open_source, source_classes
from tlprune.data.splits import stratified_holdout
from tlprune.data.transforms import Augment, EvalView, TrainView
from tlprune.data.viewed import Batch, ViewedImages, batches
from tlprune.errors import InputError
from tlprune.models.weights import load_classifier
from tlprune.selection.label_mapping import LabelMapping
from tlprune.selection.manifest import Selection
from tlprune.selection.ranking import Budget, kept_samples
from tlprune.selection.selector import Selector
from tlprune.storage.cache import cache_root
from tlprune.storage.fingerprint import digest_json

__all__ = ["PrunedSourceDataModule"]


class PrunedSourceDataModule(LightningDataModule):
    """Loaders over the part of a source that a target votes for.

    Give a budget to prune (``prune_ratio``, ``keep_units``, ``keep_images`` or ``vote_coverage``); without one, all of
    the source is loaded, as for training a surrogate. Batches are images ``[B, 3, S, S]`` float32, normalised, and
    labels ``[B]`` int64 from 0 to ``num_classes - 1``, kept classes keeping their order.

    Args:
        source: ``drawn`` (the embedded source), a folder of class folders, a folder with such folders in ``train``
            and perhaps ``val``, or a set of images.
        target: Whose training images vote: ``digits``, ``photos``, a folder, or an opened target.
        selector: How units are ordered; None is Label Mapping.
        surrogate: Weights of a classifier trained on the whole source: a safetensors file or a Lightning checkpoint.
        surrogate_backbone: Name of its network; None takes the one that the file names.
        prune_ratio: Share of classes to remove, in [0, 1).
        keep_units: Classes to keep, at least 1.
        keep_images: The most source images to keep, held-out ones counted, at least 1.
        vote_coverage: Share of votes that the kept classes shall hold, in (0, 1].
        selection: A saved Selection to use in place of selecting.
        image_size: Height and width in pixels; None is 32 for the embedded source, else 224.
        augment: What varies from epoch to epoch; None is ``shift`` for the embedded source, else ``crop_flip``.
        batch_size: Images in a batch, at least 1.
        num_workers: Processes that load images.
        in_memory: Decode what is kept once and hold it; for images of one size that fit.
        val_share: Share of the source held out for validation where it has no ``val``, in [0, 1).
        seed: Decides what is held out.
        target_seed: Decides the target's split where it has none of its own; the same as its DownstreamDataModule's
            ``seed``, so that validation images never vote.
        cache: The cache folder; None for the user's.

    Attributes:
        selection: The Selection in use after :meth:`setup`; None where nothing is pruned.
        source_images: The source as it is listed, before pruning and before any are held out, after :meth:`setup`; the
            Selection's samples are its images, in its order.

    Raises:
        InputError: An argument is out of range, or source, target, surrogate or selection are not there.
    """

    def __init__(
        self,
        source: str | ImageSet = EMBEDDED_SOURCE,
        target: str | Downstream | None = None,
        selector: Selector | None = None,
        surrogate: str | None = None,
        surrogate_backbone: str | None = None,
        prune_ratio: float | None = None,
        keep_units: int | None = None,
        keep_images: int | None = None,
        vote_coverage: float | None = None,
        selection: str | None = None,
        image_size: int | None = None,
        augment: Augment | None = None,
        batch_size: int = 128,
        num_workers: int = 0,
        in_memory: bool = False,
        val_share: float = 0.1,
        seed: int = 0,
        target_seed: int = 0,
        cache: str | None = None,
    ) -> None:
        super().__init__()
        budget = (prune_ratio, keep_units, keep_images, vote_coverage)
        self.budget = None if set(budget) == {None} else Budget(*budget)
        if batch_size < 1:
            raise InputError(f"`batch_size` must be at least 1, got {batch_size}")
        if not 0 <= val_share < 1:
            raise InputError(f"`val_share` must be in [0, 1), got {val_share}")
        if isinstance(target, str):
            check_target(target)
        if isinstance(source, str) and source != EMBEDDED_SOURCE:
            find_source(source)
        for what, path in (("surrogate", surrogate), ("selection", selection)):
            if path is not None and not Path(path).is_file():
                raise InputError(f"{what} {path}: no such file")
        if selection is not None and self.budget is None:
            raise InputError("a `selection` ranks all units; give a budget such as `prune_ratio` beside it")
        self.source = source
        self.target = target
        self.selector = selector if selector is not None else LabelMapping()
        self.surrogate = surrogate
        self.surrogate_backbone = surrogate_backbone
        self.selection_file = selection
        embedded = source == EMBEDDED_SOURCE
        self.image_size = image_size or (32 if embedded or isinstance(source, TensorImages) else 224)
        self.augment: Augment = augment or ("shift" if embedded else "crop_flip")
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.in_memory = in_memory
        self.val_share = val_share
        self.seed = seed
        self.target_seed = target_seed
        self.cache = cache
        self.selection: Selection | None = None
        self.source_images: ImageSet | None = None
        self._kept_classes: tuple[str, ...] | None = None
        self._opened: tuple[ImageSet, Tensor, ImageSet] | None = None
        self._sets: dict[str, ViewedImages] = {}

    @property
    def num_classes(self) -> int:
        """Classes kept; known before :meth:`setup` unless the budget is in images or votes.

        Raises:
            InputError: The budget is in images or votes and :meth:`setup` has not run.
        """
        if self._kept_classes is not None:
            return len(self._kept_classes)
        source = self.source
        total = len(source_classes(source, self.cache) if isinstance(source, str) else source.classes)
        if self.budget is None:
            return total
        if self.budget.images is not None or self.budget.coverage is not None:
            name = "keep_images" if self.budget.images is not None else "vote_coverage"
            raise InputError(f"with `{name}` the number of classes is known only after setup(); use `keep_units`")
        return self.budget.units_kept(torch.ones(total), torch.ones(total))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes kept, in the order of the labels; known after :meth:`setup`."""
        if self._kept_classes is None:
            raise InputError("the classes kept are known only after setup()")
        return self._kept_classes

    @property
    def images_kept(self) -> int:
        """Training images of the classes kept; known after :meth:`setup`."""
        if not self._sets:
            raise InputError("the images kept are known only after setup()")
        return len(self._sets["train"])

    @property
    def images_before_pruning(self) -> int:
        """Training images of the whole source, held-out ones left out."""
        return len(self._split()[1])

    def check_inputs(self) -> None:
        """Opens all that :meth:`setup` will need, and changes nothing: wrong input is said before anything is written.

        Raises:
            InputError: As :meth:`setup`.
        """
        source, _, _ = self._split()
        if self.budget is None:
            return
        if self.selection_file is not None:
            self._saved_selection(source)
        elif self.selector.needs_vote:
            self._voters()
            self._surrogate(source.classes)

    def prepare_data(self) -> None:
        """Draws the embedded source, if it is wanted and not there."""
        if self.source == EMBEDDED_SOURCE:
            find_source(EMBEDDED_SOURCE, self.cache)

    def setup(self, stage: str | None = None) -> None:
        """Selects, or reads the Selection, and opens what is kept. Every rank takes part; all end with the same.

        Raises:
            InputError: The source is laid out otherwise, the surrogate has another head than the source has classes,
                or the Selection was made for another source.
        """
        if self._sets:
            return
        source, stay, val = self._split()
        self.source_images = source
        if self.budget is None:
            kept_units = torch.arange(len(source.classes))
        else:
            self.selection = self._selection(source)
            kept_units = self.selection.units_kept(self.budget)
            self._warn_beyond_votes(len(kept_units))
        kept_units = kept_units.sort().values
        self._kept_classes = tuple(source.classes[unit] for unit in kept_units.tolist())
        new_labels = torch.full((len(source.classes),), -1)
        new_labels[kept_units] = torch.arange(len(kept_units))
        train = self._subset(source, stay[kept_samples(source.labels[stay], kept_units, len(source.classes))])
        val = self._subset(val, kept_samples(val.labels, kept_units, len(source.classes)))
        self._sets["train"] = ViewedImages(train, TrainView(self.image_size, self.augment), new_labels)
        self._sets["val"] = ViewedImages(val, EvalView(self.image_size), new_labels)

    def _split(self) -> tuple[ImageSet, Tensor, ImageSet]:
        """The source as listed, which of its images are trained on (``[n]`` int64), and validation images."""
        if self._opened is None:
            source: ImageSet
            val: ImageSet | None
            source, val = open_source(self.source, self.cache) if isinstance(self.source, str) else (self.source, None)
            stay = torch.arange(len(source))
            if val is None:
                stay, held = stratified_holdout(source.labels, round(self.val_share * len(source)), self.seed)
                val = source.subset(held)
            self._opened = source, stay, val
        return self._opened

    def _subset(self, images: ImageSet, indices: Tensor) -> ImageSet:
        kept = images.subset(indices)
        decode = self.in_memory and isinstance(kept, FolderImages) and len(kept) > 0
        return TensorImages.from_images(kept) if decode else kept

    def _selection(self, source: ImageSet) -> Selection:
        if self.selection_file is not None:
            return self._saved_selection(source)
        target = surrogate = None
        if self.selector.needs_vote:
            target, surrogate = self._voters(), self._surrogate(source.classes)
        settings = self.selector.settings(source, target, surrogate)
        path = cache_root(self.cache) / "selections" / f"{digest_json(settings)[:32]}.safetensors"
        cached = _from_first_rank(_read_cached(path)) if self.selector.reusable else None
        selection = cached or self.selector.select(source, target, surrogate)
        selection = replace(selection, record=selection.record | self._names())
        if cached is None and self.selector.reusable and (not _distributed() or dist.get_rank() == 0):
            selection.save(path)
        return selection

    def _names(self) -> dict[str, str | int]:
        """How the user called what the selection was made from, so that another command finds it again."""
        target = self.target.name if isinstance(self.target, Downstream) else self.target
        given = {"source": self.source, "target": target, "surrogate": self.surrogate}
        named = {name: value for name, value in given.items() if isinstance(value, str)}
        paths = {name: str(Path(value).absolute()) if Path(value).exists() else value for name, value in named.items()}
        return {**paths, "image_size": self.image_size, "target_seed": self.target_seed}

    def _saved_selection(self, source: ImageSet) -> Selection:
        selection = Selection.load(str(self.selection_file))
        selection.require_source(source.digest, "the source at hand")
        return selection

    def _voters(self) -> ViewedImages:
        if self.target is None:
            raise InputError(f"{type(self.selector).__name__} needs `target`: whose images shall vote?")
        opened = open_target(self.target, self.target_seed) if isinstance(self.target, str) else self.target
        return ViewedImages(opened.train, EvalView(self.image_size))

    def _surrogate(self, classes: tuple[str, ...]) -> nn.Module:
        if self.surrogate is None:
            raise InputError(
                f"{type(self.selector).__name__} needs `surrogate`: weights of a model of the whole source"
            )
        classifier, saved = load_classifier(self.surrogate, self.surrogate_backbone)
        if saved.num_classes != len(classes):
            raise InputError(
                f"surrogate {self.surrogate}: its head has {saved.num_classes} outputs, "
                f"the source has {len(classes)} classes"
            )
        if saved.classes and saved.classes != tuple(classes):
            pairs = zip(saved.classes, classes, strict=True)
            theirs, ours = next(pair for pair in pairs if pair[0] != pair[1])
            where = f"{theirs!r} where the source has {ours!r}"
            raise InputError(f"surrogate {self.surrogate}: trained on other classes ({where})")
        device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
        return classifier.to(device)

    def _warn_beyond_votes(self, kept: int) -> None:
        if self.selection is None:
            return
        voted = int((self.selection.votes > 0).sum())
        if 0 < voted < kept < self.selection.num_units:
            warn(
                f"{kept} units are kept, but only {voted} have votes; the rest are ordered by score alone", stacklevel=2
            )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of what is kept, shuffled."""
        return batches(self._sets["train"], self.batch_size, shuffle=True, num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Batches of held-out images of the kept classes, in order."""
        return batches(self._sets["val"], self.batch_size, shuffle=False, num_workers=self.num_workers)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The validation batches: a source has no test set of its own."""
        return self.val_dataloader()


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _read_cached(path: Path) -> Selection | None:
    if not path.is_file():
        return None
    try:
        selection = Selection.load(path)
        return replace(selection, record=selection.record | {"cached": os.fspath(path)})
    except InputError as error:
        warn(f"{error}; selecting again", stacklevel=2)
        return None


def _from_first_rank(selection: Selection | None) -> Selection | None:
    """What rank 0 found: ranks that saw different caches would wait for each other for ever."""
    if not _distributed():
        return selection
    shared = [selection]
    dist.broadcast_object_list(shared)
    return shared[0]
