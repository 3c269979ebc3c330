"""Python processes that start in a tenth of a second: forked from one that has imported Lightning, and not tlprune.

Importing Lightning takes five seconds, and hundreds of tests want a process of their own: to kill it, to send it a
signal, to see what it loads by itself. All but the import is as if a new interpreter were started: arguments,
environment, folder, session, exit handlers, random state.

The process that forks is started when it is first needed, one for each process of pytest, and ends with it.
"""

import atexit
import contextlib
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from importlib import import_module
from pathlib import Path

WARM = ("lightning.pytorch.cli", "lightning.fabric", "torchvision.transforms.v2", "torchmetrics.classification")
WARM += ("safetensors.torch", "faiss", "scipy.sparse", "torch.utils.tensorboard", "torch.distributed.run")

_servers: dict[int, "_Server"] = {}


class _Server:
    """The process that forks, as seen by those who ask it to."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="forked-")
        self.address = f"{self.folder}/socket"
        command = [sys.executable, __file__, self.address]
        self.process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdin=subprocess.DEVNULL)
        atexit.register(self.end)
        while not Path(self.address).exists():
            assert self.process.poll() is None, "the process that forks others did not start"
            time.sleep(0.01)

    def end(self) -> None:
        """Ends it and whatever it has forked."""
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Forked:
    """A Python process, with what tests use of :class:`subprocess.Popen`.

    Args:
        command: ``[sys.executable, "-m", MODULE, ...]`` or ``[sys.executable, SCRIPT, ...]``.
        cwd: Its folder.
        env: All of its environment.
        output: A file that gets standard output and standard error.
        new_session: Whether it leads a session of its own.
    """

    def __init__(self, command, cwd=None, env=None, output=os.devnull, new_session=False) -> None:
        server = _servers.get(os.getpid()) or _servers.setdefault(os.getpid(), _Server())
        self.args = [str(one) for one in command]
        self.returncode: int | None = None
        self._said = b""
        request = {"command": self.args[1:], "env": dict(os.environ if env is None else env)}
        request |= {"cwd": str(cwd or Path.cwd()), "output": str(output), "new_session": new_session}
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(server.address)
        self._connection.sendall(json.dumps(request).encode() + b"\n")
        self.pid = int(self._line(None) or 0)

    def _line(self, timeout: float | None) -> str | None:
        """The next line that the server sends; None where there is none in time."""
        self._connection.settimeout(timeout)
        with contextlib.suppress(TimeoutError, BlockingIOError):
            while not self._said.endswith(b"\n"):
                if (said := self._connection.recv(1)) == b"":
                    raise RuntimeError("the process that forks others is gone")
                self._said += said
            line, self._said = self._said.decode(), b""
            return line
        return None

    def poll(self) -> int | None:
        """The exit status, if it has ended: minus the number of a signal that ended it."""
        return self._status(0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, once it has ended."""
        if (status := self._status(timeout)) is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return status

    def _status(self, timeout: float | None) -> int | None:
        if self.returncode is None and (said := self._line(timeout)) is not None:
            self.returncode = int(said)
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills it."""
        self.send_signal(signal.SIGKILL)


def run(command, cwd=None, env=None, timeout=200.0) -> subprocess.CompletedProcess[str]:
    """Runs a Python process to its end; standard output and standard error come as one."""
    with tempfile.NamedTemporaryFile() as output:
        process = Forked(command, cwd, env, output.name)
        try:
            process.wait(timeout)
        finally:
            process.kill()
        said = Path(output.name).read_text()
        return subprocess.CompletedProcess(process.args, process.wait(), said, said)


def run_ranks(world: int, command, folder: Path, timeout=200.0, **environment: str) -> list[str]:
    """Runs a Python process for each rank of a job, as torchrun would, and gives what each said; all must end well."""
    ranks = start_ranks(world, command, folder, **environment)
    try:
        statuses = [rank.wait(timeout) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    said = [(folder / f"rank{number}.log").read_text() for number in range(world)]
    assert statuses == [0] * world, "\n".join(said)[-4000:]
    return said


def start_ranks(world: int, command, folder: Path, **environment: str) -> list[Forked]:
    """Starts a Python process for each rank of a job, as torchrun would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world), "OMP_NUM_THREADS": "1"}
    job |= {"LOCAL_WORLD_SIZE": str(world), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "forked"}
    return [
        Forked(
            command,
            env=os.environ | job | {"RANK": str(rank), "LOCAL_RANK": str(rank)} | environment,
            output=folder / f"rank{rank}.log",
        )
        for rank in range(world)
    ]


def _serve(address: str) -> dict[str, object]:
    """Forks whenever it is asked to; comes back in each child, with what it was asked for."""
    for name in WARM:
        import_module(name)
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asks
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    ended, parent, running = [], os.getppid(), {}
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as ready:
        listener.bind(f"{address}.new")
        listener.listen()
        os.rename(f"{address}.new", address)
        ready.register(listener, selectors.EVENT_READ)
        ready.register(read, selectors.EVENT_READ)
        while not ended and os.getppid() == parent:
            for key, _ in ready.select(1.0):
                if key.fileobj == read:
                    os.read(read, 4096)
                    _tell_of_the_dead(running)
                    continue
                connection, _ = listener.accept()
                with connection.makefile("rb") as stream:
                    request = json.loads(stream.readline())
                if (pid := os.fork()) == 0:
                    signal.set_wakeup_fd(-1)
                    for number in (signal.SIGCHLD, signal.SIGTERM):
                        signal.signal(number, signal.SIG_DFL)
                    signal.signal(signal.SIGINT, signal.default_int_handler)
                    for one in (connection, *running.values()):
                        one.close()
                    os.close(read)
                    os.close(write)
                    return request
                running[pid] = connection
                connection.sendall(f"{pid}\n".encode())
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _tell_of_the_dead(running: dict[int, socket.socket]) -> None:
    while running:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        with running.pop(pid) as connection, contextlib.suppress(OSError):  # who asked may have lost interest
            connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _become(request: dict[str, object]) -> None:
    """Makes this process what was asked for, up to its first line of code."""
    import torch

    if request["new_session"]:
        os.setsid()
    for path, flags, numbers in (
        (os.devnull, os.O_RDONLY, (0,)),
        (request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, (1, 2)),
    ):
        opened = os.open(path, flags, 0o644)
        for number in numbers:
            os.dup2(opened, number)
        os.close(opened)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = list(request["command"])
    own = Path.cwd() if sys.argv[0] == "-m" else Path(sys.argv[0]).absolute().parent
    sys.path[0:1] = [str(own), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    torch.seed()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))


def _run() -> int:
    """Runs the code that this process is for; its exit status."""
    try:
        if sys.argv[0] == "-m":
            del sys.argv[0]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    _become(_serve(sys.argv[1]))
    status = _run()
    # as the interpreter ends, less the taking apart of every module, which takes a second and a half in a fork
    threading._shutdown()
    atexit._run_exitfuncs()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
