"""The processes of one job: which one this is, what only the first of them does, and what all do or none."""

import atexit
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch.distributed as dist

from tlprune.processes import rank_and_world

__all__ = [
    "barrier",
    "broadcast_from_rank0",
    "gather_from_ranks",
    "raise_on_all_ranks",
    "rank_and_world",
]

Result = TypeVar("Result")

_LONG = timedelta(days=7)
"""Others wait this long for the first rank: clustering a large source outlasts the usual time-out."""

_patient: tuple[Any, Any] | None = None
"""The process group, and the group of the same ranks with that time-out."""


def broadcast_from_rank0(compute: Callable[[], Result]) -> Result:
    """Computes on rank 0 alone, however long that takes, and gives the result to all.

    Args:
        compute: Gives something that can be pickled; called on rank 0 only.

    Raises:
        Exception: What ``compute`` raised, on every rank.
    """
    rank, world = rank_and_world()
    if world == 1:
        return compute()
    group = _patient_group()  # before the long work: who is gone by then is noticed by its closed connection
    shared: list[Any] = [None, None]
    if rank == 0:
        try:
            shared[0] = compute()
        except Exception as error:
            shared[1] = error
    dist.broadcast_object_list(shared, group=group)
    if shared[1] is not None:
        raise shared[1]
    result: Result = shared[0]
    return result


def gather_from_ranks(own: Result) -> list[Result]:
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
    dist.all_gather_object(found, own, group=_patient_group())
    return found


def raise_on_all_ranks(compute: Callable[[], Result]) -> Result:
    """Computes on every rank; what one of them raises all raise, so that none waits for one that is gone.

    Args:
        compute: The share of this rank, without a collective in it.

    Returns:
        What ``compute`` returned on this rank.

    Raises:
        Exception: What ``compute`` raised on the first of the ranks where it did.
    """
    if rank_and_world()[1] == 1:
        return compute()
    result: Result | None = None
    failure: Exception | None = None
    try:
        result = compute()
    except Exception as error:
        failure = error
    for one in gather_from_ranks(failure):
        if one is not None:
            raise one
    return cast(Result, result)


def barrier() -> None:
    """Waits for all ranks, however long they take."""
    if rank_and_world()[1] > 1:
        dist.barrier(group=_patient_group())


def _patient_group() -> Any:
    """A group of all ranks with a long time-out; gloo, whatever the device."""
    global _patient
    if _patient is None or _patient[0] is not dist.group.WORLD:
        _patient = dist.group.WORLD, dist.new_group(timeout=_LONG, backend="gloo")
    return _patient[1]


@atexit.register
def _let_go() -> None:
    """Ends the threads of that group while there is an interpreter: one that needs it later would abort the process."""
    global _patient
    if _patient is None:
        return
    if dist.is_initialized() and _patient[0] is dist.group.WORLD:
        dist.destroy_process_group(_patient[1])
    _patient = None
