"""Where work runs: in processes of this machine, or as jobs of a cluster."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import active_children, get_context
from multiprocessing.queues import SimpleQueue
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any, Protocol

import torch

from tlprune.errors import InputError
from tlprune.processes import end_with_parent

__all__ = ["Executor", "Job", "cluster", "count_images", "default_workers", "is_counted", "local_processes"]

_LOOK = 5.0
"""Seconds between two looks at the jobs of a cluster."""

_TICK = 0.25
"""Seconds between two reports of images."""


class Job(Protocol):
    """A piece of work under way."""

    def done(self) -> bool:
        """Whether it has ended."""
        ...

    def result(self) -> Any:
        """What came out; raises what it raised."""
        ...


class Executor(Protocol):
    """Runs functions elsewhere.

    Attributes:
        slots: Pieces of work that it is given at a time, so that they run in the order in which they are listed; None
            for all that can begin.
    """

    slots: int | None

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


class _Counts:
    """Images that each process has trained on; each writes to a place of its own, so no process waits for another."""

    def __init__(self, processes: int) -> None:
        self.shared = RawArray("q", processes)
        self._seen = 0

    def since(self) -> int:
        """Images since the last call."""
        before, self._seen = self._seen, sum(self.shared)
        return self._seen - before


_own: list[tuple[Any, int]] = []
"""In a process of a pool: the counts of all, and the place of this one."""


def count_images(count: int) -> None:
    """Says that this process has trained on so many more images; without effect outside of a pool."""
    for shared, place in _own:
        shared[place] += count


def is_counted() -> bool:
    """Whether this process belongs to a pool whose progress is shown."""
    return bool(_own)


class _Local:
    def __init__(
        self, pool: ProcessPoolExecutor, workers: int, counts: _Counts, on_images: Callable[[int], None] | None
    ) -> None:
        self.pool = pool
        self.slots = workers + 1  # one waits, so that no process does
        self.counts = counts
        self.on_images = on_images

    def submit(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        return self.pool.submit(function, *arguments)

    def wait(self, jobs: list["Future[Any]"]) -> None:
        timeout = None if self.on_images is None else _TICK
        while not wait(jobs, timeout, return_when=FIRST_COMPLETED).done:
            self._report()
        self._report()

    def _report(self) -> None:
        if self.on_images is not None:
            self.on_images(self.counts.since())


@contextmanager
def local_processes(workers: int, on_images: Callable[[int], None] | None = None) -> Iterator[Executor]:
    """Processes of one thread each, or of one GPU each; all end when the block is left by an error or a signal.

    A small network does not fill two cores, so two processes at a time are faster than one of two threads; each has
    the same share of the machine, so their seconds can be compared. A single process keeps all threads.

    Args:
        workers: How many.
        on_images: Called several times a second with the number of images that were trained on since the last call.
    """
    others = active_children()
    context = get_context("spawn")
    places: SimpleQueue[int] = context.SimpleQueue()
    for place in range(workers):
        places.put(place)
    counts = _Counts(workers)
    shared = None if on_images is None else counts.shared
    with ProcessPoolExecutor(workers, context, _begin, (os.getpid(), workers, places, shared)) as pool:
        try:
            yield _Local(pool, workers, counts, on_images)  # type: ignore[misc]  # futures are jobs
        except BaseException:  # a signal, or nobody wants the rest: what runs now would take long
            for child in active_children():
                if child not in others:
                    child.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(parent: int, workers: int, places: "SimpleQueue[int]", shared: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent sees to it
    place = places.get()
    if shared is not None:
        _own.append((shared, place))
    if torch.cuda.is_available():
        os.environ["CUDA_VISIBLE_DEVICES"] = str(place % torch.cuda.device_count())
    elif workers > 1:
        torch.set_num_threads(1)
    end_with_parent(parent)


class _Cluster:
    def __init__(self, jobs: Any) -> None:
        self.jobs = jobs
        self.look = _LOOK
        self.slots: int | None = None

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
