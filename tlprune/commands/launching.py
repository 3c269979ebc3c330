"""Process launching: by Lightning Fabric, or by an external launcher such as torchrun or SLURM."""

import logging
import os
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from tlprune.errors import InputError

if TYPE_CHECKING:
    from lightning.fabric import Fabric

__all__ = ["add_processes", "finish", "launch"]


def add_processes(parser: ArgumentParser) -> None:
    """Adds the options for accelerator, devices and nodes, named as in Lightning's Trainer."""
    add = parser.add_argument
    add("--accelerator", type=str, default="auto", help="'cpu', 'gpu', 'auto', as for a Trainer")
    add("--devices", type=int | str, default="auto", help="processes on this machine (default: one for each GPU)")
    add("--num_nodes", type=int, default=1, help="machines; torchrun says it by itself")


def launch(given: Namespace) -> "Fabric":
    """Starts the other processes of the job, unless a launcher has done so, and connects all of them.

    Args:
        given: Parsed options of :func:`add_processes`.

    Raises:
        InputError: If the devices do not exist, or there are too few.
    """
    from lightning.fabric import Fabric  # importing it loads torch, which takes seconds
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


def finish(fabric: "Fabric") -> None:
    """Waits until every process is done, so that none is reported as lost."""
    from torch import distributed

    fabric.barrier()
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
