"""Reading a Dataset in a notebook shows progress as text."""

import warnings

import torch
from torch.utils.data import TensorDataset

from tlprune.data.reading import SampleReader


def test_no_widget_is_asked_for_in_a_notebook(monkeypatch, capsys):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("tlprune.progress._on_terminal", lambda: True)
    monkeypatch.setattr("tlprune.progress._Bar.delay", 0.0)  # a bar at once
    dataset = TensorDataset(torch.arange(24).reshape(2, 3, 2, 2).to(torch.uint8), torch.tensor([0, 1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = SampleReader(dataset, torch.arange(2)).read_all([0, 1])
    assert [one.label for one in read] == [0, 1]
    out = capsys.readouterr()
    assert out.out == ""
    assert "read TensorDataset once" in out.err
