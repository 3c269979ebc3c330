"""``tlprune frames``: the middle frame of each video, as UCF101 is used for transfer."""

import os

from tlprune.commands.arguments import make_console, make_parser, parse
from tlprune.data.frames import extract_frames
from tlprune.errors import InputError, require_within
from tlprune.storage.paths import user_path

__all__ = ["run"]

_SHOWN = 5


def run(arguments: list[str]) -> None:
    """Extracts frames, and goes on where a run before it stopped.

    Args:
        arguments: What follows ``frames`` on the command line.

    Raises:
        InputError: There are no videos, some cannot be read, or nothing can be written.
    """
    what = (
        "Write the middle frame of each video as a JPEG of the same name; frames that are there are left as they are."
    )
    parser = make_parser("frames", what)
    parser.add_argument("videos", type=str, help="a folder of videos, such as UCF-101")
    parser.add_argument("frames", type=str, help="the folder to write to, such as UCF-101-midframes")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="videos decoded at a time")
    given = parse(parser, arguments)
    require_within("workers", given.workers, 1)
    videos, frames = user_path(given.videos), user_path(given.frames)
    written = there = 0
    bad: list[str] = []
    for _, became in extract_frames(videos, frames, given.workers):
        written, there = written + (became == "written"), there + (became == "there")
        if became not in ("written", "there"):
            bad.append(became)
    console = make_console()
    console.print(f"{frames}: {written:,} frames written, {there:,} were there", soft_wrap=True)
    if bad:
        for line in bad[:_SHOWN]:
            console.print(f"  {line}", soft_wrap=True)
        raise InputError(
            f"{videos}: {len(bad):,} of {written + there + len(bad):,} videos cannot be read, first {bad[0]}"
        )
