"""Starts a command in a session of its own, and sees to it that nothing of it is left."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from forked import Forked

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


class Job:
    """A command and all processes that it starts.

    Args:
        command: What is run.
        folder: Where; a file there has what it says.
        log: Name of that file.
        environment: Variables beside those of this process.
    """

    def __init__(self, command, folder: Path, log: str = "job.log", **environment: str) -> None:
        self.log = folder / log
        self.log.write_text("")
        command = [str(one) for one in command]
        given = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(folder), *_python_path()])}
        environment = os.environ | given | environment
        if command[0] == sys.executable:
            self.process = Forked(command, folder, environment, self.log, new_session=True)
            return
        with self.log.open("w") as log:
            options = {"stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True}
            self.process = subprocess.Popen(command, cwd=folder, env=environment, **options)

    def wait(self, seconds: float) -> int:
        """The exit status, which must be there in time."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            said = self.log.read_text()[-3000:]
            self.end()
            raise AssertionError(f"still there after {seconds} s:\n{said}") from None

    def send(self, number: int) -> None:
        """Sends a signal as a person does: Ctrl-C to all of a session, SIGTERM to the process that was started."""
        for process in self.others() if number == signal.SIGINT else [self.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def others(self) -> list[int]:
        """Processes of the session that are alive."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (OSError, ValueError):
                continue
            if entry.name.isdecimal() and int(fields[3]) == self.process.pid and fields[0] != "Z":
                found.append(int(entry.name))
        return found

    def gone(self, seconds: float) -> bool:
        """Whether nothing of the session is left, at the latest after so long."""
        deadline = time.monotonic() + seconds
        while self.others() and time.monotonic() < deadline:
            time.sleep(0.1)
        left = self.others()
        self.end()
        return not left

    def end(self) -> None:
        """Kills what is left."""
        for process in self.others():
            os.kill(process, signal.SIGKILL)
        self.process.wait()


def _python_path() -> list[str]:
    return list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))


def appears(path: Path, seconds: float = 120) -> None:
    """Waits for a file."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)
