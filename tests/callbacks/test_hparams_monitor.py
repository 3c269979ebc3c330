import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.backend_context import Context
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tlprune import (
    DownstreamDataModule,
    HParamsMonitor,
    LitClassifier,
    PrunedSourceDataModule,
    RandomSelector,
    TransferModule,
)
from tlprune.errors import InputError


class Planned(LightningModule):
    """Somebody else's module, as accurate as it is told."""

    def __init__(self, plan, width=4, tricky=True):
        super().__init__()
        self.save_hyperparameters(ignore=["plan"])
        self.plan = plan
        self.layer = nn.Linear(2, width)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("val/accuracy", self.plan[self.current_epoch])

    def test_step(self, batch, batch_idx):
        self.log("test/accuracy", 0.75)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), 0.5, weight_decay=0.25)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


class Points(LightningDataModule):
    """Somebody else's data."""

    def __init__(self):
        super().__init__()
        self.batch_size = 4

    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.ones(8, 2)), batch_size=self.batch_size)

    val_dataloader = test_dataloader = train_dataloader


def board(folder, version="run"):
    return TensorBoardLogger(folder, name="", version=version)


def row(found):
    """The hyperparameters that TensorBoard reads."""
    content = found.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    shown = metadata.parse_session_start_info_plugin_data(content).hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in shown.items()}


def scalars(found, tag):
    return [(point.step, pytest.approx(point.value)) for point in found.Scalars(tag)]


def test_in_somebody_elses_trainer(trainer, events, tmp_path):
    seed_everything(7, verbose=False)
    fit = trainer(max_epochs=3, callbacks=[HParamsMonitor()], logger=board(tmp_path))
    fit.fit(Planned([0.25, 0.5, 0.375]), datamodule=Points())
    found = events(tmp_path / "run")
    assert scalars(found, "best/val/accuracy") == [(2, 0.25), (4, 0.5), (6, 0.5)]
    assert "hp_metric" not in found.Tags()["scalars"]
    assert row(found) == {
        "width": 4,
        "tricky": "True",
        "training/optimizer": "AdamW",
        "training/lr": 0.5,
        "training/weight_decay": 0.25,
        "training/batch_size": 4,
        "training/epochs": 3,
        "training/precision": "32-true",
        "seed": 7,
    }


def test_the_lowest_and_what_is_no_number(trainer, events, tmp_path):
    fit = trainer(max_epochs=4, callbacks=[HParamsMonitor(mode="min")], logger=board(tmp_path))
    fit.fit(Planned([0.25, 0.5, float("nan"), 0.125]), datamodule=Points())
    assert scalars(events(tmp_path / "run"), "best/val/accuracy") == [(2, 0.25), (4, 0.25), (8, 0.125)]


class Neighbours(Callback):
    """Logs at the end of an epoch, as KNNProbe does where nothing is validated."""

    def on_train_epoch_end(self, trainer, pl_module):
        pl_module.log("val/knn_accuracy", [0.5, 0.75][trainer.current_epoch])


@pytest.mark.parametrize("first", [True, False])
def test_what_a_callback_logs_is_seen_in_either_order(trainer, events, tmp_path, first):
    callbacks = [HParamsMonitor("val/knn_accuracy"), Neighbours()][:: 1 if first else -1]
    fit = trainer(max_epochs=2, callbacks=callbacks, logger=board(tmp_path), limit_val_batches=0)
    fit.fit(Planned([]), datamodule=Points())
    assert scalars(events(tmp_path / "run"), "best/val/knn_accuracy") == [(2, 0.5), (4, 0.75)]


def test_a_test_has_a_row_of_its_own(trainer, events, tmp_path):
    trainer(callbacks=[HParamsMonitor()], logger=board(tmp_path)).test(Planned([]), datamodule=Points(), verbose=False)
    found = events(tmp_path / "run")
    assert scalars(found, "best/test/accuracy") == [(0, 0.75)]
    assert row(found)["width"] == 4
    assert "hp_metric" not in found.Tags()["scalars"]


def test_selection_and_weights_are_told(trainer, events, coloured, target, surrogate_file, tmp_path):
    quiet = {"logger": board(tmp_path, "pruned"), "limit_train_batches": 1}
    data = PrunedSourceDataModule(coloured(4, 10), selector=RandomSelector(), prune_ratio=0.5, batch_size=8)
    seed_everything(3, verbose=False)
    trainer(callbacks=[HParamsMonitor()], **quiet).fit(LitClassifier("resnet8_w8"), datamodule=data)
    told = row(events(tmp_path / "pruned"))
    assert {
        name: told[name]
        for name in ("backbone", "selection", "prune_ratio", "selection/units_kept", "selection/images_kept")
    } == {
        "backbone": "resnet8_w8",
        "selection": "random",
        "prune_ratio": 0.5,
        "selection/units_kept": 2,
        "selection/images_kept": 18,
    }
    assert (told["seed"], told["training/augment"], told["num_classes"]) == (3, "crop_flip", 2)
    quiet["logger"] = board(tmp_path, "whole")
    whole = PrunedSourceDataModule(coloured(4, 10), batch_size=8)
    trainer(callbacks=[HParamsMonitor()], **quiet).fit(LitClassifier("resnet8_w8"), datamodule=whole)
    assert (row(events(tmp_path / "whole"))["selection"], row(events(tmp_path / "whole"))["prune_ratio"]) == ("none", 0)
    quiet["logger"] = board(tmp_path, "transfer")
    weights = str(surrogate_file(4))
    module = TransferModule(weights=weights)
    trainer(callbacks=[HParamsMonitor()], **quiet).fit(module, datamodule=DownstreamDataModule(target, shots=2))
    told = row(events(tmp_path / "transfer"))
    assert (told["weights"], told["shots"]) == (weights, 2)


def test_tensorboard_has_the_columns_of_all_runs(trainer, tmp_path):
    """Asked as its own page asks: TensorBoard would take the columns of one run for all."""
    trainer(callbacks=[HParamsMonitor()], logger=board(tmp_path, "a")).fit(Planned([0.5]), datamodule=Points())
    trainer(callbacks=[HParamsMonitor()], logger=board(tmp_path, "b")).test(Planned([]), datamodule=Points())
    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(runs, str(tmp_path))))
    asked = RequestContext()
    content = context.hparams_metadata(asked, "")
    offered = context.hparams_from_data_provider(asked, "", limit=None)
    shown = context.experiment_from_metadata(asked, "", True, content, offered)
    assert [metric.name.tag for metric in shown.metric_infos][:2] == ["best/test/accuracy", "best/val/accuracy"]
    assert {"width", "training/lr"} <= {one.name for one in shown.hparam_infos}


def test_the_best_goes_on_where_a_checkpoint_left_it(trainer, events, tmp_path):
    first = trainer(max_epochs=1, callbacks=[HParamsMonitor()])
    first.fit(Planned([0.75]), datamodule=Points())
    first.save_checkpoint(tmp_path / "last.ckpt")
    second = trainer(max_epochs=2, callbacks=[HParamsMonitor()], logger=board(tmp_path))
    second.fit(Planned([0.75, 0.5]), datamodule=Points(), ckpt_path=tmp_path / "last.ckpt")
    assert scalars(events(tmp_path / "run"), "best/val/accuracy")[-1] == (4, 0.75)


def test_a_metric_that_nobody_logs_is_said(trainer, tmp_path):
    fit = trainer(callbacks=[HParamsMonitor("val/acuracy")], logger=board(tmp_path))
    with pytest.warns(UserWarning, match="no metric 'val/acuracy' was logged; did you mean 'val/accuracy'"):
        fit.fit(Planned([0.5]), datamodule=Points())


def test_other_loggers_are_no_error_and_another_mode_is(trainer):
    trainer(callbacks=[HParamsMonitor()]).fit(Planned([0.5]), datamodule=Points())
    with pytest.raises(InputError, match="`mode` must be 'max' or 'min'"):
        HParamsMonitor(mode="best")


def test_training_is_the_same_with_and_without_it(trainer, tmp_path):
    weights = []
    for callbacks in ([], [HParamsMonitor()]):
        torch.manual_seed(0)
        module = Planned([0.5, 0.5])
        trainer(max_epochs=2, callbacks=callbacks, logger=board(tmp_path)).fit(module, datamodule=Points())
        weights.append(module.layer.weight.detach().clone())
    assert torch.equal(*weights)
