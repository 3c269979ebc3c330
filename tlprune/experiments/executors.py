"""Where work runs: in processes of this machine, or as jobs of a cluster."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import active_children, get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, Protocol

import torch

from tlprune.errors import InputError
from tlprune.processes import end_with_parent

__all__ = ["Executor", "Job", "cluster", "default_workers", "local_pool", "local_processes"]

_LOOK = 5.0
"""Seconds between two looks at the jobs of a cluster."""


class Job(Protocol):
    """A piece of work under way."""

    def done(self) -> bool:
        """Whether it has ended."""
        ...

    def result(self) -> Any:
        """What came out; raises what it raised."""
        ...


class Executor(Protocol):
    """Runs functions elsewhere."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Job:
        """Begins a piece of work."""
        ...

    def wait(self, jobs: list[Job]) -> None:
        """Returns when at least one of some jobs has ended."""
        ...


def default_workers() -> int:
    """Processes at a time: one for each GPU, else one for each core, eight at the most."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


@contextmanager
def local_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of one thread each, or of one GPU each; all end when the block is left by an error or a signal.

    A small network does not fill two cores, so two processes at a time are faster than one of two threads; each has
    the same share of the machine, so their seconds can be compared. A single process keeps all threads.

    Args:
        workers: How many.
    """
    others = active_children()
    context = get_context("spawn")
    gpus: SimpleQueue[int] | None = None
    if torch.cuda.is_available():
        gpus = context.SimpleQueue()
        for worker in range(workers):
            gpus.put(worker % torch.cuda.device_count())
    with ProcessPoolExecutor(workers, context, _begin, (os.getpid(), workers, gpus)) as pool:
        try:
            yield pool
        except BaseException:  # a signal, or nobody wants the rest: what runs now would take long
            for child in active_children():
                if child not in others:
                    child.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(parent: int, workers: int, gpus: "SimpleQueue[int] | None") -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent sees to it
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpus.get())
    elif workers > 1:
        torch.set_num_threads(1)
    end_with_parent(parent)


class _Local:
    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self.pool = pool

    def submit(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        return self.pool.submit(function, *arguments)

    def wait(self, jobs: list["Future[Any]"]) -> None:
        wait(jobs, return_when=FIRST_COMPLETED)


@contextmanager
def local_processes(workers: int) -> Iterator[Executor]:
    """An executor of :func:`local_pool`.

    Args:
        workers: How many.
    """
    with local_pool(workers) as pool:
        yield _Local(pool)  # type: ignore[misc]  # futures are jobs


class _Cluster:
    def __init__(self, jobs: Any) -> None:
        self.jobs = jobs
        self.look = _LOOK

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Job:
        job: Job = self.jobs.submit(function, *arguments)
        return job

    def wait(self, jobs: list[Job]) -> None:
        while not any(job.done() for job in jobs):
            time.sleep(self.look)


def cluster(folder: Path, options: Mapping[str, Any]) -> AbstractContextManager[Executor]:
    """An executor that sends each piece of work to SLURM as a job of its own, by submitit.

    Jobs that run when the sweep is stopped are cancelled.

    Args:
        folder: Where jobs leave their logs; all machines must see it.
        options: Of submitit, such as ``timeout_min``, ``slurm_partition``, ``gpus_per_node``; ``cluster`` names another
            of its executors than ``slurm``.

    Raises:
        InputError: submitit is not installed, or refuses an option.
    """
    try:
        import submitit
    except ImportError as error:
        raise InputError("a sweep on a cluster needs submitit: pip install 'tlprune[slurm]'") from error
    given = dict(options)
    name = given.pop("cluster", "slurm")
    try:
        executor = submitit.AutoExecutor(folder=str(folder), cluster=name)
        executor.update_parameters(**given)
    except Exception as error:  # submitit raises anything, RuntimeError where there is no SLURM
        raise InputError(f"`slurm`: {' '.join(str(error).split())}") from error
    return _cancelling(_Cluster(executor))


@contextmanager
def _cancelling(executor: _Cluster) -> Iterator[Executor]:
    sent: list[Any] = []
    submit = executor.submit

    def remembered(function: Callable[..., Any], *arguments: Any) -> Job:
        sent.append(submit(function, *arguments))
        job: Job = sent[-1]
        return job

    executor.submit = remembered  # type: ignore[method-assign]
    try:
        yield executor
    except BaseException:
        for job in sent:
            if not job.done():
                job.cancel()
        raise
