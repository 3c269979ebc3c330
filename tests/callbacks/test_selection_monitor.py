from dataclasses import replace

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

from tlprune import (
    CostMonitor,
    FeatureMapping,
    HParamsMonitor,
    LabelMapping,
    LitClassifier,
    PrunedDataModule,
    PrunedSourceDataModule,
    RandomSelector,
    ReverseSelector,
    SelectionMonitor,
    select,
)
from tlprune.errors import InputError
from tlprune.models.weights import load_backbone, read_weights
from tlprune.selection.features import extract_features


def fit(coloured, logger, monitor=None, **options):
    data = PrunedSourceDataModule(coloured(30, 10), batch_size=8, **options)
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    run = Trainer(accelerator="cpu", max_steps=1, logger=logger, callbacks=[monitor or SelectionMonitor()], **quiet)
    run.fit(Somebodys(), datamodule=data)
    return data


class Somebodys(LightningModule):
    """A module that knows nothing of pruning."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.dropout = nn.Dropout(0.5)

    def training_step(self, batch, batch_idx):
        return self.dropout(self.layer(batch[0].mean((2, 3)))).square().mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_figures_and_numbers_reach_tensorboard(coloured, events, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="run")
    fit(coloured, logger, selector=RandomSelector(), keep_units=20)
    found = events(tmp_path / "run")
    assert set(found.Tags()["images"]) == {"selection/units"}  # nobody voted
    assert found.Tags()["histograms"] == []
    assert not (tmp_path / "run" / "projector_config.pbtxt").exists()  # nobody knows where units lie
    assert found.Images("selection/units")[0].width > 1000
    assert found.Scalars("selection/units_kept")[0].value == 20
    assert found.Scalars("selection/images_kept")[0].value == 200  # held-out images counted
    assert found.Scalars("selection/votes_covered")[0].value == 0


@pytest.mark.filterwarnings("ignore:The number of training batches", "ignore:.* units are kept, but only")
def test_votes_of_several_targets_and_single_images(coloured, target, events, surrogate_file, tmp_path):
    surrogate = str(surrogate_file(30))
    targets = [target, replace(target, train=target.train.subset(torch.arange(8)), name="others")]
    logger = TensorBoardLogger(tmp_path, name="", version="several")
    fit(coloured, logger, target=targets, surrogate=surrogate, keep_units=20)
    found = events(tmp_path / "several")
    assert set(found.Tags()["images"]) == {"selection/votes", "selection/units"}
    covered = {
        name: found.Scalars(f"selection/votes_covered_by_target/{name}")[0].value for name in ("colours", "others")
    }
    assert min(covered.values()) == found.Scalars("selection/votes_covered")[0].value
    logger = TensorBoardLogger(tmp_path, name="", version="images")
    fit(coloured, logger, selector=RandomSelector(unit="sample"), keep_images=100)
    assert set(events(tmp_path / "images").Tags()["images"]) == {"selection/units"}


@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_nothing_selected_or_another_logger_is_no_error(coloured, events, tmp_path):
    fit(coloured, TensorBoardLogger(tmp_path, name="", version="run"))
    assert events(tmp_path / "run").Tags()["images"] == []
    fit(coloured, CSVLogger(tmp_path / "csv"), selector=RandomSelector(), keep_units=2)
    fit(coloured, False, selector=RandomSelector(), keep_units=2)


class OfFolders(LightningDataModule):
    """Somebody's DataModule, which knows nothing of pruning."""

    def __init__(self, folder):
        super().__init__()
        self.images = ImageFolder(folder, ToTensor())

    def train_dataloader(self):
        return DataLoader(self.images, 4, shuffle=True)


@pytest.mark.filterwarnings("ignore:HParamsMonitor", "ignore:You defined", "ignore:The '.*_dataloader' does not have")
@pytest.mark.parametrize(("budget", "kept"), [({"keep_units": 2}, (2, 12)), ({"keep_exactly": 9}, (2, 9))])
def test_of_a_wrapped_data_module_of_others(budget, kept, class_folder, events, tmp_path):
    folder = class_folder(tmp_path / "source", {"a": 6, "b": 6, "c": 6})
    selection = select(str(folder), selector=RandomSelector())
    data = PrunedDataModule(OfFolders(folder), selection, **budget)
    assert (data.units_kept, data.images_kept, data.images_before_pruning) == (*kept, 18)
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    monitors = [SelectionMonitor(), CostMonitor(every_n_steps=1), HParamsMonitor("train/loss")]
    logger = TensorBoardLogger(tmp_path, name="", version="run")
    run = Trainer(accelerator="cpu", max_epochs=1, logger=logger, callbacks=monitors, log_every_n_steps=1, **quiet)
    run.fit(Somebodys(), datamodule=data)
    found = events(tmp_path / "run")
    assert found.Scalars("selection/units_kept")[0].value == kept[0]
    assert found.Scalars("selection/images_kept")[0].value == kept[1]
    assert "cost/saved" in found.Tags()["scalars"]


@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_an_exact_number_of_images_is_logged_as_such(coloured, events, tmp_path):
    fit(coloured, TensorBoardLogger(tmp_path, name="", version="run"), selector=RandomSelector(), keep_exactly=25)
    found = events(tmp_path / "run")
    assert found.Scalars("selection/units_kept")[0].value == 3
    assert found.Scalars("selection/images_kept")[0].value == 25  # held-out images counted


def projected(folder):
    """Rows of the projector's tables: metadata by column, and points ``[U, D]``."""
    header, *rows = (folder / "00000/units/metadata.tsv").read_text().splitlines()
    names = header.split("\t")
    table = [dict(zip(names, row.split("\t"), strict=True)) for row in rows]
    lines = (folder / "00000/units/tensors.tsv").read_text().splitlines()
    return table, torch.tensor([[float(one) for one in line.split("\t")] for line in lines])


@pytest.fixture
def voted(coloured, target, surrogate_file, tmp_path):
    """Fits with votes, in a folder of its own for each run."""

    def run(version, monitor=None, **options):
        options = {"target": target, "surrogate": str(surrogate_file(30)), "prune_ratio": 0.5} | options
        return fit(coloured, TensorBoardLogger(tmp_path, name="", version=version), monitor, **options)

    return run


ignored = pytest.mark.filterwarnings(
    "ignore:The number of training batches", "ignore:.* units are kept, but only", "ignore:clusters collapse"
)


@ignored
def test_votes_as_a_histogram_and_coverage_as_a_curve(voted, events, tmp_path):
    selection = voted("run").selection
    found = events(tmp_path / "run")
    votes = sorted(selection.votes.tolist(), reverse=True)
    whole, kept = found.Histograms("selection/votes_of_a_unit")
    assert (whole.histogram_value.num, whole.histogram_value.sum) == (30, sum(votes))
    assert (kept.histogram_value.num, kept.histogram_value.max) == (15, votes[0])
    curve = found.Scalars("selection/coverage_curve")
    assert [point.step for point in curve] == list(range(1, 31))
    assert [point.value for point in curve] == pytest.approx([sum(votes[: k + 1]) / sum(votes) for k in range(30)])


@ignored
def test_projector_shows_rows_of_the_head_for_label_mapping(voted, surrogate_file, tmp_path):
    selection = voted("run").selection
    table, points = projected(tmp_path / "run")
    head = load_file(surrogate_file(30))["head.weight"]
    assert points == pytest.approx(head[selection.ranking], abs=1e-6)
    for place, row in enumerate(table):
        unit = int(selection.ranking[place])
        wanted = (f"colour{unit:02}", "kept" if place < 15 else "dropped", f"{selection.votes[unit]:g}", place + 1, 10)
        assert tuple(row.values()) == tuple(map(str, wanted))
    with Image.open(tmp_path / "run/00000/units/sprite.png") as sprite:
        assert sprite.size == (6 * 48, 6 * 48)  # 30 pictures in a square


@ignored
def test_projector_shows_means_and_centroids_for_feature_mapping(voted, surrogate_file, tmp_path):
    backbone = load_backbone(read_weights(str(surrogate_file(30))), None)
    data = voted("classes", selector=FeatureMapping("classes"))
    features = extract_features(backbone, data.transformed_source)
    means = torch.stack([features[data.source_images.labels == unit].mean(0) for unit in range(30)])
    assert projected(tmp_path / "classes")[1] == pytest.approx(means[data.selection.ranking], abs=1e-4)
    data = voted("clusters", selector=ReverseSelector(FeatureMapping(num_clusters=5)))
    table, points = projected(tmp_path / "clusters")
    nearest = torch.cdist(features, points).argmin(1)
    assert torch.equal(data.selection.ranking[nearest], data.selection.unit_of_sample.long())
    assert [row["unit"] for row in table] == [f"cluster {unit}" for unit in data.selection.ranking.tolist()]


@ignored
def test_projector_is_left_out_where_it_is_not_wanted_or_too_dear(voted, tmp_path):
    voted("some", SelectionMonitor(projected_units=4))
    assert [row["rank"] for row in projected(tmp_path / "some")[0]] == ["1", "11", "20", "30"]
    voted("none", SelectionMonitor(projected_units=0))
    voted("whole", verify_content=True).selection.save(tmp_path / "saved.safetensors")
    voted("saved", selection=str(tmp_path / "saved.safetensors"))
    for run in ("none", "whole", "saved"):
        assert not (tmp_path / run / "projector_config.pbtxt").exists()
    with pytest.raises(InputError, match="`projected_units` must be at least 0"):
        SelectionMonitor(projected_units=-1)


@ignored
def test_a_run_that_goes_on_does_not_write_twice(voted, events, tmp_path):
    first, again = SelectionMonitor(), SelectionMonitor()
    voted("run", first)
    again.load_state_dict(first.state_dict())
    voted("run", again)
    assert len(events(tmp_path / "run").Images("selection/votes")) == 1
    voted("other", again)
    assert len(events(tmp_path / "other").Images("selection/votes")) == 1


@ignored
def test_training_is_the_same_with_and_without_it(coloured, target, surrogate_file, trainer, tmp_path):
    weights = []
    for callbacks in ([], [SelectionMonitor()]):
        data = PrunedSourceDataModule(coloured(30, 10), target, LabelMapping(), str(surrogate_file(30)), keep_units=9)
        torch.manual_seed(0)
        module = LitClassifier("resnet8_w8")
        logger = TensorBoardLogger(tmp_path, name="", version=str(len(callbacks)))
        trainer(callbacks=callbacks, logger=logger).fit(module, datamodule=data)
        weights.append(module.head.weight.detach().clone())
    assert torch.equal(*weights)
