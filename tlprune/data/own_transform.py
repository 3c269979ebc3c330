"""A transform that a user gives: any callable from an image to model input."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from warnings import warn

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tlprune.data.datasets import ImageSet
from tlprune.data.plain_samples import spread
from tlprune.data.transforms import Transform
from tlprune.distributed import rank_and_world
from tlprune.errors import InputError
from tlprune.preprocessing import Preprocessing

__all__ = ["ImageTransform", "OwnTransform", "name_of", "require_callable"]

ImageTransform = Callable[[Tensor], Any]
"""A callable from an image ``[3, H, W]`` uint8, RGB, to ``[3, S, S]`` uint8 or normalised floats, or to a list of such
views."""


_TRIED = 4
"""Number of images that a callable is tried on."""

_FAR = 10
"""Floats that are this many times as large as a black or white pixel that is normalised are not normalised."""


class OwnTransform(Transform):
    """A user's callable in place of resizing and augmenting.

    The callable is given each image as it is decoded, ``[3, H, W]`` uint8, of which it may change every pixel. Where it
    gives uint8, images are normalised as the weights expect; floats count as normalised. It may draw from the global
    generators of torch, NumPy and Python: a batch draws the same in every process and after a resume.

    Args:
        image_size: Height and width in pixels that the callable must give.
        change: The callable.
        argument: Name of the argument that it was given as, in messages.
        size_argument: Name of the argument that sets ``image_size``, in messages.
        preprocessing: Preprocessing that the weights of the model expect, of which mean and deviation are used.
    """

    def __init__(
        self,
        image_size: int,
        change: ImageTransform,
        argument: str,
        size_argument: str = "image_size",
        preprocessing: Preprocessing | None = None,
    ) -> None:
        super().__init__(image_size, preprocessing)
        self.change = change
        self.called = f"`{argument}` ({name_of(change)})"
        self.size_argument = size_argument

    @property
    def crops(self) -> bool:
        """True: the callable is given every image."""
        return True

    def at_size(self, image_size: int) -> "OwnTransform":
        """Returns the transform itself, if it has that size.

        Raises:
            InputError: It has another size, which only the user can change.
        """
        if image_size != self.image_size:
            sizes = f"{self.image_size} pixels, and images of {image_size} are asked for"
            raise InputError(f"{self.called} gives images of {sizes}: ProgressiveResize works with `augment` alone")
        return self

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Seeds Python and NumPy as torch is seeded for a batch; all three then go on as if nothing was drawn."""
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - what users draw from
        seed = torch.initial_seed()
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002
            torch.set_rng_state(before[2])

    def resize(self, pixels: Tensor) -> Tensor:
        """Applies the callable to an image ``[3, H, W]`` uint8: ``[3, S, S]``, or ``[V, 3, S, S]`` for several views.

        Raises:
            InputError: The callable fails, or gives something else.
        """
        return self._resized(pixels, self.image_size)

    def check(self, images: ImageSet, size_is_known: bool) -> None:
        """Tries the callable on a few of some images, to report a wrong one before a run begins.

        Floats that are not finite are an error; floats that cannot be normalised are warned of.

        Args:
            images: The images, which may be none. An image that cannot be decoded is left for loading to report.
            size_is_known: Whether ``image_size`` is final; else any size passes.

        Raises:
            InputError: As :meth:`resize`.
        """
        made: list[Tensor] = []
        for place in spread(len(images), _TRIED):
            try:
                pixels = images[place][0]
            except InputError:
                continue
            with self.drawing():
                made.append(self._resized(pixels, self.image_size if size_is_known else None))
        self._check_floats([one for one in made if one.is_floating_point()])

    def _check_floats(self, made: list[Tensor]) -> None:
        if not made:
            return
        low, high = min(float(one.min()) for one in made), max(float(one.max()) for one in made)
        if not all(bool(one.isfinite().all()) for one in made):
            raise InputError(f"{self.called} gives numbers that are not finite")
        black, white = self.normalize(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(-1, 3, -1, -1))
        most = _FAR * max(float(black.abs().max()), float(white.abs().max()))
        if (low >= 0 > float(black.max()) or max(-low, high) > most) and rank_and_world()[0] == 0:
            usual = f"normalised images are near {float(black.min()):.2g} to {float(white.max()):.2g}"
            more = "end it with torchvision.transforms.v2.Normalize, or have it give uint8"
            warn(f"{self.called} gives floats from {low:.4g} to {high:.4g}, {usual}: {more}", stacklevel=2)

    def _resized(self, pixels: Tensor, size: int | None) -> Tensor:
        shown = pixels.clone()  # pixels may lie in memory for other epochs, and the callable may change its input
        try:
            made = self.change(shown)
        except InputError:
            raise
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            more = "begin it with torchvision.transforms.v2.ToPILImage if it needs PIL images"
            given = f"a uint8 tensor of {_size(pixels)}"
            raise InputError(f"{self.called} failed on {given}: {reason} ({more})") from error
        if not isinstance(made, (list, tuple)):
            return self._checked(made, size)
        if len(made) < 2:
            raise InputError(f"{self.called} must give an image, or a list of at least 2 views, got {len(made)} in it")
        views = [self._checked(view, size) for view in made]
        if len({view.dtype for view in views}) > 1:
            raise InputError(f"{self.called} gives one view in uint8 and another in floats")
        return torch.stack(views)

    def _checked(self, made: object, size: int | None) -> Tensor:
        """Returns what the callable made as a plain tensor, uint8 or float32; without a ``size``, of any size."""
        shown = size or "S"
        wanted = f"{self.called} must give tensors of 3 x {shown} x {shown} (`{self.size_argument}`)"
        if isinstance(made, Image.Image):
            raise InputError(f"{wanted}, got a PIL image: end it with torchvision.transforms.v2.PILToTensor")
        if not isinstance(made, Tensor):
            raise InputError(f"{wanted}, got {type(made).__name__}")
        if made.dtype != torch.uint8 and not made.is_floating_point():
            raise InputError(f"{wanted} in uint8, or in floats that are normalised, got {made.dtype}")
        side = size or made.shape[-1:].numel()
        if made.shape != (3, side, side):
            square = made.ndim == 3 and made.shape[0] == 3 and made.shape[1] == made.shape[2]
            fix = f": set `{self.size_argument}` to {made.shape[-1]}" if square else ""
            raise InputError(f"{wanted}, got {_size(made)}{fix}")
        made = made.as_subclass(Tensor)
        return made if made.dtype == torch.uint8 else made.float()

    def augment_batch(self, batch: Tensor) -> Tensor:
        """Separates several views ``[B, V, 3, S, S]`` to a list of normalised batches; one view stays as it is."""
        if batch.ndim == 4:
            return batch
        return [self.normalize_batch(view) for view in batch.unbind(1)]  # type: ignore[return-value]

    def normalize_batch(self, batch: Tensor) -> Tensor:
        """Normalises a batch of uint8; floats, and views that are normalised already, stay as they are."""
        return self.normalize(batch) if isinstance(batch, Tensor) and batch.dtype == torch.uint8 else batch


def name_of(change: ImageTransform) -> str:
    """Returns the name of a function, or of the class of another callable."""
    return str(getattr(change, "__name__", type(change).__name__))


def require_callable(argument: str, change: object) -> None:
    """Checks a user's transform before any image is read.

    Raises:
        InputError: It is not callable.
    """
    if change is not None and not callable(change):
        raise InputError(f"`{argument}` must be a callable from an image to a tensor, got {change!r}")
    if isinstance(change, type):
        raise InputError(
            f"`{argument}` must be an object, got the class {change.__name__}: call it, with its arguments"
        )


def _size(image: Tensor) -> str:
    return " x ".join(map(str, image.shape)) or "a single number"
