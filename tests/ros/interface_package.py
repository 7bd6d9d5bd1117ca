"""A package of ROS messages that is not installed, made by ROS's own generators and a compiler.

The wheels bring the common interfaces only. What `rosidl` makes of a definition is compiled here
as ament_cmake would, so that a node sends and takes in messages of the real type.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np

TF2_MSGS = ("tf2_msgs", {"TFMessage": "geometry_msgs/TransformStamped[] transforms\n"})
# Whatever generates sources, by the folder that they go to.
_GENERATORS = {
    "c": "rosidl_generator_c.cli",
    "introspection": "rosidl_typesupport_introspection_c.cli",
    "fastrtps": "rosidl_typesupport_fastrtps_c.cli",
    "dispatch": "rosidl_typesupport_c.cli",
    "python": "rosidl_generator_py.cli",
}
_PREFIX = Path(sys.prefix)


class InterfacePackage(NamedTuple):
    """A package that was made.

    Attributes:
        modules: Belongs into PYTHONPATH.
        libraries: Belongs into LD_LIBRARY_PATH.
    """

    modules: Path
    libraries: Path

    def load(self) -> None:
        """Load the libraries, which rmw looks for by their names, into this process."""
        for library in self.libraries.iterdir():
            ctypes.CDLL(str(library))


def can_be_made() -> bool:
    """Whether the generators and a compiler are here."""
    tools = all(map(shutil.which, ("gcc", "g++")))
    return tools and importlib.util.find_spec("rosidl_generator_py") is not None


def make_package(
    folder: Path, name: str, definitions: dict[str, str], uses: Sequence[str] = ("geometry_msgs",)
) -> InterfacePackage:
    """Generate and compile a package.

    Args:
        folder: Where all of it goes.
        name: The package's name.
        definitions: The texts of its messages, by their names.
        uses: Packages whose messages are parts of these.
    """
    (folder / "msg").mkdir(parents=True)
    for message, text in definitions.items():
        (folder / "msg" / f"{message}.msg").write_text(text)
    files = [f"{folder}:msg/{message}.msg" for message in definitions]
    with patch.dict(os.environ, AMENT_PREFIX_PATH=str(_PREFIX)):
        made = {kind: _generated(folder / kind / name, name, files, kind) for kind in _GENERATORS}
    modules, libraries = folder / "modules", folder / "lib"
    (modules / name / "msg").mkdir(parents=True)
    libraries.mkdir()
    compiler = _Compiler(folder, name, uses)
    details = Path("msg/detail")
    of_c = f"{name}__rosidl_generator_c"
    compiler.link(
        of_c, (made["c"] / details).glob("*.c"), "rosidl_generator_c", "rosidl_runtime_c"
    )
    for kind, suffix in (("introspection", "*.c"), ("fastrtps", "*.cpp")):
        support = f"rosidl_typesupport_{kind}_c"
        sources = (made[kind] / details).glob(suffix)
        compiler.link(f"{name}__{support}", sources, support, of_c, support, "fastcdr")
    dispatch = f"{name}__rosidl_typesupport_c"
    compiler.link(
        dispatch, (made["dispatch"] / "msg").glob("*.cpp"), "", of_c, "rosidl_typesupport_c"
    )
    of_python = f"{name}__rosidl_generator_py"
    compiler.link(of_python, (made["python"] / "msg").glob("*_s.c"), "rosidl_generator_py", of_c)
    for support in ("c", "fastrtps_c", "introspection_c"):
        module = f"rosidl_typesupport_{support}"
        source = made["python"] / f"_{name}_s.ep.{module}.c"
        needed = (of_python, f"{name}__{module}", dispatch, of_c, "rosidl_runtime_c")
        compiler.build(modules / name / f"{name}_s__{module}.so", [source], needed)
    (modules / name / "__init__.py").touch()
    for file in (made["python"] / "msg").glob("*.py"):
        shutil.copy(file, modules / name / "msg")
    return InterfacePackage(modules, libraries)


def _generated(out: Path, name: str, files: list[str], kind: str) -> Path:
    """Let a generator write its sources."""
    module = importlib.import_module(_GENERATORS[kind])
    (extension,) = (
        found
        for key, found in vars(module).items()
        if key.startswith("Generate") and key != "GenerateCommandExtension"
    )
    out.mkdir(parents=True)
    generator: Any = extension(kind)
    generator.generate(name, files, [str(_PREFIX / "share")], out)
    return out


class _Compiler:
    """Compiles a package's libraries in the order in which they need each other."""

    def __init__(self, folder: Path, name: str, uses: Sequence[str]) -> None:
        self._libraries, self._uses = folder / "lib", uses
        includes = [*(_PREFIX / "include").iterdir(), *(folder / kind for kind in _GENERATORS)]
        includes += [_PREFIX / "include", Path(np.get_include())]
        includes.append(Path(sysconfig.get_path("include")))
        self._includes = [f"-I{path}" for path in includes]

    def link(self, name: str, sources: Any, of_used: str, *needed: str) -> None:
        """Make a library, of packages' sources, with those of the packages that it uses."""
        used = [f"{package}__{of_used}" for package in self._uses] if of_used else []
        self.build(self._libraries / f"lib{name}.so", list(sources), [*used, *needed])

    def build(self, file: Path, sources: Sequence[Path], needed: Sequence[str]) -> None:
        """Make a shared library."""
        folders = (_PREFIX / "lib", self._libraries)
        command = ["g++" if sources[0].suffix == ".cpp" else "gcc", "-shared", "-fPIC"]
        command += ["-o", str(file), *map(str, sources), *self._includes]
        command += [f"-L{folder}" for folder in folders] + [f"-l{each}" for each in needed]
        command += [f"-Wl,-rpath,{folder}" for folder in folders]
        command += [f"-Wl,-soname,{file.name}", "-Wl,--allow-shlib-undefined"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
