"""What README and docs say is true of the files, commands and names that they name."""

import re
import shlex
import sys
import tomllib
from pathlib import Path

import jsonargparse
import pytest

import tlprune
from tlprune import cli
from tlprune.models.weights import read_weights
from tlprune.selection.registry import selector_names

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))


def commands(text):
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]
    return [shlex.split(line, comments=True) for line in lines]


COMMANDS = commands(README)
DOCUMENTED = [command for page in PAGES for command in commands(page.read_text())]
# what srun, torchrun and the like start is ours as well; a job array gives its number
OURS = [
    [word.replace("$SLURM_ARRAY_TASK_ID", "4") for word in words[words.index("tlprune") + 1 :]]
    for words in DOCUMENTED
    if "tlprune" in words and words[0] not in ("make", "pip")
]
OURS = [list(one) for one in dict.fromkeys(map(tuple, OURS))]
PYTHON = {
    f"{page.name} {number}": code
    for page in PAGES
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
}


def example(part):
    """Returns the one Python block of the pages that holds this line."""
    [code] = {code for code in PYTHON.values() if part in code}
    return code


def test_readme_shows_the_two_commands():
    assert ["make", "demo"] in COMMANDS
    assert ["make", "test"] in COMMANDS


def test_readme_names_what_ci_runs():
    ran = [line.split() for line in (ROOT / ".ci/run").read_text().splitlines() if line.startswith("make ")]
    assert len(ran) >= 6
    assert [one for one in ran if one not in COMMANDS] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page):
    for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / link).exists(), link


class ParsedError(Exception):
    """Raised in place of doing what was asked for."""


@pytest.fixture
def _only_parsed(monkeypatch):
    """Commands stop once their own parser has taken all that they were given."""

    for parser in (cli._Parser, jsonargparse.ArgumentParser):
        monkeypatch.setattr(parser, "parse_args", _stopping(parser.parse_args))


def _stopping(parse):
    def parse_and_stop(self, *arguments, **options):
        parse(self, *arguments, **options)
        raise ParsedError

    return parse_and_stop


@pytest.fixture
def _selector_of_the_page(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(example("class LargestClasses"))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("mine", None)


@pytest.mark.usefixtures("_only_parsed", "_selector_of_the_page")
@pytest.mark.parametrize(
    "command", [one for one in OURS if one[0] not in ("fit", "validate", "test", "predict", "select")], ids=" ".join
)
def test_every_command_is_parsed_as_written(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ParsedError):
        cli.main(command)


@pytest.mark.usefixtures("_selector_of_the_page")
@pytest.mark.parametrize(
    "command", [one for one in OURS if one[0] in ("fit", "validate", "test", "predict", "select")], ids=" ".join
)
def test_every_configuration_is_taken_as_written(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert cli.main([*command, *([] if "--print_config" in command else ["--print_config"])]) == 0, capsys.readouterr()


@pytest.mark.parametrize("name", PYTHON)
def test_every_python_example_compiles(name):
    compile(PYTHON[name], name, "exec")


@pytest.mark.usefixtures("drawn_cached", "_selector_of_the_page")
def test_the_selector_of_the_page_selects(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["select", "--source", "drawn", "--selector", "mine.LargestClasses", "--output", "largest.safetensors"]
    assert cli.main(arguments) == 0
    assert "method     largest_classes" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader`")
@pytest.mark.usefixtures("drawn_cached")
def test_the_module_of_the_page_trains(tmp_path, monkeypatch, surrogate_file, trainer, capsys):
    """With a surrogate of random weights, and for a step."""
    from tlprune.data.synthetic import synthetic_classes

    monkeypatch.chdir(tmp_path)
    surrogate = surrogate_file([drawn.name for drawn in synthetic_classes()])
    names = {}
    exec(compile(example("def pretrain("), "python.md", "exec"), names)
    names["Trainer"] = lambda **options: trainer(**options, limit_train_batches=1, limit_val_batches=0)
    with pytest.warns(UserWarning, match="units are kept, but only"):
        names["pretrain"]("drawn", "digits", str(surrogate))
    assert "glyph" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader`", "ignore:.* units are kept, but only")
@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
@pytest.mark.parametrize("views", ["with_our_views", "with_views_of_lightly"])
def test_the_lightly_module_of_the_page_trains(views, tmp_path, monkeypatch, surrogate_file, class_folder, trainer):
    """With a surrogate of random weights, and a narrower projection head."""
    monkeypatch.chdir(tmp_path)
    names = {}
    code = example("class BarlowTwins").replace("512, 2048, 2048", "512, 32, 32")
    exec(compile(code, "ssl.md", "exec"), names)
    runs = []

    def made(**options):
        runs.append(trainer(**options))
        return runs[-1]

    names["Trainer"] = made
    source = class_folder("source", {"cat": 10, "dog": 10})
    target = class_folder("target/train", {"a": 3, "b": 3}).parent
    names[views](str(source), str(target), str(surrogate_file(2)), batch_size=3, image_size=32)
    assert runs[0].global_step == 2  # of 6 images that are kept
    assert runs[0].callback_metrics["train/loss"].isfinite()
    [file] = Path("runs/lightly").glob("*.safetensors")
    assert read_weights(file).backbone == "resnet18"


def test_the_pages_name_every_public_name_command_and_config():
    api = (ROOT / "docs/api.md").read_text()
    assert "<!-- every selector -->" in api
    named = [*re.findall(r"^::: tlprune\.(\w+)$", api, re.MULTILINE), *selector_names()]
    assert sorted(named) == sorted(tlprune.__all__)
    of_selectors = (ROOT / "docs/selection.md").read_text()
    assert [name for name in selector_names() if f"| `{name}` |" not in of_selectors] == []
    commands_page = (ROOT / "docs/commands.md").read_text()
    assert [name for name in cli._COMMANDS if not re.search(rf"`(tlprune )?{name}`", commands_page)] == []
    configs = [f"../{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")]
    assert [one for one in configs if f"]({one})" not in commands_page] == []


def test_the_lowest_versions_are_those_that_are_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in ("sweep", "demo", "mat", "parquet", "timm", "huggingface", "video", "test"):
        wanted += (one for one in project["optional-dependencies"][extra] if not one.startswith("tlprune["))
    pins = dict(
        line.split("==") for line in (ROOT / "constraints-minimum.txt").read_text().splitlines() if "==" in line
    )
    for requirement in wanted:
        name, floor = re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", requirement).groups()
        assert [*map(int, pins[name].split("."))][: floor.count(".") + 1] == [*map(int, floor.split("."))], requirement


def test_the_version_is_said_alike():
    changes = re.findall(
        r"^## \[([\d.]+)\](?: - (\d{4}-\d\d-\d\d))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    version, date = changes[0]
    assert version == tlprune.__version__
    assert date
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_trainer_of_docs_names_what_there_is():
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/loggers.md").read_text(), re.DOTALL)
    compile(code, "docs/loggers.md", "exec")
    names = re.search(r"from tlprune import (.*)", code).group(1).split(", ")
    assert set(names) <= set(tlprune.__all__)


def test_the_python_example_names_what_there_is():
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    compile(code, "README.md", "exec")
    assert set(re.findall(r"tlprune\.(\w+)\(", code)) == {"select", "prune", "PrunedDataModule"} <= set(tlprune.__all__)


@pytest.mark.usefixtures("drawn_cached")
def test_the_tutorial_selects_as_written(tmp_path, monkeypatch, surrogate_file, capsys):
    """With a surrogate of random weights in place of the trained one."""
    from tlprune.data.synthetic import synthetic_classes

    monkeypatch.chdir(tmp_path)
    Path("runs/drawn").mkdir(parents=True)
    surrogate_file([drawn.name for drawn in synthetic_classes()], "runs/drawn/surrogate.safetensors")
    Path("configs").symlink_to(ROOT / "configs")
    shown = [command[1:] for command in commands((ROOT / "docs/tutorial.md").read_text()) if command[0] == "tlprune"]
    for arguments in shown:
        if arguments[0] in ("select", "show", "explain", "export", "advise"):
            assert cli.main(arguments) == 0
    assert Path("kept.txt").read_text().count("\n") == 3001
    assert Path("why.png").stat().st_size > 10_000
