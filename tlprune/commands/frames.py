"""``tlprune frames``: extracts the middle frame of each video, the form in which UCF101 is used for transfer."""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from tlprune.commands.arguments import make_console, make_parser, parse
from tlprune.errors import InputError, require_within
from tlprune.storage.atomic import write_bytes
from tlprune.storage.paths import user_path

__all__ = ["extract_frames", "middle_frame", "run"]

_VIDEOS = (".avi", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
_QUALITY = 95
_SHOWN = 5


def run(arguments: list[str]) -> None:
    """Extracts frames, resuming an interrupted run.

    Raises:
        InputError: If there are no videos, some cannot be read, or the output cannot be written.
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
    outcomes = list(extract_frames(videos, frames, given.workers))
    written, there = outcomes.count("written"), outcomes.count("there")
    bad = [outcome for outcome in outcomes if outcome not in ("written", "there")]
    console = make_console()
    console.print(f"{frames}: {written:,} frames written, {there:,} were there", soft_wrap=True)
    for line in bad[:_SHOWN]:
        console.print(f"  {line}", soft_wrap=True)
    if bad:
        raise InputError(f"{videos}: {len(bad):,} of {len(outcomes):,} videos cannot be read, first {bad[0]}")


def extract_frames(videos: Path, frames: Path, workers: int = 1) -> Iterator[str]:
    """Writes the middle frame of each video as a JPEG of the same name, in the same folder structure as the videos.

    Args:
        videos: Folder of videos, at any depth.
        frames: Output folder; existing frames are left unchanged.
        workers: Number of videos decoded in parallel, at least 1.

    Yields:
        Outcome of each video, ordered by path: ``written``, ``there``, or an error message.

    Raises:
        InputError: If there are no videos, two videos would share a frame, or the output cannot be written.
    """
    paths = _video_paths(videos)
    goals = [f"{os.path.splitext(path)[0]}.jpg" for path in paths]
    if twice := next((goal for goal, count in Counter(goals).items() if count > 1), None):
        raise InputError(f"{videos}: two videos would share the frame {twice!r}")

    def extract(path: str, goal: Path) -> str:
        if goal.is_file():
            return "there"
        try:
            picture = middle_frame(videos / path)
        except InputError as error:
            return str(error)
        stream = BytesIO()
        picture.save(stream, "JPEG", quality=_QUALITY)
        write_bytes(goal, stream.getvalue())
        return "written"

    _pyav()
    try:
        frames.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {frames}: {error.strerror or error}") from error
    with ThreadPoolExecutor(workers) as threads:
        yield from threads.map(extract, paths, (frames / goal for goal in goals))


def middle_frame(video: Path) -> Image.Image:
    """Decodes a video up to its middle.

    Returns:
        Frame ``n // 2`` of ``n``, counted from 0, RGB.

    Raises:
        InputError: If PyAV is not installed, or the file is damaged or not a video.
    """
    av = _pyav()
    try:
        with av.open(str(video)) as container:
            if not container.streams.video:
                raise InputError(f"{video}: no pictures in it")
            count = sum(packet.size > 0 for packet in container.demux(video=0))
            container.seek(0)
            frame = None
            for number, decoded in enumerate(container.decode(video=0)):
                frame = decoded
                if number == count // 2:
                    break
            if frame is None:
                raise InputError(f"{video}: a video without frames")
            picture: Image.Image = frame.to_image()
            return picture
    except InputError:
        raise
    except Exception as error:  # damaged bytes can raise any exception in the decoders
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"{video}: {' '.join(reason.split())}") from error


def _video_paths(root: Path) -> list[str]:
    """Returns the relative paths of all videos in a folder and its subfolders, sorted."""
    if not root.is_dir():
        raise InputError(f"{root}: {'a file, not a folder' if root.exists() else 'no such folder'}")
    paths = sorted(
        os.path.relpath(os.path.join(folder, file), root)
        for folder, _, files in os.walk(root)
        for file in files
        if file.lower().endswith(_VIDEOS)
    )
    if not paths:
        raise InputError(f"{root}: no videos in it ({', '.join(_VIDEOS)})")
    return paths


def _pyav() -> Any:
    try:
        return import_module("av")
    except ModuleNotFoundError as error:
        raise InputError("reading videos needs PyAV: pip install 'tlprune[video]'") from error
