"""A disk that is full, a real one of four mebibytes, wherever something is written."""

import os
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors import safe_open

from tlprune import AtomicCheckpointIO, ExportBackbone, LitClassifier, PrunedSourceDataModule, Selection
from tlprune.cli import main
from tlprune.data.synthetic import synthetic_source
from tlprune.errors import InputError
from tlprune.models.weights import load_classifier
from tlprune.storage.checkpoints import load_torch, save_torch

PAGE = 4096


class SmallDisk:
    """A file system that holds little, and a file on it that leaves as much room as is wanted."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._ballast = root / "ballast"

    def leave(self, pages: int) -> None:
        self._ballast.unlink(missing_ok=True)
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(PAGE)) == PAGE:
                    pass
            except OSError:
                pass
            file.truncate(max(0, file.tell() - pages * PAGE))

    def make_room(self) -> None:
        self._ballast.unlink()

    def leftovers(self) -> list[Path]:
        """What is neither a file that took its name nor a lock."""
        return [path for path in self.root.rglob("*") if path.suffix == ".part" or path.name.startswith(".tmp")]


@pytest.fixture
def disk(tmp_path):
    root = tmp_path / "disk"
    root.mkdir()
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if mount is None or unmount is None:
        pytest.skip("there is no command 'mount'")
    command = [mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is refused: {done.stderr.strip()}")
    yield SmallDisk(root)
    subprocess.run([unmount, "--lazy", str(root)], check=True)


@pytest.fixture
def source(class_folder):
    return class_folder("src", dict.fromkeys(("ant", "bee", "cat", "dog"), 30))


@pytest.fixture
def inputs(source, class_folder, surrogate_file):
    pets = class_folder("pets/train", {"x": 6, "y": 3}).parent
    return [f"--source={source}", f"--target={pets}", f"--surrogate={surrogate_file(4)}", "--image_size=32"]


def refused(capsys, place):
    """What could not be written, as the one line on standard error names it."""
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.startswith(f"tlprune: error: cannot write {place}")
    assert line.endswith(": No space left on device\n")
    return Path(line.removeprefix("tlprune: error: cannot write ").removesuffix(": No space left on device\n"))


def test_select_goes_on_page_by_page_where_the_cache_is_full(disk, inputs, tmp_path, capsys):
    """Each attempt has one page more than the last, and none again once a stage is done: so each stage is cut off."""
    mapping = ["--selector=FeatureMapping", "--selector.num_clusters=5", "--on_bad_image=skip"]
    command = ["select", *inputs, *mapping, f"--output={tmp_path / 's.safetensors'}"]
    assert main([*command, f"--cache={tmp_path / 'large'}"]) == 0
    wanted = Selection.load(tmp_path / "s.safetensors").digest
    (tmp_path / "s.safetensors").unlink()
    stages, finished, pages = [], {}, 0
    while True:
        disk.leave(pages)
        capsys.readouterr()
        status = main([*command, f"--cache={disk.root / 'cache'}"])
        files = [path for path in disk.root.glob("cache/**/*") if path.is_file() and path.suffix != ".lock"]
        written = {path: path.stat().st_mtime_ns for path in files}
        assert written.items() >= finished.items()  # what was finished is neither lost nor made again
        assert disk.leftovers() == []
        pages = 0 if len(written) > len(finished) else pages + 1
        finished = written
        if status == 0:
            break
        assert status == 2
        stages.append(refused(capsys, f"{disk.root}/cache/").relative_to(disk.root / "cache").parts[0])
        assert not (tmp_path / "s.safetensors").exists()
        assert pages < 100
    assert Selection.load(tmp_path / "s.safetensors").digest == wanted
    assert list(dict.fromkeys(stages)) == ["damaged", "features", "clusters", "selections"]


@pytest.mark.parametrize("pages", [0, 1])
def test_a_selection_on_a_full_disk_is_the_previous_one(disk, inputs, capsys, pages):
    output = disk.root / "s.safetensors"
    select = ["select", *inputs, "--selector=RandomSelector", "--selector.unit=sample", f"--output={output}"]
    assert main([*select, "--selector.seed=1"]) == 0
    before = Selection.load(output).digest
    disk.leave(pages)
    capsys.readouterr()
    assert main([*select, "--selector.seed=2"]) == 2
    assert refused(capsys, output) == output
    assert Selection.load(output).digest == before
    assert disk.leftovers() == []
    disk.make_room()
    assert main([*select, "--selector.seed=2"]) == 0
    assert Selection.load(output).digest != before


@pytest.mark.parametrize("form", ["paths", "indices", "webdataset", "parquet", "symlinks"])
def test_an_export_on_a_full_disk_leaves_nothing(disk, inputs, tmp_path, capsys, form):
    selection = str(tmp_path / "s.safetensors")
    assert main(["select", *inputs, "--selector=RandomSelector", f"--output={selection}"]) == 0
    export = ["export", selection, f"--format={form}", "--prune_ratio=0", f"--output={disk.root / 'kept'}"]
    disk.leave(0)
    capsys.readouterr()
    assert main(export) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "No space left on device" in line
    assert str(disk.root / "kept") in line
    assert [path.name for path in disk.root.iterdir()] == ["ballast"]
    disk.make_room()
    assert main(export) == 0


def test_a_picture_on_a_full_disk_leaves_nothing(disk, inputs, tmp_path, capsys):
    selection = str(tmp_path / "s.safetensors")
    assert main(["select", *inputs, f"--output={selection}"]) == 0
    disk.leave(0)
    capsys.readouterr()
    assert main(["explain", selection, "--unit=ant", f"--output={disk.root / 'ant.png'}"]) == 2
    assert refused(capsys, disk.root) == disk.root / "ant.png"
    assert [path.name for path in disk.root.iterdir()] == ["ballast"]


def test_a_checkpoint_is_the_previous_one_however_much_of_the_next_found_room(disk):
    path = disk.root / "w.ckpt"
    content = {"state_dict": {"a": torch.zeros(20 * PAGE // 4)}}
    save_torch({**content, "number": -1}, path)
    needed = path.stat().st_size // PAGE + 1
    for pages in range(needed):
        disk.leave(pages)
        with pytest.raises(InputError, match=f"^cannot write {path}: No space left on device$"):
            save_torch({**content, "number": pages}, path)
        assert load_torch(path)["number"] == -1
        assert disk.leftovers() == []
    disk.leave(needed)
    save_torch({**content, "number": needed}, path)
    assert load_torch(path)["number"] == needed


@pytest.fixture
def fit(coloured, trainer, disk):
    def run(epochs, resume=None, export=None):
        callbacks = [ModelCheckpoint(disk.root / "run", "model", save_last=True, enable_version_counter=False)]
        if export is not None:
            callbacks.append(ExportBackbone(str(export)))
        fit = trainer(max_epochs=epochs, callbacks=callbacks, enable_checkpointing=True, plugins=[AtomicCheckpointIO()])
        torch.manual_seed(0)
        module = LitClassifier("resnet8_w8")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Checkpoint directory|The dirpath has changed")
            fit.fit(module, datamodule=PrunedSourceDataModule(coloured(3, 10), batch_size=8), ckpt_path=resume)
        return module.state_dict()

    return run


def test_training_on_a_full_disk_stops_and_goes_on_once_there_is_room(fit, disk):
    wanted = fit(3)
    for path in (disk.root / "run").iterdir():
        path.unlink()
    fit(1)
    last = disk.root / "run" / "last.ckpt"
    disk.leave(3)
    with pytest.raises(InputError, match=f"^cannot write {disk.root}/run/.*: No space left on device$"):
        fit(3, resume=str(last))
    assert load_torch(last)["epoch"] == 0
    assert disk.leftovers() == []
    disk.make_room()
    resumed = fit(3, resume=str(last))
    assert all(torch.equal(wanted[key], resumed[key]) for key in wanted)


def test_exported_weights_on_a_full_disk_are_the_previous_ones(fit, disk):
    path = disk.root / "weights" / "s.safetensors"
    fit(1, export=path)
    before = path.read_bytes()
    size = sum(file.stat().st_size for file in (disk.root / "run").iterdir())
    for file in (disk.root / "run").iterdir():
        file.unlink()
    disk.leave(size // PAGE + 5)  # for the checkpoints, and for a part of the weights
    with pytest.raises(InputError, match=f"^cannot write {path}: No space left on device$"):
        fit(1, export=path)
    assert path.read_bytes() == before
    assert disk.leftovers() == []
    load_classifier(path)
    disk.make_room()
    fit(2, export=path)
    load_classifier(path)
    with safe_open(path, "pt") as file:
        assert "checksum" in file.metadata()


def test_the_embedded_source_is_drawn_whole_or_not_at_all(disk):
    disk.leave(20)
    with pytest.raises(InputError, match=f"^cannot create {disk.root}/cache/drawn-.*: No space left on device$"):
        synthetic_source(disk.root / "cache", images_per_class=1)
    assert [path.suffix for path in (disk.root / "cache").iterdir()] in ([], [".lock"])
    disk.make_room()
    assert len(os.listdir(synthetic_source(disk.root / "cache", images_per_class=1))) > 10
