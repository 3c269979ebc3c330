"""Sweeps with known numbers, which several tests report."""

import math
from dataclasses import replace

import torch

from tlprune import Selection
from tlprune.data.sources import open_source
from tlprune.data.target_splits import open_target
from tlprune.experiments.results import Cell, MethodInfo, Results, Score

METHODS = {
    "none": MethodInfo("no pruning", uses_surrogate=False),
    "label_mapping": MethodInfo("LM"),
    "random": MethodInfo("random", uses_surrogate=False),
    "reverse": MethodInfo("reverse"),
}
MORE_METHODS = METHODS | {
    "feature_mapping": MethodInfo("FM", "cluster"),
    "moderate": MethodInfo("Moderate", "sample"),
    "grand": MethodInfo("GraNd", "sample"),
}
RATIOS = (0.25, 0.5, 0.75)
SOURCE_IMAGES, SOURCE_UNITS = 40, 4
CHANGE = {"label_mapping": 2.0, "feature_mapping": 0.5, "moderate": -4, "grand": -5, "random": -3.0, "reverse": -14.0}
"""Points of test accuracy per unit of the prune ratio; beyond a ratio of 0.6 everything loses three points more."""


def cell(
    target, method, ratio, seed, match_budget="epochs", change=None, modes=("probe", "finetune"), source_images=None
):
    """A cell of known numbers: what differs from seed to seed differs from method to method too."""
    images = source_images or SOURCE_IMAGES
    change = CHANGE.get(method.split("@")[0], 0.0) if change is None else change
    wave = 0.5 * math.sin(7 * seed + 3 * len(method) + 20 * ratio)  # so that no two differences are the same
    level = (90 if target.endswith("digits") else 60) + change * ratio - (3 if ratio > 0.6 else 0) + seed / 10 + wave
    level += 1.5 if match_budget == "steps" else 0
    scores = {}
    for place, mode in enumerate(modes):
        scores[mode] = Score(level + 2 * place + 0.5, level + 2 * place, 1.0 + seed)
    uses_surrogate = method.split("@")[0] not in ("none", "random")
    return Cell(
        target=target,
        method=method,
        ratio=ratio,
        match_budget=match_budget,
        seed=seed,
        units_total=SOURCE_UNITS,
        units_kept=round(SOURCE_UNITS * (1 - ratio)),
        images_total=images,
        images_kept=round(images * (1 - ratio)),
        surrogate_seconds=4.0 + seed if uses_surrogate else 0.0,
        selection_seconds=0.5 if uses_surrogate else 0.0,
        pretraining_seconds=(100.0 + seed) * (1 if match_budget == "steps" else 1 - ratio),
        source_accuracy=80.0,
        scores=scores,
    )


def made_results(
    targets=("digits", "photos"), methods=METHODS, ratios=RATIOS, seeds=3, ablations=True, test_images=1_000_000
):
    """Targets x methods x ratios x seeds, equal steps at the middle ratio, and two ablations."""
    cells = []
    for target in targets:
        for seed in range(seeds):
            for method in methods:
                cells += [cell(target, method, ratio, seed) for ratio in ((0.0,) if method == "none" else ratios)]
            middle = ratios[len(ratios) // 2]
            cells += [cell(target, method, middle, seed, "steps") for method in ("label_mapping", "random")]
    found = Results(
        name="a made-up sweep",
        source={"name": "made", "images": SOURCE_IMAGES, "classes": SOURCE_UNITS},
        targets={target: {"split": "made for tests", "train": 12, "test": test_images} for target in targets},
        methods=dict(methods),
        modes=["probe", "finetune"],
        recipes={"surrogate": {"backbone": "resnet8_w8", "epochs": 6}, "source": {"backbone": "resnet8_w16"}},
        provenance={"tlprune": "0.0", "command": "made in Python", "machine": "none"},
        cells=cells,
    )
    if ablations:
        for size, change in ((4, -1.0), (8, 1.0), (16, 2.0)):
            name = f"label_mapping@size{size}"
            found.methods[name] = MethodInfo(f"LM, surrogate of width {size}", ablates={"surrogate width": size})
            found.cells += [
                cell(target, name, ratio, seed, change=change)
                for target in targets
                for ratio in ratios[:2]
                for seed in range(seeds)
            ]
        for schedule in ("cosine", "constant"):
            name = f"label_mapping@{schedule}"
            found.methods[name] = MethodInfo(f"LM, {schedule}", ablates={"schedule": schedule})
            found.cells += [cell(targets[0], name, ratios[1], seed, change=0.0) for seed in range(seeds)]
    return found


def made_selection(source, target, assignments, method="label_mapping"):
    """A Selection by votes that are given: a unit for each training image of the target, in its order."""
    images, _ = open_source(str(source))
    voters = open_target(str(target)).train
    assignments = torch.tensor(assignments)
    assert len(assignments) == len(voters)
    votes = torch.bincount(assignments, minlength=len(images.classes)).double()
    return Selection(
        method,
        tuple(images.classes),
        votes.argsort(descending=True, stable=True),
        votes,
        torch.zeros_like(votes),
        images.labels.int(),
        assignments,
        settings={
            "method": method,
            "source_digest": images.fingerprint(),
            "targets": [{"digest": voters.digest, "images": len(voters)}],
        },
        metadata={"source": str(source), "targets": [str(target)], "seconds": {"vote": 0.25}, "surrogate_seconds": 4.5},
    )


def write_sweep(folder, results, selections):
    """A sweep's folder; ``selections`` has a Selection for each target, which all cells of Label Mapping refer to."""
    folder.mkdir(parents=True)
    files = {}
    for number, (target, selection) in enumerate(selections.items()):
        files[target] = f"selections/{number}.safetensors"
        (folder / "selections").mkdir(exist_ok=True)
        selection.save(folder / files[target])
    cells = [
        replace(one, selection=files.get(one.target)) if one.method == "label_mapping" else one for one in results.cells
    ]
    replace(results, cells=cells).save(folder)
    return folder


class Here:
    """Executor that runs work in this process, at once, and keeps the names of what it ran.

    Args:
        slots: As of executors.
    """

    def __init__(self, slots=None):
        self.slots = slots
        self.ran = []

    def submit(self, function, *arguments):
        self.ran.append(function.__name__ if function.__name__ != "_timed" else arguments[0].__name__)
        return _Ended(function(*arguments))

    def wait(self, jobs):
        assert jobs


class _Ended:
    def __init__(self, value):
        self.value = value

    def done(self):
        return True

    def result(self):
        return self.value
