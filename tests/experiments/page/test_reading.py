from dataclasses import replace

import pytest

from sweeps import cell, made_results
from tlprune import InputError
from tlprune.experiments.page.reading import read_runs
from tlprune.experiments.results import MethodInfo, Score


def test_a_sweep_is_read_by_its_folder(tmp_path):
    results = made_results(targets=("digits",))
    results.save(tmp_path)
    assert read_runs([tmp_path]).results.cells == results.cells


def test_a_demo_of_before_it_was_a_sweep_is_refused(tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(InputError, match=r"neither a folder of a sweep or a demo \(results.json\), nor a Selection"):
        read_runs([tmp_path])


def saved(folder, results):
    folder.mkdir()
    results.save(folder)
    return folder


def test_cells_of_several_sweeps_are_put_together(tmp_path):
    first = saved(tmp_path / "a", made_results(targets=("digits",), ablations=False))
    methods = {"none": MethodInfo("no pruning", uses_surrogate=False), "moderate": MethodInfo("Moderate", "sample")}
    other = made_results(targets=("digits", "photos"), methods=methods, ablations=False)
    other.cells = [one for one in other.cells if one.method in methods]
    other.recipes = {"surrogate": {"backbone": "another"}}
    second = saved(tmp_path / "b", other)
    found = read_runs([first, second, first])
    assert list(found.results.methods) == ["none", "label_mapping", "random", "reverse", "moderate"]
    assert list(found.results.targets) == ["digits", "photos"]
    keys = [(one.group, one.seed) for one in found.results.cells]
    assert len(keys) == len(set(keys)) == 36 + 3 + 9 + 9  # digits of both without the whole twice, photos
    assert found.notes == ["Recipes differ between the runs: b has other values of surrogate."]


def test_runs_that_cannot_be_compared_are_refused(tmp_path):
    results = made_results(targets=("digits",))
    first = saved(tmp_path / "a", results)
    other = saved(tmp_path / "b", replace(results, source={"name": "other"}))
    with pytest.raises(InputError, match="b: pruned another source than the runs before it"):
        read_runs([first, other])
    other = saved(tmp_path / "c", replace(results, targets={"digits": {"split": "another"}}))
    with pytest.raises(InputError, match="another split of target digits"):
        read_runs([first, other])
    changed = replace(results.cells[1], scores={"probe": Score(1, 2, 3)})
    other = saved(tmp_path / "d", replace(results, cells=[changed]))
    with pytest.raises(InputError, match=r"the same cell \(digits, LM, 25% pruned, seed 0\)"):
        read_runs([first, other])


def test_a_slower_twin_of_a_cell_is_the_same_cell(tmp_path):
    results = made_results(targets=("digits",))
    slower = replace(results.cells[1], pretraining_seconds=999.0)
    found = read_runs([saved(tmp_path / "a", results), saved(tmp_path / "b", replace(results, cells=[slower]))])
    assert found.results.cells == results.cells


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"tlprune": "results", "schema": 1}'])
def test_damaged_results_are_one_line(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(InputError, match="damaged|not the results of a sweep"):
        read_runs([tmp_path])


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="none: no such file or folder"):
        read_runs([tmp_path / "none"])
    with pytest.raises(InputError, match="neither a folder of a sweep"):
        read_runs([tmp_path])
    with pytest.raises(InputError, match="no cell is finished yet"):
        read_runs([saved(tmp_path / "a", replace(made_results(), cells=[]))])
    (tmp_path / "s.safetensors").touch()
    with pytest.raises(InputError, match="a Selection has a page of its own"):
        read_runs([saved(tmp_path / "b", made_results()), tmp_path / "s.safetensors"])


@pytest.mark.parametrize(
    "changes",
    [
        *({"method": "unheard"}, {"target": "x"}, {"ratio": float("nan")}, {"scores": {}}),
        *(
            {"pretraining_seconds": "1"},
            {"diagnostics": {"similarity": None}},
            {"diagnostics": [1.0]},
            {"steps": "many"},
        ),
    ],
    ids=str,
)
def test_cells_that_do_not_fit_are_refused(tmp_path, changes):
    results = made_results()
    results.cells.append(replace(cell("digits", "random", 0.5, 7), **changes))
    with pytest.raises(InputError, match="damaged"):
        read_runs([saved(tmp_path / "a", results)])


@pytest.mark.parametrize(
    "changes",
    [
        *({"targets": []}, {"targets": {"digits": 1}}, {"recipes": [1]}),
        *({"targets": {"digits": {"test": "900"}}}, {"targets": {"digits": {"test": -1}}}),
        *({"provenance": {"margin": "one"}}, {"provenance": {"margin": -1}}, {"provenance": {"margin": float("nan")}}),
    ],
    ids=str,
)
def test_parts_that_do_not_fit_are_refused(tmp_path, changes):
    with pytest.raises(InputError, match="damaged"):
        read_runs([saved(tmp_path / "a", replace(made_results(targets=("digits",)), **changes))])


def test_a_selection_outside_the_sweep_is_not_opened(tmp_path):
    results = made_results(targets=("digits",), ablations=False)
    results.cells = [replace(one, selection="../../etc/passwd") for one in results.cells]
    found = read_runs([saved(tmp_path / "a", results)])
    assert {one.selection for one in found.results.cells} == {None}
