import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tlprune.cli import main

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml"))


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_each_is_listed_with_what_it_is_for(capsys):
    assert main(["configs"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line.endswith(".yaml")] == [f"configs/{name}" for name in NAMES]
    assert "    ImageNet, ResNet-18: the surrogate, and the smallest source model." in lines


def test_copies_are_the_same_files_and_nothing_is_overwritten(capsys):
    assert main(["configs", "mine/configs"]) == 0
    assert capsys.readouterr().out == f"mine/configs: {len(NAMES)} yaml files\n"
    for name in NAMES:
        assert yaml.safe_load(Path("mine/configs", name).read_text()) == yaml.safe_load((CONFIGS / name).read_text())
    assert main(["configs", "mine"]) == 2
    assert capsys.readouterr().err == "tlprune: error: mine: is there already; name a folder that is not\n"


def test_who_names_one_that_is_elsewhere_is_told_how_to_get_it(capsys):
    assert main(["select", "--config", "configs/select/digits_lm.yaml"]) == 2
    assert "no such file; 'tlprune configs configs' copies those that" in capsys.readouterr().err
    assert main(["select", "--config", "configs/select/none.yaml"]) == 2
    assert capsys.readouterr().err == "tlprune: error: --config configs/select/none.yaml: no such file\n"


def test_an_installed_package_has_its_own(tmp_path):
    """As a wheel lays it out: configs beside the modules, and no clone around them."""
    (tmp_path / "site").mkdir()
    package = CONFIGS.parent / "tlprune"
    for path in [*package.rglob("*.py"), *package.rglob("*.pyi")]:
        copy = tmp_path / "site" / path.relative_to(package.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    there = tmp_path / "site" / "tlprune" / "configs" / "select"
    there.mkdir(parents=True)
    (there / "one.yaml").write_text("# The only one.\nsource: drawn\n")
    run = [sys.executable, "-m", "tlprune", "configs"]
    found = subprocess.run(run, cwd=tmp_path / "site", capture_output=True, text=True, check=True)
    assert found.stdout.startswith("configs/select/one.yaml\n    The only one.\n\n")
