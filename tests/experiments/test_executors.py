"""How many processes a sweep has, and what each of them is given."""

import os
from multiprocessing import SimpleQueue
from types import SimpleNamespace

import pytest
import torch

from tlprune.commands.sweep import _is_small
from tlprune.experiments import executors


@pytest.fixture
def machine(monkeypatch):
    """A machine with so many cores and GPUs."""

    def made(cores, gpus):
        monkeypatch.setattr(executors, "_cores", lambda: cores)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)

    return made


@pytest.mark.parametrize(
    ("cores", "gpus", "small", "expected"),
    [
        (2, 0, False, 2),
        (2, 0, True, 2),
        (64, 0, True, 8),
        (16, 1, False, 1),
        (16, 1, True, 8),
        (4, 1, True, 4),
        (16, 4, False, 4),
        (16, 4, True, 16),
        (2, 4, True, 4),
    ],
)
def test_small_trainings_share_a_gpu(machine, cores, gpus, small, expected):
    machine(cores, gpus)
    assert executors.default_workers(small) == expected


@pytest.mark.parametrize(
    ("gpus", "workers", "devices", "threads"),
    [(0, 1, None, None), (0, 4, None, 1), (1, 8, "0", 2), (2, 3, "1", 5), (4, 4, "1", None)],
)
def test_each_process_has_its_gpu_and_its_share_of_the_cores(machine, monkeypatch, gpus, workers, devices, threads):
    machine(16, gpus)
    set_to = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    for name in ("end_with_parent", "hide_progress"):
        monkeypatch.setattr(executors, name, lambda *_: None)
    monkeypatch.setattr(executors.signal, "signal", lambda *_: None)
    monkeypatch.setattr(executors.signal, "pthread_sigmask", lambda *_: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "unset")
    places = SimpleQueue()
    places.put(1)
    executors._begin(os.getpid(), workers, places, None)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == (devices or "unset")
    assert set_to == ([] if threads is None else [threads])


@pytest.mark.parametrize(
    ("source", "data", "expected"),
    [
        ("drawn", {"in_memory": True}, True),
        ("drawn", {}, False),
        ("/data/folder", {"in_memory": True}, False),
        ("/data/folder", {"in_memory": True, "image_size": 64}, True),
        ("/data/folder", {"in_memory": True, "image_size": 65}, False),
    ],
)
def test_cells_of_small_images_in_memory_are_small(source, data, expected):
    sweep = SimpleNamespace(source=source, pretrain=SimpleNamespace(data=data))
    assert _is_small(sweep) == expected
