"""On each rank: rank 0 is busy for longer than the process group's time-out, in one of the ways in which it may be."""

import sys
import time
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

from tlprune.distributed import (
    barrier,
    broadcast_from_rank0,
    gather_from_ranks,
    raise_on_all_ranks,
)
from tlprune.storage.job_lock import one_job_at_a_time

if __name__ == "__main__":
    seconds = float(sys.argv[2])
    dist.init_process_group("gloo", timeout=timedelta(seconds=seconds))
    rank = dist.get_rank()
    barrier()

    def busy() -> int:
        if rank == 0:
            time.sleep(2 * seconds)
        return 7

    found = 7
    if sys.argv[3] == "broadcast":
        found = broadcast_from_rank0(busy)
    elif sys.argv[3] == "gather":
        found = min(gather_from_ranks(busy()))
    elif sys.argv[3] == "raise_on_all_ranks":
        found = raise_on_all_ranks(busy)
    elif sys.argv[3] == "barrier":
        busy()
        barrier()
    else:
        with one_job_at_a_time(Path(sys.argv[1]) / "made"):
            found = broadcast_from_rank0(busy)
    (Path(sys.argv[1]) / f"{rank}.txt").write_text(str(found))
    dist.destroy_process_group()
