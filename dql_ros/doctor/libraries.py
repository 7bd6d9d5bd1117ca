"""Are Python and the libraries there, new enough, and do they load?"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from dql_ros.doctor.finding import Finding, failure, fine, warning
from dql_ros.doctor.own_process import BrokenProcessError, ask_python

# Humble's to Jazzy's; the wheels of Jazzy exist for the last two.
PYTHONS = ((3, 10), (3, 12))


@dataclass(frozen=True)
class Library:
    """One library that the project needs.

    Attributes:
        name: What it is imported as.
        minimum: Oldest version that will do; empty for any.
        needed_for: Without it, what does not work.
        on_robot: Whether the policy node needs it.
    """

    name: str
    minimum: str
    needed_for: str
    on_robot: bool


LIBRARIES = (
    Library("numpy", "", "everything", on_robot=True),
    Library("onnxruntime", "", "running a policy on the CPU", on_robot=True),
    Library("torch", "2.5", "training, and running a policy on a GPU", on_robot=False),
    Library("gymnasium", "1.0", "simulation", on_robot=False),
    Library("mujoco", "3.2", "simulation", on_robot=False),
    Library("minari", "0.5.3", "datasets", on_robot=False),
    Library("rosbags", "0.11", "converting bags", on_robot=False),
    Library("mcap", "1.6", "recording and converting bags", on_robot=False),
)

# Imports, because an installed library may be built for another numpy or another Python.
_CODE = (
    "import importlib.metadata, json, sys; __import__(sys.argv[1]); "
    "print(json.dumps(importlib.metadata.version(sys.argv[1])))"
)


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Compare the interpreter's ``version`` with those that are supported."""
    text = ".".join(map(str, version))
    if PYTHONS[0] <= version[:2] <= PYTHONS[1]:
        return fine("python", text)
    return failure(
        "python",
        f"{text} is not supported",
        "make the environment anew with Python 3.11 or 3.12: make clean setup",
    )


def check_libraries() -> Iterator[Finding]:
    """Import each library in a process of its own and compare its version."""
    return (_check(library) for library in LIBRARIES)


def _check(library: Library) -> Finding:
    complain = failure if library.on_robot else warning
    package = f"{library.name}>={library.minimum}" if library.minimum else library.name
    try:
        version = str(ask_python(["-c", _CODE, library.name]))
    except BrokenProcessError as error:
        return complain(
            library.name,
            f"does not load ({error}); needed for {library.needed_for}",
            f"pip install --force-reinstall '{package}'",
        )
    if parts_of(version) < parts_of(library.minimum):
        return complain(
            library.name,
            f"{version} is older than {library.minimum}; needed for {library.needed_for}",
            f"pip install --upgrade '{package}'",
        )
    return fine(library.name, version)


def parts_of(version: str) -> tuple[int, ...]:
    """Return the numbers at the beginning of a version, as in (2, 5, 1) of ``2.5.1+cpu``."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
