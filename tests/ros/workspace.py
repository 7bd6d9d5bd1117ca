"""A colcon workspace with a copy of this package in it."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "dql_ros"
SOURCES = (
    "LICENSE",
    "README.md",
    "package.xml",
    "pyproject.toml",
    "resource",
    "setup.cfg",
    "setup.py",
)
FOLDERS = ("dql_core", "dql_ros", "launch", "config")


@dataclass(frozen=True)
class Workspace:
    """What ``colcon build`` has installed.

    Attributes:
        prefix: Where the package was installed.
        log: What colcon said.
    """

    prefix: Path
    log: str

    @property
    def executables(self) -> Path:
        """Folder in which ``ros2 run`` and launch files look."""
        return self.prefix / "lib" / PACKAGE

    @property
    def share(self) -> Path:
        """Folder of launch files and configuration."""
        return self.prefix / "share" / PACKAGE

    def environment(self) -> dict[str, str]:
        """This process's environment as sourcing the workspace changes it."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        packages = self.prefix / "lib" / version / "site-packages"
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(_present(str(packages), "PYTHONPATH")),
            "AMENT_PREFIX_PATH": os.pathsep.join(_present(str(self.prefix), "AMENT_PREFIX_PATH")),
        }


def build(folder: Path) -> Workspace:
    """Copy the package into a workspace in ``folder`` and build it with colcon."""
    copy_sources(folder / "src" / PACKAGE)
    log = run(folder, "build")
    return Workspace(folder / "install" / PACKAGE, log)


def run(folder: Path, verb: str, *options: str) -> str:
    """Run colcon in a workspace; return what it said."""
    here = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    colcon = shutil.which("colcon", path=here)
    assert colcon, "colcon is not installed: pip install colcon-core colcon-ros"
    command = [colcon, verb, *options]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def copy_sources(target: Path) -> Path:
    """Copy what the package is built from into a new folder, and return that."""
    target.mkdir(parents=True)
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, target / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def _present(first: str, variable: str) -> list[str]:
    return [first, *filter(None, [os.environ.get(variable)])]
