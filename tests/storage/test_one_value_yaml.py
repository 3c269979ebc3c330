from pathlib import Path

import pytest
import yaml

from tlprune.cli import main
from tlprune.storage.one_value_yaml import load_yaml

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_config_gives_a_key_twice(path):
    assert load_yaml(path.read_text()) == yaml.safe_load(path.read_text())


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "a: {b: 1, c: [{d: 1, d: 2}]}"])
def test_a_key_that_is_given_twice_is_refused_by_name(text):
    with pytest.raises(yaml.YAMLError, match=r"'[ad]' is given twice"):
        load_yaml(text)


def test_merged_keys_may_be_given_again():
    assert load_yaml("x: &x {k: 1, l: 2}\ny:\n  <<: *x\n  k: 3\n")["y"] == {"k": 3, "l": 2}


@pytest.mark.parametrize("command", ["select", "sweep", "fit"])
def test_commands_name_file_and_key(command, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("source: drawn\nsource: /data/mine\n")
    assert main([command, "--config", str(path)]) == 2
    said = capsys.readouterr().err
    assert str(path) in said
    assert "'source' is given twice" in said
    assert said.count("\n") == 1
