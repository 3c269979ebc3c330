import sys

import numpy as np
import pytest
from PIL import Image

from tlprune.cli import main
from tlprune.commands.frames import extract_frames, middle_frame
from tlprune.errors import InputError

av = pytest.importorskip("av")


def write_video(file, count, codec="mpeg4", **options):
    """Frame ``i`` is grey of ``10 * i``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(count):
            pixels = np.full((48, 64, 3), 10 * number, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return file


@pytest.mark.parametrize("count", [1, 2, 3, 12, 25])
@pytest.mark.parametrize(("codec", "options"), [("mpeg4", {}), ("mpeg4", {"bf": "2"}), ("mpeg2video", {})])
def test_the_frame_in_the_middle(tmp_path, count, codec, options):
    picture = np.asarray(middle_frame(write_video(tmp_path / "v.avi", count, codec, **options)))
    assert picture.shape == (48, 64, 3)
    assert abs(float(picture.mean()) - 10 * (count // 2)) < 5


@pytest.fixture
def videos(tmp_path):
    for name, count in (
        ("ApplyEyeMakeup/v_a_g01_c01.avi", 4),
        ("ApplyEyeMakeup/v_a_g01_c02.avi", 8),
        ("YoYo/v_y.mp4", 6),
    ):
        write_video(tmp_path / "UCF-101" / name, count)
    return tmp_path / "UCF-101"


def test_each_video_becomes_a_picture_of_its_name(tmp_path, videos, capsys):
    (videos / "readme.txt").write_text("")
    assert main(["frames", str(videos), str(tmp_path / "frames")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'frames'}: 3 frames written, 0 were there\n"
    found = sorted(path.relative_to(tmp_path / "frames").as_posix() for path in tmp_path.glob("frames/*/*"))
    assert found == ["ApplyEyeMakeup/v_a_g01_c01.jpg", "ApplyEyeMakeup/v_a_g01_c02.jpg", "YoYo/v_y.jpg"]
    with Image.open(tmp_path / "frames" / "YoYo" / "v_y.jpg") as picture:
        assert picture.size == (64, 48)
        assert abs(float(np.asarray(picture).mean()) - 30) < 5


def test_a_run_that_stopped_goes_on(tmp_path, videos, capsys):
    goal = tmp_path / "frames"
    run = extract_frames(videos, goal)
    assert next(run) == "written"
    run.close()
    before = {path: path.stat().st_mtime_ns for path in goal.rglob("*.jpg")}
    assert main(["frames", str(videos), str(goal), "--workers", "2"]) == 0
    assert f"{3 - len(before)} frames written, {len(before)} were there" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert len(list(goal.rglob("*.jpg"))) == 3


def test_videos_that_cannot_be_read_are_named_and_the_rest_is_written(tmp_path, videos, capsys):
    (videos / "YoYo" / "broken.avi").write_bytes(b"RIFF nothing of the kind")
    (videos / "YoYo" / "empty.avi").write_bytes(b"")
    assert main(["frames", str(videos), str(tmp_path / "frames")]) == 2
    printed = capsys.readouterr()
    assert "3 frames written" in printed.out
    assert "2 of 5 videos cannot be read, first " in printed.err
    assert "broken.avi" in printed.err
    assert "empty.avi" in printed.out
    assert len(list(tmp_path.glob("frames/*/*"))) == 3


def test_what_is_no_folder_of_videos_is_said(tmp_path):
    with pytest.raises(InputError, match="none: no such folder"):
        next(extract_frames(tmp_path / "none", tmp_path / "frames"))
    with pytest.raises(InputError, match=r"no videos in it \(\.avi, "):
        next(extract_frames(tmp_path, tmp_path / "frames"))
    for name in ("a.avi", "a.b.avi", "a.mp4"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"two videos would share the frame 'a\.jpg'"):
        next(extract_frames(tmp_path, tmp_path / "frames"))


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, videos, capsys):
    (tmp_path / "afile").write_text("")
    assert main(["frames", str(videos), str(tmp_path / "afile")]) == 2
    assert f"cannot write {tmp_path / 'afile'}: File exists" in capsys.readouterr().err


def test_pyav_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"pip install 'tlprune\[video\]'"):
        middle_frame(tmp_path / "v.avi")
