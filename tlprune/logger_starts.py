"""What a logger says when it cannot start, as one line that names it."""

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb

from lightning.pytorch.loggers import Logger, WandbLogger

from tlprune.errors import InputError

__all__ = ["refused_starts"]


@contextmanager
def refused_starts() -> Iterator[None]:
    """Turns what a logger raises when its library starts a run into an error for the user.

    Loggers of Lightning start when ``experiment`` is first read: W&B then asks for a key, MLflow for its server. What
    they raise later is left as it is.

    Raises:
        InputError: A logger did not start.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        logger = _starting_logger(error)
        if logger is None:
            raise
        said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        if isinstance(logger, WandbLogger):
            key = "" if "wandb login" in said else "`wandb login` stores a key, and "
            said += f"; {key}`offline: true` of the logger needs neither key nor network"
        raise InputError(f"{type(logger).__name__}: {said}") from error


def _starting_logger(error: Exception) -> Logger | None:
    """Returns the logger whose property ``experiment`` an error left."""
    for frame, _ in walk_tb(error.__traceback__):
        owner = frame.f_locals.get("self") if frame.f_code.co_name == "experiment" else None
        if isinstance(owner, Logger):
            return owner
    return None
