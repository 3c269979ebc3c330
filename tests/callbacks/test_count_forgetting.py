import pytest
import torch
from lightning.pytorch import seed_everything

from tlprune import CountForgetting, Forgetting, LitClassifier, PrunedSourceDataModule, RandomSelector
from tlprune.errors import InputError
from tlprune.selection.forgetting import ForgettingCounts


class Planned(LitClassifier):
    """Classifies what it is told to, epoch by epoch."""

    def __init__(self, plan):
        super().__init__("resnet8_w8")
        self.plan = plan
        self.seen = 0

    def forward(self, images):
        if self.training or self.trainer.validating:
            return super().forward(images)
        right = self.plan[self.current_epoch]
        labels = self.trainer.datamodule.transformed_source.labels
        logits = torch.zeros(len(images), self.num_classes)
        for row in range(len(images)):
            index = (self.seen + row) % len(right)
            logits[row, labels[index] if right[index] else (labels[index] + 1) % self.num_classes] = 1
        self.seen += min(len(images), len(right) - self.seen)
        self.seen %= len(right)
        return logits


def test_counts_what_was_right_and_is_not(coloured, trainer, tmp_path):
    plan = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 1], [1, 1, 0, 0], [0, 1, 0, 0]], dtype=torch.bool)
    data = PrunedSourceDataModule(coloured(2, 2), augment="none", batch_size=2, val_share=0.0)
    counter = CountForgetting(str(tmp_path / "counts.safetensors"))
    fit = trainer(max_epochs=4, callbacks=[counter], limit_val_batches=0, num_sanity_val_steps=0)
    fit.fit(Planned(plan), datamodule=data)
    counts = ForgettingCounts.load(tmp_path / "counts.safetensors")
    assert counts.events.tolist() == [2, 0, 0, 1]
    assert counts.learned.tolist() == [True, True, False, True]
    assert counts.epochs == 4
    found = Forgetting(str(tmp_path / "counts.safetensors")).select(data.transformed_source)
    assert found.ranking.tolist() == [2, 0, 3, 1]


def test_training_is_the_same_with_and_without_it(coloured, trainer, tmp_path):
    weights = []
    for callbacks in ([], [CountForgetting(str(tmp_path / "counts.safetensors"))]):
        seed_everything(0, verbose=False)
        module = LitClassifier("resnet8_w8")
        data = PrunedSourceDataModule(coloured(3, 20), batch_size=16)
        trainer(max_epochs=2, callbacks=callbacks).fit(module, datamodule=data)
        weights.append(module.head.weight.detach().clone())
    assert torch.equal(*weights)
    assert (ForgettingCounts.load(tmp_path / "counts.safetensors").events >= 0).all()


def test_it_goes_on_from_a_checkpoint():
    counter, again = CountForgetting("a.safetensors"), CountForgetting("a.safetensors")
    counter.epochs = 3
    counter._right = counter._learned = torch.tensor([True, False])
    counter._events = torch.tensor([1, 0])
    again.load_state_dict(counter.state_dict())
    assert again.state_dict() == counter.state_dict()


def test_what_it_cannot_count_on_is_refused(coloured, trainer):
    with pytest.raises(InputError, match="must end in .safetensors"):
        CountForgetting("counts.pt")
    counter = CountForgetting("counts.safetensors")
    pruned = PrunedSourceDataModule(coloured(3, 20), selector=RandomSelector(), prune_ratio=0.5)
    with pytest.raises(InputError, match="needs the whole of a labelled source"):
        trainer(callbacks=[counter]).fit(LitClassifier("resnet8_w8"), datamodule=pruned)
    loader = [(torch.zeros(2, 3, 32, 32), torch.zeros(2).long())]
    with pytest.raises(InputError, match="needs a PrunedSourceDataModule"):
        trainer(callbacks=[counter]).fit(LitClassifier("resnet8_w8", num_classes=2), loader, loader)
