"""Process shutdown: within seconds of a signal, and soon after the parent process ends.

Python runs signal handlers between two steps of the main thread, so a process that is blocked in a collective never
reaches its handler. A separate thread therefore also receives the signal from the operating system and ends the process
if the main thread has not done so in time. Files are written atomically, so this does no harm.
"""

import hashlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType, TracebackType
from typing import Any, NoReturn

__all__ = ["GRACE", "Stopping", "end_with_parent", "first_to_say", "is_lost_connection", "rank_and_world", "stoppable"]

GRACE = 10.0
"""Seconds that the main thread has to exit by itself after a signal."""

_LOOK = 1.0  # seconds between two checks of the parent process

_listening = False


class Stopping:
    """Signal that asked this process to end.

    Attributes:
        signal: Signal number; None without a signal.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def status(self) -> int:
        """Exit status of the signal: 130 after Ctrl-C, 143 after SIGTERM; 0 without a signal."""
        return 0 if self.signal is None else 128 + self.signal


@contextmanager
def stoppable() -> Iterator[Stopping]:
    """Ends this process within :data:`GRACE` seconds of Ctrl-C or SIGTERM; a rank of a job also ends with its parent.

    Does nothing on Windows, or outside the main thread, where Python does not allow signal handlers.
    """
    global _listening
    stopping = Stopping()
    if os.name == "nt" or threading.current_thread() is not threading.main_thread():
        yield stopping
        return

    def stop(number: int, _: FrameType | None) -> NoReturn:
        stopping.signal = number
        # loading processes of this session end too, and torch's handler would raise that they were killed
        signal.signal(signal.SIGCHLD, lambda *_: None)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    ended, (read, write) = threading.Event(), os.pipe()
    os.set_blocking(write, False)
    handlers = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    _listening = True
    threading.Thread(target=_end_in_time, args=(read, ended), daemon=True, name="signals").start()
    if "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE") or 1) > 1:
        end_with_parent()
    try:
        yield stopping
    finally:
        ended.set()
        _listening = False
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(write)  # closing the pipe ends the thread


def end_with_parent(parent: int | None = None) -> None:
    """Ends this process soon after its parent has ended; a thread checks the parent at intervals.

    Args:
        parent: Process ID of the parent, which may have ended already; None for the current parent.
    """
    started_by = os.getppid() if parent is None else parent

    def look() -> None:
        while os.getppid() == started_by:
            time.sleep(_LOOK)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=look, daemon=True, name="parent").start()


def rank_and_world() -> tuple[int, int]:
    """Returns the rank of this process and the number of processes; 0 and 1 without a process group."""
    dist = _process_group()
    return (0, 1) if dist is None else (dist.get_rank(), dist.get_world_size())


def first_to_say(message: str) -> bool:
    """Returns whether this process is the first of its job to report a message, so that each is reported once.

    Before the process group exists, the first process of each machine reports.
    """
    dist = _process_group()
    if dist is None:
        return os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        store = dist.distributed_c10d._get_default_store()
        said = store.add(f"said {hashlib.sha256(message.encode(errors='replace')).hexdigest()}", 1)
    except RuntimeError:  # the process that holds the store has ended
        return True
    return bool(said == 1)


def is_lost_connection(error: BaseException) -> bool:
    """Returns whether an error indicates that another process of the job has ended."""
    if _process_group() is None or not isinstance(error, RuntimeError):
        return False
    return any(f"Connection {what} by peer" in str(error) for what in ("closed", "reset"))


def _process_group() -> Any:
    """Returns ``torch.distributed`` if this process is in a group, without importing torch to find out."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist is not None and dist.is_available() and dist.is_initialized() else None


def _end_in_time(read: int, ended: threading.Event) -> None:
    """Waits for a signal, gives the main thread its time, and ends the process."""
    with os.fdopen(read, "rb", buffering=0) as signals:
        while number := signals.read(1):
            if number[0] in (signal.SIGINT, signal.SIGTERM) and not ended.wait(GRACE):
                os._exit(128 + number[0])


def _in_a_fork() -> None:
    """Ignores signals in forked processes, such as image loaders, because they share the pipe with their parent.

    What they say of a parent that ends while it takes a batch is left out.
    """
    global _listening
    if _listening:
        _listening = False
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.excepthook = partial(_show_unless_unread, sys.excepthook)


def _show_unless_unread(
    show: Callable[[type[BaseException], BaseException, TracebackType | None], object],
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType | None,
) -> None:
    """Shows an error, unless it is that a reader went away while a thread handed it the memory of a batch."""
    where = "" if trace is None else trace.tb_frame.f_globals.get("__name__")
    if where != "multiprocessing.resource_sharer" or not isinstance(error, (ConnectionError, EOFError)):
        show(kind, error, trace)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_fork)
