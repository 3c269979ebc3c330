import pytest
import torch
from torch.utils.data import TensorDataset

from tlprune.data.sampler import EpochSampler, Place, Reproducible


def epoch(sampler, number):
    sampler.set_epoch(number)
    return list(sampler)


@pytest.mark.parametrize("count", [1, 2, 7, 12, 13])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_every_epoch_without_overlap(count, world):
    samplers = [EpochSampler(count, 2, seed=5, place=Place(rank, world)) for rank in range(world)]
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
    first, second = (EpochSampler(50, 4, seed=1, place=Place()) for _ in range(2))
    assert epoch(first, 3) == epoch(second, 3)
    torch.manual_seed(9)
    assert epoch(first, 3) == epoch(second, 3)
    orders = {tuple(code % 50 for code in epoch(first, number)) for number in range(4)}
    orders.add(tuple(code % 50 for code in epoch(EpochSampler(50, 4, seed=2, place=Place()), 0)))
    assert len(orders) == 5


@pytest.mark.parametrize("done", [0, 1, 5, 11, 12, 13, 24, 29])
@pytest.mark.parametrize("world", [1, 2])
def test_a_run_that_goes_on_skips_what_it_has_seen_and_no_more(done, world):
    count = 50 * world  # twelve whole batches of four an epoch
    for rank in range(world):
        whole = EpochSampler(count, 4, seed=1, place=Place(rank, world))
        batches = [code for number in range(4) for code in epoch(whole, number)[:48]]
        later = EpochSampler(count, 4, seed=1, place=Place(rank, world, batches_done=done))
        assert len(later) == len(whole) == 50
        start = done // 12
        rest = [
            code
            for number in range(start, 4)
            for code in epoch(later, number)[: 48 - (done % 12 * 4 if number == start else 0)]
        ]
        assert rest == batches[done * 4 :]
        again = epoch(later, start)  # Lightning may begin an epoch's iterator twice
        assert again == epoch(later, start)


@pytest.mark.parametrize(("limit", "skipped"), [(5, 2), (0.5, 1), (1.0, 7), (100, 7)])
def test_a_limit_of_batches_makes_shorter_epochs(limit, skipped):
    sampler = EpochSampler(50, 4, seed=1, place=Place(batches_done=7, batches_limit=limit))
    assert sampler.behind == skipped * 4


@pytest.mark.parametrize("seed", [0, 67280421310721, 2**64 - 1])
def test_every_seed_that_torch_may_have_will_do(seed):
    assert sorted(epoch(EpochSampler(5, 2, seed, Place()), 3)) == [15, 16, 17, 18, 19]
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
