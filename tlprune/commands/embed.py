"""``tlprune embed``: writes the features of a source or a target to a file."""

from typing import Literal

from jsonargparse import ArgumentParser

import tlprune
from tlprune.commands.arguments import (
    add_cache,
    add_preprocessing,
    given_preprocessing,
    make_console,
    make_parser,
    parse,
    require_writable,
)
from tlprune.commands.launching import add_processes, finish, launch
from tlprune.data.feature_names import require_feature_suffix
from tlprune.errors import InputError

__all__ = ["run"]

_PASSED_ON = (
    *("source", "target", "surrogate", "output", "surrogate_backbone", "target_seed", "image_size", "on_bad_image"),
    *("num_workers", "precision", "cache", "verify_content", "fresh"),
)


def run(arguments: list[str]) -> None:
    """Computes features, or takes them from the cache, and writes them.

    Raises:
        InputError: If the input is invalid.
    """
    given = parse(_parser(), arguments)
    if (given.source is None) == (given.target is None):
        raise InputError("give --source or --target, " + ("not both" if given.source else "got neither"))
    require_feature_suffix(given.output)
    require_writable(given.output)
    fabric = launch(given)
    from tlprune.data.feature_files import open_features
    from tlprune.distributed import barrier

    barrier()  # from here on, each process also notices when another one is lost
    name = tlprune.embed(
        **{option: given[option] for option in _PASSED_ON},
        surrogate_preprocessing=given_preprocessing(given),
        device=fabric.device,
    )
    if fabric.is_global_zero:
        written = open_features(name, given.cache)
        made = written.embedding
        console = make_console()
        of = "images" if given.source else "training images"
        labels = f"{len(written.classes):,} classes" if written.classes else "no labels"
        text = f"{len(written):,} {of} of {given.source or given.target}, {written.width:,} features each, {labels}"
        console.print(f"{given.output}: {text}", soft_wrap=True)
        if made is not None and made.skipped:
            console.print(f"skipped    {len(made.skipped):,} images, first {made.skipped[0]}", soft_wrap=True)
        option = "--source" if given.source else "--target"
        console.print(f"select with {option} features:{given.output}", soft_wrap=True)
    finish(fabric)


def _parser() -> ArgumentParser:
    what = "Write the features of a source, or of a target's training images; select from them without images."
    parser = make_parser("embed", what)
    add = parser.add_argument
    add("--config", action="config", help="yaml file with any of these; the command line beats it")
    add("--source", type=str | None, default=None, help="the source, as for 'tlprune select'")
    text = "or a target, as for 'tlprune select'; only its training images are embedded"
    add("--target", type=str | None, default=None, help=text)
    add("--surrogate", type=str, required=True, help="weights: a file, torchvision:NAME or timm:NAME")
    add("--surrogate_backbone", type=str | None, default=None, help="its network, if the file is silent")
    add_preprocessing(parser)
    add("--image_size", type=int | None, default=None, help="pixels (default: as the weights say, else 32 or 224)")
    add("--target_seed", type=int, default=0, help="seed of the split of targets that have none of their own")
    text = "what is done about source images that cannot be decoded: 'error', or 'skip' and note them"
    add("--on_bad_image", choices=["error", "skip"], default="error", help=text)
    add("--num_workers", type=int, default=0, help="processes of each rank that load images")
    text = "'bfloat16' is faster on processors that have it"
    add("--precision", type=Literal["float32", "bfloat16"], default="float32", help=text)
    add_cache(parser)
    add("--output", type=str, required=True, help="file to write, *.safetensors, *.npy (and *.csv), *.npz or *.parquet")
    add_processes(parser)
    return parser
