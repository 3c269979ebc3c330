"""``tlprune export``: writes the images that a Selection keeps, for use by other tools."""

from tlprune.commands.arguments import (
    add_budget,
    add_origins,
    make_console,
    make_parser,
    parse,
    require_selections,
    require_writable,
    required_budget,
)
from tlprune.errors import InputError
from tlprune.storage.paths import user_path

__all__ = ["run"]

_WRITTEN = {
    "classes": "names of the",
    "indices": "indices of the",
    "parquet": "a table of the",
    "paths": "paths of the",
    "symlinks": "links to the",
    "webdataset": "keys of the",
}


def run(arguments: list[str]) -> None:
    """Writes the images that a Selection keeps.

    Raises:
        InputError: If the input is invalid, or the source is not the one that the Selection was made for.
    """
    parser = make_parser("export", "Write what a Selection KEEPS, in the order of the source's listing.")
    parser.add_argument("selection", type=str, help="a saved Selection")
    parser.add_argument("--format", choices=list(_WRITTEN), required=True, help="what to write: see docs/selection.md")
    parser.add_argument("--output", type=str, required=True, help="a file, or for symlinks a new folder")
    add_origins(parser, targets=False)
    add_budget(parser)
    given = parse(parser, arguments)
    require_selections(given.selection)
    budget = required_budget(given)
    # torch takes seconds
    from tlprune.commands.origins import opened_source
    from tlprune.data.datasets import FolderImages
    from tlprune.data.shards import ShardedImages
    from tlprune.selection.export import (
        export_classes,
        export_indices,
        export_keys,
        export_links,
        export_parquet,
        export_paths,
    )
    from tlprune.selection.selection import Selection

    selection = Selection.load(given.selection)
    output = user_path(given.output)
    if given.format == "classes":
        require_writable(given.output)
        if budget.exactly is not None:
            raise InputError("a list of classes cannot cut the last one: give another budget than --keep_exactly")
        classes = selection.units_kept(budget)
        export_classes(selection, classes, output)
        counts = f"{len(classes):,} classes KEPT of {selection.num_units:,}, best first"
        make_console().print(f"{output}: {_WRITTEN[given.format]} {counts}", soft_wrap=True)
        return
    selection.require_images()
    kept, total = selection.kept(budget).samples, len(selection.unit_of_sample)
    if given.format != "symlinks":
        require_writable(given.output)
    if given.format == "indices":
        if given.source or selection.metadata.get("source"):
            opened_source(selection, given.source, given.cache)  # stale indices would name other images
        export_indices(kept, total, output)
    else:
        images = opened_source(selection, given.source, given.cache)
        if given.format == "parquet":
            names = [images.name(index) for index in range(len(images))]
            labels = [images.classes[label] for label in images.labels.tolist()] if images.classes else None
            export_parquet(selection, kept, names, labels, output)
        elif given.format == "webdataset" and isinstance(images, ShardedImages):
            keys = [images.key(index) for index in range(len(images))]
            export_keys(kept, images.shards[0].path.parent, keys, output)
        elif not isinstance(images, FolderImages):
            raise InputError(f"this source is not made of files, so there are no {given.format}: use --format indices")
        else:
            by_path = {"paths": export_paths, "symlinks": export_links, "webdataset": export_keys}
            by_path[given.format](kept, images.root, images.paths, output)
    make_console().print(f"{output}: {_WRITTEN[given.format]} {len(kept):,} images KEPT of {total:,}", soft_wrap=True)
