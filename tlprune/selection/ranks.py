"""The processes of one job: which one this is, and what only the first of them does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

__all__ = ["barrier", "from_every_rank", "from_first_rank", "rank_and_world"]

Result = TypeVar("Result")

_LONG = timedelta(days=7)
"""Others wait this long for the first rank: clustering a large source outlasts the usual time-out."""


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many there are; 0 and 1 without a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def from_first_rank(compute: Callable[[], Result]) -> Result:
    """Computes on rank 0 alone, however long that takes, and gives the result to all.

    Args:
        compute: Gives something that can be pickled; called on rank 0 only.

    Raises:
        Exception: What ``compute`` raised, on every rank.
    """
    rank, world = rank_and_world()
    if world == 1:
        return compute()
    shared: list[Any] = [None, None]
    if rank == 0:
        try:
            shared[0] = compute()
        except Exception as error:
            shared[1] = error
    with _patient_group() as group:
        dist.broadcast_object_list(shared, group=group)
    if shared[1] is not None:
        raise shared[1]
    result: Result = shared[0]
    return result


def from_every_rank(own: Result) -> list[Result]:
    """Gives what every rank has to all, however long the slowest takes.

    Args:
        own: Something that can be pickled.

    Returns:
        One entry for each rank, in their order.
    """
    world = rank_and_world()[1]
    if world == 1:
        return [own]
    found: list[Any] = [None] * world
    with _patient_group() as group:
        dist.all_gather_object(found, own, group=group)
    return found


def barrier() -> None:
    """Waits for all ranks, however long they take."""
    if rank_and_world()[1] > 1:
        with _patient_group() as group:
            dist.barrier(group=group)


@contextmanager
def _patient_group() -> Iterator[Any]:
    """A group of all ranks with a long time-out; gloo, whatever the device."""
    group = dist.new_group(timeout=_LONG, backend="gloo")
    try:
        yield group
    finally:
        dist.destroy_process_group(group)
