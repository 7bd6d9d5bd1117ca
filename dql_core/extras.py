"""What a robot need not have: the libraries that only some work needs, and the extra of each.

``pip install dql_ros`` brings what runs, replays and records; ``pip install 'dql_ros[train]'``
adds what trains. Who imports a library that is not there is told which extra brings it, whatever
module of ours it was: `name_missing` is called when `dql_core` is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType

from dql_core.errors import DqlError

_DATA = {"gymnasium", "h5py", "jinja2", "minari", "pyarrow"}
# Extra of setup.py -> what its libraries are imported as.
EXTRAS = {
    "convert": {*_DATA, "matplotlib"},
    "train": {*_DATA, "onnx", "safetensors", "scipy", "tensorboard", "torch"},
    "sim": {"PIL", "gymnasium", "imageio", "imageio_ffmpeg", "matplotlib", "mujoco", "scipy"},
    "ray": {"ray"},
    "sweep": {"optuna", "pandas"},
    "ros": {
        "rclpy",
        "action_msgs",
        "builtin_interfaces",
        "diagnostic_msgs",
        "lifecycle_msgs",
        "rcl_interfaces",
        "rosgraph_msgs",
        "std_msgs",
        "std_srvs",
    },
}
ALL = "all"
# Extras that bring those of others; ROS 2 is often there already, and not from a wheel.
_PARTS = {ALL: ("convert", "train", "sim"), "sweep": ("train", "ray")}
OURS = ("dql_core", "dql_ros")
# Module of a verb -> what it cannot do without and does not have.
_lacking: dict[str, MissingExtraError] = {}


def libraries(extra: str) -> set[str]:
    """Return what the libraries of an extra are imported as."""
    own = EXTRAS.get(extra, set())
    return own.union(*(EXTRAS[part] for part in _PARTS.get(extra, ())))


class MissingExtraError(DqlError, ImportError):
    """A library is not installed; the message says which extra brings it.

    Attributes:
        name: What was to be imported.
    """

    name: str

    def __init__(self, library: str, *extras: str) -> None:
        """Name the library and the extras, of which any one will do."""
        remedy = " or ".join(f"'dql_ros[{extra}]'" for extra in extras)
        first = "source a ROS 2 installation, or " if "ros" in extras else ""
        super().__init__(f"{library} is not installed: {first}pip install {remedy}")
        self.name = library


@contextmanager
def needing(extra: str, module: str) -> Iterator[None]:
    """Import what a verb needs of an extra, or have the verb say so when it is run.

    A verb's help is there without: what is imported in the block is for its work alone, not for
    its options.

    Args:
        extra: Of `EXTRAS`, or ``all``; named before others that bring the same.
        module: The ``__name__`` of the verb's module.
    """
    try:
        yield
    except MissingExtraError as missing:
        brought = libraries(extra)
        _lacking[module] = (
            MissingExtraError(missing.name, extra) if missing.name in brought else missing
        )


def require_complete(module: str) -> None:
    """Refuse to run a verb whose `needing` block could not import all.

    Raises:
        MissingExtraError: If so.
    """
    if module in _lacking:
        raise _lacking[module]


class _Namer:
    """The last to be asked for a module, when nobody else has found it."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find nothing; say which extra brings it if one of our modules wants it.

        Raises:
            MissingExtraError: In that case. Whoever else asks may do without.
        """
        extras = [extra for extra, brought in EXTRAS.items() if name in brought]
        if extras and _importer().partition(".")[0] in OURS:
            raise MissingExtraError(name, *extras)
        return None


def name_missing() -> None:
    """Have missing libraries named with their extra, from now on and in this process."""
    if _Namer not in sys.meta_path:
        sys.meta_path.append(_Namer)


def _importer() -> str:
    """Name the module whose import is executed; of one that only asks what there is, nothing."""
    frame = sys._getframe(2)
    while frame.f_back and "importlib" in (name := frame.f_globals.get("__name__", "")):
        if name == "importlib.util":
            return ""
        frame = frame.f_back
    names = frame.f_globals
    is_run = names.get("__name__") == "__main__" and names.get("__spec__")  # by python -m
    return str(names["__spec__"].name if is_run else names.get("__name__", ""))
