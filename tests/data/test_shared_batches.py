"""Memory that loading processes share: written again only when nobody has the batch, and kept in small number."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import multiprocessing
from torch.utils.data import DataLoader, Dataset

from tlprune.data import shared_batches
from tlprune.data.shared_batches import as_list, room
from tlprune.errors import InputError

LARGE, SMALL = (4, 3, 96, 96), (2, 3, 8, 8)


class Numbered(Dataset):
    """Batch ``n`` is full of ``n``; its labels say which memories the loading process shares."""

    def __init__(self, count, shape=LARGE, dtype=torch.uint8, kind="room"):
        self.count, self.shape, self.dtype, self.kind = count, shape, dtype, kind

    def __len__(self):
        return self.count

    def __getitems__(self, indices):
        number = indices[0]
        batch = torch.empty(self.shape, dtype=self.dtype) if self.kind == "copied" else room(self.shape, self.dtype)
        if self.kind == "fails" and number == 1:
            raise ValueError("a damaged image")
        batch.fill_(number)
        if self.kind == "by pixel":
            batch = batch.contiguous(memory_format=torch.channels_last)
        return [batch[:2], batch[2:]] if self.kind == "views" else batch, torch.tensor(shared(), dtype=torch.int64)


def shared():
    """Numbers of the files in memory that this process has open."""
    numbers = []
    for file in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # other threads open and close files
            if str(file.readlink()).startswith("/dev/shm/"):  # noqa: S108 - this is where shared memory lies
                numbers.append(file.stat().st_ino)
    return numbers


def loader(images, workers=1, **options):
    persistent = workers > 0
    return DataLoader(images, 1, num_workers=workers, collate_fn=as_list, persistent_workers=persistent, **options)


@pytest.mark.parametrize("shape", [LARGE, SMALL], ids=["large", "small"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["room", "copied", "by pixel"])
def test_batches_arrive_as_they_were_made(shape, dtype, kind):
    images = Numbered(5, shape, dtype, kind)
    for number, (batch, labels) in enumerate(loader(images, 2)):
        expected, _ = images.__getitems__([number])
        assert torch.equal(batch, expected)
        assert (batch.dtype, batch.stride()) == (expected.dtype, expected.stride())
        assert labels.dtype == torch.int64


def test_memory_is_used_again():
    seen = [set(labels.tolist()) for _, labels in loader(Numbered(60))]
    assert 1 <= len(set.union(*seen)) <= 6  # two on their way, one here, one in the making, two where one is late


def test_batches_that_arrive_in_inference_mode_are_dropped_outside_of_it():
    loading = iter(loader(Numbered(40)))
    seen = []
    for number in range(40):
        with torch.inference_mode(mode=number % 2 == 0):
            batch, labels = next(loading)
            assert (batch == number).all()
        seen.append(set(labels.tolist()))
    assert len(set.union(*seen)) <= 6


def test_batches_that_are_held_keep_their_values():
    """Held as a batch, as a slice, and as an array; every third batch."""
    held = []
    for number, (batch, _) in enumerate(loader(Numbered(60))):
        assert (batch == number).all()
        if number % 3 == 0:
            held.append((number, [batch, batch[1:, 0], batch.numpy()[::2]][number % 9 // 3]))
    assert len(held) == 20
    for number, part in held:
        assert (np.asarray(part) == number).all()


def test_memory_that_is_not_needed_is_given_back():
    """Of batches that were held for a while, and of another size."""

    class Growing(Numbered):
        def __getitems__(self, indices):
            self.shape = (4, 3, 96 + 96 * (indices[0] // 20), 96)
            return super().__getitems__(indices)

    loading = iter(loader(Growing(60)))
    held = [next(loading) for _ in range(15)]
    assert len(held[-1][1]) >= 15
    del held
    assert [len(labels) for _, labels in loading][-1] <= 9


def test_two_parts_of_one_memory_are_dropped_one_by_one():
    kept = []
    for number, ((first, second), _) in enumerate(loader(Numbered(12, kind="views"))):
        kept.append((number, second))
        del first
    assert all((part == number).all() for number, part in kept)


def test_an_epoch_that_is_left_early_leaves_no_memory_in_use():
    loading = loader(Numbered(30))
    for _ in range(12):
        next(iter(loading))
    assert max(len(labels) for _, labels in loading) <= 9


def test_a_forked_process_that_drops_a_batch_does_not_free_it():
    loading = iter(loader(Numbered(20)))
    batch, _ = next(loading)
    holder = [batch]
    child = multiprocessing.get_context("fork").Process(target=holder.clear)
    del batch
    child.start()
    child.join()
    assert child.exitcode == 0
    for number, (other, _) in enumerate(loading, start=1):
        assert (other == number).all()
    assert (holder[0] == 0).all()


def test_an_error_of_the_dataset_arrives():
    loading = iter(loader(Numbered(3, kind="fails")))
    next(loading)
    with pytest.raises(ValueError, match="a damaged image"):
        next(loading)


def test_memory_that_has_a_name_is_used_too():
    before = multiprocessing.get_sharing_strategy()
    multiprocessing.set_sharing_strategy("file_system")
    try:
        for number, (batch, _) in enumerate(loader(Numbered(12))):
            assert (batch == number).all()
    finally:
        multiprocessing.set_sharing_strategy(before)


@pytest.fixture
def scarce(monkeypatch):
    """Shared memory with room for five batches in each loading process."""

    class Scarce(shared_batches._Memory):
        def __init__(self, size):
            if len(shared_batches._MEMORIES) == 5:
                raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left (28)")
            super().__init__(size)

    monkeypatch.setattr(shared_batches, "_Memory", Scarce)


def test_memory_without_room_is_an_error_that_says_what_helps(scarce):
    expected = r"cannot share a batch of 0\.111 MB with training: .*No space left \(28\)\. Lower `num_workers` or"
    with pytest.raises(InputError, match="^a loading process " + expected):
        list(loader(Numbered(20)))


def test_spare_memory_makes_room_for_batches_of_another_size(scarce):
    class Growing(Numbered):
        def __getitems__(self, indices):
            self.shape = (4, 3, 96 + 288 * (indices[0] // 20), 96)
            return super().__getitems__(indices)

    for number, (batch, _) in enumerate(loader(Growing(40))):
        assert (batch == number).all()


def test_without_loading_processes_memory_is_private():
    (batch, _), *_ = loader(Numbered(2), workers=0)
    assert not batch.is_shared()
    assert (batch == 0).all()
