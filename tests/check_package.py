"""What 'make test-package' asks of both archives, and of the wheel once it is installed with nothing of the clone near.

No test of pytest's: the environment that it looks into has the wheel and what that needs, and nothing else.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
# what a clone needs and an archive does not; what setuptools adds
LEFT_OUT = (".ci/", ".git", ".pre-commit")
ADDED = ("PKG-INFO", "tlprune.egg-info/")

IMPORTED = """
import sys, tlprune
for name in tlprune.__all__:
    getattr(tlprune, name)
ours = [module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "tlprune"]
assert len(ours) > 50, ours
print(*{file.split("/tlprune/")[0] for file in ours})
"""
TARGET = """
from pathlib import Path
from PIL import Image
for level in range(10, 250, 10):
    folder = Path(f"target/train/{level // 100}")
    folder.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").point(lambda grey: min(grey, level)).save(folder / f"{level}.png")
"""


def check_source_archive(archive: Path) -> None:
    """It holds what the clone holds."""
    with tarfile.open(archive) as files:
        found = {name.partition("/")[2] for name in files.getnames() if files.getmember(name).isfile()}
    found = {name for name in found if not name.startswith(ADDED)}
    assert {"LICENSE", "tlprune/py.typed", "configs/source/drawn_pruned.yaml", "tests/conftest.py"} <= found
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
        expected = {name for name in listed.stdout.splitlines() if not name.startswith(LEFT_OUT)}
        assert found == expected, f"missing: {expected - found}, too many: {found - expected}"


def check_wheel(wheel: Path) -> None:
    """It holds the package, its types, its configs and the licence, and nothing beside."""
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"tlprune/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")}
    modules = [*(ROOT / "tlprune").rglob("*.py"), *(ROOT / "tlprune").rglob("*.pyi")]
    expected |= {str(path.relative_to(ROOT)) for path in modules} | {"tlprune/py.typed"}
    page = [path for path in (ROOT / "tlprune/experiments/page").iterdir() if path.suffix in (".j2", ".css", ".js")]
    assert len(page) > 4
    expected |= {str(path.relative_to(ROOT)) for path in page}
    package = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert package == expected, f"missing: {expected - package}, too many: {package - expected}"
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


class Installed:
    """An environment with the wheel, and a folder to work in with nothing of the clone near.

    Args:
        environment: The virtual environment.
        folder: An empty folder.
    """

    def __init__(self, environment: Path, folder: Path) -> None:
        self.environment = environment.absolute()
        self.folder = folder
        ours = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TLPRUNE_DATA")}
        self.variables = ours | {"TLPRUNE_CACHE": f"{folder}/cache"}

    def run(self, *command: str, status: int = 0) -> str:
        """Returns what a command of the environment writes to standard output, and to standard error if it fails."""
        print("$", *(word if "\n" not in word else "..." for word in command), flush=True)
        done = subprocess.run(
            [self.environment / "bin" / command[0], *command[1:]],
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if status else None,
            text=True,
        )
        assert done.returncode == status, (done.returncode, done.stderr)
        return done.stderr if status else done.stdout


def check_installed(installed: Installed, version: str) -> None:
    """Commands of the README that need no extra, where there is no clone."""
    run, folder = installed.run, installed.folder
    [home] = run("python", "-c", IMPORTED).split()
    assert Path(home).is_relative_to(installed.environment), home
    assert Path(home).name == "site-packages", home
    assert run("tlprune", "--version") == f"tlprune {version}\n"
    assert "tlprune demo --quick" in run("tlprune", "--help")
    assert "comes with tlprune" in run("tlprune", "datasets", "digits")
    run("tlprune", "configs", "configs")
    few = ("--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu")
    run("tlprune", "fit", "--config", "configs/source/drawn_surrogate.yaml", *few)
    run("python", "-c", TARGET)
    surrogate = ("--surrogate", "runs/drawn/surrogate.safetensors")
    run("tlprune", "select", "--source=drawn", "--target=target", *surrogate, "--output=own.safetensors")
    pruned = (
        "--data.selection=own.safetensors",
        "--data.target=null",
        "--data.surrogate=null",
        "--data.prune_ratio=0.9",
        *few,
    )
    run("tlprune", "fit", "--config", "configs/source/drawn_pruned.yaml", *pruned)
    run("tlprune", "report", "own.safetensors", "--output=page")
    assert "<html" in Path(folder, "page", "index.html").read_text()
    for missing in ("scipy", "sklearn"):
        run("python", "-c", f"import {missing}", status=1)
    said = run("tlprune", "select", "--config", "configs/select/digits_lm.yaml", status=2)
    assert said == "tlprune: error: the target 'digits' needs scikit-learn: pip install 'tlprune[sweep]'\n", said
    assert not Path(folder, "runs/selections").exists()


def check_with_extra(installed: Installed, wheel: Path) -> None:
    """What the message of the missing extra says to install is what was missing."""
    wanted = (f"{wheel.absolute()}[sweep]", "--constraint", str(ROOT / "constraints.txt"))
    installed.run("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted)
    installed.run("tlprune", "select", "--config", "configs/select/digits_lm.yaml")
    export = ("--format=paths", "--prune_ratio=0.7", "--output=kept.txt")
    installed.run("tlprune", "export", "runs/selections/digits_lm.safetensors", *export)
    assert Path(installed.folder, "kept.txt").read_text().count("\n") == 3001


if __name__ == "__main__":
    environment = Path(sys.argv[1])
    [source], [wheel] = environment.glob("dist/*.tar.gz"), environment.glob("dist/*.whl")
    check_source_archive(source)
    check_wheel(wheel)
    with tempfile.TemporaryDirectory() as folder:
        installed = Installed(environment, Path(folder))
        check_installed(installed, wheel.name.split("-")[1])
        check_with_extra(installed, wheel)
    print(f"{source.name}, {wheel.name}: complete, and the wheel works on its own")
