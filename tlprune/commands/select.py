"""``tlprune select``: creates a Selection without any training."""

from typing import Literal

from jsonargparse import ArgumentParser

import tlprune
from tlprune.commands.arguments import (
    add_budget,
    add_cache,
    add_preprocessing,
    build,
    given_budget,
    given_preprocessing,
    make_parser,
    parse,
    require_writable,
)
from tlprune.commands.launching import add_processes, finish, launch
from tlprune.commands.show import show
from tlprune.errors import InputError
from tlprune.selection.registry import selector_names

__all__ = ["run"]

_SELECTOR_HELP = (
    f"how to order: {', '.join(selector_names())}, or a class_path (default: the first); "
    "its options: --selector.help NAME"
)
_PASSED_ON = (
    *("source", "target", "surrogate", "selector", "surrogate_backbone", "combine", "target_weights", "image_size"),
    *("on_bad_image", "num_workers", "cache", "verify_content", "fresh"),
)
_Combination = Literal["worst_case", "union", "weighted_sum"]  # the type in multi_target.py would load torch
_SOURCE_HELP = (
    "'drawn', a folder, linked:FOLDER, unlabelled:FOLDER, a list file, torchvision:NAME:FOLDER, huggingface:NAME, "
    "features:FILE, or without images classes:imagenet1k, classes:FILE"
)
_SIZE_HELP = "pixels (default: as the surrogate's weights say, or 32 for 'drawn', else 224)"


def run(arguments: list[str]) -> None:
    """Counts votes, ranks units, and writes a Selection.

    Raises:
        InputError: If the input is invalid.
    """
    for option in ("--target", "--surrogate"):
        if sum(one == option or one.startswith(f"{option}=") for one in arguments) > 1:
            raise InputError(f"{option} is given twice; name all after one: {option} FIRST SECOND")
    if not any(one.startswith(("--print_config", "--selector.help")) for one in arguments):
        # Answers --help and rejects most invalid input before torch is loaded
        parse(_parser(str | dict | None), arguments)
    from tlprune.distributed import barrier

    for name in selector_names():
        getattr(tlprune, name)  # the parser finds a bare class name only among loaded classes
    parser = _parser(tlprune.Selector | None)
    given = parse(parser, arguments)
    fabric = launch(given)
    built = build(parser, given)
    budget = given_budget(given)
    require_writable(given.output)
    barrier()  # from here on, each process also notices when another one is lost
    selection = tlprune.select(
        **{name: built[name] for name in _PASSED_ON},
        surrogate_preprocessing=given_preprocessing(built),
        device=fabric.device,
    )
    if budget is not None:
        selection.units_kept(budget)  # rejects an invalid budget before anything is written
    if fabric.is_global_zero:
        selection.save(given.output)
        show(selection, given.output, budget, top=10)
    finish(fabric)


def _parser(selector: object) -> ArgumentParser:
    """Creates the parser with all options.

    Args:
        selector: Type of ``--selector``: either ``Selector | None``, whose classes load torch, or a type that accepts
            any value unchecked. With the type ``Any``, a ``class_path`` would be imported.
    """
    parser = make_parser("select", "Order the units of a source for a target, and write the Selection.")
    add = parser.add_argument
    add("--config", action="config", help="yaml file with any of these; the command line beats it")
    add("--source", type=str, required=True, help=_SOURCE_HELP)
    add(
        "--target",
        type=str,
        nargs="+",
        default=None,
        help="'digits', 'photos', a folder, unlabelled:FOLDER, features:FILE, or several of these",
    )
    add("--combine", type=_Combination, default="worst_case", help="how several targets share one order")
    add("--target_weights", type=float, nargs="+", default=None, help="what each target counts in a weighted_sum")
    add(
        "--surrogate",
        type=str,
        nargs="+",
        default=None,
        help="weights of a small model of the whole source; none for features",
    )
    add("--surrogate_backbone", type=str | None, default=None, help="its network, if the file is silent")
    add_preprocessing(parser)
    add("--selector", type=selector, default=None, help=_SELECTOR_HELP)
    add("--image_size", type=int | None, default=None, help=_SIZE_HELP)
    text = "what is done about source images that cannot be decoded: 'error', or 'skip' and note them"
    add("--on_bad_image", choices=["error", "skip"], default="error", help=text)
    add("--num_workers", type=int, default=0, help="processes that look for bad images to skip")
    add_cache(parser)
    add("--output", type=str, required=True, help="the Selection to write, *.safetensors")
    add_processes(parser)
    add_budget(parser)
    return parser
