"""Selectors of other packages and of one's own through every door, and their seeds."""

import json
import re
import sys
import textwrap

import pytest
import yaml

from tlprune import Selection, cli
from tlprune.errors import InputError
from tlprune.experiments.sweep_plan import methods_of
from tlprune.experiments.sweep_selectors import named_selector

CODE = """
    from pathlib import Path
    import torch
    from tlprune import Selection, Selector

    Path("imported").touch()

    class Draws(Selector):
        "Draws an order; nobody votes, though targets are asked."
        method = "draws"
        needs_target = True
        needs_surrogate = None

        def __init__(self, seed: int = 0, power: float = 1.0) -> None:
            self.seed, self.power = seed, power

        @property
        def options(self):
            return {"seed": self.seed, "power": self.power}

        def order(self, source, target, surrogate, cache):
            units = len(source.classes)
            drawn = torch.randperm(units, generator=torch.Generator().manual_seed(self.seed))
            nothing = torch.zeros(units)
            return Selection(self.method, source.classes, drawn, nothing, nothing, source.labels, torch.empty(0))

    class Insists(Draws):
        def __init__(self, seed: int) -> None:
            super().__init__(seed)

    class Inherits(Draws):
        def __init__(self, more: str = "", **options) -> None:
            super().__init__(**options)

    class Wraps(Draws):
        "Holds other selectors under names of its own."
        def __init__(self, inner: Selector, rest: list[Selector], named: dict[str, Selector]) -> None:
            super().__init__(power=2.0)
            self.inner, self.rest, self.named = inner, rest, named

    class Still(Selector):
        method = "still"
        def order(self, source, target, surrogate, cache):
            raise NotImplementedError
"""


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    """A module of the user's, which only what asks for it imports."""
    (tmp_path / "mine.py").write_text(textwrap.dedent(CODE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    named_selector.__globals__["_built"].cache_clear()
    yield
    sys.modules.pop("mine", None)


def built(given, seed):
    return named_selector({"class_path": given} if isinstance(given, str) else given, seed).selector


@pytest.mark.parametrize("name", ["mine.Draws", "mine.Insists", "mine.Inherits", "RandomSelector", "FeatureMapping"])
def test_what_takes_a_seed_is_given_the_sweeps_unless_the_config_has_one(name):
    assert [built(name, seed).seed for seed in (0, 3)] == [0, 3]
    assert built({"class_path": name, "init_args": {"seed": 7}}, 3).seed == 7
    for outer in ("ReverseSelector", "tlprune.ReverseSelector"):
        assert built({"class_path": outer, "init_args": {"of": {"class_path": name}}}, 3).of.seed == 3
        given = {"class_path": outer, "init_args": {"of": {"class_path": name, "init_args": {"seed": 0}}}}
        assert built(given, 3).of.seed == 0


def test_selectors_under_any_name_are_seeded():
    rest = ["mine.Draws", {"class_path": "mine.Draws", "init_args": {"seed": 9}}]
    options = {"inner": "RandomSelector", "rest": rest, "named": {"a": {"class_path": "mine.Insists"}}}
    found = named_selector({"class_path": "mine.Wraps", "init_args": options}, 4)
    assert found.selector.inner.seed == 4
    assert [one.seed for one in found.selector.rest] == [4, 9]
    assert found.selector.named["a"].seed == 4
    assert set(found.class_paths) >= {"mine.Wraps", "mine.Draws", "mine.Insists"}


def test_options_of_built_in_selectors_are_what_they_were():
    assert built("LabelMapping", 5).options == built("LabelMapping", 0).options
    reverse = {"class_path": "ReverseSelector", "init_args": {"of": {"class_path": "RandomSelector"}}}
    assert built(reverse, 2).options == {"of": "random", "seed": 2, "unit": "class"}


def test_no_such_selector_is_one_line():
    with pytest.raises(InputError, match="selector mine.Nobody: "):
        built("mine.Nobody", 0)
    with pytest.raises(InputError, match="no selector 'LabelMaping': did you mean 'LabelMapping'"):
        built("LabelMaping", 0)
    with pytest.raises(InputError, match="has no option 'sed': did you mean 'seed'"):
        built({"class_path": "mine.Draws", "init_args": {"sed": 1}}, 0)


def test_controls_are_of_the_kind_of_ones_own_selector():
    found = methods_of({"mine": "mine.Draws"}, controls=True)
    assert found["random"].selector["init_args"] == {"unit": "class"}
    assert found["mine"].label == "mine"
    with pytest.raises(InputError, match="method 'none' is no pruning"):
        methods_of({"none": "mine.Draws", "a": "LabelMapping"}, controls=False)


FORMS = {
    "name": "mine.Draws",
    "options": {"class_path": "mine.Draws", "init_args": {"power": 2.0}},
    "bare": {"class_path": "mine.Draws"},
    "whole": {"selector": "mine.Draws", "label": "M", "ablates": {"P": 1}},
    "both": {"selector": {"class_path": "mine.Draws", "init_args": {"power": 3.0}}, "label": "B"},
    "turned": {"class_path": "ReverseSelector", "init_args": {"of": {"class_path": "mine.Draws"}}},
}


@pytest.fixture
def sweep(class_folder, tmp_path):
    """The command of a sweep over every form in which a selector can be given."""
    source = class_folder("source", {"ant": 6, "bee": 6, "cat": 6, "dog": 6})
    for target in ("one", "two"):
        for part in ("train", "val", "test"):
            class_folder(f"{target}/{part}", {"x": 3, "y": 3})
    common = {"max_epochs": 1, "accelerator": "cpu", "logger": False}
    data = {"image_size": 32, "augment": "none", "batch_size": 8}
    model = {"class_path": "LitClassifier", "init_args": {"backbone": "resnet8_w8"}}
    recipe = {"model": model, "data": {"class_path": "PrunedSourceDataModule", "init_args": data}, "trainer": common}
    (tmp_path / "pretrain.yaml").write_text(yaml.safe_dump(recipe))
    probe = {"class_path": "TransferModule", "init_args": {"mode": "probe"}}
    transfer = {"model": probe, "data": {"class_path": "DownstreamDataModule"}, "trainer": common}
    (tmp_path / "probe.yaml").write_text(yaml.safe_dump(transfer))
    config = {"source": str(source), "targets": ["one", "two"], "pretrain": "pretrain.yaml", "output": "out"}
    config |= {"transfers": {"probe": "probe.yaml"}, "methods": FORMS, "ratios": [0.5], "seeds": 2, "workers": 1}

    def write(**changes):
        (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(config | changes))
        return ["sweep", "--config", "sweep.yaml"]

    return write


def test_a_dry_run_takes_every_form(sweep, capsys):
    assert cli.main([*sweep(), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert all(f" {label} " in out for label in ("name", "options", "bare", "M", "B", "reverse"))
    inline = ["--methods", json.dumps({"own": FORMS["options"]}), "--controls=false", "--dry-run"]
    assert cli.main([*sweep(), *inline]) == 0
    assert "own" in capsys.readouterr().out


def test_the_parser_imports_nothing(sweep, tmp_path):
    from tlprune.commands.arguments import parse
    from tlprune.commands.sweep import _parser

    given = parse(_parser(), sweep()[1:])
    assert given.methods == FORMS
    assert not (tmp_path / "imported").exists()


@pytest.mark.slow
def test_a_sweep_draws_anew_for_each_seed_and_is_reported(sweep, capfd, tmp_path):
    (tmp_path / "targets").mkdir()
    (tmp_path / "one").rename(tmp_path / "targets" / "flowers_of_the_alps")
    target = "targets/flowers_of_the_alps"
    command = sweep(methods={"mine": FORMS["options"]}, controls=False, targets=[target], seeds=3)
    assert cli.main(command) == 0
    log = capfd.readouterr().out
    for seed in (1, 2, 3):
        for stage in ("selection by mine for", "pretraining on mine, 50% pruned", "probe on", " "):
            assert re.search(rf"^seed {seed} .*{stage}.*", log, re.M)
    assert "targets/fl" not in log
    assert len(re.findall(r"^seed . +flowers_of_the_alps  mine, 50%", log, re.M)) == 3
    assert re.search(r"^ flowers_of_the_alps +mine +epochs", log, re.M)
    orders = [Selection.load(path).ranking.tolist() for path in sorted((tmp_path / "out/selections").iterdir())]
    assert len(orders) == 3
    assert len({tuple(order) for order in orders}) > 1
    assert cli.main(["report", "out"]) == 0
    before = {path.parent.name for path in (tmp_path / "out/stages").glob("select-*/done.json")}
    file = tmp_path / "mine.py"
    file.write_text(file.read_text().replace("manual_seed(self.seed)", "manual_seed(self.seed + 50)"))
    sys.modules.pop("mine")
    named_selector.__globals__["_built"].cache_clear()
    assert cli.main(command) == 0
    assert len({path.parent.name for path in (tmp_path / "out/stages").glob("select-*/done.json")} - before) == 3


@pytest.mark.parametrize("combine", ["worst_case", "union", "weighted_sum"])
def test_targets_that_cast_no_votes_share_an_order(combine, sweep, tmp_path, capsys):
    sweep()
    command = ["select", "--source", "source", "--target", "one", "two", "--image_size=32", "--combine", combine]
    assert cli.main([*command, "--selector=mine.Draws", "--selector.seed=3", "--output=o.safetensors"]) == 0
    found = Selection.load(tmp_path / "o.safetensors")
    assert sorted(found.ranking.tolist()) == [0, 1, 2, 3]
    assert found.config["options"] == {"seed": 3, "power": 1.0}
    assert cli.main(["explain", "o.safetensors", "--unit=ant", "--keep_units=2"]) == 0
    assert cli.main(["show", "o.safetensors", "--keep_units=2"]) == 0


def test_select_takes_every_form(sweep, tmp_path, capsys):
    sweep()
    command = ["select", "--source=source", "--target=one", "--image_size=32", "--output=o.safetensors"]
    nested = ["--selector=ReverseSelector", "--selector.of=mine.Draws", "--selector.of.power=2"]
    for given in (["--selector", json.dumps(FORMS["options"])], nested):
        assert cli.main([*command, *given]) == 0
        assert Selection.load(tmp_path / "o.safetensors").config["options"]["power"] == 2
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"selector": FORMS["turned"]}))
    assert cli.main([*command, "--config=s.yaml"]) == 0
    (tmp_path / "imported").unlink()
    sys.modules.pop("mine")
    assert cli.main(["select", "--config=s.yaml", "--image_size=nine", "--output=o.safetensors"]) == 2
    assert not (tmp_path / "imported").exists()
