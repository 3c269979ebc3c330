from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tlprune import LitClassifier, PrunedSourceDataModule, RandomSelector, SelectionMonitor


def fit(coloured, logger, **options):
    data = PrunedSourceDataModule(coloured(30, 10), batch_size=8, **options)
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    run = Trainer(accelerator="cpu", max_steps=1, logger=logger, callbacks=[SelectionMonitor()], **quiet)
    run.fit(LitClassifier("resnet8_w8"), datamodule=data)


def events(folder):
    found = EventAccumulator(str(folder), size_guidance={"images": 0})
    found.Reload()
    return found


@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_figures_and_numbers_reach_tensorboard(coloured, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="run")
    fit(coloured, logger, selector=RandomSelector(), keep_units=20)
    found = events(tmp_path / "run")
    assert set(found.Tags()["images"]) == {"selection/units"}  # nobody voted
    assert found.Images("selection/units")[0].width > 1000
    assert found.Scalars("selection/units_kept")[0].value == 20
    assert found.Scalars("selection/images_kept")[0].value == 200  # held-out images counted
    assert found.Scalars("selection/votes_covered")[0].value == 0


@pytest.mark.filterwarnings("ignore:The number of training batches", "ignore:.* units are kept, but only")
def test_votes_of_several_targets_and_single_images(coloured, target, surrogate_file, tmp_path):
    surrogate = str(surrogate_file(30))
    targets = [target, replace(target, train=target.train.subset(torch.arange(8)), name="others")]
    logger = TensorBoardLogger(tmp_path, name="", version="several")
    fit(coloured, logger, target=targets, surrogate=surrogate, keep_units=20)
    found = events(tmp_path / "several")
    assert set(found.Tags()["images"]) == {"selection/votes", "selection/units"}
    covered = {name: found.Scalars(f"selection/votes_covered/{name}")[0].value for name in ("colours", "others")}
    assert min(covered.values()) == found.Scalars("selection/votes_covered")[0].value
    logger = TensorBoardLogger(tmp_path, name="", version="images")
    fit(coloured, logger, selector=RandomSelector(unit="sample"), keep_images=100)
    assert set(events(tmp_path / "images").Tags()["images"]) == {"selection/units"}


@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_nothing_selected_or_another_logger_is_no_error(coloured, tmp_path):
    fit(coloured, TensorBoardLogger(tmp_path, name="", version="run"))
    assert events(tmp_path / "run").Tags()["images"] == []
    fit(coloured, CSVLogger(tmp_path / "csv"), selector=RandomSelector(), keep_units=2)
    fit(coloured, False, selector=RandomSelector(), keep_units=2)
