import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from forked import run_ranks
from tlprune import (
    EL2N,
    FeatureMapping,
    LitClassifier,
    Moderate,
    PrunedSourceDataModule,
    RandomSelector,
    ReverseSelector,
    Selection,
    SelectOptions,
)
from tlprune.cli import main
from tlprune.data.scanning import scan_class_folder
from tlprune.data.synthetic import synthetic_classes
from tlprune.errors import InputError
from tlprune.models.weights import save_classifier
from tlprune.preprocessing import Preprocessing


@pytest.fixture(scope="session")
def trained_surrogate(coloured, tmp_path_factory):
    """A surrogate that tells twelve colours apart, trained once."""
    seed_everything(0, verbose=False)
    data = PrunedSourceDataModule(coloured(12, 20), augment="none", batch_size=24, val_share=0.1)
    module = LitClassifier("resnet8_w8", optimizer=lambda parameters: torch.optim.Adam(parameters, 0.01))
    silent = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    Trainer(accelerator="cpu", devices=1, max_epochs=16, logger=False, **silent).fit(module, datamodule=data)
    path = tmp_path_factory.mktemp("surrogate") / "trained.safetensors"
    save_classifier(path, "resnet8_w8", module.backbone, module.head, list(data.classes))
    return path


class PlainModule(LightningModule):
    """Somebody else's module: it has never heard of tlprune."""

    def __init__(self, classes):
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, classes))

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return nn.functional.cross_entropy(self.network(images), labels)

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        self.log("right", (self.network(images).argmax(1) == labels).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.001)


class PlainDataModule(LightningDataModule):
    """Somebody else's DataModule."""

    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.randn(64, 3, 32, 32), torch.arange(64) % 5), batch_size=16)

    val_dataloader = train_dataloader


def test_keeps_what_the_target_votes_for(coloured, target, trained_surrogate):
    data = PrunedSourceDataModule(
        coloured(12, 20), target, surrogate=str(trained_surrogate), keep_units=4, batch_size=8
    )
    assert data.num_classes == 4
    data.setup()
    assert data.classes == ("colour00", "colour01", "colour02", "colour03")
    assert data.images_kept == 72  # 20 each, a tenth held out
    assert data.images_before_pruning == 216
    labels = torch.cat([labels for _, labels in data.train_dataloader()])
    assert set(labels.tolist()) == {0, 1, 2, 3}
    assert sum(len(labels) for _, labels in data.val_dataloader()) == 8


def test_somebody_elses_module_trains_with_one_changed_line(coloured, target, trained_surrogate, trainer):
    source = coloured(12, 20)
    data = PrunedSourceDataModule(source, target, surrogate=str(trained_surrogate), keep_units=4)  # the changed line
    fit = trainer(max_epochs=3)
    fit.fit(PlainModule(classes=4), datamodule=data)
    assert fit.callback_metrics["right"] > 0.5


def test_our_module_trains_on_somebody_elses_data(trainer):
    module = LitClassifier("resnet8_w8", num_classes=5)
    before = module.head.weight.clone()
    trainer().fit(module, datamodule=PlainDataModule())
    assert not torch.equal(module.head.weight, before)
    with pytest.raises(InputError, match="LitClassifier needs `num_classes`: the data does not say"):
        trainer().fit(LitClassifier("resnet8_w8"), datamodule=PlainDataModule())


def test_labels_keep_their_images_and_order(coloured):
    source = coloured(6, 10)
    data = PrunedSourceDataModule(
        source, selector=RandomSelector(1), keep_units=3, augment="none", batch_size=1, val_share=0.2
    )
    data.setup()
    assert list(data.classes) == sorted(data.classes)
    for images, labels in data.val_dataloader():
        colour = ((images[0] * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)).mean((1, 2))) * 255
        colour += torch.tensor([0.485, 0.456, 0.406]) * 255
        means = torch.stack([source.pixels[source.labels == c].float().mean((0, 2, 3)) for c in range(6)])
        nearest = int((means - colour).norm(dim=1).argmin())
        assert source.classes[nearest] == data.classes[int(labels)]


def test_whole_source_without_a_budget(coloured):
    data = PrunedSourceDataModule(coloured(5, 10))
    data.setup()
    assert data.selection is None
    assert (data.num_classes, data.images_kept) == (5, 45)


def test_ratio_zero_keeps_all(coloured):
    data = PrunedSourceDataModule(coloured(5, 10), selector=RandomSelector(), prune_ratio=0.0)
    data.setup()
    assert data.images_kept == 45


@pytest.mark.usefixtures("drawn_cached")
def test_embedded_source_is_the_default():
    data = PrunedSourceDataModule(selector=RandomSelector(), prune_ratio=0.97)
    assert data.num_classes == 3
    data.prepare_data()
    data.setup()
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (128, 3, 32, 32)
    assert set(data.classes) <= {drawn.name for drawn in synthetic_classes()}
    assert set(labels.tolist()) == {0, 1, 2}


def test_folder_and_memory_give_the_same(class_folder):
    root = class_folder("src", {"a": 6, "b": 5, "c": 4})
    common = {"selector": RandomSelector(2), "keep_units": 2, "image_size": 32, "augment": "none", "batch_size": 3}
    loaders = []
    for in_memory in (False, True):
        data = PrunedSourceDataModule(str(root), in_memory=in_memory, **common)
        data.setup()
        loaders.append([*data.val_dataloader(), data.train_dataloader().dataset[0]])
    for first, second in zip(*loaders, strict=True):
        assert torch.equal(first[0], second[0])


def test_selection_does_not_depend_on_how_images_are_loaded(coloured, target, trained_surrogate, tmp_path):
    digests = set()
    for number, options in enumerate(({"batch_size": 4}, {"batch_size": 64}, {"augment": "crop"}, {"num_workers": 1})):
        cache = str(tmp_path / f"cache{number}")
        data = PrunedSourceDataModule(
            coloured(12, 20), target, surrogate=str(trained_surrogate), keep_units=4, cache=cache, **options
        )
        data.setup()
        digests.add(data.selection.digest)
    assert len(digests) == 1


def test_selection_is_cached_and_a_damaged_cache_is_made_again(coloured, target, trained_surrogate, tmp_path):
    def selection():
        data = PrunedSourceDataModule(coloured(12, 20), target, surrogate=str(trained_surrogate), keep_units=4)
        data.setup()
        return data.selection

    first = selection()
    [file] = (tmp_path / "cache" / "selections").glob("*.safetensors")
    assert "cached" not in first.metadata
    assert selection().metadata == first.metadata | {"cached": str(file)}
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="damaged.*selecting again"):
        again = selection()
    assert again.digest == first.digest
    assert Selection.load(file).digest == first.digest


def test_selectors_of_other_packages_are_not_cached(coloured, tmp_path):
    class Theirs(RandomSelector):
        pass

    for selector, kept in ((Theirs(), 0), (ReverseSelector(Theirs()), 0), (RandomSelector(), 1)):
        data = PrunedSourceDataModule(coloured(5, 10), selector=selector, keep_units=2)
        data.setup()
        assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == kept


def test_saved_selection_is_used_and_must_fit(coloured, tmp_path):
    source = coloured(5, 10)
    data = PrunedSourceDataModule(source, selector=RandomSelector(3), keep_units=2)
    data.setup()
    data.selection.save(tmp_path / "s.safetensors")
    again = PrunedSourceDataModule(source, selection=str(tmp_path / "s.safetensors"), prune_ratio=0.6)
    again.setup()
    assert again.classes == data.classes
    other = PrunedSourceDataModule(coloured(5, 10, seed=9), selection=str(tmp_path / "s.safetensors"), keep_units=2)
    with pytest.raises(InputError, match="made for another source"):
        other.setup()


def test_surrogate_of_another_size_names_both_numbers(coloured, target, surrogate_file):
    data = PrunedSourceDataModule(coloured(12, 4), target, surrogate=str(surrogate_file(7)), keep_units=2)
    with pytest.raises(InputError, match="its head has 7 outputs, the source has 12 classes"):
        data.setup()


def test_surrogate_of_other_classes_names_one(coloured, target, surrogate_file):
    names = [f"colour{label:02}" for label in range(11)] + ["mauve"]
    data = PrunedSourceDataModule(coloured(12, 4), target, surrogate=str(surrogate_file(names)), keep_units=2)
    with pytest.raises(InputError, match="'mauve' where the source has 'colour11'"):
        data.setup()


def test_more_units_than_votes_warns_with_both_numbers(coloured, target, trained_surrogate):
    data = PrunedSourceDataModule(coloured(12, 20), target, surrogate=str(trained_surrogate), keep_units=10)
    with pytest.warns(UserWarning, match="10 units are kept, but only 4 have votes"):
        data.setup()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prune_ratio": 1.2}, r"`prune_ratio` must be in \[0, 1\), got 1.2"),
        ({"prune_ratio": 0.5, "keep_units": 3}, "exactly one of"),
        ({"target": "digit"}, "did you mean 'digits'"),
        ({"source": "/no/such/folder"}, "source /no/such/folder: no such folder"),
        ({"surrogate": "none.safetensors"}, "surrogate none.safetensors: no such file"),
        ({"selection": "none.safetensors", "keep_units": 1}, "selection none.safetensors: no such file"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"val_share": 1.0}, r"`val_share` must be in \[0, 1\), got 1.0"),
    ],
)
def test_bad_arguments_are_refused_at_once(options, message):
    with pytest.raises(InputError, match=message):
        PrunedSourceDataModule(**options)


@pytest.mark.parametrize(("missing", "message"), [("target", "needs `target`"), ("surrogate", "needs `surrogate`")])
def test_what_a_vote_needs_is_named(coloured, target, surrogate_file, missing, message):
    options = {"target": target, "surrogate": str(surrogate_file(12)), missing: None}
    with pytest.raises(InputError, match=f"LabelMapping {message}"):
        PrunedSourceDataModule(coloured(12, 4), keep_units=2, **options).setup()


def test_images_budget_is_known_only_after_setup(coloured):
    data = PrunedSourceDataModule(coloured(5, 10), selector=RandomSelector(), keep_images=20)
    with pytest.raises(InputError, match="known only after setup"):
        _ = data.num_classes
    data.setup()
    assert (data.num_classes, data.images_kept) == (2, 18)


def test_imagefolder_is_read_as_others_do(class_folder):
    data = PrunedSourceDataModule(str(class_folder("src", {"a": 10, "b": 10})), image_size=32)
    data.setup()
    assert data.source_images.classes == scan_class_folder(data.source_images.root).classes == ("a", "b")


def test_clusters_of_a_folder_without_labels(class_folder, target, surrogate_file):
    root = class_folder("src", {"all": 40})
    data = PrunedSourceDataModule(
        str(root / "all"),
        target,
        FeatureMapping(num_clusters=6),
        str(surrogate_file(3)),
        keep_units=2,
        image_size=32,
        augment="none",
        batch_size=4,
    )
    data.setup()
    kept = data.selection.keep(units=2)
    assert data.units_kept == 2
    assert data.images_kept + len(data.val_dataloader().dataset) == len(kept)
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (4, 3, 32, 32)
    assert labels.tolist() == [0, 0, 0, 0]
    with pytest.raises(InputError, match="the source has no labels, so it has no classes"):
        _ = data.num_classes
    assert data.classes == ()


def test_label_mapping_on_a_folder_without_labels_is_refused(class_folder, target, surrogate_file):
    root = class_folder("src", {"all": 8}) / "all"
    data = PrunedSourceDataModule(str(root), target, surrogate=str(surrogate_file(3)), keep_units=2)
    for check in (data.check_inputs, data.setup):
        with pytest.raises(InputError, match="LabelMapping needs a labelled source, and this one has no labels"):
            check()


def test_clusters_of_a_labelled_source_leave_labels_as_they_are(coloured, target, surrogate_file):
    source = coloured(6, 10)
    data = PrunedSourceDataModule(
        source, target, FeatureMapping(num_clusters=8), str(surrogate_file(3)), prune_ratio=0.5, batch_size=1
    )
    assert data.num_classes == 6  # known before setup
    data.setup()
    assert (data.num_classes, data.classes, data.units_kept) == (6, source.classes, 4)
    kept = data.selection.keep(units=4)
    assert data.images_kept < 54
    found = torch.cat([labels for _, labels in data.train_dataloader()]).bincount(minlength=6)
    assert (found <= source.labels[kept].bincount(minlength=6)).all()


@pytest.mark.parametrize("selector", [RandomSelector(unit="sample"), Moderate(), EL2N()])
def test_single_images_leave_the_validation_set_whole(coloured, surrogate_file, selector):
    data = PrunedSourceDataModule(
        coloured(4, 20), selector=selector, surrogate=[str(surrogate_file(4))], keep_images=30, val_share=0.25
    )
    assert data.num_classes == 4
    data.setup()
    assert data.units_kept == 30
    assert len(data.val_dataloader().dataset) == 20
    assert data.images_kept == len(set(data.selection.keep(images=30).tolist()) & set(data._split()[1].tolist()))


def test_controls_keep_as_many_images_as_the_method(coloured, target, trained_surrogate, tmp_path):
    unequal = coloured(12, 20).subset(torch.arange(7, 240))
    method = PrunedSourceDataModule(unequal, target, surrogate=str(trained_surrogate), prune_ratio=0.7)
    method.setup()
    method.selection.save(tmp_path / "s.safetensors")
    kept = len(method.selection.keep(ratio=0.7))
    assert kept == 73  # the first class has thirteen images
    like = {"images_like": str(tmp_path / "s.safetensors"), "prune_ratio": 0.7}
    single = PrunedSourceDataModule(unequal, selector=RandomSelector(unit="sample"), **like)
    single.setup()
    assert single.units_kept == kept
    by_class = PrunedSourceDataModule(unequal, selector=RandomSelector(), **like)
    by_class.setup()
    assert kept - 20 < int(by_class.selection.unit_sizes[by_class._kept_units].sum()) <= kept
    with pytest.raises(InputError, match="`images_like` needs a budget"):
        PrunedSourceDataModule(unequal, images_like=like["images_like"])
    other = PrunedSourceDataModule(coloured(12, 20), selector=RandomSelector(), **like)
    with pytest.raises(InputError, match="made for another source"):
        other.setup()


def test_several_surrogates_are_averaged_where_that_makes_sense(coloured, target, surrogate_file):
    surrogates = [str(surrogate_file(4, "one.safetensors")), str(surrogate_file(4, "two.safetensors"))]
    data = PrunedSourceDataModule(coloured(4, 20), selector=EL2N(), surrogate=surrogates, keep_images=30)
    data.setup()
    assert data.selection.metadata["surrogates"] == surrogates
    again = PrunedSourceDataModule(coloured(4, 20), selector=EL2N(), surrogate=surrogates, keep_images=30)
    again.setup()
    assert "cached" in again.selection.metadata
    one_too_many = PrunedSourceDataModule(coloured(4, 20), target, surrogate=surrogates, keep_units=2)
    with pytest.raises(InputError, match="LabelMapping needs one surrogate, got 2"):
        one_too_many.setup()


def test_several_targets_share_one_source(coloured, target, trained_surrogate):
    other = replace(target, train=coloured(12, 4, seed=5).subset(torch.arange(40, 48)), name="the last two")
    data = PrunedSourceDataModule(
        coloured(12, 20),
        [target, other],
        surrogate=str(trained_surrogate),
        selection=SelectOptions(combine="weighted_sum", target_weights=[3, 1]),
        vote_coverage=1.0,
    )
    data.setup()
    assert data.selection.metadata["targets"] == ["colours", "the last two"]
    assert data.classes == tuple(f"colour{label:02}" for label in (0, 1, 2, 3, 10, 11))
    assert data.selection.covered_by_target.shape == (2, 12)
    with pytest.raises(InputError, match="`target_weights` has 3 entries, there are 2 targets"):
        PrunedSourceDataModule(
            target=["digits", "photos"], selection=SelectOptions(combine="weighted_sum", target_weights=[1, 1, 1])
        )


def test_a_saved_selection_says_how_many_classes_any_budget_keeps(coloured, target, trained_surrogate, tmp_path):
    source = coloured(12, 20)
    data = PrunedSourceDataModule(source, target, surrogate=str(trained_surrogate), keep_units=4)
    data.setup()
    data.selection.save(tmp_path / "s.safetensors")
    again = PrunedSourceDataModule(source, selection=str(tmp_path / "s.safetensors"), vote_coverage=1.0)
    assert again.num_classes == 4  # before setup()


def test_validation_and_test_images_never_vote(coloured, target, trained_surrogate):
    digests = set()
    for change in ({}, {"val": coloured(4, 5, seed=8)}, {"test": coloured(4, 5, seed=9)}, {"test": None}):
        data = PrunedSourceDataModule(
            coloured(12, 20), replace(target, **change), surrogate=str(trained_surrogate), keep_units=4
        )
        data.setup()
        digests.add(data.selection.digest)
    assert len(digests) == 1


def test_selecting_does_not_change_what_training_draws(coloured, target, trained_surrogate):
    drawn = []
    for _ in range(2):  # the second time from the cache
        seed_everything(0, verbose=False)
        data = PrunedSourceDataModule(coloured(12, 20), target, surrogate=str(trained_surrogate), keep_units=4)
        data.setup()
        drawn.append(torch.rand(3))
    assert torch.equal(*drawn)


def test_two_processes_select_as_one_does(class_folder, surrogate_file, tmp_path):
    source = class_folder("source", {f"class{label}": 8 for label in range(6)})
    class_folder("target/train", {"cat": 40, "dog": 50})  # two batches of votes: each process casts one
    surrogate = surrogate_file(6)
    said = []
    for world in (1, 2):
        script = Path(__file__).with_name("fit_on_ranks.py")
        inputs = [source, tmp_path / "target", surrogate, tmp_path / f"cache-{world}"]
        for out in run_ranks(world, [sys.executable, script, world, *inputs], tmp_path):
            said += re.findall(r"rank \d: (\w+ \(.*?\))", out)
    assert len(said) == 3
    assert len(set(said)) == 1


@pytest.mark.filterwarnings("ignore:.* units are kept, but only")
def test_images_that_vote_or_validate_have_a_size_of_their_own(coloured, target, surrogate_file):
    data = PrunedSourceDataModule(
        coloured(6, 10),
        target=target,
        surrogate=str(surrogate_file(6)),
        keep_units=3,
        image_size=32,
        eval_size=48,
        batch_size=4,
    )
    data.setup()
    assert next(iter(data.train_dataloader()))[0].shape == (4, 3, 32, 32)
    assert next(iter(data.val_dataloader()))[0].shape[1:] == (3, 48, 48)
    assert data.selection.config["view"]["image_size"] == 48


def test_predict_gives_probabilities_of_the_validation_images_in_order(class_folder, tmp_path, monkeypatch):
    root = class_folder("src", {"cat": 10, "dog": 10, "emu": 10})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(
        "model: {class_path: tlprune.LitClassifier, init_args: {backbone: resnet8_w8}}\n"
        "data: {class_path: tlprune.PrunedSourceDataModule, init_args: {image_size: 32, val_share: 0.2}}\n"
        "trainer: {max_epochs: 1, accelerator: cpu, logger: false, enable_progress_bar: false, default_root_dir: out}\n"
    )
    arguments = ["--config=run.yaml", f"--data.source={root}", "--data.selector=RandomSelector", "--data.keep_units=2"]
    assert main(["fit", *arguments]) == 0
    (checkpoint,) = tmp_path.glob("out/**/*.ckpt")
    assert main(["predict", *arguments, f"--ckpt_path={checkpoint}"]) == 0
    data = PrunedSourceDataModule(str(root), selector=RandomSelector(), keep_units=2, image_size=32, val_share=0.2)
    module = LitClassifier.load_from_checkpoint(checkpoint, num_classes=2)
    silent = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    probabilities = torch.cat(Trainer(accelerator="cpu", devices=1, **silent).predict(module, datamodule=data))
    images = torch.cat([images for images, _ in data.val_dataloader()])
    assert probabilities.shape == (4, 2)
    torch.testing.assert_close(probabilities, module.eval()(images).softmax(1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("recorded", "wanted", "seen"), [(16, None, 16), (None, None, 24), (16, 20, 20)], ids=["own", "source", "given"]
)
def test_surrogates_see_images_of_the_size_that_they_record(coloured, target, surrogate_file, recorded, wanted, seen):
    names = [f"colour{label:02}" for label in range(6)]
    weights = surrogate_file(names, preprocessing=Preprocessing(image_size=recorded))
    options = SelectOptions(image_size=wanted)
    how = {"surrogate": str(weights), "keep_units": 1, "selection": options}
    data = PrunedSourceDataModule(coloured(6, 10), target, image_size=24, **how)
    data.setup()
    assert data.selection.config["view"]["image_size"] == seen
    assert next(iter(data.train_dataloader()))[0].shape[-1] == 24
