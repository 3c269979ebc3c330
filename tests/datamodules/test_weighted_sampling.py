"""Sampling by the weights of a Selection, in place of a cut."""

import re
from dataclasses import replace

import pytest
import torch
from lightning.pytorch import seed_everything

from tlprune import (
    ImportanceResampling,
    LabelMapping,
    LitClassifier,
    PrunedSourceDataModule,
    RandomSelector,
    ReverseSelector,
    Selection,
)
from tlprune.errors import InputError
from tlprune.selection.importance_resampling import log_importance
from tlprune.selection.sampling_weights import log_odds


@pytest.fixture
def weighted(coloured, target, surrogate_file):
    """Twelve colours by the soft votes of a surrogate that knows nothing, drawn by their weights."""

    def make(strength=1.0, unit="sample", **options):
        selector = ImportanceResampling(LabelMapping(votes="hard"), strength=strength, unit=unit)
        given = {"selector": selector, "surrogate": str(surrogate_file(12)), "sampling": "weighted"}
        given |= {"augment": "none", "batch_size": 8, "val_share": 0.25}
        return PrunedSourceDataModule(coloured(12, 8), target, **given | options)

    return make


def labels_of(data, epochs):
    return torch.cat([labels for _ in range(epochs) for _, labels in data.train_dataloader()])


def test_an_epoch_is_as_long_as_without_pruning_and_nothing_is_left_out(weighted, coloured):
    data = weighted()
    assert data.num_classes == 12
    data.setup()
    whole = PrunedSourceDataModule(coloured(12, 8), augment="none", batch_size=8, val_share=0.25)
    whole.setup()
    assert len(data.train_dataloader()) == len(whole.train_dataloader()) == 9
    assert (data.images_kept, data.num_classes, data.classes) == (72, 12, whole.classes)
    assert len(data.val_dataloader().dataset) == len(whole.val_dataloader().dataset) == 24
    assert data.selection.method == "importance_resampling"


@pytest.mark.parametrize("unit", ["sample", "same"])
def test_classes_are_drawn_as_often_as_votes_over_sizes_say(weighted, unit):
    """9,000 draws of images of twelve classes: chi-square of 11 degrees of freedom."""
    data = weighted(strength=0.5, unit=unit)
    seed_everything(0, verbose=False)
    data.setup()
    votes = LabelMapping(votes="hard")
    by_class = PrunedSourceDataModule(
        data.source, data.targets, votes, surrogate=data.surrogates, keep_units=12, batch_size=8, val_share=0.25
    )
    by_class.setup()
    weights = log_importance(by_class.selection.votes, by_class.selection.unit_sizes, 1.0)
    sizes = torch.bincount(data.source_images.labels[data._split()[1]], minlength=12)
    shares = sizes * (0.5 * weights).exp()
    expected = 9000 * shares / shares.sum()
    counts = labels_of(data, 125).bincount(minlength=12)
    assert counts.sum() == 9000
    assert float(((counts - expected) ** 2 / expected).sum()) < 38  # one in 10,000 for a fair draw
    assert float(((counts - 750) ** 2 / 750).sum()) > 200


def test_without_strength_it_is_an_even_draw_with_replacement(weighted):
    data = weighted(strength=0.0)
    seed_everything(0, verbose=False)
    data.setup()
    counts = labels_of(data, 125).bincount(minlength=12)
    expected = torch.bincount(data.source_images.labels[data._split()[1]], minlength=12) * 125
    assert float(((counts - expected) ** 2 / expected).sum()) < 38


def test_a_saved_selection_draws_the_same(weighted, tmp_path):
    first = weighted()
    first.setup()
    first.selection.save(tmp_path / "s.safetensors")
    again = weighted(selector=None, surrogate=None, selection=str(tmp_path / "s.safetensors"))
    again.check_inputs()
    again.setup()
    assert torch.equal(first._log_odds, again._log_odds)
    seed_everything(0, verbose=False)
    assert torch.equal(labels_of(first, 1), labels_of(again, 1))


def test_a_module_of_all_classes_trains_on_it(weighted, trainer):
    module = LitClassifier("resnet8_w8")
    run = trainer()
    run.fit(module, datamodule=weighted())
    assert module.head.out_features == 12
    assert run.global_step == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"prune_ratio": 0.5},
            "`sampling: weighted` keeps the whole source, but a budget was given: `prune_ratio` 0.5",
        ),
        ({"selector": LabelMapping()}, "LabelMapping has none; ImportanceResampling has, and makes them of another"),
        ({"selector": None}, "LabelMapping has none"),
        ({"selector": ReverseSelector(ImportanceResampling())}, "ReverseSelector has none"),
        ({"sampling": "by weight"}, "`sampling` must be 'once' or 'weighted', got 'by weight'"),
    ],
)
def test_what_has_no_weights_is_refused_by_name(weighted, options, message):
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        weighted(**options)
    assert "\n" not in str(raised.value)


def test_a_given_selection_without_weights_is_refused_before_anything_is_made(coloured, weighted, tmp_path):
    data = PrunedSourceDataModule(coloured(12, 8), selector=RandomSelector(), keep_units=3)
    data.setup()
    data.selection.save(tmp_path / "random.safetensors")
    for given in (data.selection, str(tmp_path / "random.safetensors")):
        with pytest.raises(InputError, match="a selection by random has none; ImportanceResampling has"):
            weighted(selection=given).check_inputs()
    with pytest.raises(InputError, match="give a budget such as `prune_ratio` beside it, or `sampling: weighted`"):
        weighted(selection=data.selection, sampling="once")


def made(scores=(0.0, 1.0), unit_kind="class", strength=2.0, **fields):
    units = len(scores)
    return Selection(
        method="importance_resampling",
        unit_names=tuple("ab"[:units]) if unit_kind == "class" else (),
        ranking=torch.arange(units),
        votes=torch.zeros(units),
        scores=torch.tensor(scores, dtype=torch.float64),
        unit_of_sample=torch.tensor([0, 1, 1]) if unit_kind == "class" else torch.arange(units),
        assignments=torch.empty(0),
        config={"options": {"strength": strength}},
        unit_kind=unit_kind,
        **fields,
    )


def test_odds_are_strength_times_the_score_of_an_images_unit():
    assert log_odds(made()).tolist() == [0.0, 2.0, 2.0]
    assert log_odds(made(unit_kind="sample")).tolist() == [0.0, 2.0]


@pytest.mark.parametrize("strength", [None, -1.0, float("inf"), "2", True])
def test_a_selection_of_others_whose_strength_is_no_number_is_refused(strength):
    with pytest.raises(InputError, match=r"has no `strength` of at least 0, got "):
        log_odds(made(strength=strength))
    with pytest.raises(InputError, match="has no `strength`"):
        log_odds(replace(made(), config={}))


def test_weights_beyond_floats_and_of_classes_for_several_targets_are_refused():
    with pytest.raises(InputError, match="makes weights that are not finite"):
        log_odds(made(scores=(0.0, 1e300), strength=1e300))
    with pytest.raises(InputError, match="2 targets have no common weights of a class; select single images"):
        log_odds(made(target_votes=torch.ones(2, 2)))
    assert log_odds(made(unit_kind="sample", target_votes=torch.ones(2, 2))).tolist() == [0.0, 2.0]
