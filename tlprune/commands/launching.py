"""Process launching: by Lightning Fabric, or by an external launcher such as torchrun or SLURM.

A job of one process on CPUs needs no launching. It has no Fabric then, as importing Lightning takes as long as torch.
"""

import logging
import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from jsonargparse import ArgumentParser, Namespace

from tlprune.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = ["Job", "add_processes", "finish", "launch"]

_LAUNCHERS = (
    *("GROUP_RANK", "LOCAL_RANK", "LSB_", "LT_", "MASTER_", "NODE_RANK", "OMPI_", "PMI", "RANK", "SLURM_"),
    *("TORCHELASTIC_", "WORLD_SIZE"),
)
"""Beginnings of the environment variables by which launchers tell a process its place."""


class Job(Protocol):
    """Processes that run a command together, as one of them sees them; a Fabric is one."""

    @property
    def device(self) -> "torch.device":
        """Device of this process."""
        ...

    @property
    def is_global_zero(self) -> bool:
        """Whether this process writes files and prints."""
        ...

    def barrier(self) -> None:
        """Waits for all processes."""
        ...


class _OneProcess:
    """Job of one process on the CPUs."""

    is_global_zero = True

    @property
    def device(self) -> "torch.device":
        import torch

        return torch.device("cpu")

    def barrier(self) -> None:
        """Does nothing."""


def add_processes(parser: ArgumentParser) -> None:
    """Adds the options for accelerator, devices and nodes, named as in Lightning's Trainer."""
    add = parser.add_argument
    add("--accelerator", type=str, default="auto", help="'cpu', 'gpu', 'auto', as for a Trainer")
    add("--devices", type=int | str, default="auto", help="processes on this machine (default: one for each GPU)")
    add("--num_nodes", type=int, default=1, help="machines; torchrun says it by itself")


def launch(given: Namespace) -> Job:
    """Starts the other processes of the job, unless a launcher has done so, and connects all of them.

    Args:
        given: Parsed options of :func:`add_processes`.

    Returns:
        The job, as this process sees it.

    Raises:
        InputError: If the devices do not exist, or there are too few.
    """
    if _needs_one_process(given):
        return _OneProcess()
    from lightning.fabric import Fabric
    from torch import distributed

    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)  # silences the startup messages of each process
    devices, nodes = given.devices, given.num_nodes
    if distributed.is_available() and distributed.is_torchelastic_launched():
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // here
        devices = here if devices == "auto" else devices
    try:
        fabric = Fabric(accelerator=given.accelerator, devices=devices, num_nodes=nodes)
        fabric.launch()
    except (ValueError, TypeError, RuntimeError) as error:
        named = f"--accelerator {given.accelerator} --devices {given.devices} --num_nodes {given.num_nodes}"
        raise InputError(f"{named}: {' '.join(str(error).split())}") from error
    return fabric


def finish(job: Job) -> None:
    """Waits until every process is done, so that none is reported as lost."""
    from torch import distributed

    job.barrier()
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _needs_one_process(given: Namespace) -> bool:
    """Returns whether Fabric would be a single process on the CPUs: without a launcher, and without an accelerator."""
    if given.accelerator not in ("auto", "cpu") or given.devices not in ("auto", 1) or given.num_nodes != 1:
        return False
    if any(name.startswith(_LAUNCHERS) for name in os.environ):
        return False
    if given.accelerator == "cpu":
        return True
    import torch

    return not (torch.cuda.is_available() or torch.backends.mps.is_available() or find_spec("torch_xla"))
