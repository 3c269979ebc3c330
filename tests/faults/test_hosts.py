import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

from forked import run_ranks
from job import Job
from tlprune import Selection
from tlprune.cli import main

slow = pytest.mark.slow


@pytest.mark.parametrize(
    "way",
    ["broadcast", *(pytest.param(way, marks=slow) for way in ("gather", "raise_on_all_ranks", "barrier", "lock"))],
)
def test_rank_0_may_be_busy_for_longer_than_the_time_out(way, tmp_path):
    script = Path(__file__).parent.parent / "selection" / "busy_on_ranks.py"
    run_ranks(2, [sys.executable, script, tmp_path, 4, way], tmp_path)
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)] == ["7"] * 2


@pytest.fixture
def hosts():
    """Two network namespaces with a cable between them, each as good as a machine; removed afterwards."""

    command = which("ip")
    if command is None:
        pytest.skip("no network namespaces here: there is no 'ip'")

    def ip(*arguments):
        done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no network namespaces here: {done.stderr.strip()}")

    names = ["tlprune-a", "tlprune-b"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "cable-a", "netns", names[0], "type", "veth", "peer", "name", "cable-b", "netns", names[1])
        for name, end, address in zip(names, ("cable-a", "cable-b"), ("10.77.0.1", "10.77.0.2"), strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            for device in ("lo", end):
                ip("-n", name, "link", "set", device, "up")
        yield [([command, "netns", "exec", name], end) for name, end in zip(names, ("cable-a", "cable-b"), strict=True)]
    finally:
        for name in names:
            subprocess.run([command, "netns", "del", name], capture_output=True, check=False)


@slow
def test_two_hosts_select_what_one_process_selects(hosts, class_folder, surrogate_file, tmp_path, monkeypatch):
    source = class_folder("src", dict.fromkeys(("ant", "bee", "cat"), 40))
    class_folder("pets/train", {"x": 60, "y": 90})
    inputs = [f"--source={source}", f"--target={tmp_path / 'pets'}", f"--surrogate={surrogate_file(3)}"]
    select = ["select", *inputs, "--image_size=32", "--selector=FeatureMapping", "--selector.num_clusters=9"]
    jobs = []
    for number, (inside, interface) in enumerate(hosts):
        (tmp_path / f"host{number}").mkdir()
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
        torchrun += [f"--node-rank={number}", "--master-addr=10.77.0.1", "--master-port=29533", "-m", "tlprune"]
        command = [*inside, *torchrun, *select, f"--output={tmp_path / 'two.safetensors'}"]
        jobs.append(Job(command, tmp_path / f"host{number}", GLOO_SOCKET_IFNAME=interface))
    for job in jobs:
        assert job.wait(180) == 0, job.log.read_text()
    monkeypatch.setenv("TLPRUNE_CACHE", str(tmp_path / "another cache"))
    assert main([*select, f"--output={tmp_path / 'one.safetensors'}"]) == 0
    one, two = (Selection.load(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    assert one.digest == two.digest


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=slow)])
def test_several_commands_on_one_cache_compute_once(processes, class_folder, surrogate_file, tmp_path):
    source = class_folder("src", dict.fromkeys(("ant", "bee", "cat"), 60))
    class_folder("pets/train", {"x": 60, "y": 90})
    class_folder("birds/train", {"x": 30, "y": 40})
    counting = (
        "import os, time\n"
        "from pathlib import Path\n"
        "from tlprune.selection import features, kmeans\n"
        "compute, fit = features.SourceFeatures._compute, kmeans.fit_clusters\n"
        "def note(what):\n"
        "    time.sleep(0.5)\n"
        "    Path(f'{what}-{os.getpid()}').touch()\n"
        "def counted(self, numbers):\n"
        "    if numbers:\n"
        "        note('features')\n"
        "    return compute(self, numbers)\n"
        "def clustered(*given):\n"
        "    note('clusters')\n"
        "    return fit(*given)\n"
        "features.SourceFeatures._compute, kmeans.fit_clusters = counted, clustered\n"
        "from tlprune.cli import main\n"
        "import sys\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    (tmp_path / "counting.py").write_text(counting)
    jobs = []
    for number, target in zip(range(processes), ("pets", "birds", "pets", "birds"), strict=False):
        inputs = [f"--source={source}", f"--target={tmp_path / target}", f"--surrogate={surrogate_file(3)}"]
        options = ["--image_size=32", "--selector=FeatureMapping", "--selector.num_clusters=9"]
        command = [sys.executable, "counting.py", "select", *inputs, *options, f"--output={number}.safetensors"]
        jobs.append(Job(command, tmp_path, f"{number}.log"))
    for job in jobs:
        assert job.wait(180) == 0, job.log.read_text()
    assert len(list(tmp_path.glob("features-*"))) == len(list(tmp_path.glob("clusters-*"))) == 1
    digests = [Selection.load(tmp_path / f"{number}.safetensors").digest for number in range(processes)]
    assert len(set(digests)) == 2
    assert digests[::2] == digests[:1] * len(digests[::2])
