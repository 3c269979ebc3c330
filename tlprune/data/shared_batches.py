"""Batches in shared memory that a loading process uses again, once the training process has dropped them.

Memory that is shared for the first time costs a page fault for every 4 kB, which for a batch took a third of the time
of decoding it. So a loading process keeps what it has shared. A byte in front of each batch says whether the training
process has it. That byte is cleared when the last tensor on the memory is gone, be it the batch, a slice, or an array
made from it.
"""

import math
import os
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from tlprune.errors import InputError

__all__ = ["as_list", "room"]

_FRONT = 64
"""Bytes in front of a batch: the first says whether the batch is in use, the others keep the batch aligned."""

_LEAST_BYTES = 2**16
"""Size in bytes from which a tensor is worth shared memory; labels are sent by value, which takes less time."""

_SPARE = 4
"""Number of unused memories that a loading process keeps."""


class _Memory:
    """Memory that this loading process shares.

    Args:
        size: Bytes of the largest batch that has room.
    """

    def __init__(self, size: int) -> None:
        shared = torch.UntypedStorage._new_shared(_FRONT + size)  # type: ignore[no-untyped-call]
        self.size = size
        self.bytes = torch.empty(0, dtype=torch.uint8).set_(shared)
        self.array = self.bytes.numpy()
        self.array[0] = 0
        self._batch: weakref.ref[Any] | None = None

    @property
    def is_sent(self) -> bool:
        """Whether a batch is on its way to the training process, or there."""
        return bool(self.array[0])

    @property
    def is_free(self) -> bool:
        """Whether no process has a tensor on this memory."""
        return not self.is_sent and (self._batch is None or self._batch() is None)

    def tensor(self, size: int) -> Tensor:
        """Returns the first ``size`` bytes of the batch, ``[size]`` uint8."""
        batch = self.array[_FRONT : _FRONT + size]
        self._batch = weakref.ref(batch)  # every tensor on this memory refers to the array
        return torch.from_numpy(batch)


_MEMORIES: dict[int, _Memory] = {}
"""What this loading process shares, by the address of the batch."""


def room(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Allocates a batch, which :func:`as_list` sends without a copy.

    Returns:
        A contiguous tensor of any content; in a loading process it lies in shared memory.

    Raises:
        InputError: There is not enough shared memory.
    """
    size = math.prod(shape) * dtype.itemsize
    if get_worker_info() is None or size < _LEAST_BYTES:
        return torch.empty(tuple(shape), dtype=dtype)
    return _free_memory(size).tensor(size).view(dtype).view(*shape)


def as_list(batch: Any) -> Any:
    """Collates a batch that a Dataset returns whole: a list, as torch's own collation makes.

    In a loading process, tensors that do not lie in the memory of :func:`room` are copied there.

    Args:
        batch: Tensors, or lists of tensors.

    Raises:
        InputError: There is not enough shared memory.
    """
    return list(batch) if get_worker_info() is None else [_sendable(part) for part in batch]


def _sendable(part: Any) -> Any:
    """Replaces the tensors of a batch, in lists too, by what can be sent in their place."""
    if isinstance(part, list | tuple):
        return [_sendable(each) for each in part]
    if not isinstance(part, Tensor):
        return part
    return _Labels(part) if part.dtype == torch.int64 and part.nbytes < _LEAST_BYTES else _Sent(part)


class _Labels:
    """A few numbers, which become a tensor again in the training process."""

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels

    def __reduce__(self) -> tuple[Any, ...]:
        return torch.from_numpy, (self.labels.numpy(),)


class _Sent:
    """A batch in shared memory, which becomes a tensor on the same memory in the training process."""

    def __init__(self, batch: Tensor) -> None:
        memory = _MEMORIES.get(batch.untyped_storage().data_ptr())
        if memory is None or memory.is_sent:  # is sent: two tensors on one memory would each clear its byte
            strides = torch.empty_like(batch, device="meta").stride()
            memory = _free_memory(batch.nbytes)
            batch = memory.tensor(batch.nbytes).view(batch.dtype).as_strided(batch.shape, strides).copy_(batch)
        self.batch, self.memory = batch, memory
        memory.array[0] = 1

    def __reduce__(self) -> tuple[Any, ...]:
        layout = (self.batch.shape, self.batch.stride(), self.batch.storage_offset())
        return _received, (self.memory.bytes, self.batch.dtype, *layout)


def _received(memory: Tensor, dtype: torch.dtype, *layout: Any) -> Tensor:
    """Returns the batch; with its last tensor, the memory is free."""
    batch = memory.numpy()[_FRONT:]
    # an array, as a tensor that arrives in inference mode may not be written to outside of it
    weakref.finalize(batch, _release, memory.numpy(), os.getpid()).atexit = False
    whole = len(batch) // dtype.itemsize * dtype.itemsize
    return torch.from_numpy(batch)[:whole].view(dtype).as_strided(*layout)


def _release(memory: np.ndarray, receiver: int) -> None:
    if os.getpid() == receiver:  # a process that was forked since then may drop the batch earlier
        memory[0] = 0


def _free_memory(size: int) -> _Memory:
    """Returns memory for a batch of ``size`` bytes; forgets the oldest free memories beyond :data:`_SPARE`.

    Raises:
        InputError: There is not enough shared memory.
    """
    free = [address for address, memory in _MEMORIES.items() if memory.is_free]
    fitting = next((address for address in free if size <= _MEMORIES[address].size <= 2 * size), None)
    for address in free[:-_SPARE]:
        if address != fitting:
            del _MEMORIES[address]
    if fitting is not None:
        return _MEMORIES[fitting]
    try:
        memory = _Memory(size)
    except RuntimeError:  # this is how torch says that there is no room
        for address in free:
            _MEMORIES.pop(address, None)
        memory = _last_memory(size)
    _MEMORIES[memory.bytes.data_ptr() + _FRONT] = memory
    return memory


def _last_memory(size: int) -> _Memory:
    """Returns memory, of which there is little.

    Raises:
        InputError: There is none.
    """
    try:
        return _Memory(size)
    except RuntimeError as error:
        raise InputError(
            f"a loading process cannot share a batch of {size / 1e6:.3g} MB with training: {error}. Lower "
            "`num_workers` or `batch_size`, or allow more shared memory: `docker run --shm-size`, the size of /dev/shm "
            "or `ulimit -n`"
        ) from error
