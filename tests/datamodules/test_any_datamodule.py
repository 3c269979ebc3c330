"""Anybody's DataModule, pruned: loaders, samplers, hooks and properties stay; what cannot stay is refused."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities import CombinedLoader
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from forked import run_ranks
from other_modules import EuroSatLike, NonGeoLike, Task
from tlprune import InputError, PrunedDataModule, RandomSelector, select
from tlprune.cli import main
from tlprune.data.datasets import TensorImages

HERE = Path(__file__).parent


@pytest.fixture
def selection():
    return select(EuroSatLike(), selector=RandomSelector(seed=1))


def _kept(selection, units=2):
    return sorted(selection.ranking[:units].tolist())


def test_a_module_like_torchgeos_keeps_its_hooks_and_dictionaries(selection, trainer):
    other = NonGeoLike()
    data = PrunedDataModule(other, selection, keep_units=2)
    task = Task()
    trainer(max_epochs=2, num_sanity_val_steps=0).fit(task, datamodule=data)
    assert sorted(task.given) == [(epoch, label) for epoch in (0, 1) for label in (0, 1) for _ in range(5)]
    assert task.validated == [0, 0, 1, 1] * 2
    assert other.seen.count("augmented") == 6
    assert other.seen.count("plain") == 2
    assert other.seen.count("moved") == 8


def test_all_else_is_the_other_modules(selection, trainer, tmp_path):
    other = NonGeoLike(batch_size=3)
    data = PrunedDataModule(other, selection, keep_units=2)
    assert (data.mean, data.std) == (other.mean, other.std)
    assert data.plot({"label": 3}) == "plot of 3"
    assert dict(data.hparams) == {"batch_size": 3, "num_workers": 0, "each": 5}
    assert data.prepare_data_per_node is False
    data.batch_size = 5  # as Lightning's search for a batch size does
    assert other.batch_size == 5
    data.mine = 1
    assert not hasattr(other, "mine")
    with pytest.raises(AttributeError, match="'NonGeoLike' object has no attribute 'nothing'"):
        _ = data.nothing

    class Failing(Task):
        def training_step(self, batch, batch_idx):
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        trainer(num_sanity_val_steps=0).fit(Failing(), datamodule=data)
    assert other.seen[-1] == "RuntimeError"
    assert other.trainer is data.trainer
    fit = trainer()
    fit.fit(Task(), datamodule=data)
    fit.save_checkpoint(tmp_path / "one.ckpt")
    again = PrunedDataModule(NonGeoLike(), selection, keep_units=2)
    more = trainer(max_epochs=2)
    more.fit(task := Task(), datamodule=again, ckpt_path=tmp_path / "one.ckpt")
    assert again.loaded["seen"] > 0
    assert {epoch for epoch, _ in task.given} == {1}


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set")  # by Lightning's from_datasets
def test_without_a_validation_loader_nothing_is_validated(selection, trainer):
    class Training(LightningDataModule):
        def train_dataloader(self):
            return DataLoader(EuroSatLike(), 4)

        def on_after_batch_transfer(self, batch, dataloader_idx):
            return batch | {"image": batch["image"] / 255}

    task = Task()
    with pytest.warns(UserWarning, match="defined a `validation_step` but have no `val_dataloader`"):  # Lightning's own
        trainer().fit(task, datamodule=PrunedDataModule(Training(), selection, keep_units=2))
    assert len(task.given) == 10
    assert task.validated == []
    by_class = LightningDataModule.from_datasets(EuroSatLike(), batch_size=2)
    assert (
        sum(len(batch["label"]) for batch in PrunedDataModule(by_class, selection, keep_units=1).train_dataloader())
        == 5
    )


@pytest.mark.parametrize("name", ["prune_ratio", "keep_units", "budget", "selection"])
def test_a_budget_that_would_change_nothing_is_refused(selection, name):
    data = PrunedDataModule(NonGeoLike(), selection, keep_units=2)
    with pytest.raises(InputError, match=f"`{name}` of a PrunedDataModule is fixed: make another one"):
        setattr(data, name, 0.5)


class Given(LightningDataModule):
    """Gives one loader, or several."""

    def __init__(self, loaders, val=None):
        super().__init__()
        self.loaders, self.val = loaders, val

    def train_dataloader(self):
        return self.loaders

    def val_dataloader(self):
        return self.val


def _train(loaders, selection, units=2):
    return PrunedDataModule(Given(loaders), selection, keep_units=units).train_dataloader()


def _collate(samples):
    return len(samples), [int(sample["label"]) for sample in samples]


def _begin(worker):
    """Of a worker."""


def test_arguments_of_a_loader_stay(selection):
    generator = torch.Generator().manual_seed(3)
    before = DataLoader(
        EuroSatLike(),
        batch_size=3,
        shuffle=True,
        num_workers=1,
        collate_fn=_collate,
        drop_last=True,
        timeout=7,
        worker_init_fn=_begin,
        generator=generator,
        prefetch_factor=3,
        persistent_workers=True,
        in_order=False,
    )
    after = _train(before, selection)
    names = [
        "batch_size",
        "num_workers",
        "collate_fn",
        "drop_last",
        "timeout",
        "worker_init_fn",
        "generator",
        "in_order",
    ]
    for name in [*names, "prefetch_factor", "persistent_workers", "pin_memory"]:
        assert getattr(after, name) == getattr(before, name), name
    assert type(after.sampler) is RandomSampler
    assert after.sampler.generator is generator
    assert [count for count, _ in after] == [3, 3, 3]


def test_samplers_are_of_the_same_kind_over_what_is_kept(selection):
    dataset = EuroSatLike()
    kept = [index for index in range(20) if dataset.labels_of_files[index] in _kept(selection)]

    def after(sampler, **options):
        return _train(DataLoader(dataset, 4, sampler=sampler, **options), selection).sampler

    drawn = after(RandomSampler(dataset, replacement=True, num_samples=50))
    assert (type(drawn), drawn.replacement, len(drawn), max(drawn) < 10) == (RandomSampler, True, 50, True)
    assert len(after(RandomSampler(dataset, replacement=True))) == 10
    assert list(after(SequentialSampler(dataset))) == list(range(10))
    shared = after(DistributedSampler(dataset, 3, 1, shuffle=True, seed=9, drop_last=True))
    assert list(shared) == list(DistributedSampler(range(10), 3, 1, shuffle=True, seed=9, drop_last=True))
    part = after(SubsetRandomSampler([*range(0, 20, 2)]))
    assert sorted(kept[place] for place in part) == [index for index in kept if index % 2 == 0]
    weights = np.arange(20.0)
    weighted = after(WeightedRandomSampler(weights, 20))
    assert (weighted.weights.tolist(), len(weighted)) == (weights[kept].tolist(), 10)
    assert len(after(WeightedRandomSampler(weights, 500))) == 500
    once = after(WeightedRandomSampler(np.ones(20), 15, replacement=False))
    assert sorted(once) == list(range(10))


def test_batches_of_a_batch_sampler_and_samples_without_batches(selection):
    dataset = EuroSatLike()
    batches = BatchSampler(SequentialSampler(dataset), 4, drop_last=True)
    after = _train(DataLoader(dataset, batch_sampler=batches), selection)
    assert [len(batch["label"]) for batch in after] == [4, 4]
    single = _train(DataLoader(dataset, batch_size=None), selection)
    assert [int(sample["label"]) for sample in single] == [0] * 5 + [1] * 5


def test_several_loaders_keep_their_form(selection):
    dataset = EuroSatLike()
    few, many = DataLoader(dataset, 5), DataLoader(dataset, 2)
    combined = _train(CombinedLoader({"a": few, "b": many}, "max_size_cycle"), selection)
    assert [len(batch["a"]["label"]) + len(batch["b"]["label"]) for batch, _, _ in combined] == [7] * 5
    assert {
        name: len(loader) for name, loader in _train({"a": few, "b": [many]}, selection).items() if name == "a"
    } == {"a": 2}
    assert [len(loader) for loader in _train([few, many], selection)] == [2, 5]


class _MyLoader(DataLoader):
    pass


class _MySampler(Sampler):
    def __iter__(self):
        return iter(range(20))

    def __len__(self):
        return 20


class _MyBatches(BatchSampler):
    pass


class _Stream(IterableDataset):
    def __iter__(self):
        return iter(EuroSatLike())


def _loader(dataset=None, **options):
    return DataLoader(EuroSatLike() if dataset is None else dataset, **{"batch_size": 4} | options)


REFUSED = {
    "a subclass": (
        lambda: _MyLoader(EuroSatLike()),
        r"a torch DataLoader to be pruned, got _MyLoader; .*tlprune.prune\(\)",
    ),
    "no loader": (lambda: [1, 2], "a torch DataLoader to be pruned, got int"),
    "a sampler": (lambda: _loader(sampler=_MySampler()), "a sampler of torch to be pruned, got _MySampler; .*prune"),
    "batches": (
        lambda: DataLoader(EuroSatLike(), batch_sampler=_MyBatches(range(20), 2, False)),
        "no batch sampler of its own to be pruned, got _MyBatches",
    ),
    "a stream": (lambda: DataLoader(_Stream(), 2), "_Stream has no length or no samples by index"),
    "fewer": (lambda: _loader(Subset(EuroSatLike(), range(7))), "a source of 20 images, this data set has 7"),
    "another order": (
        lambda: _loader(Subset(EuroSatLike(), [*range(10, 20), *range(10)])),
        r"the training data set: .*another source: sample 0 has the label 2 here and 0 there",
    ),
    "other classes": (
        lambda: _loader(TensorImages(torch.zeros(20, 3, 8, 8).byte(), torch.arange(4).repeat_interleave(5), "abcd")),
        "other classes: 'Crop' where this data set has 'a'",
    ),
    "nothing of a part": (
        lambda: _loader(sampler=SubsetRandomSampler([])),
        "SubsetRandomSampler: none of its 0 samples is kept",
    ),
    "weights": (
        lambda: _loader(sampler=WeightedRandomSampler(np.ones(7), 7)),
        "has 7 weights, its data set has 20 samples",
    ),
    "no weight": (
        lambda: _loader(sampler=WeightedRandomSampler(np.zeros(20), 7)),
        "all 10 samples that are kept have the weight 0",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_pruned_is_refused_by_name(case, selection):
    make, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as raised:
        _train(make(), selection)
    assert "\n" not in str(raised.value)


def test_files_are_compared_as_a_whole(class_folder):
    folder = class_folder("src", {"ant": 3, "bee": 4})
    selection = select(str(folder), selector=RandomSelector())
    loader = DataLoader(ImageFolder(folder, v2.PILToTensor()), 2, shuffle=True)
    assert len(_train(loader, selection, units=1).dataset) in (3, 4)
    (folder / "bee" / "000.png").rename(folder / "bee" / "0000.png")
    with pytest.raises(InputError, match="made for another source: it names .*, the training data set is "):
        _train(DataLoader(ImageFolder(folder, v2.PILToTensor()), 2), selection)


def test_a_loader_that_is_asked_for_in_each_epoch_reads_its_data_set_once(selection):
    class Counting(EuroSatLike):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            return super().__getitem__(index)

    train, val = Counting(), Counting(2)
    data = PrunedDataModule(Given(_loader(train), _loader(val)), selection, keep_units=2)
    data.train_dataloader(), data.val_dataloader()
    reads = train.reads
    assert data.train_dataloader().dataset is data.train_dataloader().dataset
    assert train.reads == reads


def test_validation_images_need_labels_of_the_source(selection):
    bare = [EuroSatLike()[0]["image"]] * 3
    data = PrunedDataModule(Given(_loader(), DataLoader(bare)), selection, keep_units=2)
    with pytest.raises(InputError, match="list has no labels, so its images of some classes cannot be found"):
        data.val_dataloader()
    more = [{"image": torch.zeros(3, 8, 8), "label": 9}]
    data = PrunedDataModule(Given(_loader(), DataLoader(more)), selection, keep_units=2)
    with pytest.raises(InputError, match="a source of 4 classes, got label 9 in validation images"):
        data.val_dataloader()


def test_a_module_of_another_package_is_refused(selection):
    with pytest.raises(
        InputError, match="`datamodule` must be a LightningDataModule of lightning.pytorch, got builtins.dict"
    ):
        PrunedDataModule({}, selection, keep_units=2)


def test_a_data_module_of_hugging_face_as_their_pages_have_it(class_folder, trainer):
    datasets = pytest.importorskip("datasets")
    folder = class_folder("src", {"ant": 4, "bee": 6, "cat": 2})
    files = sorted(str(path) for path in folder.rglob("*.png"))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee", "cat"])})
    labels = [0] * 4 + [1] * 6 + [2] * 2
    rows = datasets.Dataset.from_dict({"image": files, "label": labels}, features=features)
    augment = v2.Compose([v2.RandomResizedCrop(16), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])

    def transforms(examples):
        examples["pixel_values"] = [augment(image.convert("RGB")) for image in examples["image"]]
        return examples

    def collate_fn(examples):
        images = torch.stack([example["pixel_values"] for example in examples])
        return images, torch.tensor([example["label"] for example in examples])

    class OfHuggingFace(LightningDataModule):
        def setup(self, stage):
            self.dataset = rows.with_transform(transforms)

        def train_dataloader(self):
            return DataLoader(self.dataset, collate_fn=collate_fn, batch_size=4, shuffle=True)

    class Plain(Task):
        validation_step = LightningModule.validation_step

        def training_step(self, batch, batch_idx):
            return nn.functional.cross_entropy(self.head(batch[0].mean((2, 3))), batch[1])

    selection = select(rows, selector=RandomSelector(seed=5))
    data = PrunedDataModule(OfHuggingFace(), selection, keep_units=2)
    fit = trainer()
    fit.fit(Plain(), datamodule=data)
    kept = _kept(selection)
    assert len(fit.train_dataloader.dataset) == sum(label in kept for label in labels)
    seen = torch.cat([labels for _, labels in data.train_dataloader()])
    assert seen.bincount().tolist() == [labels.count(unit) for unit in kept]
    with pytest.raises(InputError, match="sample 0 has the label 2 here and 0 there|sample 0 .* has the label 2 here"):
        _train(DataLoader(rows.select(range(11, -1, -1)), collate_fn=collate_fn), selection)


YAML = """
model: {{class_path: {model}, init_args: {{backbone: resnet8_w8}}}}
data:
  class_path: tlprune.PrunedDataModule
  init_args:
    datamodule: {{class_path: folders_module.Folders, init_args: {{root: {root}, batch_size: 3}}}}
    selection: {selection}
    prune_ratio: 0.5
trainer:
  max_epochs: 1
  accelerator: cpu
  logger: false
  enable_progress_bar: false
  enable_model_summary: false
"""
MODULE = """
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor


class Folders(LightningDataModule):
    def __init__(self, root: str, batch_size: int = 4):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        self.train = ImageFolder(self.hparams.root, ToTensor())

    def train_dataloader(self):
        return DataLoader(self.train, self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.train, self.hparams.batch_size)
"""


@pytest.fixture
def yaml_of(class_folder, tmp_path, monkeypatch):
    root = class_folder("src", {"ant": 4, "bee": 4, "cat": 4, "dog": 4})
    select(str(root), selector=RandomSelector(), output=tmp_path / "s.safetensors")
    (tmp_path / "folders_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def write(model="LitClassifier", root=root):
        config = tmp_path / "config.yaml"
        config.write_text(YAML.format(model=model, root=root, selection=tmp_path / "s.safetensors"))
        return str(config)

    yield write
    sys.modules.pop("folders_module", None)


def test_from_yaml_nested(yaml_of, tmp_path, class_folder, capfd):
    other = class_folder("other", {"ant": 4, "bee": 4, "cow": 4, "dog": 4})
    assert main(["fit", "--config", yaml_of(root=other)]) == 2
    said = "the training data set: this selection was made for other classes: 'cat' where this data set has 'cow'"
    assert capfd.readouterr().err.splitlines()[-1] == f"tlprune: error: {said}"
    assert list(Path.cwd().iterdir()) == []
    assert main(["fit", "--config", yaml_of()]) == 0
    assert len(list(Path.cwd().rglob("*.ckpt"))) == 1


def test_from_yaml_with_another_lightning_cli(yaml_of, tmp_path):
    config = yaml_of("tlprune.LitClassifier")
    options = {"subclass_mode_model": True, "subclass_mode_data": True, "save_config_callback": None}
    cli = LightningCLI(LightningModule, LightningDataModule, args=["fit", "--config", config], **options)
    assert len(cli.trainer.train_dataloader.dataset) == 8
    assert dict(cli.datamodule.hparams) == {"root": str(tmp_path / "src"), "batch_size": 3}
    assert cli.model.num_classes == 2


def test_two_processes_share_what_one_has(tmp_path):
    def ranks(world):
        (folder := tmp_path / str(world)).mkdir()
        command = [sys.executable, HERE / "any_on_ranks.py", world, folder / "cache"]
        said = run_ranks(world, command, folder, PYTHONPATH=str(HERE.parent))
        return [json.loads(next(line for line in one.splitlines() if line.startswith("{"))) for one in said]

    (alone,), both = ranks(1), ranks(2)
    assert both[0]["listed"] == both[1]["listed"] == alone["listed"]
    assert both[0]["read"] == both[1]["read"] == alone["read"]
    assert both[0]["changing"] == both[1]["changing"]
    assert sum(one["reads"] for one in both) < alone["reads"] + 120  # ranks share the pass
    assert sorted(both[0]["given"] + both[1]["given"]) == sorted(alone["given"])
    assert sorted(both[0]["validated"] + both[1]["validated"])
    assert [one["samplers"] for one in both] == [["DistributedSampler", 10, 2]] * 2
    assert alone["samplers"] == ["RandomSampler", 10, 3]
