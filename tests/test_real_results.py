"""Numbers on pages about real images are those of the results that come with the project."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/results.md", "docs/method.md", "docs/selection-evidence.md", "docs/which-selector.md")


def load():
    spec = importlib.util.spec_from_file_location("real_results", ROOT / "benchmarks" / "real_results.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


real_results = load()


@pytest.mark.parametrize("page", PAGES)
def test_numbers_are_computed_from_the_results(page):
    text = (ROOT / page).read_text()
    computed = re.search(r"<!-- (\w+ \S+ .*?-->\n\||points \S+ \S+ \S+@\S+ \S+@\S+ -->)", text)
    assert computed, "no number of this page is computed"
    assert real_results.written(text) == text


@pytest.mark.parametrize(
    ("name", "mode", "candidate", "other"),
    [
        ("superclasses", "probe_5", "label_mapping@0.9", "random@0.9"),
        ("targets", "probe", "label_mapping@0.5", "none@0"),
        ("steps", "probe", "label_mapping@0.7@steps", "none@0"),
    ],
)
def test_a_difference_within_a_line_is_the_mean_over_targets_and_seeds(name, mode, candidate, other):
    cells = json.loads((real_results.RESULTS / name / "results.json").read_text())["cells"]

    def scores(group):
        method, ratio, *budget = group.split("@")
        equal = "steps" if budget else "epochs"
        return {
            (cell["target"], cell["seed"]): cell["scores"][mode]["test"]
            for cell in cells
            if (cell["method"], cell["ratio"], cell["equal"]) == (method, float(ratio), equal)
        }

    first, second = scores(candidate), scores(other)
    both = first.keys() & second.keys()
    expected = sum(first[pair] - second[pair] for pair in both) / len(both)
    opened = f"of <!-- points {name} {mode} {candidate} {other} -->"
    written = real_results.written(f"{opened}**+99.9**<!-- end --> points\n")
    assert written.startswith(opened)
    assert written.endswith("<!-- end --> points\n")
    [mean] = re.findall(r"-->\**([+-][\d.]+) \[", written)
    assert float(mean) == pytest.approx(expected, abs=0.051)


def test_a_difference_that_was_not_measured_is_an_error():
    with pytest.raises(RuntimeError, match="no target and seed has both label_mapping@0.8 and random@0.8"):
        real_results.written("<!-- points superclasses probe label_mapping@0.8 random@0.8 --><!-- end -->")


@pytest.mark.parametrize("name", sorted(path.parent.name for path in real_results.RESULTS.glob("*/results.json")))
def test_every_arm_has_as_many_images_and_steps(name):
    """To the image: else a difference may come from more training."""
    results = real_results.load(name)
    for target in results.targets:
        groups = [group for group in results.groups(target) if results.prunes(group.method)]
        for group in groups:
            alike = [one for one in groups if (one.ratio, one.match_budget) == (group.ratio, group.match_budget)]
            counts = {(cell.images_kept, cell.steps) for one in alike for cell in results.of(one)}
            assert len(counts) == 1, (target, group, counts)


@pytest.mark.parametrize("name", sorted(path.parent.name for path in real_results.RESULTS.glob("*/results.json")))
def test_results_hold_no_path_of_a_machine_and_no_image(name):
    text = (real_results.RESULTS / name / "results.json").read_text()
    assert set(re.findall(r'"(/[^"/]+/)', text)) <= {"/data/"}
    assert "base64" not in text
