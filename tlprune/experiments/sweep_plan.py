"""Plan of a sweep: methods, ratios, seeds, targets and lengths, and the resulting cells."""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tlprune.errors import InputError, did_you_mean, require_within
from tlprune.experiments.frozen_transfers import FrozenTransfer
from tlprune.experiments.recipes import Recipe
from tlprune.experiments.results import ALONE, AS_CONFIGURED, NONE, SCRATCH, Group, MatchBudget
from tlprune.experiments.sweep_selectors import named_selector
from tlprune.selection.baselines import RandomSelector, ReverseSelector
from tlprune.selection.sampling_weights import require_weights
from tlprune.storage.paths import expanded, user_path

__all__ = ["MethodSpec", "Spec", "Sweep", "methods_of"]


@dataclass(frozen=True)
class MethodSpec:
    """Specification of how one method ranks the source.

    Args:
        selector: ``class_path`` and ``init_args`` of the Selector; None for no pruning, and for weights alone.
        label: Display name.
        surrogate: Config to train the method's surrogates with, or a weights file; None for the sweep's surrogate.
        ablates: Values of the varied factors, by name.
        sampling: ``once`` prunes; ``weighted`` keeps the whole source and draws from it by the selector's weights;
            ``none`` transfers the weights of a start without pretraining.
    """

    selector: dict[str, Any] | None
    label: str
    surrogate: str | None = None
    ablates: dict[str, str | float] = field(default_factory=dict)
    sampling: Literal["once", "weighted", "none"] = "once"


@dataclass(frozen=True)
class Spec:
    """A single cell to run.

    Args:
        group: Target, method, ratio and length.
        seed: Seed of all random choices.
    """

    group: Group
    seed: int


@dataclass(frozen=True)
class Sweep:
    """A comparison of methods over ratios, seeds and targets, with the configs that models are trained with.

    Args:
        name: Name of the sweep.
        source: Source, in the form accepted by ``tlprune select``.
        targets: Names or folders of the downstream sets.
        surrogate: Config to train one surrogate per seed with, or the weights file of a single surrogate.
        pretrain: Config of the source models.
        transfers: Transfer modes, the deciding mode first: a training config, or a classifier of frozen features.
        methods: Methods by name, including no pruning.
        ratios: Prune ratios in (0, 1), ascending.
        match_budget: Training lengths to run.
        seeds: Number of repetitions.
        search: ``grid`` runs every ratio; ``bisection`` runs only the ratios needed to find the winning subset.
        output: Folder of the sweep.
        match_images: Method whose number of images all other methods keep, at each ratio, seed and target, to the
            image: the last class or cluster is cut. With None, every method removes the same share of its own units.
        draw_per_target: Whether random pruning is drawn for each target, so that targets are independent. Otherwise one
            draw, and one pretraining, serves all targets.
        extra_groups: Groups that a grid runs in addition to methods, ratios and lengths.
        margin: Points of accuracy that a winning subset may lose to no pruning, at least 0.
        diagnostics: Whether what each cell keeps is diagnosed, in features of the sweep's surrogate.
        starts: What pretraining starts from: ``scratch``, or weights as a module's ``weights`` takes them. Every cell
            is run from each. The default is the start that the pretraining config defines.

    Raises:
        InputError: If a field is empty or out of range.
    """

    name: str
    source: str
    targets: tuple[str, ...]
    surrogate: str | None
    pretrain: Recipe
    transfers: dict[str, Recipe | FrozenTransfer]
    methods: dict[str, MethodSpec]
    ratios: tuple[float, ...]
    match_budget: tuple[MatchBudget, ...]
    seeds: int
    search: Literal["grid", "bisection"]
    output: Path
    match_images: str | None = None
    draw_per_target: bool = False
    extra_groups: tuple[Group, ...] = ()
    diagnostics: bool = False
    margin: float = 1.0
    starts: tuple[str, ...] = (AS_CONFIGURED,)

    def __post_init__(self) -> None:
        for what, given in (
            ("targets", self.targets),
            ("ratios", self.ratios),
            ("transfers", self.transfers),
            ("starts", self.starts),
        ):
            if not given:
                raise InputError(f"a sweep needs at least one of `{what}`")
        for ratio in self.ratios:
            if not 0 < ratio < 1 or math.isnan(ratio):
                percent = (
                    f"a share: for {ratio:g} % write {ratio / 100:g}" if 1 < ratio < 100 else "no pruning is always run"
                )
                raise InputError(f"`ratios` must be in (0, 1), got {ratio}; {percent}")
        for what, values in (
            ("ratios", self.ratios),
            ("targets", self.targets),
            ("equal", self.match_budget),
            ("starts", self.starts),
        ):
            if len({_place(value) if isinstance(value, str) else value for value in values}) < len(values):
                raise InputError(f"`{what}` names one twice: {', '.join(map(str, values))}")
        if not self.match_budget or set(self.match_budget) - {"epochs", "steps"}:
            raise InputError(f"`equal` must be among epochs and steps, got {', '.join(self.match_budget) or 'none'}")
        require_within("seeds", self.seeds, 1)
        if not 0 <= self.margin < 100:
            raise InputError(f"`margin` must be in [0, 100), in points of accuracy, got {self.margin}")
        if self.diagnostics and self.surrogate is None:
            raise InputError("`diagnostics` needs `surrogate`, whose features are compared")
        pruning = [method for method in self.methods if self.prunes(method)]
        if self.match_images is not None and self.match_images not in pruning:
            near = did_you_mean(self.match_images, pruning)
            raise InputError(f"`match_images` names no method that prunes, {self.match_images!r}: {near}")

    def groups(self) -> Iterator[Group]:
        """Yields every group of a grid, start by start.

        Of each start the whole source comes first, then the extra groups, then groups by method, length and ratio.
        """
        for start in self.starts:
            for method in self.methods:
                if not self.prunes(method) and not (method == ALONE and start in (SCRATCH, AS_CONFIGURED)):
                    yield from (Group(target, method, start=start) for target in self.targets)
            yield from (replace(group, start=start) for group in self.extra_groups)
            for method in self.methods:
                if self.prunes(method):
                    for target in self.targets:
                        for match_budget in self.match_budget:
                            for ratio in self.ratios:
                                yield Group(target, method, ratio, match_budget, start)

    def prunes(self, method: str) -> bool:
        """Returns whether a method leaves out a part of the source; the others run at full length, at no ratio."""
        return self.selects(method) and self.methods[method].sampling == "once"

    def selects(self, method: str) -> bool:
        """Returns whether a method has a selector."""
        return self.methods[method].selector is not None

    def pretrain_from(self, start: str) -> Recipe:
        """Returns the config of the source models that start from ``start``."""
        return self.pretrain if start == AS_CONFIGURED else self.pretrain.with_start(start)

    def surrogate_of(self, method: str) -> str | None:
        """Returns the config or weights file of a method's surrogates."""
        path = self.methods[method].surrogate or self.surrogate
        return None if path is None else expanded(path)


def methods_of(given: Mapping[str, Any], controls: bool) -> dict[str, MethodSpec]:
    """Parses the methods, and adds no pruning and the controls (random and reverse pruning).

    Args:
        given: Methods by name: a Selector's class name, its ``class_path`` and ``init_args``, or ``selector`` with any
            of ``label``, ``surrogate``, ``ablates`` and ``sampling``.
        controls: Whether to add random pruning and the reverse of the first method that uses the target.

    Raises:
        InputError: If a method has none of these forms.
    """
    if not given:
        raise InputError("a sweep needs at least one of `methods`")
    methods = {NONE: MethodSpec(None, "no pruning")}
    if given.get(NONE):
        raise InputError(f"method {NONE!r} is no pruning, which is always run: give this selector another name")
    if ALONE in given:
        raise InputError(f"method {ALONE!r} is run where `starts` names weights: give this selector another name")
    methods |= {str(name): _method(str(name), one) for name, one in given.items() if name != NONE}
    if len(methods) == 1:
        raise InputError("a sweep needs at least one of `methods` beside no pruning")
    built = [named_selector(one.selector, 0).selector for one in methods.values() if one.selector is not None]
    first = next(one.selector for one in methods.values() if one.selector is not None)
    if controls and not any(isinstance(one, RandomSelector) for one in built):
        unit = "class" if built[0].unit_kind == "class" else "sample"
        methods["random"] = MethodSpec({"class_path": RandomSelector.__name__, "init_args": {"unit": unit}}, "random")
    if controls and not any(isinstance(one, ReverseSelector) for one in built):
        methods["reverse"] = MethodSpec({"class_path": ReverseSelector.__name__, "init_args": {"of": first}}, "reverse")
    return methods


def _method(name: str, given: Any) -> MethodSpec:
    known = {"selector", "label", "surrogate", "ablates", "sampling"}
    whole = given if isinstance(given, dict) and "selector" in given else {"selector": given}
    if odd := sorted(set(whole) - known):
        raise InputError(f"method {name!r}: `{odd[0]}` is not one of {', '.join(sorted(known))}")
    selector = whole["selector"]
    selector = {"class_path": selector} if isinstance(selector, str) else selector
    if not isinstance(selector, dict) or "class_path" not in selector:
        raise InputError(f"method {name!r}: give a Selector's name, or its `class_path` and `init_args`")
    ablates = whole.get("ablates") or {}
    if not isinstance(ablates, dict):
        raise InputError(f"method {name!r}: `ablates` must be a mapping, such as {{K: 50}}")
    built = named_selector(selector, 0).selector
    plain = (built.label or name) if type(built).__module__.startswith("tlprune.") else name
    varied = ", ".join(f"{factor} {value}" for factor, value in ablates.items())
    sampling = whole.get("sampling", "once")
    if sampling not in ("once", "weighted"):
        raise InputError(f"method {name!r}: `sampling` must be 'once' or 'weighted', got {sampling!r}")
    if sampling == "weighted":
        require_weights(built.method, f"method {name!r}")
        plain += ", weighted"
    label = str(whole.get("label") or (f"{plain}, {varied}" if varied else plain))
    return MethodSpec(selector, label, whole.get("surrogate"), ablates, sampling)


def _place(value: str) -> str:
    """A target or a start by the path that it is read from, so that one in two spellings is one."""
    name, colon, path = value.rpartition(":")
    return f"{name}{colon}{os.path.realpath(user_path(path))}" if "/" in path else value
