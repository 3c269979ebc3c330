"""Three steps that the command line takes with a DataModule before training, where it has them."""

from typing import Any, Protocol, runtime_checkable

__all__ = ["ChecksInputs", "DependsOn", "StartsOver"]


@runtime_checkable
class ChecksInputs(Protocol):
    """A DataModule that can refuse wrong input before anything is written."""

    def check_inputs(self) -> None:
        """Opens all that ``setup()`` needs, and changes nothing."""


@runtime_checkable
class StartsOver(Protocol):
    """A DataModule that caches work."""

    def start_over(self) -> None:
        """Removes from the cache what ``setup()`` would take from there."""


@runtime_checkable
class DependsOn(Protocol):
    """A DataModule whose images can be told apart from others."""

    def depends_on(self) -> list[Any]:
        """JSON values that change when any image does."""
