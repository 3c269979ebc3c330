"""Controls that use no image: random order, the reverse of any order, and a list supplied by the user."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tlprune.errors import InputError, did_you_mean, require_within
from tlprune.selection.multi_target import MultiTarget
from tlprune.selection.selection import Selection
from tlprune.selection.selector import Need, Selector, SourceImages, TargetImages
from tlprune.selection.selector_of import SelectorOf
from tlprune.storage.checkpoints import load_torch
from tlprune.storage.fingerprint import digest_json
from tlprune.storage.paths import user_path

__all__ = ["ListSelector", "RandomSelector", "ReverseSelector", "SourceOnlySelector"]


class SourceOnlySelector(Selector):
    """Base class of selectors that rank classes or single images from the source alone, without votes.

    Args:
        unit: ``class`` or ``sample``. Single images can reach any number of images exactly, so a method and its control
            can be compared at the same cost.

    Raises:
        InputError: If ``unit`` is neither.
    """

    needs: tuple[Need, ...] = ()
    unit: Literal["class", "sample"]

    def __init__(self, unit: Literal["class", "sample"]) -> None:
        if unit not in ("class", "sample"):
            raise InputError(f"`unit` must be 'class' or 'sample', got {unit!r}")
        self.unit = unit
        self.unit_kind = unit

    @property
    def options(self) -> dict[str, Any]:
        """Kind of unit that is ranked."""
        return {"unit": self.unit}

    def _ordered(
        self, source: SourceImages, ranking: Tensor, scores: Tensor | None = None, seconds: float | None = None
    ) -> Selection:
        """Creates a selection without votes; ``ranking`` and ``scores`` are ``[U]``."""
        by_class = self.unit == "class"
        return Selection(
            method=self.method,
            unit_names=tuple(source.classes) if by_class else (),
            ranking=ranking,
            votes=torch.zeros(len(ranking)),
            scores=torch.zeros(len(ranking)) if scores is None else scores,
            unit_of_sample=source.labels if by_class else torch.arange(len(source.labels)),
            assignments=torch.empty(0),
            metadata={} if seconds is None else {"seconds": {"score": seconds}},
            unit_kind=self.unit,
        )

    def _units(self, source: SourceImages) -> int:
        return len(source.classes) if self.unit == "class" else len(source.labels)


class RandomSelector(SourceOnlySelector):
    """Ranks classes or single images at random.

    Args:
        seed: Seed of the order.
        unit: ``class`` or ``sample``.

    Raises:
        InputError: If ``unit`` is neither.
    """

    method = "random"
    label = "random"

    def __init__(self, seed: int = 0, unit: Literal["class", "sample"] = "class") -> None:
        super().__init__(unit)
        require_within("seed", seed, 0, 2**63 - 1)
        self.seed = seed

    @property
    def needs_images(self) -> bool:
        """Whether single images are ranked; classes need their names alone."""
        return self.unit == "sample"

    @property
    def options(self) -> dict[str, Any]:
        """Kind of unit that is ranked, and the seed."""
        return {"seed": self.seed, **super().options}

    def order(
        self, source: SourceImages, target: TargetImages | None, surrogate: nn.Module | None, cache: Path
    ) -> Selection:
        """Draws a random permutation without reading any image."""
        generator = torch.Generator().manual_seed(self.seed)
        return self._ordered(source, torch.randperm(self._units(source), generator=generator))


class ListSelector(SourceOnlySelector):
    """Reads the order from a text file with one class name or one image index (from 0) per line, best first.

    Units missing from the file follow the listed ones, in the source's own order. Empty lines and lines that begin
    with a hash and a space are skipped, so the indices written by ``tlprune export`` can be read. A file ``.indices``,
    which the method's reference code writes with torch, lists the kept images.

    Args:
        path: Path of the file.
        unit: ``class`` if lines are class names; ``sample`` if lines are image indices in the order of the source's
            listing.

    Raises:
        InputError: If the file does not exist or is not text, or ``unit`` is neither.
    """

    method = "list"
    label = "list"

    def __init__(self, path: str, unit: Literal["class", "sample"] = "class") -> None:
        super().__init__(unit)
        self.path = path
        if path.endswith(".indices") and unit == "class":
            raise InputError(f"list {path}: it lists images; set `unit: sample`")
        try:
            file = user_path(path)
            lines = (
                _saved_indices(file) if path.endswith(".indices") else file.read_text(encoding="utf-8-sig").split("\n")
            )
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text file in UTF-8"
            raise InputError(f"list {path}: {reason}") from error
        self.named = [line for line in lines if line.strip() and line.strip() != "#" and not line.startswith("# ")]

    @property
    def needs_images(self) -> bool:
        """Whether single images are ranked; classes need their names alone."""
        return self.unit == "sample"

    @property
    def options(self) -> dict[str, Any]:
        """Kind of unit that is ranked, and the content of the list."""
        return {"list_digest": digest_json(self.named)[:16], "listed": len(self.named), **super().options}

    def order(
        self, source: SourceImages, target: TargetImages | None, surrogate: nn.Module | None, cache: Path
    ) -> Selection:
        """Ranks the listed units first, then the rest.

        Raises:
            InputError: If a name is not in the source, or is listed twice.
        """
        display_names: tuple[str, ...] = getattr(source, "display_names", source.classes)
        names = {name: unit for unit, name in [*enumerate(display_names), *enumerate(source.classes)]}
        if self.unit == "class":
            self._require_listed(names, source)
        units = [self._unit(line, source, names) for line in self.named]
        seen: set[int] = set()
        for unit, line in zip(units, self.named, strict=True):
            if unit in seen:
                raise InputError(f"list {self.path}: {line!r} is named twice")
            seen.add(unit)
        named = torch.tensor(units, dtype=torch.int64)
        rest = torch.ones(self._units(source), dtype=torch.bool)
        rest[named] = False
        return self._ordered(source, torch.cat([named, rest.nonzero().squeeze(1)]))

    def _require_listed(self, names: Mapping[str, int], source: SourceImages) -> None:
        """Rejects a list with classes that the source does not have."""
        lacking = [line for line in self.named if line not in names and line.strip() not in names]
        if not lacking:
            return
        if len(lacking) == 1:
            raise InputError(f"list {self.path}: no class {lacking[0]!r}: {did_you_mean(lacking[0], source.classes)}")
        count = (
            f"{len(lacking)} of {len(self.named)} listed classes are not among the {len(source.classes)} of the source"
        )
        raise InputError(
            f"list {self.path}: {count}, first {lacking[0]!r}; add them to the source, or delete their lines"
        )

    def _unit(self, line: str, source: SourceImages, names: Mapping[str, int]) -> int:
        if self.unit == "class":
            return names[line if line in names else line.strip()]
        line = line.strip()
        if not line.isdecimal() or len(line) > 18 or int(line) >= len(source.labels):
            raise InputError(f"list {self.path}: {line[:30]!r} is no image index in [0, {len(source.labels)})")
        return int(line)


def _saved_indices(file: Path) -> list[str]:
    """Reads indices saved by torch as a tensor or a list; no other object in the file is loaded."""
    values = load_torch(file)
    try:
        indices = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"list {file}: not indices that torch saved") from error
    if indices.ndim != 1 or indices.is_floating_point() or indices.is_complex() or len(indices) == 0:
        raise InputError(
            f"list {file}: must hold a vector of integers, got {indices.dtype} of shape {[*indices.shape]}"
        )
    return [str(index) for index in indices.tolist()]


class ReverseSelector(SelectorOf):
    """Reverses the order of another selector. If that selector's votes are meaningful, the reverse does harm.

    Args:
        of: Selector to reverse.
    """

    method = "reverse"
    label = "reverse"

    @property
    def needs_images(self) -> bool:
        """Whether the reversed selector needs source images."""
        return self.of.needs_images

    @property
    def options(self) -> dict[str, Any]:
        """Settings of the reversed selector."""
        return {"of": self.of.method, **self.of.options}

    def unit_features(self, source: SourceImages, surrogate: nn.Module | None, cache: Path) -> Tensor | None:
        """Returns the unit features of the reversed selector."""
        return self.of.unit_features(source, surrogate, cache)

    def select(
        self,
        source: SourceImages,
        target: TargetImages | Sequence[TargetImages] | None = None,
        surrogate: nn.Module | Sequence[nn.Module] | None = None,
        several: MultiTarget | None = None,
        cache: Any = None,
    ) -> Selection:
        """Reverses the other selector's order for all targets together."""
        forward = self.of.select(source, target, surrogate, several, cache)
        config = forward.config | {
            "method": self.method,
            "selector": f"{type(self).__module__}.{type(self).__qualname__}",
            "options": self.options,
        }
        return replace(forward, method=self.method, ranking=forward.ranking.flip(0), config=config)

    def order(
        self, source: SourceImages, target: TargetImages | None, surrogate: nn.Module | None, cache: Path
    ) -> Selection:
        """Reverses the other selector's order for one target."""
        forward = self.of.order(source, target, surrogate, cache)
        return replace(forward, ranking=forward.ranking.flip(0))
