"""How long the training of a sweep's stage took."""

from lightning.pytorch.callbacks import Timer

__all__ = ["Stopwatch"]


class Stopwatch(Timer):
    """Adds up the seconds of training over all commands of a run.

    A Trainer takes one Timer of a name, and ignores ``max_time`` beside any.
    """

    def __init__(self) -> None:
        super().__init__()
