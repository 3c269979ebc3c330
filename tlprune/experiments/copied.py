"""Targets whose test images lie in the source, as a sweep found them, and what that means for its results.

Nothing here loads torch, so that what cannot be reported is refused at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tlprune.errors import InputError
from tlprune.experiments.results import Results
from tlprune.experiments.wording import target_labels

__all__ = ["CopiedTarget", "copied_targets", "copies_note", "copies_verdict", "more_targets", "require_copies"]

_NAMED = 5
"""Targets that are named in a sentence."""

_FEW = 0.01
"""Share of copies below which they can move a test accuracy by less than a point."""


@dataclass(frozen=True)
class CopiedTarget:
    """A target of which test images have a copy in the source.

    Args:
        label: Display name of the target.
        found: Number of test images with a copy, at least 1.
        of: Number of test images.
        source_images: Number of images of the source.
        examples: Names of a test image and of its copy in the source, the most alike first.
    """

    label: str
    found: int
    of: int
    source_images: int
    examples: list[tuple[str, str]]

    @property
    def text(self) -> str:
        """The count with its share: ``12 of 900 (1.3 %)``."""
        return f"{self.found:,} of {self.of:,} ({_percentage(self.found, self.of)})"


def copied_targets(results: Results) -> list[CopiedTarget]:
    """Returns the targets of which test images have a copy in the source, those with the largest share first.

    Targets that were not compared, as in results of earlier versions, are not among them.
    """
    labels = target_labels(results.targets)
    found = []
    for name, known in results.targets.items():
        copies = known.get("copies")
        if copies and copies["found"]:
            examples = [(str(test), str(source)) for test, source, _ in copies["examples"]]
            counts = (copies["found"], copies["of"], copies["source_images"])
            found.append(CopiedTarget(labels[name], *counts, examples))
    return sorted(found, key=lambda one: -one.found / one.of)


def copies_note(results: Results) -> str | None:
    """Says which targets have test images in the source, in a paragraph for a terminal; None if none was found."""
    copied = copied_targets(results)
    if not copied:
        return None
    named = ", ".join(f"{one.label} {one.text}" for one in copied[:_NAMED])
    pairs = [(test, source) for one in copied for test, source in one.examples]
    such_as = f", such as test image {pairs[0][0]} and source image {pairs[0][1]}" if pairs else ""
    return (
        f"Test images have copies in the source: {named}{more_targets(len(copied) - _NAMED)}. {copies_verdict(copied)} "
        f"Copies were found by thumbnails{such_as}. `tlprune audit` lists the pairs among the images that a Selection "
        "keeps."
    )


def more_targets(count: int) -> str:
    """Says how many targets are not named.

    Args:
        count: Number of targets; none if it is not positive.

    Example:
        >>> more_targets(2), more_targets(1), more_targets(0)
        (' and 2 more targets', ' and 1 more target', '')
    """
    return f" and {count} more {'target' if count == 1 else 'targets'}" if count > 0 else ""


def copies_verdict(copied: list[CopiedTarget]) -> str:
    """Says in two sentences how far test accuracies can be trusted.

    Args:
        copied: Targets of which test images have a copy in the source, the largest share first.
    """
    seen = "Pretraining may have seen these images before they are tested."
    most = copied[0].found / copied[0].of
    if most < _FEW:
        return f"{seen} They are few: they change the accuracy of a target by {100 * most:.2g} points at most."
    return f"{seen} The test accuracy of these targets may be too high, and says less about new images."


def require_copies(copies: Any, where: str) -> None:
    """Checks copies that were read from a file.

    Args:
        copies: Value of a target's ``copies``; None in results of earlier versions.
        where: Beginning of the message.

    Raises:
        InputError: It is none that a sweep writes.
    """
    if copies is None:
        return
    counts = ("found", "of", "source_images")
    if not isinstance(copies, Mapping) or not all(type(copies.get(name)) is int for name in counts):
        raise InputError(f"{where} are {copies!r})")
    if not 0 <= copies["found"] <= copies["of"]:
        raise InputError(f"{where}: {copies['found']} of {copies['of']})")
    examples = copies.get("examples")
    if not isinstance(examples, list) or not all(isinstance(one, list) and len(one) == 3 for one in examples):
        raise InputError(f"{where} have examples {examples!r})")


def _percentage(part: int, whole: int) -> str:
    share = 100 * part / whole
    return "less than 0.1 %" if share < 0.1 else f"{share:.1f}".removesuffix(".0") + " %"
