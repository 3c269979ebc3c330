"""The pruned source as a DataModule: it selects when it is set up, then gives loaders over what is kept."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tlprune.data.datasets import ImageSet
from tlprune.data.sources import BUILT_IN_SOURCE
from tlprune.data.target_splits import TargetSplits
from tlprune.datamodules.arguments import refuse_moved
from tlprune.datamodules.source import SourceDataModule
from tlprune.distributed import broadcast_from_rank0
from tlprune.errors import InputError
from tlprune.pruning import require_source
from tlprune.selection.label_mapping import LabelMapping
from tlprune.selection.ranking import Budget, require_training_images, warn_beyond_votes
from tlprune.selection.selection import Selection, UnitKind
from tlprune.selection.selection_file import check_selection_file
from tlprune.selection.selector import Selector
from tlprune.selection_inputs import SelectionInputs, SelectOptions, Target, as_list, check_names, training_images

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
        **loading: Any,
    ) -> None:
        refuse_moved(loading)
        super().__init__(source=source, **loading)
        budget = (prune_ratio, keep_units, keep_images, vote_coverage, keep_exactly)
        self.budget = None if set(budget) == {None} else Budget(*budget)
        self._like: Selection | None = None
        if images_like is not None:
            check_selection_file(images_like, "images_like")
            if self.budget is None:
                raise InputError("`images_like` needs a budget such as `prune_ratio`: as many as it keeps within that")
            self._like = Selection.load(images_like)
            self.budget = Budget(images=len(self._like.kept(self.budget).samples))
        self.targets: list[Target] = as_list(target)
        self.surrogates: list[str] = as_list(surrogate)
        self.selector = selector if selector is not None else LabelMapping()
        self.options = selection if isinstance(selection, SelectOptions) else SelectOptions()
        check_names(self.source, self.targets, self.surrogates, self.options)
        self._given: Selection | None = selection if isinstance(selection, Selection) else None
        self.selection_file = selection if isinstance(selection, str) else None
        if self.selection_file is not None:
            check_selection_file(self.selection_file)
        if (self._given or self.selection_file) and self.budget is None:
            raise InputError("a `selection` ranks all units; give a budget such as `prune_ratio` beside it")
        self.selection: Selection | None = None
        self._kept_units: Tensor | None = None

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
        if (made := self._made_selection()) is not None:
            return len(made.units_kept(self.budget))
        if self.budget.ratio is None and self.budget.units is None:
            raise InputError(f"with {self.budget} the number of classes is known only after setup(); use `keep_units`")
        return self.budget.units_kept(torch.ones(total), torch.ones(total))

    @property
    def unit_kind(self) -> UnitKind:
        """The kind of unit that is pruned: classes, clusters or single images."""
        made = self._made_selection()
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
        if self.on_bad_image == "skip" or self.budget is None:  # which images there are is known after a look at all
            return
        source = self._split()[0]
        if self._selection_for(source) is None:
            self._inputs(source)

    def start_over(self) -> None:
        """Removes from the cache what :meth:`setup` would take from there, but for the built-in source. For all ranks.

        Raises:
            InputError: As :meth:`setup`.
        """
        looked = broadcast_from_rank0(lambda: all(path.is_file() for path in self._known_damage))
        if looked and self.budget is not None and self._made_selection() is None:
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
        source, stay, held, own_val = self._split()
        self.source_images = source
        keep = torch.ones(len(source), dtype=torch.bool)
        new_labels = keep_classes = None
        self._kept_units = torch.arange(len(source.classes))
        if self.budget is not None:
            self.selection = self._selection_for(source) or self._inputs(source).select()
            kept = self.selection.kept(self.budget)
            if len(self.selection.asked_by) == 0:
                warn_beyond_votes(self.selection.votes, len(kept.units))
            self._kept_units = kept.units.sort().values
            keep = torch.zeros(len(source), dtype=torch.bool).index_fill_(0, kept.samples, True)
            if self.selection.unit_kind == "class":
                keep_classes = torch.zeros(len(source.classes), dtype=torch.bool).index_fill_(0, kept.units, True)
                new_labels = torch.where(keep_classes, keep_classes.cumsum(0) - 1, -1)
        if own_val is None:
            # single images are pruned to train on fewer, not to be examined on fewer
            by_sample = self.selection is not None and self.selection.unit_kind == "sample"
            val = source.subset(held if by_sample else held[keep[held]])
        else:
            val = own_val if keep_classes is None else own_val.subset(keep_classes[own_val.labels].nonzero().squeeze(1))
        train = source.subset(stay[keep[stay]])
        require_training_images(self.budget, len(self._kept_units), int(keep.sum()), len(train))
        self._load(train, val, new_labels)

    def unit_features(self) -> Tensor | None:
        """Where units lie in the surrogate's feature space, after :meth:`setup`; no image is looked at.

        Returns:
            ``[U, D]`` float32; None where nothing is known of it.
        """
        if self.budget is None or self._made_selection() is not None or self.source_images is None:
            return None
        return self._inputs(self.source_images).unit_features()

    def _all_images(self) -> Sequence[ImageSet | None]:
        voting = training_images(self.targets if self.selector.needs_target else [], self.options.target_seed)
        return *super()._all_images(), *(images for _, images in voting)

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

    def _made_selection(self) -> Selection | None:
        """The Selection that was given, or that is in the file that was given."""
        if self._given is None and self.selection_file is not None:
            self._given = Selection.load(self.selection_file)
        return self._given

    def _selection_for(self, source: ImageSet) -> Selection | None:
        """The Selection that was given, if any; refuses one that was made for another source."""
        selection = self._made_selection()
        if selection is not None and selection.skipped and self.on_bad_image == "error":
            what = f"selection {self.selection_file or ''}: it skipped {len(selection.skipped)} bad images"
            raise InputError(f"{what}; set `on_bad_image: skip`")
        for made in filter(None, (self._like, selection)):
            require_source(made, source, "the source at hand")
        return selection
