"""Executors that run work in processes of this machine, or as jobs of a cluster."""

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
from tlprune.progress import hide_progress

__all__ = ["Executor", "Job", "cluster", "count_images", "default_workers", "is_counted", "local_processes"]

_LOOK = 5.0
"""Seconds between two checks of cluster jobs."""

_TICK = 0.25
"""Seconds between two reports of image counts."""


class Job(Protocol):
    """Submitted piece of work."""

    def done(self) -> bool:
        """Returns whether the job has ended."""
        ...

    def result(self) -> Any:
        """Returns the job's result, or raises its exception."""
        ...


class Executor(Protocol):
    """Runs functions in other processes.

    Attributes:
        slots: Number of jobs to submit at a time, so that they run in the listed order; None to submit all ready jobs.
    """

    slots: int | None

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Job:
        """Submits a function call."""
        ...

    def wait(self, jobs: list[Job]) -> None:
        """Waits until at least one of the jobs has ended."""
        ...


def default_workers(small: bool = False) -> int:
    """Returns the number of parallel processes: one per GPU, otherwise one per core, at most eight.

    Args:
        small: Whether trainings are so small that one does not fill a GPU: each GPU then has one per core, at most
            eight, that share it.
    """
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if devices and not small:
        return devices
    places = max(devices, 1)
    return places * max(1, min(_cores() // places, 8))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Counts:
    """Image counts of the processes; each process has its own slot, so none waits for another."""

    def __init__(self, processes: int) -> None:
        self.shared = RawArray("q", processes)
        self._seen = 0

    def since(self) -> int:
        """Returns the number of images since the last call."""
        before, self._seen = self._seen, sum(self.shared)
        return self._seen - before


_own: list[tuple[Any, int]] = []
"""In a pool process: the counts of all processes, and the slot of this one."""


def count_images(count: int) -> None:
    """Adds to the number of images this process has trained on; has no effect outside of a pool."""
    for shared, place in _own:
        shared[place] += count


def is_counted() -> bool:
    """Returns whether this process belongs to a pool whose progress is shown."""
    return bool(_own)


class _Local:
    def __init__(
        self, pool: ProcessPoolExecutor, workers: int, counts: _Counts, on_images: Callable[[int], None] | None
    ) -> None:
        self.pool = pool
        self.slots = workers + 1  # one queued job keeps every process busy
        self.counts = counts
        self.on_images = on_images

    def submit(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        with _interrupts_held():  # the first call starts the processes
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
    """Starts processes with one thread or one GPU each; all end if an error or a signal leaves the block.

    More processes than GPUs share them. A small network does not fill two cores, so two single-thread processes are
    faster than one with two threads. All processes have the same share of the machine, so their timings are comparable.
    A single process keeps all threads.

    Args:
        workers: Number of processes.
        on_images: Function called several times per second with the number of images trained on since the last call.
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
        except BaseException:  # a signal, or the caller has stopped: running jobs would take long
            for child in active_children():
                if child not in others:
                    child.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Holds Ctrl-C back; processes that start inherit this, and say nothing of one that comes while they import."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(parent: int, workers: int, places: "SimpleQueue[int]", shared: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent handles it
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    hide_progress()
    place = places.get()
    if shared is not None:
        _own.append((shared, place))
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(place % devices)
    if workers > max(devices, 1):
        torch.set_num_threads(max(1, _cores() // workers) if devices else 1)
    end_with_parent(parent)


class _Cluster:
    slots: int | None = None

    def __init__(self, jobs: Any) -> None:
        self.jobs = jobs
        self.sent: list[Any] = []

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Job:
        job: Job = self.jobs.submit(function, *arguments)
        self.sent.append(job)
        return job

    def wait(self, jobs: list[Job]) -> None:
        while not any(job.done() for job in jobs):
            time.sleep(_LOOK)


def cluster(folder: Path, options: Mapping[str, Any]) -> AbstractContextManager[Executor]:
    """Creates an executor that submits each piece of work as a separate SLURM job through submitit.

    Running jobs are cancelled when the sweep is stopped.

    Args:
        folder: Folder for job logs, visible from all machines.
        options: Options of submitit, such as ``timeout_min``, ``slurm_partition``, ``gpus_per_node``; ``cluster``
            selects an executor other than ``slurm``.

    Raises:
        InputError: If submitit is not installed, or rejects an option.
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
    except Exception as error:  # submitit can raise any exception, for example RuntimeError without SLURM
        raise InputError(f"`slurm`: {' '.join(str(error).split())}") from error
    return _cancelling(_Cluster(executor))


@contextmanager
def _cancelling(executor: _Cluster) -> Iterator[Executor]:
    try:
        yield executor
    except BaseException:
        for job in executor.sent:
            if not job.done():
                job.cancel()
        raise
