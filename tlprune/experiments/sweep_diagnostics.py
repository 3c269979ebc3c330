"""Diagnostics of what a sweep's cell keeps, in features of the sweep's surrogate, as a stage of their own.

Every method is diagnosed in the features of the same network, also one that uses no surrogate or another one.
"""

import time

from tlprune.diagnosing import diagnose
from tlprune.experiments.fitting import quiet
from tlprune.experiments.recipes import is_config
from tlprune.experiments.sweep_plan import Spec, Sweep
from tlprune.experiments.sweep_stages import Kept, diagnosis_stage, voting_size
from tlprune.storage.cache import locked

__all__ = ["diagnose_cell", "diagnostics_if_finished"]


def diagnose_cell(sweep: Sweep, spec: Spec, kept: Kept) -> float:
    """Diagnoses what a cell keeps, unless this is finished. Returns the seconds that it took.

    Args:
        sweep: Sweep that defines the cell.
        spec: Cell and seed.
        kept: What the cell keeps, by a Selection.
    """
    found = diagnosis_stage(sweep, spec.group.target, spec.seed, kept)
    if found is None or kept.selection is None or kept.budget is None:
        raise RuntimeError(f"{spec}: its surrogate is not trained, or nothing is pruned")
    stage, weights = found
    begin = time.perf_counter()
    with locked(stage.folder):
        if stage.done is not None:
            return 0.0
        data, options = sweep.pretrain.data, sweep.pretrain.select_options
        with quiet():
            diagnosis = diagnose(
                kept.selection,
                sweep.source,
                spec.group.target,
                weights,
                **vars(kept.budget),
                surrogate_backbone=None if is_config(str(sweep.surrogate)) else options.surrogate_backbone,
                surrogate_preprocessing=options.surrogate_preprocessing,
                target_seed=options.target_seed,
                image_size=voting_size(sweep, weights),
                num_workers=data.get("num_workers") or 0,
                cache=data.get("cache"),
                verify_content=sweep.pretrain.verify_content,
            )
        random = {f"random_{name}": value for name, value in diagnosis.random.as_json().items()}
        stage.finish(diagnosis.kept.as_json() | random)
    return time.perf_counter() - begin


def diagnostics_if_finished(sweep: Sweep, spec: Spec, kept: Kept) -> dict[str, float] | None:
    """Returns the numbers by name; None if they are not computed yet, or nothing is pruned."""
    found = None if kept.budget is None else diagnosis_stage(sweep, spec.group.target, spec.seed, kept)
    done = None if found is None else found[0].done
    return None if done is None else dict(done.result)
