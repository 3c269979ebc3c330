"""Keeps the weights of the best epoch in memory, for runs of seconds that write no checkpoints."""

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

__all__ = ["BestWeights"]


class BestWeights(Callback):
    """Remembers the weights at which a validation metric was highest, the first of equal ones.

    Args:
        monitor: Name of the metric.

    Attributes:
        score: The highest value; None before the first validation.
    """

    def __init__(self, monitor: str = "val/accuracy") -> None:
        self.monitor = monitor
        self.score: float | None = None
        self._weights: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copies the weights, if they are the best so far."""
        if trainer.sanity_checking:
            return
        score = float(trainer.callback_metrics[self.monitor])
        if self.score is None or score > self.score:
            self.score = score
            self._weights = {name: value.detach().clone() for name, value in pl_module.state_dict().items()}

    def restore(self, module: LightningModule) -> float:
        """Gives a module the best weights, and returns their score.

        Raises:
            RuntimeError: No validation took place.
        """
        if self.score is None:
            raise RuntimeError("no validation took place")
        module.load_state_dict(self._weights)
        return self.score
