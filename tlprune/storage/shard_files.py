"""Files of one tensor with its checksum, such as shards of a cache: written atomically, and not read when damaged."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tlprune.storage.atomic import atomic_path
from tlprune.storage.fingerprint import digest_tensors

__all__ = ["DAMAGED", "read_shard", "write_shard"]

DAMAGED = (SafetensorError, OSError, ValueError)
"""What :func:`read_shard` raises for a file that is damaged or missing."""


def write_shard(path: Path, name: str, tensor: Tensor) -> None:
    """Writes a tensor and its checksum.

    Args:
        path: File to write.
        name: Name of the tensor in the file.
        tensor: Any contiguous tensor on the CPU.

    Raises:
        InputError: The file cannot be written.
    """
    with atomic_path(path) as temporary:
        save_file({name: tensor}, temporary, {"checksum": digest_tensors({name: tensor})})


def read_shard(path: Path, name: str, check: bool = True) -> Tensor:
    """Reads a tensor.

    Args:
        path: File of :func:`write_shard`.
        name: Name of the tensor in the file.
        check: Whether the content is compared with its checksum.

    Raises:
        SafetensorError: The file is no safetensors file, or ends early.
        OSError: The file cannot be read.
        ValueError: The content is not what its checksum says.
    """
    with safe_open(path, framework="pt") as file:
        tensor: Tensor = file.get_tensor(name)
        checksum = (file.metadata() or {}).get("checksum")
    if check and checksum != digest_tensors({name: tensor}):
        raise ValueError(f"{path}: damaged")
    return tensor
