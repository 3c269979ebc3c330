"""The ``tlprune`` command: LightningCLI's subcommands, and plain functions.

Everything heavy is imported inside the command that needs it, so that ``tlprune --help`` answers at once.
"""

import errno
import os
import sys
import warnings
from argparse import ArgumentError, ArgumentParser
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import NoReturn

from tlprune import __version__
from tlprune.config_files import check_configs
from tlprune.errors import InputError, did_you_mean
from tlprune.processes import Stopping, first_to_say, is_lost_connection, stoppable

__all__ = ["main"]

_PLAIN_WARNING = warnings.formatwarning


def _lightning(arguments: list[str]) -> None:
    check_configs(arguments, "'model', 'data' and 'trainer'")
    from tlprune.lightning_cli import run

    run(arguments)


class _Parser(ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see '{self.prog} --help')")


def _demo(arguments: list[str]) -> None:
    what = "Prune the built-in source for a target, pretrain, transfer; compare with no, random and reverse pruning."
    parser = _Parser(prog="tlprune demo", description=f"{what} 4 minutes on two idle cores, 5 with --method fm.")
    parser.add_argument("--target", default="digits", help="digits or photos (default: digits)")
    parser.add_argument(
        "--method", default="lm", help="lm (Label Mapping) or fm (Feature Mapping and SimCLR, no labels) (default: lm)"
    )
    parser.add_argument("--quick", action="store_true", help="one ratio, two seeds: 90 seconds, wider intervals")
    parser.add_argument("--seeds", type=int, help="repetitions (default: 4, fm 3, or 2 with --quick)")
    parser.add_argument("--output", help="folder for results (default: runs/demo-TARGET)")
    parser.add_argument("--cache", help="cache folder (default: $TLPRUNE_CACHE or the user's)")
    parser.add_argument("--fresh", action="store_true", help="run again what an earlier demo there has finished")
    given = parser.parse_args(arguments)

    from tlprune.experiments.demo import demo

    demo(**vars(given))


def _select(arguments: list[str]) -> None:
    check_configs(arguments, "'source', 'target' and 'output'", lists=("target", "surrogate", "target_weights"))
    _in_commands("select")(arguments)


def _in_commands(command: str) -> Callable[[list[str]], None]:
    def run(arguments: list[str]) -> None:
        import_module(f"tlprune.commands.{command}").run(arguments)

    return run


_COMMANDS: dict[str, tuple[Callable[[list[str]], None], str]] = {
    "demo": (_demo, "prune, pretrain, transfer and compare on embedded data, in minutes"),
    "select": (_select, "vote, rank, and write a Selection, without training"),
    "embed": (_in_commands("embed"), "features of a source or a target to a file, to select from without images"),
    "show": (_in_commands("show"), "what a Selection was made from, and what it keeps"),
    "explain": (_in_commands("explain"), "who voted for a unit, and why it is kept or dropped"),
    "diff": (_in_commands("diff"), "units and images that two Selections do not share"),
    "export": (_in_commands("export"), "what a Selection keeps: indices, paths, links, Parquet, WebDataset keys"),
    "apply": (_in_commands("apply"), "what a Selection keeps of another source, or of shards: tars, Parquet"),
    "sweep": (_in_commands("sweep"), "methods, ratios, seeds and targets against each other; winning subsets"),
    "advise": (_in_commands("advise"), "how much to prune, and what that saves"),
    "audit": (_in_commands("audit"), "test images of the target that are in what a Selection keeps"),
    "report": (_in_commands("report"), "a page, tables and pictures of what sweeps, demos or a Selection found"),
    "datasets": (_in_commands("datasets"), "targets that have names: sizes, where they lie, how to get them"),
    "configs": (_in_commands("configs"), "the yaml files that come with tlprune, and a copy of them"),
    "frames": (_in_commands("frames"), "the middle frame of each video, for UCF101"),
    "fit": (_lightning, "train: a surrogate, a source model, or a transfer to a target"),
    "validate": (_lightning, "evaluate a checkpoint on the validation set"),
    "test": (_lightning, "evaluate a checkpoint on the test set"),
    "predict": (_lightning, "probabilities of a checkpoint"),
}


def _help() -> str:
    rows = "\n".join(f"  {name:<10}{text}" for name, (_, text) in _COMMANDS.items())
    return (
        "usage: tlprune [--help] [--version] [--debug] COMMAND ...\n\n"
        "Find the part of a pretraining set that a target votes for, and pretrain on that alone.\n\n"
        f"commands:\n{rows}\n\n"
        "options:\n"
        "  --debug   show the traceback of an error\n\n"
        "'tlprune COMMAND --help' says what a command takes. Try 'tlprune demo --quick' first."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the ``tlprune`` command.

    Args:
        arguments: What follows ``tlprune`` on the command line; None takes it from the process.

    Returns:
        The exit status: 0; 2 for bad input, which is said in one line on standard error; 1 where another process of
        the job is gone; 130 after Ctrl-C; 143 after SIGTERM; 141 where nobody reads the output any more.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    if not given or given[0] in ("-h", "--help"):
        print(_help())
        return 0
    if given[0] == "--version":
        print(f"tlprune {__version__}")
        return 0
    warnings.formatwarning = _warning_line
    warnings.filterwarnings("ignore", "Image size .* could be decompression bomb")  # ours has a limit, and a name
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may be no text
    with stoppable() as stopping:
        return _status(given, debug, stopping)


def _status(given: list[str], debug: bool, stopping: Stopping) -> int:
    try:
        status = _run(given)
        sys.stdout.flush()
        return stopping.status or status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # who read the output has seen enough, as in '... | head'
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if stopping.status:  # what waited for a process that was told to end has failed, or a library hid the signal
            return stopping.status
        lost = is_lost_connection(error)
        if debug or not (lost or _is_input_error(error)):
            raise
        message = "another process of this job is gone" if lost else _one_line(error)
        if first_to_say(message):
            print(f"tlprune: error: {message}", file=sys.stderr)
        return 1 if lost else 2


def _warning_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """What tlprune warns of is for people; other libraries' warnings are left as they are."""
    if issubclass(category, UserWarning) and "/tlprune/" in filename.replace(os.sep, "/"):
        return f"tlprune: warning: {message}\n"
    return _PLAIN_WARNING(message, category, filename, lineno, line)


def _run(given: list[str]) -> int:
    name = given[0]
    if name not in _COMMANDS:
        raise InputError(f"unknown command {name!r}: {did_you_mean(name, _COMMANDS)}")
    command, _ = _COMMANDS[name]
    takes_name = command is _lightning
    try:
        command(given if takes_name else given[1:])
    except SystemExit as stop:  # --help, --print_config
        return stop.code if isinstance(stop.code, int) else 0
    return 0


def _is_input_error(error: BaseException) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None))
    return full or isinstance(error, (InputError, ArgumentError))


def _one_line(error: BaseException) -> str:
    """The innermost InputError's message, if there is one; a parser's message without its indented repetitions."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InputError):
            return " ".join(str(cause).split())
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split())
