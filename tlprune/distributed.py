"""Collectives over the processes of one job: work on rank 0 only, gathering, and errors raised on all ranks."""

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
"""Time that other ranks wait for rank 0, since clustering a large source exceeds the usual time-out."""

_patient: tuple[Any, Any] | None = None
"""Default process group, and a group of the same ranks with this time-out."""


def broadcast_from_rank0(compute: Callable[[], Result]) -> Result:
    """Computes a result on rank 0 only, without a short time-out, and broadcasts it to all ranks.

    Args:
        compute: Function that returns a picklable object; called on rank 0 only.

    Raises:
        Exception: On every rank, the exception raised by ``compute``.
    """
    rank, world = rank_and_world()
    if world == 1:
        return compute()
    group = _patient_group()  # before the long work: a lost rank is noticed by its closed connection
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
    """Gathers a value from every rank on all ranks, without a short time-out.

    Args:
        own: Picklable object of this rank.

    Returns:
        One entry per rank, in rank order.
    """
    world = rank_and_world()[1]
    if world == 1:
        return [own]
    found: list[Any] = [None] * world
    dist.all_gather_object(found, own, group=_patient_group())
    return found


def raise_on_all_ranks(compute: Callable[[], Result]) -> Result:
    """Runs a function on every rank; an exception on one rank is raised on all, so that none waits for a lost rank.

    Args:
        compute: This rank's share of the work, without a collective in it.

    Returns:
        Result of ``compute`` on this rank.

    Raises:
        Exception: Exception raised by ``compute`` on the lowest rank that failed.
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
    """Waits for all ranks, without a short time-out."""
    if rank_and_world()[1] > 1:
        dist.barrier(group=_patient_group())


def _patient_group() -> Any:
    """Creates a group of all ranks with a long time-out; it uses gloo on every device."""
    global _patient
    if _patient is None or _patient[0] is not dist.group.WORLD:
        _patient = dist.group.WORLD, dist.new_group(timeout=_LONG, backend="gloo")
    return _patient[1]


@atexit.register
def _let_go() -> None:
    """Ends the group's threads before the interpreter exits; a thread that needs it later would abort the process."""
    global _patient
    if _patient is None:
        return
    if dist.is_initialized() and _patient[0] is dist.group.WORLD:
        dist.destroy_process_group(_patient[1])
    _patient = None
