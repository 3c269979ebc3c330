"""``tlprune datasets``: lists the built-in targets, their sizes and locations, and how to obtain them."""

from pathlib import Path
from textwrap import wrap

from tlprune.commands.arguments import make_parser, parse
from tlprune.data.named_targets import DATA_VARIABLE, data_root, find_set, open_set
from tlprune.data.target_catalogue import TARGET_SETS, Sizes, TargetSet
from tlprune.errors import InputError, did_you_mean

__all__ = ["EMBEDDED", "run"]

EMBEDDED = {"digits": (10, Sizes(200, 400, 1197)), "photos": (14, Sizes(350, 420, 840))}
"""Numbers of classes and images of the built-in targets."""

_COOP_PAGE = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"
_ROW = "{:<15}{:>7}{:>7}{:>8}{:>8} {}"


def run(arguments: list[str]) -> None:
    """Lists the built-in targets, or prints the details of one of them.

    Raises:
        InputError: If there is no target of that name, or ``$TLPRUNE_DATA`` is not a folder.
    """
    parser = make_parser("datasets", "List the targets that have names; with a name, say how to lay that one out.")
    parser.add_argument("name", type=str, nargs="?", default=None, help="one of them")
    name = parse(parser, arguments).name
    root = data_root()
    if name is None:
        print("\n".join(_table(root)))
    elif name in EMBEDDED:
        print(f"{name} comes with tlprune: nothing to get. Use it as `target: {name}`.")
    elif name in TARGET_SETS:
        print("\n".join(_details(TARGET_SETS[name])))
    else:
        raise InputError(f"unknown target {name!r}: {did_you_mean(name, [*EMBEDDED, *TARGET_SETS])}")


def _table(root: Path | None) -> list[str]:
    rows = [_ROW.format("target", "classes", "train", "val", "test", "found")]
    for name, (classes, sizes) in EMBEDDED.items():
        rows.append(_ROW.format(name, classes, *(f"{size:,}" for size in sizes), "comes with tlprune"))
    for entry in TARGET_SETS.values():
        found = find_set(entry)
        sizes = _with_val(entry.coop_sizes or entry.official_sizes)
        shown = f"{entry.name} *" if entry.download_is_dead else entry.name
        where = "-" if found is None else found.name if _is_whole(entry, found) else "incomplete"
        rows.append(_ROW.format(shown, entry.num_classes, *(f"{size:,}" for size in sizes), where))
    return [
        *rows,
        "",
        f"found: the folder in ${DATA_VARIABLE}, which is {root or 'not set'}",
        "*: torchvision can no longer download it",
        "Sizes are those of CoOp's split files where a set has one. Where a set has no",
        "validation images, a fifth of its training images is held out.",
        "",
        "'tlprune datasets NAME' says how to get one and what its folder must look like.",
        "A folder elsewhere: `target: NAME:FOLDER`.",
    ]


def _details(entry: TargetSet) -> list[str]:
    found = find_set(entry)
    state = "not there" if found is None else f"{found}{'' if _is_whole(entry, found) else ', incomplete'}"
    lines = [] if found is None else _counted(entry, found)
    counted = [f"{'' if place else 'holds':<11}{line}" for place, line in enumerate(lines)]
    names = " or ".join(dict.fromkeys((entry.name, *entry.folders)))
    lines = [
        f"{entry.name}: {entry.title}, {entry.num_classes} classes, {entry.image_size} pixels",
        "",
        f"found      {state if data_root() else f'${DATA_VARIABLE} is not set'}",
        *counted,
        f"looked for in ${DATA_VARIABLE} as",
        f"           {names}",
        f"or give    target: {entry.name}:FOLDER",
        "",
        f"home page  {entry.home_page}",
        f"terms      {entry.terms}",
    ]
    if entry.remark:
        lines.append(f"note       {entry.remark}")
    lines += ["", "FOLDER/", *(f"  {line}" for line in entry.tree)]
    if entry.coop_file and entry.coop_sizes:
        lines += ["", "split, where this file is there:", f"  {entry.coop_file}, {_sizes(entry.coop_sizes)}"]
        lines += [f"  linked in {_COOP_PAGE}", "else the official one:"]
    else:
        lines += ["", "split:"]
    files = wrap(", ".join(entry.files), 80, initial_indent="  ", subsequent_indent="  ")
    return [*lines, f"  {_sizes(entry.official_sizes)}", *files]


def _counted(entry: TargetSet, folder: Path) -> list[str]:
    """Describes the folder's content: the sizes of its splits, or the problem found."""
    try:
        parts = open_set(entry, folder)
    except InputError as error:
        return wrap(str(error), 68, break_long_words=False)
    val = None if parts.val is None else len(parts.val)
    return [_sizes(Sizes(len(parts.train), val, len(parts.test))), f"split: {parts.split}"]


def _with_val(sizes: Sizes) -> Sizes:
    """Returns the sizes after a fifth of the images is held out."""
    held = round(sizes.train / 5)
    return sizes if sizes.val is not None else Sizes(sizes.train - held, held, sizes.test)


def _sizes(sizes: Sizes) -> str:
    val = "no" if sizes.val is None else f"{sizes.val:,}"
    return f"{sizes.train:,} train, {val} val, {sizes.test:,} test"


def _is_whole(entry: TargetSet, folder: Path) -> bool:
    """Returns whether a folder has the required content, by a quick check."""
    try:
        entry.home(folder)
    except InputError:
        return False
    return True
