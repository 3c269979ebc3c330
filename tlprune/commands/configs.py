"""``tlprune configs``: lists the yaml files included in tlprune, or copies them to a folder."""

import shutil
from pathlib import Path
from textwrap import wrap

from tlprune.commands.arguments import make_parser, parse
from tlprune.config_files import own_configs
from tlprune.errors import InputError
from tlprune.storage.atomic import atomic_folder
from tlprune.storage.paths import user_path

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Lists the included configs with their purpose, or copies all of them.

    Raises:
        InputError: If the destination folder exists, or cannot be created.
    """
    what = "List the yaml files that come with tlprune; with a folder, copy them there."
    parser = make_parser("configs", what)
    text = "a folder to make, such as 'configs': commands in the documentation then run as they are written"
    parser.add_argument("folder", type=str, nargs="?", default=None, help=text)
    folder = parse(parser, arguments).folder
    configs = own_configs()
    if folder is None:
        for path in sorted(configs.rglob("*.yaml")):
            print(path.relative_to(configs.parent))
            print("\n".join(wrap(_purpose(path), 80, initial_indent="    ", subsequent_indent="    ")))
        print("\n'tlprune configs configs' copies them into a folder 'configs' where you are.")
        return
    if user_path(folder).exists():
        raise InputError(f"{folder}: is there already; name a folder that is not")
    with atomic_folder(folder) as temporary:
        shutil.copytree(configs, temporary, dirs_exist_ok=True)
    print(f"{folder}: {sum(1 for _ in user_path(folder).rglob('*.yaml'))} yaml files")


def _purpose(path: Path) -> str:
    """Returns the first sentence of a config's opening comment."""
    comment = []
    for line in path.read_text().splitlines():
        if not line.startswith("# "):
            break
        comment.append(line.removeprefix("# "))
    return " ".join(comment).split(". ")[0].rstrip(".") + "."
