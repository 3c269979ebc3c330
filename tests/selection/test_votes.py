import json
import random
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import forked
from forked import run_ranks
from tlprune.errors import InputError
from tlprune.selection.fixed_batches import BATCH_SIZE
from tlprune.selection.votes import cast_votes, count_votes


class Lookup(nn.Module):
    """Gives the logits that its image names in its first pixel."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.batches = []

    def forward(self, images):
        self.batches.append(len(images))
        return self.logits[images[:, 0, 0, 0].long()]


class Numbered:
    """Images that hold their own number."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return torch.full((3, 1, 1), float(index)), 0

    def name(self, index):
        return f"number {index}"


def slow_ballots(logits):
    """The vote in plain Python: for each image the first unit with the largest logit."""
    return [row.index(max(row)) for row in logits.tolist()]


@pytest.mark.parametrize("case", range(200))
def test_votes_equal_plain_python(case):
    rng = random.Random(case)
    images, units = rng.choice([1, 2, 63, 64, 65, 130]), rng.choice([1, 2, 9])
    generator = torch.Generator().manual_seed(case)
    logits = torch.randint(
        -3, 4, (images, units), generator=generator
    ).float()  # whole numbers, so that ties are common
    assignments = cast_votes(Lookup(logits), Numbered(images), units)
    expected = slow_ballots(logits)
    assert assignments.units.tolist() == expected
    assert count_votes(assignments.units, units).tolist() == [expected.count(unit) for unit in range(units)]
    torch.testing.assert_close(assignments.scores, logits.double().softmax(1).sum(0), atol=1e-6, rtol=0)


def test_every_batch_has_the_same_shape():
    surrogate = Lookup(torch.zeros(70, 2))
    cast_votes(surrogate, Numbered(70), 2)
    assert surrogate.batches == [BATCH_SIZE, BATCH_SIZE]


def test_surrogate_is_in_eval_mode_and_left_as_it_was():
    seen = []

    class Watching(Lookup):
        def forward(self, images):
            seen.append((self.training, torch.is_grad_enabled()))
            return super().forward(images)

    surrogate = Watching(torch.zeros(3, 2)).train()
    cast_votes(surrogate, Numbered(3), 2)
    assert seen == [(False, False)]
    assert surrogate.training


def test_nan_names_the_samples():
    logits = torch.zeros(80, 3)
    logits[71, 1] = float("nan")
    with pytest.raises(InputError, match="NaN or infinity for target images number 71"):
        cast_votes(Lookup(logits), Numbered(80), 3)


def test_other_width_names_both_numbers():
    with pytest.raises(InputError, match="the surrogate has 5 outputs, the source has 7 units"):
        cast_votes(Lookup(torch.zeros(2, 5)), Numbered(2), 7)


def test_empty_target_is_refused():
    with pytest.raises(InputError, match="no training images"):
        cast_votes(Lookup(torch.zeros(1, 2)), Numbered(0), 2)


def test_any_number_of_ranks_gives_the_same_ballots(tmp_path):
    script = [sys.executable, Path(__file__).with_name("vote_on_ranks.py"), tmp_path, 1, 2, 10, 11, 100]
    assert forked.run(script).returncode == 0
    for world in (2, 3):
        run_ranks(world, script, tmp_path)
    found = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert sorted(found) == ["1-0", "2-0", "2-1", "3-0", "3-1", "3-2"]
    for rank, assignments in found.items():
        assert assignments == found["1-0"], rank
    for images, assignments in found["1-0"].items():
        assert len(assignments["units"]) == int(images)
        assert sum(assignments["scores"]) == pytest.approx(int(images))
