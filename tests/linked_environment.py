"""A Python environment with chosen packages only, linked to those that the tests themselves have.

It is made in a tenth of a second and without a network, and lacks what it is meant to lack.
"""

from __future__ import annotations

import importlib.metadata
import os
import runpy
import subprocess
import sys
import venv
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any
from unittest.mock import patch

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
# By the latter two, the wheels of ROS 2 have started this interpreter anew.
_OF_THIS_ONE = {"PYTHONPATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE", "LD_LIBRARY_PATH"}


class LinkedEnvironment:
    """An environment in a new folder.

    Args:
        folder: Where.
        requirements: What it is to hold, with all that this requires.
    """

    def __init__(self, folder: Path, requirements: Iterable[str]) -> None:
        venv.create(folder, symlinks=True, with_pip=False)
        self.folder = folder
        self.python = folder / "bin/python"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.packages = folder / "lib" / version / "site-packages"
        for distribution in closure(requirements):
            self._link(distribution)

    def _link(self, distribution: importlib.metadata.Distribution) -> None:
        """Make links to all that a distribution has put beside the other packages."""
        for name in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            target = self.packages / name
            if not target.exists():  # as a folder that several share
                target.symlink_to(Path(str(distribution.locate_file(name))))

    def run(
        self, *arguments: object, text: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run its Python; it sees neither this project nor what the tests have, unless told.

        Args:
            arguments: Of Python.
            text: Its standard input.
            environment: Variables beside those of this process.
        """
        return subprocess.run(
            [str(each) for each in (self.python, *arguments)],
            cwd=self.folder,
            env=self.environment(environment),
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Return environment variables for what runs there."""
        kept = {name: value for name, value in os.environ.items() if name not in _OF_THIS_ONE}
        return kept | {"COLUMNS": "120"} | dict(more)


def closure(requirements: Iterable[str]) -> list[importlib.metadata.Distribution]:
    """Return the distributions that requirements name, and all that these require, here."""
    found: dict[tuple[str, str], importlib.metadata.Distribution] = {}
    pending = [Requirement(each) for each in requirements]
    while pending:
        requirement = pending.pop()
        for extra in (*requirement.extras, ""):
            key = canonicalize_name(requirement.name), extra
            if key in found:
                continue
            found[key] = importlib.metadata.distribution(requirement.name)
            for each in map(Requirement, found[key].requires or ()):
                if each.marker is None or each.marker.evaluate({"extra": extra}):
                    pending.append(each)
    return list({each.metadata["Name"]: each for each in found.values()}.values())


def setup_arguments() -> dict[str, Any]:
    """Return what setup.py gives to setuptools."""
    found: dict[str, Any] = {}
    with patch("setuptools.setup", found.update):
        runpy.run_path(str(ROOT / "setup.py"))
    return found


def required(*extras: str) -> list[str]:
    """Return what this project requires, with extras."""
    arguments = setup_arguments()
    of_extras = (arguments["extras_require"][extra] for extra in extras)
    return [*arguments["install_requires"], *chain.from_iterable(of_extras)]
