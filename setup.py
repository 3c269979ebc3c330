"""Puts the yaml files of configs/ into the wheel; everything else about the build is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies configs/ beside the package's modules: a wheel's user has no clone."""

    def run(self) -> None:
        """Copies modules, then configs; an editable install uses those of the clone."""
        super().run()
        if not self.editable_mode:
            shutil.copytree("configs", Path(self.build_lib) / "tlprune" / "configs", dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithConfigs})
