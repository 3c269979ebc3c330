"""Groups of the arguments of PrunedSourceDataModule, for those who build one from a config."""

from dataclasses import fields

from tlprune.errors import InputError
from tlprune.selection_inputs import SelectOptions

__all__ = [
    *("BUDGETS", "INCLUDED", "MOVED", "OF_SELECTING", "TRANSFORMS", "WHAT_IS_KEPT", "WITHOUT_EFFECT"),
    "refuse_moved",
]

BUDGETS = ("prune_ratio", "keep_units", "keep_images", "vote_coverage", "keep_exactly", "images_like")
"""How much is kept."""

WHAT_IS_KEPT = (*BUDGETS, "target", "selector", "surrogate", "selection", "sampling")
"""All that decides which part of the source is kept, or how often an image of it is drawn."""

INCLUDED = ("include_target",)
"""What training batches hold beside the source."""

TRANSFORMS = ("transform", "eval_transform")
"""Callables, which a config has as class paths. They change neither which images there are nor which are kept."""

OF_SELECTING = ("on_bad_image", "num_workers", "cache", "verify_content")
"""Arguments of loading that ``tlprune.select`` takes by the same name."""

WITHOUT_EFFECT = ("num_workers", "cache", "in_memory", "verify_content")
"""Arguments that change no result."""

MOVED = {one.name: f"`selection.{one.name}`" for one in fields(SelectOptions) if one.name != "image_size"}
"""Arguments that have moved, and where they are now."""


def refuse_moved(names: object) -> None:
    """Refuses an argument that has moved, and says where it is now.

    Raises:
        InputError: One of them has moved.
    """
    for name in names if isinstance(names, (list, tuple, set, dict)) else ():
        if name in MOVED:
            raise InputError(f"PrunedSourceDataModule has no option {name!r} any more: it is {MOVED[name]} now")
