"""Work of a sweep in the order of its dependencies, and its execution."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from tlprune.experiments.executors import Executor, Job
from tlprune.experiments.recipes import is_config
from tlprune.experiments.results import NONE, Cell, Group
from tlprune.experiments.sweep_cells import make_selection, run_cell, train_surrogate
from tlprune.experiments.sweep_copies import compare_with_source
from tlprune.experiments.sweep_included import includes_target, surrogate_sees_target
from tlprune.experiments.sweep_plan import Spec, Sweep
from tlprune.experiments.sweep_progress import SweepProgress, Work
from tlprune.experiments.sweep_stages import differs_by_target, selector_of, uses_surrogate
from tlprune.storage.paths import expanded

__all__ = ["Board", "Task", "run_tasks", "shared_pretraining"]


class Task(NamedTuple):
    """Piece of work, with the names of the tasks it depends on."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    needs: tuple[str, ...]
    work: Work


@dataclass
class Board:
    """Tasks by name, with their dependencies."""

    tasks: dict[str, Task] = field(default_factory=dict)
    _first: dict[tuple[str, int, str], str] = field(default_factory=dict)

    def add_comparison(self, sweep: Sweep) -> None:
        """Adds the comparison of test images with the source, for which no cell waits."""
        self.tasks["comparison"] = Task(compare_with_source, (sweep,), (), Work("comparison"))

    def add_cell(self, sweep: Sweep, group: Group, seed: int) -> None:
        """Adds a cell and its dependencies. Cells with the same pretraining wait for the first of them."""
        needs: list[str] = []
        if sweep.selects(group.method):
            needs.append(self._selection(sweep, group, seed))
            if sweep.match_images is not None and sweep.prunes(group.method):
                needs.append(self._selection(sweep, replace(group, method=sweep.match_images), seed))
            if sweep.diagnostics and sweep.surrogate is not None:
                needs += self._surrogate(sweep, expanded(sweep.surrogate), group.target, seed)
        if group.match_budget == "steps":
            whole = group.target if sweep.pretrain.includes_target else sweep.targets[0]
            needs += self._there(Group(whole, NONE, start=group.start), seed)
        shared = shared_pretraining(sweep, group)
        if shared:
            before = sweep.targets[: sweep.targets.index(group.target)]
            alike = [replace(group, target=target) for target in before]
            needs += [name for one in alike for name in self._there(one, seed)]
        work = Work("cell", group, shared=shared)
        self.tasks[_cell_name(group, seed)] = Task(run_cell, (sweep, Spec(group, seed)), tuple(needs), work)

    def _selection(self, sweep: Sweep, group: Group, seed: int) -> str:
        target = group.target if _uses_target(sweep, group.method) else ""
        name = f"select {group.method} {target} {seed}"
        if name not in self.tasks:
            needs: list[str] = []
            surrogate = sweep.surrogate_of(group.method)
            if uses_surrogate(sweep, group.method) and surrogate is not None:
                needs = self._surrogate(sweep, surrogate, group.target, seed)
                if selector_of(sweep, group.method, 0).needs_surrogate == "backbone":
                    # the first computes the source's features for all; in other processes these would only wait for it
                    seen = group.target if surrogate_sees_target(sweep, group.method) else ""
                    first = self._first.setdefault((surrogate, seed, seen), name)
                    needs += [] if first == name else [first]
            work = Work("selection", method=group.method)
            self.tasks[name] = Task(make_selection, (sweep, group.method, group.target, seed), tuple(needs), work)
        return name

    def _surrogate(self, sweep: Sweep, path: str, target: str, seed: int) -> list[str]:
        """Adds the training of a surrogate; there is none for a weights file."""
        if not is_config(path):
            return []
        seen = target if includes_target(path) else ""
        name = f"surrogate {path} {seed} {seen}"
        self.tasks.setdefault(name, Task(train_surrogate, (sweep, path, seed, target), (), Work("surrogate")))
        return [name]

    def _there(self, group: Group, seed: int) -> list[str]:
        name = _cell_name(group, seed)
        return [name] if name in self.tasks else []


def shared_pretraining(sweep: Sweep, group: Group) -> bool:
    """Returns whether an earlier target has the same pretraining, because its images ignore the target."""
    if sweep.pretrain.includes_target:
        return False
    if group.target == sweep.targets[0] or not sweep.selects(group.method):
        return group.target != sweep.targets[0]
    return not any(_uses_target(sweep, method) for method in {group.method, sweep.match_images or group.method})


def _uses_target(sweep: Sweep, method: str) -> bool:
    return differs_by_target(sweep, method) or surrogate_sees_target(sweep, method)


def _cell_name(group: Group, seed: int) -> str:
    return f"cell {group.target} {group.method} {group.ratio:g} {group.match_budget} {group.start} {seed}"


def run_tasks(tasks: dict[str, Task], executor: Executor, progress: SweepProgress) -> Iterator[Cell]:
    """Runs each task as soon as its dependencies have ended, in task order, and yields the resulting cells."""
    progress.plan({name: task.work for name, task in tasks.items()}, executor.slots and executor.slots - 1)
    waiting, running = dict(tasks), dict[str, Job]()
    ended: set[str] = set()
    while waiting or running:
        ready = [name for name, task in waiting.items() if set(task.needs) <= ended]
        for name in ready if executor.slots is None else ready[: executor.slots - len(running)]:
            task = waiting.pop(name)
            running[name] = executor.submit(_timed, task.function, *task.arguments)
            progress.submit(name)
        executor.wait(list(running.values()))
        for name in [name for name, job in running.items() if job.done()]:
            found, seconds = running.pop(name).result()
            ended.add(name)
            progress.end(name, seconds)
            if isinstance(found, Cell):
                yield found


def _timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Calls a function in the process that works, and returns its result and the seconds that it took."""
    begin = time.perf_counter()
    return function(*arguments), time.perf_counter() - begin
