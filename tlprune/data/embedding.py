"""What ``tlprune embed`` records of the features that it writes."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from tlprune.errors import InputError

__all__ = ["Embedding"]


@dataclass(frozen=True)
class Embedding:
    """What features were made from, as ``tlprune embed`` records it.

    Args:
        role: ``source`` or ``target``.
        name: Name of the source or target, from any working directory; None for one that was given in Python.
        fingerprint: Fingerprint of the images.
        features: Digest of the features.
        listing: Digest of paths, labels and class names.
        surrogate: Name of the weights.
        surrogate_digest: Digest of the network's weights.
        view: How the network saw the images.
        image_size: Height and width in pixels of the images that the network saw.
        precision: Precision of the network.
        classes: Class names.
        display_names: Readable class names.
        skipped: Names of images that were left out, since they cannot be decoded.
        target_seed: Seed of the split that held validation images out of a target.
        surrogate_seconds: Seconds that the surrogate was trained for; None where its file does not say.
    """

    role: str
    name: str | None
    fingerprint: str
    features: str
    listing: str
    surrogate: str
    surrogate_digest: str
    view: dict[str, Any]
    image_size: int
    precision: str
    classes: list[str] = field(default_factory=list)
    display_names: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    target_seed: int = 0
    surrogate_seconds: float | None = None

    def as_json(self) -> dict[str, Any]:
        """All fields, as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any, where: str) -> Self:
        """Reads what :meth:`as_json` gave.

        Raises:
            InputError: Fields are missing, or of another type.
        """
        names = {one.name for one in fields(cls)}
        if not isinstance(value, dict) or set(value) != names:
            raise InputError(f"{where}: what it says of its features is not what this version of tlprune embed writes")
        return cls(**value)
