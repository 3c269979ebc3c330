"""What the stages of a sweep depend on."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tlprune import DownstreamDataModule, PrunedSourceDataModule, Selection, select
from tlprune.data.shots import few_of_each_class
from tlprune.data.target_splits import open_target
from tlprune.errors import InputError
from tlprune.experiments import frozen_transfers, sweep_cells, sweep_stages
from tlprune.experiments.linear_probe import LinearProbe
from tlprune.experiments.recipes import Recipe
from tlprune.experiments.results import NONE, Group
from tlprune.experiments.sweep import shared_pretraining
from tlprune.experiments.sweep_cells import cell_if_finished, make_selection, run_cell
from tlprune.experiments.sweep_plan import Spec, Sweep, methods_of
from tlprune.preprocessing import Preprocessing


@pytest.fixture
def sweep(class_folder, tmp_path):
    """A sweep of random pruning; every call forgets what a process knows of the images, as a new command does."""
    class_folder("source", {"ant": 6, "bee": 6})
    for part in ("train", "val", "test"):
        class_folder(f"target/{part}", {"x": 3, "y": 3})

    def plan(data=None, model=None, trainer=None, **top):
        for known in ("_source", "_marks_of_source", "_target_mark"):
            getattr(sweep_stages, known).cache_clear()
        options = {"image_size": 32, **(data or {})}
        recipe = {
            "model": {"class_path": "LitClassifier", "init_args": {"backbone": "resnet8_w8", **(model or {})}},
            "data": {"class_path": "PrunedSourceDataModule", "init_args": options},
            "trainer": trainer or {"max_epochs": 1},
            **top,
        }
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        pretrain = Recipe.read(str(tmp_path / "recipe.yaml"), "PrunedSourceDataModule")
        probe = {"class_path": "TransferModule", "init_args": {"mode": "probe"}}
        transfer = Recipe("made up", {**recipe, "model": probe, "data": {"class_path": "DownstreamDataModule"}})
        methods = methods_of({"random": "RandomSelector"}, controls=False)
        source, target = str(tmp_path / "source"), str(tmp_path / "target")
        common = (methods, (0.5,), ("epochs",), 1, "grid", tmp_path / "out")
        return Sweep("s", source, (target,), None, pretrain, {"probe": transfer}, *common)

    return plan


def keys(sweep, weights):
    """Folders of the four stages."""
    [target] = sweep.targets
    pretrained = sweep_stages.pretrain_stage(sweep, Group(target, NONE), 0)[0]
    some = [
        pretrained,
        sweep_stages.selection_stage(sweep, "random", target, 0),
        sweep_stages.transfer_stage(sweep, target, 0, "probe", weights),
        sweep_stages.surrogate_stage(sweep, sweep.pretrain.path, 0, target),
    ]
    return [one.folder.name for one in some]


def rewritten(file, other):
    """Other bytes in a file of the same size and time of change."""
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[-20] ^= 1 + other
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("verify", [False, True])
def test_with_verify_content_an_image_that_was_rewritten_in_place_makes_other_stages(verify, sweep, tmp_path):
    weights = tmp_path / "weights"
    weights.write_bytes(b"weights")
    options = {"verify_content": verify}
    before = keys(sweep(options), weights)
    assert keys(sweep(options), weights) == before
    rewritten(next((tmp_path / "source" / "bee").iterdir()), 0)
    after = keys(sweep(options), weights)
    assert [one != other for one, other in zip(before, after, strict=True)] == [verify, verify, False, verify]
    rewritten(next((tmp_path / "target" / "val").glob("*/*")), 1)
    last = keys(sweep(options), weights)
    assert [one != other for one, other in zip(after, last, strict=True)] == [False, False, verify, False]


def test_a_target_whose_images_batches_include_is_in_the_keys_of_all_that_is_trained_on_them(sweep, tmp_path):
    weights = tmp_path / "weights"
    weights.write_bytes(b"weights")
    plain, options = {"augment": "simclr", "batch_size": 4}, {"include_target": 0.5}
    before = keys(sweep(plain), weights), keys(sweep(plain | options), weights)
    assert [one != other for one, other in zip(*before, strict=True)] == [True, False, False, True]
    seeds = keys(sweep(plain | options | {"selection": {"target_seed": 1}}), weights)
    assert (seeds[0] != before[1][0], seeds[3] != before[1][3]) == (True, True)
    next((tmp_path / "target" / "train").glob("*/*")).unlink()
    after = keys(sweep(plain), weights), keys(sweep(plain | options), weights)
    for number, expected in enumerate(([False, False, True, False], [True, False, True, True])):
        assert [one != other for one, other in zip(before[number], after[number], strict=True)] == expected


@pytest.mark.parametrize("verify", [False, True])
def test_the_journal_of_fit_notices_too(verify, class_folder):
    source = class_folder("source", {"ant": 6, "bee": 6})
    voters = class_folder("target/train", {"x": 6, "y": 6})
    class_folder("target/val", {"x": 6, "y": 6})
    options = {"source": str(source), "target": str(voters.parent), "verify_content": verify}

    def depends_on():
        return PrunedSourceDataModule(**options, prune_ratio=0.5).depends_on()

    for folder in (source, voters):
        before = depends_on()
        assert before == depends_on()
        rewritten(next(folder.glob("*/*")), 2)
        assert (depends_on() != before) == verify


def test_selecting_in_a_sweep_verifies_too(sweep, tmp_path, monkeypatch):
    seen = []

    def noted(*given, **options):
        seen.append(options["verify_content"])
        return select(*given, **options)

    monkeypatch.setattr(sweep_cells, "select", noted)
    planned = sweep({"verify_content": True})
    make_selection(planned, "random", planned.targets[0], 0)
    assert seen == [True]
    assert Selection.load(next(Path(planned.output / "selections").iterdir())).num_units == 2


def test_everything_in_a_config_that_decides_is_in_the_key(sweep, tmp_path):
    def key(**changes):
        planned = sweep(**changes)
        return sweep_stages.pretrain_stage(planned, Group(planned.targets[0], NONE), 0)[0].folder.name

    plain = key()
    assert key() == plain
    adam = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.1}}
    faster = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.2}}
    assert len({plain, key(optimizer=adam), key(optimizer=faster), key(lr_scheduler=adam)}) == 4
    weights = tmp_path / "start.pt"
    weights.write_bytes(b"one")
    started = key(model={"weights": str(weights)})
    weights.write_bytes(b"two")
    assert key(model={"weights": str(weights)}) != started


def test_what_a_sweep_could_not_honour_is_refused(sweep):
    with pytest.raises(InputError, match="`ckpt_path`: a sweep finds the state of its runs itself"):
        sweep(ckpt_path="some.ckpt")
    with pytest.raises(InputError, match="`max_time` alone never ends a run"):
        sweep(trainer={"max_time": "00:00:01:00"})
    sweep(trainer={"max_time": "00:00:01:00", "max_epochs": 1})


@pytest.mark.filterwarnings("ignore:.*no training step was taken")
def test_a_training_that_ran_out_of_time_is_no_finished_stage(sweep):
    trainer = {"max_epochs": 2, "max_time": "00:00:00:00", "accelerator": "cpu"}
    planned = sweep({"augment": "none"}, trainer=trainer)
    spec = Spec(Group(planned.targets[0], NONE), 0)
    with pytest.raises(InputError, match=r"its time is up after 0 steps, .*give the same command again to go on"):
        run_cell(planned, spec)
    assert cell_if_finished(planned, spec) is None
    enough = sweep({"augment": "none"}, trainer=trainer | {"max_time": "00:01:00:00"})
    assert run_cell(enough, spec).pretraining_seconds > 0


@pytest.mark.parametrize(
    ("data", "recorded", "size"),
    [
        ({}, None, 32),
        ({}, 16, None),
        ({"eval_size": 48}, None, 48),
        ({"selection": {"image_size": 20}}, 16, 20),
    ],
)
def test_images_that_vote_have_the_size_that_a_surrogate_records(sweep, surrogate_file, data, recorded, size):
    weights = surrogate_file(2, preprocessing=Preprocessing(image_size=recorded))
    assert sweep_stages.voting_size(sweep(data), str(weights)) == size
    assert sweep_stages.voting_size(sweep(data), None) == (20 if "selection" in data else data.get("eval_size", 32))


@pytest.mark.parametrize("apart", [False, True])
def test_random_pruning_is_drawn_for_each_target_where_wanted(apart, sweep, class_folder):
    for part in ("train", "val", "test"):
        class_folder(f"other/{part}", {"x": 3, "y": 3})
    planned = sweep()
    [target] = planned.targets
    other = str(Path(target).with_name("other"))
    chance = {"class_path": "RandomSelector", "init_args": {"unit": "sample"}}
    methods = methods_of({"random": chance}, controls=False)
    both = replace(planned, targets=(target, other), methods=methods, draw_per_target=apart)
    folders, rankings = set(), set()
    for name in both.targets:
        for seed in range(2):
            make_selection(both, "random", name, seed)
            stage, kept = sweep_stages.pretrain_stage(both, Group(name, "random", 0.5), seed)
            folders.add(stage.folder.name)
            rankings.add(tuple(Selection.load(kept.selection).ranking.tolist()))
    assert len(folders) == len(rankings) == (4 if apart else 2)
    assert shared_pretraining(both, Group(other, "random", 0.5)) is not apart
    fixed = methods_of({"random": chance | {"init_args": {"unit": "sample", "seed": 7}}}, controls=False)
    assert shared_pretraining(replace(both, methods=fixed), Group(other, "random", 0.5))


def transfer_keys(planned, weights, seeds=(0, 1)):
    """Names of the stages of each mode, by repetition."""
    [target] = planned.targets
    stages = {
        mode: [sweep_stages.transfer_stage(planned, target, seed, mode, weights) for seed in seeds]
        for mode in planned.transfers
    }
    return {mode: [one.folder.name.rpartition("-")[2] for one in of] for mode, of in stages.items()}


def test_few_labels_are_in_the_key_of_a_transfer_and_all_labels_are_not(sweep, tmp_path):
    weights = tmp_path / "weights"
    weights.write_bytes(b"weights")
    planned = sweep()
    recipe = planned.transfers["probe"]
    [target] = planned.targets
    for all_labels in (recipe, recipe.with_shots(None), LinearProbe()):
        stage = sweep_stages.transfer_stage(replace(planned, transfers={"p": all_labels}), target, 0, "p", weights)
        assert "shots" not in json.dumps(stage.depends)
    modes = {"p": recipe, "p_1": recipe.with_shots(1), "p_2": recipe.with_shots(2)}
    modes |= {"l": LinearProbe(), "l_1": LinearProbe(shots=1), "l_2": LinearProbe(shots=2)}
    before = transfer_keys(replace(planned, transfers=modes), weights)
    assert len({key for keys in before.values() for key in keys}) == 2 * len(modes)
    # every image of the target counts: which one a repetition draws is not known to the key
    for file in sorted((tmp_path / "target" / "train").glob("*/*")):
        os.utime(file, ns=(1, 1))
        after = transfer_keys(replace(sweep(), transfers=modes), weights)
        assert all(after[mode][seed] != before[mode][seed] for mode in modes for seed in (0, 1))
        before = after


def test_all_modes_of_a_repetition_train_on_the_same_few_images(sweep, monkeypatch):
    planned = sweep({"augment": "none"}, trainer={"max_epochs": 1, "accelerator": "cpu", "logger": False})
    [target] = planned.targets
    transfers = {"p_2": planned.transfers["probe"].with_shots(2), "l_2": LinearProbe(shots=2)}
    planned = replace(planned, transfers=transfers)
    seen = {"p_2": [], "l_2": []}
    extract, setup = frozen_transfers.extract_features, DownstreamDataModule.setup

    def extracted(backbone, images):
        seen["l_2"].append(images.images.paths)
        return extract(backbone, images)

    def set_up(data, stage=None):
        if stage == "fit":
            seen["p_2"].append(data.opened.train.paths)
        setup(data, stage)

    monkeypatch.setattr(frozen_transfers, "extract_features", extracted)
    monkeypatch.setattr(DownstreamDataModule, "setup", set_up)
    whole = open_target(target).train
    by_hand = [whole.subset(few_of_each_class(whole.labels, 2, seed)).paths for seed in range(2)]
    for seed in range(2):
        run_cell(planned, Spec(Group(target, NONE), seed))
    assert seen["p_2"] == seen["l_2"][::3] == by_hand  # then validation and test images
    assert by_hand[0] != by_hand[1]
    assert {len(paths) for paths in seen["l_2"][1::3]} == {6}


def test_a_transform_decides_what_is_trained_and_not_which_images_there_are(sweep):
    turned, flipped = (
        sweep({"transform": {"class_path": f"torchvision.transforms.v2.Random{kind}Flip", "init_args": {"p": 1.0}}})
        for kind in ("Vertical", "Horizontal")
    )
    assert turned.pretrain.decides != flipped.pretrain.decides
    images = [sweep_stages.source_of(plan).transformed_source for plan in (turned, flipped, sweep())]
    assert len({one.fingerprint() for one in images}) == 1
