"""The pruned source as a DataModule: it selects when it is set up, then gives loaders over what is kept."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tlprune.data.datasets import ImageSet
from tlprune.data.opening import Target, training_images
from tlprune.data.sources import BUILT_IN_SOURCE
from tlprune.data.target_splits import TargetSplits
from tlprune.data.transformed import Batch
from tlprune.datamodules.arguments import refuse_moved
from tlprune.datamodules.given_selection import GivenSelection, check_sampling, selection_like
from tlprune.datamodules.included_target import IncludedTarget
from tlprune.datamodules.kept_part import kept_part
from tlprune.datamodules.source import SourceDataModule
from tlprune.distributed import broadcast_from_rank0
from tlprune.errors import InputError
from tlprune.selection.label_mapping import LabelMapping
from tlprune.selection.ranking import Budget
from tlprune.selection.sampling_weights import log_odds
from tlprune.selection.selection import Selection, UnitKind
from tlprune.selection.selector import Selector
from tlprune.selection_inputs import SelectionInputs, SelectOptions, as_list, check_names

__all__ = ["PrunedSourceDataModule"]


class PrunedSourceDataModule(SourceDataModule):
    """Loaders over the part of a source that a target votes for.

    Give a budget to prune (``prune_ratio``, ``keep_units``, ``keep_images``, ``vote_coverage`` or ``keep_exactly``);
    without one, all of the source is loaded, as for training a surrogate. Batches are images ``[B, 3, S, S]`` float32,
    normalised, and labels ``[B]`` int64 from 0 to ``num_classes - 1``. Where classes are pruned, those kept are
    numbered from 0 in their order; elsewhere labels stay as they are. A source without labels gives zeros.

    Args:
        source: The set to prune, as :class:`tlprune.datamodules.source.SourceDataModule` takes it.
        target: Whose training images vote: ``digits``, ``photos``, a folder, a named set (``NAME:FOLDER``, or ``NAME``
            where it lies in ``$TLPRUNE_DATA``), an opened target, or a list of them.
        selector: How units are ordered; None is Label Mapping.
        surrogate: Weights of a small model trained on the whole source: a safetensors file, a checkpoint, or published
            weights by name such as ``torchvision:resnet18``; a list of them for a selector that averages.
        selection: Options of how the Selection is made (:class:`~tlprune.SelectOptions`); or a Selection that is made
            already, or its file.
        prune_ratio: Share of units (classes, clusters or single images, as the selector has it) to remove, in [0, 1).
        keep_units: Units to keep, at least 1.
        keep_images: The most source images to keep, held-out ones counted, at least 1.
        vote_coverage: Share of votes that the kept units hold, in (0, 1].
        keep_exactly: Source images to keep, held-out ones counted; the last unit is cut at random to reach it.
        images_like: A saved Selection of the same source. At most as many images are kept as it keeps within the
            budget: a control is compared with a method at equal cost. Single images reach that number exactly.
        sampling: ``once``: every kept image is in an epoch once. ``weighted``, without a budget: the whole source is
            kept, and an epoch draws as many images as it has with replacement, by the weights of the selector.
        include_target: Share of each training batch, in (0, 1), that training images of ``target`` make up, without
            labels: for two views. They are not counted as kept.
        **loading: Arguments of :class:`tlprune.datamodules.source.SourceDataModule`.

    Attributes:
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
        selection: str | SelectOptions | Selection | None = None,
        prune_ratio: float | None = None,
        keep_units: int | None = None,
        keep_images: int | None = None,
        vote_coverage: float | None = None,
        keep_exactly: int | None = None,
        images_like: str | None = None,
        sampling: Literal["once", "weighted"] = "once",
        include_target: float | None = None,
        **loading: Any,
    ) -> None:
        refuse_moved(loading)
        super().__init__(source=source, **loading)
        budget = (prune_ratio, keep_units, keep_images, vote_coverage, keep_exactly)
        self.budget = None if set(budget) == {None} else Budget(*budget)
        like: Selection | None = None
        if images_like is not None:
            like, self.budget = selection_like(images_like, self.budget)
        self.targets: list[Target] = as_list(target)
        self.surrogates: list[str] = as_list(surrogate)
        self.selector = selector if selector is not None else LabelMapping()
        self.options = selection if isinstance(selection, SelectOptions) else SelectOptions()
        check_names(self.source, self.targets, self.surrogates, self.options)
        self._given = GivenSelection(selection, like)
        self.sampling = sampling
        check_sampling(sampling, self.budget, self._given, self.selector)
        self._included = (
            None
            if include_target is None
            else IncludedTarget(include_target, self.targets, self.augment, self.batch_size)
        )
        self.selection: Selection | None = None
        self._kept_units: Tensor | None = None
        self._log_odds: Tensor | None = None

    @property
    def _selects(self) -> bool:
        """Whether there is a Selection: to keep a part of the source, or to draw from it by weights."""
        return self.budget is not None or self.sampling == "weighted"

    @property
    def _target_seed(self) -> int:
        """Seed of the split of targets: that of the Selection, or of what one is made from."""
        made = self._given.selection
        return self.options.target_seed if made is None else int(made.metadata.get("target_seed", 0))

    @property
    def num_classes(self) -> int:
        """Number of classes that labels stand for; known before :meth:`setup` where the budget or a Selection fixes it.

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
        if (made := self._given.selection) is not None:
            return len(made.units_kept(self.budget))
        if self.budget.ratio is None and self.budget.units is None:
            raise InputError(f"with {self.budget} the number of classes is known only after setup(); use `keep_units`")
        return self.budget.units_kept(torch.ones(total), torch.ones(total))

    @property
    def unit_kind(self) -> UnitKind:
        """The kind of unit that is pruned: classes, clusters or single images."""
        made = self._given.selection
        return self.selector.unit_kind if made is None else made.unit_kind

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
        """Number of units kept, classes where nothing is pruned; known after :meth:`setup`."""
        if self._kept_units is None:
            raise InputError("the units kept are known only after setup()")
        return len(self._kept_units)

    @property
    def images_kept(self) -> int:
        """Number of training images kept; known after :meth:`setup`."""
        if not self._sets:
            raise InputError("the images kept are known only after setup()")
        return len(self._sets["train"])

    def check_inputs(self) -> None:
        """Opens all that :meth:`setup` needs, and changes nothing: wrong input is reported before anything is written.

        Raises:
            InputError: As :meth:`setup`.
        """
        super().check_inputs()
        if self._included is not None:
            self._included.opened(self._target_seed)
        if self.sampling == "weighted" and self._given.selection is not None:
            log_odds(self._given.selection)
        if self.on_bad_image == "skip" or not self._selects:  # which images there are is known after a look at all
            return
        source = self._split()[0]
        if self._given.of_source(source, self.on_bad_image) is None:
            self._inputs(source)

    def start_over(self) -> None:
        """Removes from the cache what :meth:`setup` would take from there, but for the built-in source. For all ranks.

        Raises:
            InputError: As :meth:`setup`.
        """
        looked = broadcast_from_rank0(lambda: all(path.is_file() for path in self._known_damage))
        if looked and self._selects and self._given.selection is None:
            self._inputs(self._split()[0]).forget()
        super().start_over()

    def setup(self, stage: str | None = None) -> None:
        """Selects, or reads the Selection, and opens what is kept. Every rank takes part; all end with the same.

        Raises:
            InputError: The source is laid out otherwise, the surrogate has another head than the source has classes,
                the Selection was made for another source, or no image is left to train on.
        """
        if self._sets:
            return
        source, stay, *_ = split = self._split()
        self.source_images = source
        if self._selects:
            made = self._given.of_source(source, self.on_bad_image)
            self.selection = made or self._inputs(source).select()
        if self.selection is not None and self.sampling == "weighted":
            self._log_odds = log_odds(self.selection)[stay]
        part = kept_part(split, self.selection, self.budget)
        self._kept_units = part.units
        if self._included is not None:
            self._included.load(self._target_seed, self._at_hand, self.in_memory)
        self._load(part.train, part.val, part.new_labels)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled batches of kept images, perhaps with images of the target; a resumed run goes on in that order."""
        images = self._sets["train"].with_transform(self.transforms.train(self._expected()))
        mixed = images if self._included is None else self._included.beside(images)
        return self._train_loader(mixed, self.batch_size, self.num_workers, self._log_odds)

    def unit_features(self) -> Tensor | None:
        """Where units lie in the surrogate's feature space, after :meth:`setup`; no image is looked at.

        Returns:
            ``[U, D]`` float32; None where nothing is known of it.
        """
        if not self._selects or self._given.selection is not None or self.source_images is None:
            return None
        return self._inputs(self.source_images).unit_features()

    def _all_images(self) -> Sequence[ImageSet | None]:
        wanted = self.selector.needs_target or self._included is not None
        seen = training_images(self.targets if wanted else [], self._target_seed)
        return *super()._all_images(), *(images for _, images in seen)

    def _inputs(self, source: ImageSet) -> SelectionInputs:
        return SelectionInputs.open(
            source,
            self.targets,
            self.surrogates,
            self.selector,
            self.options,
            self.transforms.voting_size(self.options.image_size),
            device=torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device,
            source_name=self.source if isinstance(self.source, str) else None,
            skipped=self.skipped,
            cache=self.cache,
            verify_content=self.verify_content,
        )
