"""``tlprune audit``: finds test images of the target among the images that are trained on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tlprune.commands.arguments import (
    add_budget,
    add_origins,
    given_budget,
    make_console,
    make_parser,
    parse,
    require_selections,
    require_writable,
)
from tlprune.errors import InputError, require_within
from tlprune.preprocessing import Preprocessing
from tlprune.storage.as_csv import as_csv
from tlprune.storage.atomic import atomic_path, write_bytes
from tlprune.storage.cache import cache_root

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from tlprune.data.datasets import ImageSet
    from tlprune.selection.leaks import Leaks

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Lists test images that are near-duplicates of kept source images, or of included images of the target.

    Raises:
        InputError: If the input is invalid, or source or targets are not those of the Selection.
    """
    parser = make_parser("audit", "List test images of the target that are near-duplicates of kept source images.")
    add = parser.add_argument
    add("selection", type=str, help="a saved Selection")
    add("--surrogate", type=str | None, default=None, help="whose features are compared (default: as when selected)")
    add("--surrogate_backbone", type=str | None, default=None, help="its network, if the file is silent")
    add("--threshold", type=float | None, default=None, help="distance (default: that of copies of themselves)")
    add("--num_workers", type=int, default=0, help="processes that load images")
    add("--output", type=str, required=True, help="list to write, *.csv")
    add("--picture", type=str | None, default=None, help="picture of the nearest pairs, *.png")
    text = "training includes the target's training images: compare its test and validation images with these too"
    add("--include_target", action="store_true", help=text)
    add_origins(parser, targets=True)
    add_budget(parser)
    given = parse(parser, arguments)
    if given.threshold is not None and not given.threshold >= 0:
        raise InputError(f"`threshold` must be at least 0, got {given.threshold}")
    require_within("num_workers", given.num_workers, 0)
    require_writable(given.output, given.picture)
    require_selections(given.selection)
    # torch and torchvision take seconds
    from tlprune.commands.origins import opened_source, opened_targets
    from tlprune.data.transformed import TransformedDataset
    from tlprune.data.transforms import EvalTransform
    from tlprune.models.weights import load_backbone, read_weights
    from tlprune.selection.features import SourceFeatures, extract_features
    from tlprune.selection.leaks import copy_distance, find_leaks, leaks_among
    from tlprune.selection.ranking import Budget
    from tlprune.selection.selection import Selection

    selection = Selection.load(given.selection)
    surrogates: list[str] = [given.surrogate] if given.surrogate else selection.metadata.get("surrogates", [])
    if not surrogates:
        raise InputError("this selection does not say which surrogate it was made with; give --surrogate")
    source = opened_source(selection, given.source, given.cache)
    targets = opened_targets(selection, given.target)
    saved = read_weights(surrogates[0])
    backbone = load_backbone(saved, given.surrogate_backbone)
    kept = selection.kept(given_budget(given) or Budget(ratio=0.0)).samples
    expected = (
        saved.preprocessing
        if given.surrogate
        else Preprocessing.from_transform_config(selection.config.get("view") or {})
    )
    view = EvalTransform(expected.image_size or int(selection.metadata.get("image_size", 224)), expected)
    features = SourceFeatures(backbone, TransformedDataset(source, view), cache_root(given.cache), given.num_workers)
    features.extract()
    console = make_console()
    included = [one for one in targets if given.include_target and len(one.images)]
    pairs: list[_Pair] = []

    def features_of(images: "ImageSet") -> "Tensor":
        return extract_features(backbone, TransformedDataset(images, view), given.num_workers)

    compared_parts = [target.compared for target in targets]
    trained = [features_of(one.images) for one in included]
    for target, parts in zip(targets, compared_parts, strict=True):
        for part, images in parts:
            if images is None or len(images) == 0 or (part == "val" and not included):
                continue
            seen = features_of(images)
            threshold = given.threshold
            if threshold is None:
                threshold = copy_distance(backbone, TransformedDataset(images, view), given.num_workers)
            compared = _Compared(target.name, part, images)
            if part != "val":
                what = f"one of {len(kept):,} kept source images"
                pairs += compared.pairs(find_leaks(seen, features, kept, threshold), "source", source, what, console)
            for one, rows in zip(included, trained, strict=True) if part != "own" else ():
                what = f"one of {len(rows):,} training images of {one.name}"
                pairs += compared.pairs(leaks_among(seen, rows, threshold), one.name, one.images, what, console)
    pairs.sort(key=lambda pair: (pair.difference, pair.distance))
    heading = ["target", "test image", "kept source image", "feature distance", "pixel difference", "look alike"]
    heading += ["part", "trained on"] if included else []
    listed = [[*pair.cells, "yes" if pair.alike else "no", pair.part, pair.trained_on] for pair in pairs]
    text = as_csv(heading, (row[: len(heading)] for row in listed))
    write_bytes(given.output, text.encode(errors="surrogateescape"))
    for pair in pairs[:10]:
        where = [f"{pair.part} and {pair.trained_on}:"] if included else []
        line = "  ".join([*where, *pair.cells[1:], *(["LOOK ALIKE"] if pair.alike else [])])
        console.print(f"  {line}", soft_wrap=True)
    console.print(f"list: {given.output}, {len(pairs):,} pairs, those that differ least first", soft_wrap=True)
    if given.picture is not None:
        from tlprune.selection.figures import leaks_figure  # loads matplotlib

        shown = [(pair.mine, pair.theirs, pair.caption) for pair in pairs[:12]]
        title = f"the most alike of {len(pairs):,} suspected pairs: feature distance | pixel difference"
        lines = ("test\nor val", "trained\non") if included else ("test", "kept\nsource")
        with atomic_path(given.picture) as temporary:
            leaks_figure(shown, title, lines).savefig(temporary, format="png", dpi=110)
        console.print(f"picture: {given.picture}", soft_wrap=True)


@dataclass(frozen=True)
class _Compared:
    """Images of a target that must not be trained on."""

    target: str
    part: str
    images: "ImageSet"

    def pairs(
        self, leaks: "Leaks", trained_on: str, trained: "ImageSet", what: str, console: "Console"
    ) -> list["_Pair"]:
        """Prints how many lie near an image that is trained on, and returns them with that image."""
        from tlprune.selection.leaks import ALIKE, pixel_difference

        found = []
        for index in leaks.suspects.tolist():
            near = int(leaks.source[index])
            mine, theirs = self.images[index][0], trained[near][0]
            difference = pixel_difference(mine, theirs)
            names = (self.target, self.images.name(index), trained.name(near))
            pair = (*names, float(leaks.distance[index]), difference, difference <= ALIKE, mine, theirs)
            found.append(_Pair(*pair, self.part, trained_on))
        words = {"test": "test images", "val": "validation images", "own": "images without labels"}[self.part]
        console.print(
            f"{self.target}: {len(found):,} of {len(self.images):,} {words} lie within {leaks.threshold:.4g} of {what} "
            f"in feature space; {sum(pair.alike for pair in found):,} of them look alike too (nearest "
            f"{leaks.distance.min():.4g}, median {leaks.distance.median():.4g})",
            soft_wrap=True,
        )
        return found


@dataclass(frozen=True)
class _Pair:
    target: str
    test: str
    source: str
    distance: float
    difference: float
    alike: bool
    mine: "Tensor"
    theirs: "Tensor"
    part: str
    trained_on: str

    @property
    def caption(self) -> str:
        numbers = f"{self.distance:.4g} | {self.difference:.3f}"
        return f"LOOK ALIKE\n{numbers}" if self.alike else numbers

    @property
    def cells(self) -> list[str]:
        return [self.target, self.test, self.source, f"{self.distance:.6g}", f"{self.difference:.4f}"]
