import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.utils.data import DataLoader

from tlprune.experiments.best_weights import BestWeights


class Walk(LightningModule):
    """Its weight is the number of epochs behind it; its accuracy is given for each epoch."""

    def __init__(self, accuracies):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.accuracies = accuracies

    def training_step(self, batch, batch_idx):
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        accuracy = 100.0 if self.trainer.sanity_checking else self.accuracies[self.current_epoch]
        self.log("val/accuracy", accuracy, batch_size=1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


@pytest.mark.parametrize(("accuracies", "best"), [([1.0, 3.0, 2.0], 1), ([3.0, 3.0, 3.0], 0), ([1.0, 2.0, 3.0], 2)])
def test_weights_of_the_best_epoch_come_back_the_first_of_equal_ones(trainer, accuracies, best):
    loader = DataLoader(torch.zeros(1, 1), num_workers=0)
    module, kept = Walk(accuracies), BestWeights()
    trainer(max_epochs=3, callbacks=[kept], num_sanity_val_steps=1, log_every_n_steps=1).fit(module, loader, loader)
    assert module.weight.item() == -3
    assert kept.restore(module) == accuracies[best]
    assert module.weight.item() == -(best + 1)


def test_without_a_validation_there_is_nothing_to_restore():
    with pytest.raises(RuntimeError, match="no validation took place"):
        BestWeights().restore(Walk([]))
