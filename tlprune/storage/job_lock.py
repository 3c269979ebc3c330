"""A lock that prevents two jobs from computing the same part of the cache at once."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tlprune.distributed import broadcast_from_rank0
from tlprune.storage.cache import locked

__all__ = ["one_job_at_a_time"]


@contextmanager
def one_job_at_a_time(path: Path) -> Iterator[None]:
    """Prevents other jobs from computing the same result at once. Every rank must enter this context.

    Args:
        path: File or folder of the cache that is computed.

    Raises:
        InputError: The cache cannot be written.
    """
    with ExitStack() as held:
        broadcast_from_rank0(lambda: held.enter_context(locked(path)))
        yield
