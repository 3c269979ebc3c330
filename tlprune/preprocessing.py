"""How weights expect images: at which size, resized and cropped how, and normalised by which mean and deviation."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self, get_args

from tlprune.errors import InputError, did_you_mean, require_within

__all__ = ["CROP_SHARE", "EVAL_VIEW", "IMAGENET_MEAN", "IMAGENET_STD", "CropMode", "Interpolation", "Preprocessing"]

EVAL_VIEW = "EvalView"
"""Name in Selections of the usual transform for evaluation, from before its class had its present name."""

Interpolation = Literal["nearest", "bilinear", "bicubic"]
"""How pixels between pixels are computed where an image is resized; the last two without aliasing."""

CropMode = Literal["center", "squash"]
"""``center``: the short side is resized and the centre cropped; ``squash``: both sides are resized, whatever their
ratio, and the centre cropped."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Of ImageNet's RGB channels in [0, 1]."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of ImageNet's RGB channels in [0, 1]."""
CROP_SHARE = 224 / 256
"""ImageNet's evaluation view: the short side becomes 256 pixels for a crop of 224."""

_LARGEST = 4096


@dataclass(frozen=True)
class Preprocessing:
    """How weights expect images, as far as it is known; None stands for what is not.

    What nobody says is taken as in ImageNet's usual evaluation: its mean and standard deviation, a centre crop of
    224/256 of the short side, bilinear.

    Args:
        mean: Of the RGB channels, in [0, 1].
        std: Standard deviation of the RGB channels, in (0, 1].
        image_size: Height and width in pixels that the weights were trained or tested at, from 1 to 4096.
        crop_share: Share of the resized short side that the centre crop shows, in (0, 2]; above 1 it has a black rim.
        interpolation: ``nearest``, ``bilinear`` or ``bicubic``.
        crop_mode: ``center`` or ``squash``.

    Raises:
        InputError: A value is out of range.

    Example:
        >>> half = (0.5, 0.5, 0.5)
        >>> Preprocessing(half, half).over(Preprocessing(image_size=384, interpolation="bicubic")).as_json()
        {'mean': [0.5, 0.5, 0.5], 'std': [0.5, 0.5, 0.5], 'image_size': 384, 'interpolation': 'bicubic'}
    """

    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    image_size: int | None = None
    crop_share: float | None = None
    interpolation: Interpolation | None = None
    crop_mode: CropMode | None = None

    def __post_init__(self) -> None:
        for name, least in (("mean", "[0"), ("std", "(0")):
            values = getattr(self, name)
            if values is not None:
                object.__setattr__(self, name, _channels(name, values, least))
        if self.image_size is not None:
            if isinstance(self.image_size, bool) or not isinstance(self.image_size, int):
                raise InputError(f"`image_size` must be a whole number, got {self.image_size!r}")
            require_within("image_size", self.image_size, 1, _LARGEST)
        if self.crop_share is not None and not (_is_number(self.crop_share) and 0 < self.crop_share <= 2):
            raise InputError(f"`crop_share` must be in (0, 2], got {self.crop_share!r}")
        for name, allowed in (("interpolation", get_args(Interpolation)), ("crop_mode", get_args(CropMode))):
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise InputError(f"`{name}` must be one of {', '.join(allowed)}, got {value!r}")

    def over(self, other: "Preprocessing") -> "Preprocessing":
        """What is known here, and from ``other`` what is not."""
        return replace(other, **{name: value for name, value in vars(self).items() if value is not None})

    def filled(self) -> "Preprocessing":
        """The same with ImageNet's values for what is not known; ``image_size`` may still be None."""
        return self.over(_IMAGENET)

    def as_json(self) -> dict[str, Any]:
        """What differs from ImageNet's values, as JSON values; nothing for :class:`Preprocessing` as it is."""
        usual = vars(_IMAGENET)
        said = {name: value for name, value in asdict(self).items() if value not in (None, usual[name])}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}

    def described(self) -> str:
        """What is known, in words: the size, and what differs from ImageNet's values."""
        said = self.as_json()
        words = [f"{said['image_size']} pixels"] if "image_size" in said else []
        words += [f"{name} {', '.join(f'{of:g}' for of in said[name])}" for name in ("mean", "std") if name in said]
        words += [f"crop share {said['crop_share']:.4g}"] if "crop_share" in said else []
        return ", ".join([*words, *(said[name] for name in ("interpolation", "crop_mode") if name in said)])

    def as_trained(self, data: object) -> Self:
        """Adds the image size that a DataModule of tlprune evaluates its model with; others leave it as it is.

        Args:
            data: A DataModule with ``eval_image_size``, or anything else.
        """
        size = getattr(data, "eval_image_size", None)
        return replace(self, image_size=size) if isinstance(size, int) else self

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Reads what :meth:`as_json` gave.

        Args:
            value: A JSON object.

        Raises:
            InputError: It is no object, has another key, or a value in it is out of range.
        """
        if not isinstance(value, Mapping):
            raise InputError(f"`preprocessing` must be an object, got {type(value).__name__}")
        names = [field.name for field in fields(cls)]
        if odd := next((str(key) for key in value if key not in names), None):
            raise InputError(f"`preprocessing` has no {odd!r}: {did_you_mean(odd, names)}")
        return cls(**value)

    @classmethod
    def from_transform_config(cls, view: Mapping[str, Any]) -> Self:
        """What a Selection's settings say of how images were seen; what else they say is left aside.

        Args:
            view: A JSON object.

        Raises:
            InputError: A value in it is out of range.
        """
        names = {field.name for field in fields(cls)}
        return cls.from_json({name: value for name, value in view.items() if name in names})


def _channels(name: str, values: object, least: str) -> tuple[float, ...]:
    given = tuple(values) if isinstance(values, Sequence) and not isinstance(values, str) else ()
    right = all(_is_number(one) and 0 <= one <= 1 for one in given) and (name == "mean" or 0 not in given)
    if len(given) != 3 or not right:
        shown = [*given] if given else values
        raise InputError(f"`{name}` must be three numbers in {least}, 1], got {shown}")
    return given


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_IMAGENET = Preprocessing(IMAGENET_MEAN, IMAGENET_STD, None, CROP_SHARE, "bilinear", "center")
