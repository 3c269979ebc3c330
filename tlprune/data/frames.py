"""The middle frame of each video of a folder, as UCF101 is used: a set of videos becomes a set of images, once."""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from tlprune.errors import InputError
from tlprune.storage.atomic import write_bytes

__all__ = ["VIDEOS", "extract_frames", "list_videos", "middle_frame"]

VIDEOS = (".avi", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
"""File endings taken for videos, in lower case."""

_QUALITY = 95


def list_videos(root: Path) -> list[str]:
    """Lists the videos of a folder and of the folders in it.

    Args:
        root: The folder.

    Returns:
        Paths relative to ``root``, in order.

    Raises:
        InputError: There is no such folder, or no video in it.
    """
    if not root.is_dir():
        raise InputError(f"{root}: {'a file, not a folder' if root.exists() else 'no such folder'}")
    found = sorted(
        os.path.relpath(os.path.join(folder, file), root)
        for folder, _, files in os.walk(root)
        for file in files
        if file.lower().endswith(VIDEOS)
    )
    if not found:
        raise InputError(f"{root}: no videos in it ({', '.join(VIDEOS)})")
    return found


def middle_frame(video: Path) -> Image.Image:
    """Decodes a video up to its middle.

    Args:
        video: The file.

    Returns:
        Frame ``n // 2`` of ``n``, counted from 0, RGB.

    Raises:
        InputError: PyAV is not installed, or the file is damaged, or no video.
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
    except Exception as error:  # damaged bytes make the decoders raise anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"{video}: {' '.join(reason.split())}") from error


def extract_frames(videos: Path, frames: Path, workers: int = 1) -> Iterator[tuple[str, str]]:
    """Writes the middle frame of each video as a JPEG of the same name, in folders called as those of the videos.

    A frame that is there already is left as it is, so that a run that stopped goes on.

    Args:
        videos: A folder of videos, at any depth.
        frames: The folder to write to.
        workers: Videos decoded at a time, at least 1.

    Yields:
        For each video its path, relative to ``videos``, and what became of it: ``written``, ``there``, or what is wrong
        with it.

    Raises:
        InputError: There are no videos, two would share a frame, or nothing can be written.
    """
    paths = list_videos(videos)
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
        yield from zip(paths, threads.map(extract, paths, (frames / goal for goal in goals)), strict=True)


def _pyav() -> Any:
    try:
        return import_module("av")
    except ModuleNotFoundError as error:
        raise InputError("reading videos needs PyAV: pip install 'tlprune[video]'") from error
