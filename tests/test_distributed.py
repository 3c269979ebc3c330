import pytest

from job import TORCHRUN, Job

SCRIPT = """
import atexit, sys
from pathlib import Path
import torch.distributed as dist

def note():
    Path(sys.argv[1], f"{rank}.txt").write_text(f"{found} {distributed._patient}")

atexit.register(note)  # first to be registered, last to be called
from tlprune import distributed
dist.init_process_group("gloo")
rank = dist.get_rank()
found = distributed.gather_from_ranks(rank)
if sys.argv[2] == "destroyed":
    dist.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize("world", ["destroyed", "left"])
def test_no_thread_of_a_group_is_left_when_the_interpreter_ends(tmp_path, world):
    """One that is left may ask for the interpreter when it is gone, which aborts the process."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    job = Job([*TORCHRUN, "2", script, tmp_path, world], tmp_path)  # interpreters that come to their end
    assert job.wait(120) == 0, job.log.read_text()[-2000:]
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)] == ["[0, 1] None"] * 2
