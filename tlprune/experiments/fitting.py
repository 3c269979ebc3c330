"""Runs ``tlprune fit`` for a stage of a sweep, on a config that lies beside what comes out."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml

from tlprune.errors import InputError
from tlprune.experiments.stopwatch import Stopwatch
from tlprune.lightning_cli import TLPruneCLI, run
from tlprune.storage.atomic import write_bytes
from tlprune.storage.cache import forget
from tlprune.storage.journal import Stage

__all__ = ["Fitted", "fit", "quiet"]

_LOGGERS = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
_ADVICE = (
    ".*does not have many workers",
    ".*LeafSpec",
    "The number of training batches",
    r"Found \d+ module\(s\) in eval mode",
    r"\d+ units are kept, but only",
    ".*another process is making it",
)


@dataclass(frozen=True)
class Fitted:
    """A finished run of ``tlprune fit``.

    Args:
        cli: Holds model, data and Trainer.
        seconds: Time that training took, over all commands where the run was resumed.
    """

    cli: TLPruneCLI
    seconds: float


def fit(stage: Stage, config: dict[str, Any]) -> Fitted:
    """Trains by a config, which is written as ``fit.yaml`` into the stage's folder; goes on after a kill.

    Args:
        stage: Whose training this is.
        config: Of ``tlprune fit``, with a stopwatch among its callbacks.

    Raises:
        InputError: The run stopped before its planned end.
    """
    path = stage.folder / "fit.yaml"
    write_bytes(path, yaml.safe_dump(config, sort_keys=False).encode())
    with quiet():
        cli = run(["fit", "--config", str(path)], save_config=False)
        if cli.trainer.global_step == 0:  # it had ended, and was killed before that was noted here
            forget(stage.folder / "run")
            cli = run(["fit", "--config", str(path)], save_config=False)
    if cli.stopped is not None:
        raise InputError(f"{path}: {cli.stopped}, so it is not finished; give the same command again to go on")
    timer = next(one for one in cli.trainer.callbacks if isinstance(one, Stopwatch))  # type: ignore[attr-defined]
    forget(stage.folder / "run")
    return Fitted(cli, timer.time_elapsed("train"))


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Lightning's advice to single runs out of a sweep, which makes dozens of them."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in _ADVICE:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
