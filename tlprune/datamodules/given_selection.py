"""A Selection that the user gives, in place of all that one is made from."""

import os

from tlprune.data.datasets import ImageSet
from tlprune.errors import InputError
from tlprune.pruning import require_source
from tlprune.selection.ranking import Budget
from tlprune.selection.sampling_weights import require_weights
from tlprune.selection.selection import Selection
from tlprune.selection.selection_file import check_selection_file
from tlprune.selection.selector import Selector

__all__ = ["GivenSelection", "check_sampling", "selection_like"]


class GivenSelection:
    """A Selection, or its file, which is read when it is first asked for; or none.

    Args:
        given: The Selection or its file; anything else is none.
        like: Another Selection that must be of the same source; None for none.

    Raises:
        InputError: There is no such file.
    """

    def __init__(self, given: object, like: Selection | None = None) -> None:
        self.file = os.fspath(given) if isinstance(given, str | os.PathLike) else None
        self.like = like
        self._selection = given if isinstance(given, Selection) else None
        if self.file is not None:
            check_selection_file(self.file)

    def __bool__(self) -> bool:
        return self.file is not None or self._selection is not None

    @property
    def selection(self) -> Selection | None:
        """The Selection; None if none was given."""
        if self._selection is None and self.file is not None:
            self._selection = Selection.load(self.file)
        return self._selection

    def of_source(self, source: ImageSet, on_bad_image: str) -> Selection | None:
        """Returns the Selection, if any was given.

        Args:
            source: The source at hand.
            on_bad_image: What happens to images that cannot be decoded: ``error`` or ``skip``.

        Raises:
            InputError: It was made for another source, or skipped images where none are skipped.
        """
        selection = self.selection
        if selection is not None and selection.skipped and on_bad_image == "error":
            what = f"selection {self.file or ''}: it skipped {len(selection.skipped)} bad images"
            raise InputError(f"{what}; set `on_bad_image: skip`")
        for made in filter(None, (self.like, selection)):
            require_source(made, source, "the source at hand")
        return selection


def selection_like(path: str, budget: Budget | None) -> tuple[Selection, Budget]:
    """Reads the Selection whose number of images is kept, and makes a budget of that number.

    Args:
        path: File of the Selection.
        budget: Budget within which it keeps images.

    Raises:
        InputError: There is no such file, or no budget.
    """
    check_selection_file(path, "images_like")
    if budget is None:
        raise InputError("`images_like` needs a budget such as `prune_ratio`: as many as it keeps within that")
    like = Selection.load(path)
    return like, Budget(images=len(like.kept(budget).samples))


def check_sampling(sampling: str, budget: Budget | None, given: GivenSelection, selector: Selector) -> None:
    """Rejects a Selection without a use, and a weighted draw without weights.

    Args:
        sampling: ``once`` or ``weighted``.
        budget: Amount to keep; None for the whole source.
        given: Selection that the user gives, or none.
        selector: Selector that makes one otherwise.

    Raises:
        InputError: ``sampling`` is neither, or does not go with the others.
    """
    if sampling not in ("once", "weighted"):
        raise InputError(f"`sampling` must be 'once' or 'weighted', got {sampling!r}")
    if sampling == "weighted":
        if budget is not None:
            raise InputError(f"`sampling: weighted` keeps the whole source, but a budget was given: {budget}")
        if not given:
            require_weights(selector.method, type(selector).__name__)
    elif given and budget is None:
        what = "a `selection` ranks all units; give a budget such as `prune_ratio` beside it"
        raise InputError(f"{what}, or `sampling: weighted`")
