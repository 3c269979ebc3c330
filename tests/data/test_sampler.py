import pytest
import torch
from torch.utils.data import TensorDataset

from tlprune.data.sampler import EpochCounter, EpochSampler, Reproducible


def epoch(sampler, number):
    sampler.set_epoch(number)
    return list(sampler)


def shared(count, batch_size, world, seed=1):
    samplers = [EpochSampler(count, batch_size, seed) for _ in range(world)]
    for rank, sampler in enumerate(samplers):
        sampler.share(rank, world)
    return samplers


@pytest.mark.parametrize("count", [1, 2, 7, 12, 13])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_every_epoch_without_overlap(count, world):
    samplers = shared(count, 2, world)
    for number in range(3):
        shares = [epoch(sampler, number) for sampler in samplers]
        assert [len(share) for share in shares] == [len(sampler) for sampler in samplers]
        assert len({len(share) for share in shares}) == 1
        seen = [code % count for share in shares for code in share]
        assert {code // count for share in shares for code in share} == {number}
        if count >= world:
            assert len(set(seen)) == len(seen) > count - world
        else:
            assert set(seen) == set(range(count))


def test_order_follows_from_seed_and_epoch_alone():
    first, second = (EpochSampler(50, 4, seed=1) for _ in range(2))
    assert epoch(first, 3) == epoch(second, 3)
    torch.manual_seed(9)
    assert epoch(first, 3) == epoch(second, 3)
    orders = {tuple(code % 50 for code in epoch(first, number)) for number in range(4)}
    orders.add(tuple(code % 50 for code in epoch(EpochSampler(50, 4, seed=2), 0)))
    assert len(orders) == 5


@pytest.mark.parametrize("skip", [0, 4, 20, 48])
@pytest.mark.parametrize("world", [1, 2])
def test_an_epoch_that_goes_on_is_the_rest_of_it_and_the_next_is_whole(skip, world):
    for whole, later in zip(shared(50 * world, 4, world), shared(50 * world, 4, world), strict=True):
        epochs = [epoch(whole, number) for number in (2, 3)]
        later.skip = skip
        assert [epoch(later, number) for number in (2, 3)] == [epochs[0][skip:], epochs[1]]


def test_a_loop_that_numbers_no_epochs_gets_another_order_each_time():
    sampler = EpochSampler(50, 4, seed=1)
    found = [list(sampler) for _ in range(3)]
    assert [codes[0] // 50 for codes in found] == [0, 1, 2]
    assert len({tuple(code % 50 for code in codes) for codes in found}) == 3
    assert found == [epoch(EpochSampler(50, 4, seed=1), number) for number in range(3)]
    assert epoch(sampler, 7)[0] // 50 == 7
    assert next(iter(sampler)) // 50 == 8


def test_loaders_of_one_counter_never_give_an_epoch_twice():
    epochs = EpochCounter()
    numbers = [next(iter(EpochSampler(50, 4, 1, epochs))) // 50 for _ in range(3)]
    assert numbers == [0, 1, 2]


@pytest.mark.parametrize("seed", [0, 67280421310721, 2**64 - 1])
def test_every_seed_that_torch_may_have_will_do(seed):
    assert sorted(epoch(EpochSampler(5, 2, seed), 3)) == [15, 16, 17, 18, 19]
    Reproducible(TensorDatasetOfOne(), seed).__getitems__([0])


class TensorDatasetOfOne:
    def __len__(self):
        return 1

    def __getitems__(self, indices):
        return torch.rand(len(indices)), torch.tensor(indices)


def test_what_varies_follows_from_seed_epoch_and_batch():
    class Noisy(TensorDataset):
        def __getitems__(self, indices):
            return torch.rand(len(indices)), torch.tensor(indices)

    noisy = Noisy(torch.zeros(10))
    first = Reproducible(noisy, seed=1)
    state = torch.get_rng_state()
    values, indices = first.__getitems__([3, 14])
    assert indices.tolist() == [3, 4]
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert torch.equal(first.__getitems__([3, 14])[0], values)
    assert not torch.equal(first.__getitems__([13, 24])[0], values)
    assert not torch.equal(Reproducible(noisy, seed=2).__getitems__([3, 14])[0], values)


ODDS = torch.tensor([3.0, 0.0, -1.0, 0.0, -60.0, 1.5, 0.5, 2.0])


def drawn(log_odds, epochs, seed=1):
    sampler = EpochSampler(len(log_odds), 4, seed, log_odds=log_odds)
    return torch.tensor([code % len(log_odds) for number in range(epochs) for code in epoch(sampler, number)])


def chi_square(counts, expected):
    return float(((counts - expected) ** 2 / expected).sum())


def test_weighted_draws_are_as_frequent_as_those_of_torch():
    """20,000 draws of eight images, of which one has odds of nothing: chi-square of 6 degrees of freedom."""
    counts = drawn(ODDS, 2500).bincount(minlength=8)
    weights = ODDS.double().exp()
    assert counts[4] == 0
    there = weights > 1e-9
    expected = (20_000 * weights / weights.sum())[there]
    assert chi_square(counts[there], expected) < 28  # one in 10,000 for a fair draw
    theirs = torch.multinomial(weights, 20_000, replacement=True, generator=torch.Generator().manual_seed(3))
    theirs = theirs.bincount(minlength=8)
    pooled = (counts + theirs)[there] / 2
    assert chi_square(counts[there], pooled) + chi_square(theirs[there], pooled) < 28
    assert chi_square(counts[there], torch.full((7,), 20_000 / 7)) > 1000  # and they are not even


def test_without_strength_a_weighted_draw_is_even_and_with_replacement():
    counts = drawn(torch.zeros(8), 2500).bincount(minlength=8)
    assert chi_square(counts, torch.full((8,), 2500.0)) < 30  # 7 degrees of freedom
    assert any(len(set(drawn(torch.zeros(8), 1, seed).tolist())) < 8 for seed in range(3))


def test_a_weighted_draw_is_independent_of_how_large_weights_are():
    assert torch.equal(drawn(ODDS, 5), drawn(ODDS + 1000, 5))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_a_weighted_draw_which_goes_on_anywhere(world):
    samplers = [EpochSampler(50, 4, 1, log_odds=torch.arange(50) / 10) for _ in range(world)]
    whole = epoch(EpochSampler(50, 4, 1, log_odds=torch.arange(50) / 10), 2)
    for rank, sampler in enumerate(samplers):
        sampler.share(rank, world)
        own = epoch(sampler, 2)
        assert own == whole[: 50 // world * world][rank::world]
        sampler.skip = 8
        assert epoch(sampler, 2) == own[8:]
    assert epoch(samplers[0], 3) != epoch(samplers[0], 2)
