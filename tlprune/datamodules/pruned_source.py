"""The pruned source as a DataModule: it selects when it is set up, then gives loaders over what is kept."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tlprune.data.datasets import ImageSet, TensorImages
from tlprune.data.packed import Packing
from tlprune.data.sources import BUILT_IN_SOURCE, open_source, source_classes
from tlprune.data.splits import stratified_holdout
from tlprune.data.synthetic import synthetic_source
from tlprune.data.target_splits import TargetSplits
from tlprune.data.transformed import Batch, TransformedDataset
from tlprune.data.transforms import Augment, TwoViews
from tlprune.datamodules.damaged_images import known_path, without_damaged
from tlprune.datamodules.image_transforms import SourceViews
from tlprune.datamodules.packing import check_packing, pack
from tlprune.datamodules.packing import in_memory as decoded
from tlprune.datamodules.resumable import ResumableDataModule
from tlprune.datamodules.selecting import Selecting, check_names, check_saved, warn_beyond_votes
from tlprune.errors import InputError, require_within
from tlprune.preprocessing import Preprocessing
from tlprune.selection.distributed import broadcast_from_rank0
from tlprune.selection.label_mapping import LabelMapping
from tlprune.selection.multi_target import Combination, MultiTarget
from tlprune.selection.ranking import Budget, require_training_images
from tlprune.selection.selection import Selection, UnitKind
from tlprune.selection.selector import Selector
from tlprune.storage.cache import cache_root, forget

__all__ = ["PrunedSourceDataModule"]


class PrunedSourceDataModule(ResumableDataModule):
    """Loaders over the part of a source that a target votes for.

    Give a budget to prune (``prune_ratio``, ``keep_units``, ``keep_images`` or ``vote_coverage``); without one, all of
    the source is loaded, as for training a surrogate. Batches are images ``[B, 3, S, S]`` float32, normalised, and
    labels ``[B]`` int64 from 0 to ``num_classes - 1``. Where classes are pruned, those kept are numbered anew in their
    order; where clusters or single images are, labels stay as they are. A source without labels gives zeros.

    Args:
        source: ``drawn`` (the built-in source), a folder of class folders or of images without labels, a folder with
            either in ``train`` and perhaps ``val``, ``linked:FOLDER`` to follow links in these, ``unlabelled:FOLDER``
            for all images at any depth, a list file (``.csv``, ``.tsv``, ``.txt``), ``torchvision:NAME:FOLDER``,
            ``huggingface:NAME``, or a set of images.
        target: Whose training images vote: ``digits``, ``photos``, a folder, a named set (``NAME:FOLDER``, or ``NAME``
            where it lies in ``$TLPRUNE_DATA``), an opened target, or a list of them.
        selector: How units are ordered; None is Label Mapping.
        surrogate: Weights of a small model trained on the whole source: a safetensors file, a checkpoint, or published
            weights by name such as ``torchvision:resnet18``; a list of them for a selector that averages.
        surrogate_backbone: Name of its network; None takes the one that the file names, or that its weights tell.
        surrogate_preprocessing: How its weights expect images (``mean``, ``std``, ...), where their file does not say.
        combine: How several targets share one order.
        target_weights: What each of several targets counts, for ``combine: weighted_sum``; None counts all the same.
        prune_ratio: Share of units (classes, clusters or single images, as the selector has it) to remove, in [0, 1).
        keep_units: Units to keep, at least 1.
        keep_images: The most source images to keep, held-out ones counted, at least 1.
        vote_coverage: Share of votes that the kept units shall hold, in (0, 1].
        images_like: A saved Selection of the same source. What is kept then has no more images than it keeps within the
            budget: a control is held against a method at equal cost. Single images reach that number exactly.
        selection: A saved Selection to use in place of selecting.
        image_size: Height and width in pixels of training images; None is the module's own, else 224 (embedded: 32).
        eval_size: Likewise of images that vote or validate; None is ``image_size``. Where both are None, images vote at
            the size that the surrogate's weights expect.
        augment: What varies from epoch to epoch; None is ``shift`` for the built-in source, else ``crop_flip``. With
            ``simclr``, ``simclr_small``, ``simclr_colour`` or ``moco`` training batches hold two views of each image,
            ``[view, other view]`` in place of images, for any module that learns from such.
        batch_size: Images in a batch, at least 1.
        num_workers: Processes that load images.
        on_bad_image: What is done about source images that cannot be decoded: ``error`` stops when one is met and names
            it; ``skip`` decodes all of the source once, before anything else, leaves them out and notes them in the
            Selection, unless they are more than one in a hundred.
        in_memory: Decode what is kept once and hold it; for images of one size that fit.
        image_cache: Decode what is kept once and keep it on disk, with 256 pixels for the shorter side where that has
            more: ``raw256``, pixels, some 260 kB an image; ``jpeg256``, JPEGs, some 30 kB. How much it takes is said
            before it is written. Only training images come from there.
        val_share: Share of the source held out for validation where it has no ``val``, in [0, 1).
        seed: Decides what is held out.
        target_seed: Decides the target's split where it has none of its own; the same as its DownstreamDataModule's
            ``seed``, so that validation images never vote.
        cache: The cache folder; None for the user's.
        verify_content: Whether what is in the cache is used only where every byte of every image is the same, which
            takes as long as reading all files; else the same path, size and time of change are enough.

    Attributes:
        device: Where the surrogate runs without a Trainer; with one, where the Trainer's module does.
        skipped: Names of source images that were left out, after :meth:`setup`: they cannot be decoded.
        selection: The Selection in use after :meth:`setup`; None where nothing is pruned.
        source_images: The whole source as it is listed, after :meth:`setup`: the Selection's samples, in its order.

    Raises:
        InputError: An argument is out of range, or source, target, surrogate or selection are not there.
    """

    def __init__(
        self,
        source: str | ImageSet = BUILT_IN_SOURCE,
        target: str | TargetSplits | list[str] | list[TargetSplits] | None = None,
        selector: Selector | None = None,
        surrogate: str | list[str] | None = None,
        surrogate_backbone: str | None = None,
        surrogate_preprocessing: Preprocessing | None = None,
        combine: Combination = "worst_case",
        target_weights: list[float] | None = None,
        prune_ratio: float | None = None,
        keep_units: int | None = None,
        keep_images: int | None = None,
        vote_coverage: float | None = None,
        images_like: str | None = None,
        selection: str | None = None,
        image_size: int | None = None,
        eval_size: int | None = None,
        augment: Augment | TwoViews | None = None,
        batch_size: int = 128,
        num_workers: int = 0,
        on_bad_image: Literal["error", "skip"] = "error",
        in_memory: bool = False,
        image_cache: Packing | None = None,
        val_share: float = 0.1,
        seed: int = 0,
        target_seed: int = 0,
        cache: str | None = None,
        verify_content: bool = False,
    ) -> None:
        super().__init__()
        budget = (prune_ratio, keep_units, keep_images, vote_coverage)
        self.budget = None if set(budget) == {None} else Budget(*budget)
        require_within("batch_size", batch_size, 1)
        require_within("num_workers", num_workers, 0)
        if not 0 <= val_share < 1:
            raise InputError(f"`val_share` must be in [0, 1), got {val_share}")
        self.targets = target if isinstance(target, list) else [] if target is None else [target]
        self.several_targets = MultiTarget(combine, None if target_weights is None else tuple(target_weights))
        self.surrogates = surrogate if isinstance(surrogate, list) else [] if surrogate is None else [surrogate]
        check_names(source, self.targets, self.several_targets, self.surrogates)
        check_saved(selection=selection, images_like=images_like)
        self._like = None if images_like is None else Selection.load(images_like)
        if self._like is not None:
            if self.budget is None:
                raise InputError("`images_like` needs a budget such as `prune_ratio`: as many as it keeps within that")
            self.budget = Budget(images=len(self._like.keep(**vars(self.budget))))
        if selection is not None and self.budget is None:
            raise InputError("a `selection` ranks all units; give a budget such as `prune_ratio` beside it")
        self.source, self.selection_file = source, selection
        self.selector = selector if selector is not None else LabelMapping()
        self.surrogate_backbone = surrogate_backbone
        self.surrogate_preprocessing = surrogate_preprocessing or Preprocessing()
        embedded = source == BUILT_IN_SOURCE
        usual = 32 if embedded or isinstance(source, TensorImages) else 224
        self.augment: Augment | TwoViews = augment or ("shift" if embedded else "crop_flip")
        self.views = SourceViews(image_size, eval_size, usual, self.augment)
        self.batch_size, self.num_workers = batch_size, num_workers
        if on_bad_image not in ("error", "skip"):
            raise InputError(f"`on_bad_image` must be 'error' or 'skip', got {on_bad_image!r}")
        self.on_bad_image = on_bad_image
        self.skipped: tuple[str, ...] = ()
        check_packing(image_cache, in_memory)
        self.in_memory, self.image_cache = in_memory, image_cache
        self.val_share, self.seed, self.target_seed = val_share, seed, target_seed
        self.cache, self.verify_content = cache, verify_content
        self.device, self._fresh = torch.device("cpu"), False
        self.selection: Selection | None = None
        self.source_images: ImageSet | None = None
        self._kept_units: Tensor | None = None
        self._saved: Selection | None = None
        self._listed: tuple[ImageSet, ImageSet | None] | None = None
        self._opened: tuple[ImageSet, Tensor, Tensor, ImageSet | None] | None = None
        self._sets: dict[str, TransformedDataset] = {}

    @property
    def num_classes(self) -> int:
        """Classes that labels stand for; known before :meth:`setup` wherever the budget or a file fixes it.

        Raises:
            InputError: The source has no labels; or classes are pruned to a number of images or a share of votes, and
                :meth:`setup` has not run.
        """
        total = self._number_of_classes()
        if total == 0:
            raise InputError("the source has no labels, so it has no classes to tell apart")
        if self._sets:
            return len(self.classes)
        if self.budget is None or self.unit_kind != "class":
            return total
        if self.selection_file is not None:
            return len(self._read_selection().units_kept(self.budget))
        if self.budget.images is not None or self.budget.coverage is not None:
            name = "keep_images" if self.budget.images is not None else "vote_coverage"
            raise InputError(f"with `{name}` the number of classes is known only after setup(); use `keep_units`")
        return self.budget.units_kept(torch.ones(total), torch.ones(total))

    @property
    def unit_kind(self) -> UnitKind:
        """What is pruned: classes, clusters or single images."""
        return self.selector.unit_kind if self.selection_file is None else self._read_selection().unit_kind

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels; known after :meth:`setup`."""
        if self._kept_units is None or self.source_images is None:
            raise InputError("the classes kept are known only after setup()")
        if self.selection is None or self.selection.unit_kind != "class":
            return self.source_images.classes
        return tuple(self.source_images.classes[unit] for unit in self._kept_units.tolist())

    @property
    def units_kept(self) -> int:
        """Units kept, classes where nothing is pruned; known after :meth:`setup`."""
        if self._kept_units is None:
            raise InputError("the units kept are known only after setup()")
        return len(self._kept_units)

    @property
    def images_kept(self) -> int:
        """Training images kept; known after :meth:`setup`."""
        if not self._sets:
            raise InputError("the images kept are known only after setup()")
        return len(self._sets["train"])

    @property
    def images_before_pruning(self) -> int:
        """Training images of the whole source, held-out ones left out."""
        return len(self._split()[1])

    @property
    def transformed_source(self) -> TransformedDataset:
        """The whole source as listed, in the evaluation view of the Trainer's module."""
        return TransformedDataset(self._split()[0], self.views.eval(self._expected()))

    @property
    def image_size(self) -> int:
        """Height and width in pixels of training images."""
        return self.views.train_size.expected(self._expected())

    def check_inputs(self) -> None:
        """Opens all that :meth:`setup` will need, and changes nothing: wrong input is said before anything is written.

        Raises:
            InputError: As :meth:`setup`.
        """
        if self.on_bad_image == "skip":  # which images there are is known only once all ranks have looked
            self._list()
            return
        source = self._split()[0]
        if self.budget is None:
            return
        self._check_like(source)
        if self.selection_file is not None:
            self._saved_selection(source)
        else:
            self.selecting.check(source)

    def prepare_data(self) -> None:
        """Draws the built-in source, if it is wanted and not there."""
        if self.source == BUILT_IN_SOURCE:
            synthetic_source(cache_root(self.cache))

    def start_over(self) -> None:
        """Removes from the cache what :meth:`setup` would take from there, but for the built-in source. For all ranks.

        Raises:
            InputError: As :meth:`setup`.
        """
        looked_at = filter(None, self._list() if self.on_bad_image == "skip" else ())
        known = [known_path(images, cache_root(self.cache)) for images in looked_at]
        looked = broadcast_from_rank0(lambda: all(path.is_file() for path in known))
        if looked and self.budget is not None and self.selection_file is None:
            self.selecting.forget(self._split()[0])
        self._opened, self._fresh = None, True
        broadcast_from_rank0(lambda: forget(*known))

    def setup(self, stage: str | None = None) -> None:
        """Selects, or reads the Selection, and opens what is kept. Every rank takes part; all end with the same.

        Raises:
            InputError: The source is laid out otherwise, the surrogate has another head than the source has classes,
                the Selection was made for another source, or no image is left to train on.
        """
        if self._sets:
            return
        source, stay, held, own_val = self._split()
        self.source_images = source
        new_labels = keep_classes = None
        keep = torch.ones(len(source), dtype=torch.bool)
        self._kept_units = torch.arange(len(source.classes))
        if self.budget is not None:
            self.selection = self._selection(source)
            kept_units = self.selection.units_kept(self.budget)
            warn_beyond_votes(self.selection, len(kept_units))
            self._kept_units = kept_units.sort().values
            kept = torch.zeros(self.selection.num_units, dtype=torch.bool).index_fill_(0, kept_units, True)
            keep = kept[self.selection.unit_of_sample.long()]
            if self.selection.unit_kind == "class":
                keep_classes, new_labels = kept, torch.where(kept, kept.cumsum(0) - 1, -1)
        if own_val is None:
            # single images are pruned to train on fewer, not to be examined on fewer
            by_sample = self.selection is not None and self.selection.unit_kind == "sample"
            val = source.subset(held if by_sample else held[keep[held]])
        else:
            val = own_val if keep_classes is None else own_val.subset(keep_classes[own_val.labels].nonzero().squeeze(1))
        train = source.subset(stay[keep[stay]])
        require_training_images(self.budget, len(self._kept_units), int(keep.sum()), len(train))
        expected = self._expected()
        self._sets["train"] = TransformedDataset(self._at_hand(train), self.views.train(expected), new_labels)
        self._sets["val"] = TransformedDataset(
            decoded(val, self.verify_content) if self.in_memory else val, self.views.eval(expected), new_labels
        )

    def _all_images(self) -> Sequence[ImageSet | None]:
        return *self._list(), *self.selecting.voters()

    def _number_of_classes(self) -> int:
        """Of the whole source; a folder's images are not listed for it."""
        if self._listed is not None:
            return len(self._listed[0].classes)
        return len(source_classes(self.source, self.cache) if isinstance(self.source, str) else self.source.classes)

    def _check_like(self, source: ImageSet) -> None:
        if self._like is not None:
            self._like.require_source(source.fingerprint(), "the source at hand")

    def _split(self) -> tuple[ImageSet, Tensor, Tensor, ImageSet | None]:
        """The source as listed; which of it is trained on and held out (``[n]`` int64 each); its own validation set."""
        if self._opened is None:
            source, val = self._list()
            if self.on_bad_image == "skip":
                cache = cache_root(self.cache)
                source, self.skipped = without_damaged(source, cache, self.num_workers)
                val = None if val is None else without_damaged(val, cache, self.num_workers)[0]
            count = 0 if val is not None else round(self.val_share * len(source))
            self._opened = source, *stratified_holdout(source.labels, count, self.seed), val
        return self._opened

    def _list(self) -> tuple[ImageSet, ImageSet | None]:
        """The source's images and its own validation images, before any are left out."""
        if self._listed is None:
            self._listed = open_source(self.source, self.cache) if isinstance(self.source, str) else (self.source, None)
        return self._listed

    def _at_hand(self, kept: ImageSet) -> ImageSet:
        """The same images, where the user wants them."""
        if self.image_cache is None or len(kept) == 0:
            return decoded(kept, self.verify_content) if self.in_memory else kept
        return pack(kept, self.image_cache, cache_root(self.cache), self.num_workers, self.verify_content, self._fresh)

    @property
    def selecting(self) -> Selecting:
        """What a Selection is made from."""
        return Selecting(
            self.selector,
            self.source if isinstance(self.source, str) else None,
            tuple(self.targets),
            self.several_targets,
            tuple(self.surrogates),
            self.surrogate_backbone,
            self.surrogate_preprocessing,
            self.views.eval_size,
            self.target_seed,
            self.cache,
            self.skipped,
            self.verify_content,
        )

    def _selection(self, source: ImageSet) -> Selection:
        self._check_like(source)
        if self.selection_file is not None:
            return self._saved_selection(source)
        device = self.trainer.strategy.root_device if self.trainer is not None else self.device
        return self.selecting.select(source, device)

    def _read_selection(self) -> Selection:
        if self._saved is None:
            self._saved = Selection.load(str(self.selection_file))
        return self._saved

    def _saved_selection(self, source: ImageSet) -> Selection:
        selection = self._read_selection()
        if selection.skipped and self.on_bad_image == "error":
            skipped = f"it skipped {len(selection.skipped)} bad images"
            raise InputError(f"selection {self.selection_file}: {skipped}; set `on_bad_image: skip`")
        selection.require_source(source.fingerprint(), "the source at hand")
        return selection

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of what is kept, shuffled; a resumed run goes on in the same order."""
        seen = self._sets["train"].with_transform(self.views.train(self._expected()))
        return self._train_loader(seen, self.batch_size, self.num_workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Batches of held-out images of the kept classes, in order."""
        seen = self._sets["val"].with_transform(self.views.eval(self._expected()))
        return self._in_order(seen, self.batch_size, self.num_workers)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The validation batches: a source has no test set of its own."""
        return self.val_dataloader()

    predict_dataloader = test_dataloader
