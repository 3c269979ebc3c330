import hashlib

import pytest
import torch

from tlprune.storage.cache import cache_root
from tlprune.storage.fingerprint import digest_file, digest_json, digest_tensors


@pytest.mark.parametrize(
    "other",
    [
        {"a": torch.tensor([1.0, 2.5])},
        {"b": torch.tensor([1.0, 2.0])},
        {"a": torch.tensor([1.0, 2.0], dtype=torch.float64)},
        {"a": torch.tensor([[1.0, 2.0]])},
        {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(0)},
        {},
    ],
)
def test_anything_else_has_another_digest(other):
    assert digest_tensors({"a": torch.tensor([1.0, 2.0])}) != digest_tensors(other)


def test_layout_and_order_do_not_matter():
    square = torch.arange(6.0).view(2, 3)
    assert digest_tensors({"a": square}) == digest_tensors({"a": square.t().contiguous().t()})
    assert digest_tensors({"a": square, "b": square}) == digest_tensors({"b": square, "a": square})


def test_json_and_files(tmp_path):
    assert digest_json([1, "a"]) == hashlib.sha256(b'[1,"a"]').hexdigest()
    (tmp_path / "f").write_bytes(b"abc")
    assert digest_file(tmp_path / "f") == hashlib.sha256(b"abc").hexdigest()


def test_cache_root(monkeypatch, tmp_path):
    assert cache_root(tmp_path / "x") == tmp_path / "x"
    monkeypatch.setenv("TLPRUNE_CACHE", str(tmp_path / "y"))
    assert cache_root() == tmp_path / "y"
    monkeypatch.delenv("TLPRUNE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "z"))
    assert cache_root() == tmp_path / "z" / "tlprune"
