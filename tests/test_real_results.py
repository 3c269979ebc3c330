"""Numbers on pages about real images are those of the results that come with the project."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/results.md", "docs/selection-evidence.md", "docs/which-selector.md")


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
    assert re.search(r"<!-- (\w+ \S+ .*?-->\n\||points \S+ \S+ \S+@\S+ \S+@\S+ -->)", text), (
        "no number of this page is computed"
    )
    assert real_results.written(text) == text


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
