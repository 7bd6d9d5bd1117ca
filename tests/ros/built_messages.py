"""Packages of messages and actions, built from their definitions as a ROS workspace builds them.

The generators and the libraries come with the wheels of rclpy; all that is needed is a compiler.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

PREFIX = Path(sys.prefix)
SHARE, LIBRARIES, HEADERS = PREFIX / "share", PREFIX / "lib", PREFIX / "include"
STRUCTURES, DISPATCH = "rosidl_generator_c", "rosidl_typesupport_c"
CAN_BUILD = (SHARE / STRUCTURES).is_dir() and all(shutil.which(name) for name in ("gcc", "g++"))
# How rmw_fastrtps serialises messages, and how it describes them to others.
FORMS = ("rosidl_typesupport_fastrtps_c", "rosidl_typesupport_introspection_c")
ROOMS = (STRUCTURES, DISPATCH, *FORMS)
LINKED = ("rosidl_runtime_c", "rcutils", "fastcdr", "rmw", DISPATCH, *FORMS)


def build(package: str, definitions: Mapping[str, str], uses: Sequence[str], folder: Path) -> Path:
    """Build files of these names, as ``msg/JointJog.msg``; return what is to be on PYTHONPATH."""
    made, site = folder / "include" / package, folder / "site"
    arguments = _descriptions(package, definitions, uses, folder, made)
    types = _Generators(arguments, folder)
    rooms = {STRUCTURES: made}
    types.run(STRUCTURES, "generate_c", made)
    for form, name in zip(FORMS, ("generate_typesupport_fastrtps_c", "generate_c"), strict=True):
        rooms[form] = folder / form / package
        types.run(form, name, rooms[form])
    rooms[DISPATCH] = folder / DISPATCH / package
    types.run(DISPATCH, "generate_c", rooms[DISPATCH], list(FORMS))
    for kind in {Path(name).parent for name in definitions}:
        (site / package / kind).mkdir(parents=True)
    types.run("rosidl_generator_py", "generate_py", site / package, [DISPATCH])
    (site / package / "__init__.py").touch()
    compiler = _Compiler(package, uses, folder, site / package)
    built: list[str] = []
    for room, sources in rooms.items():
        built.append(compiler.library(f"lib{package}__{room}.so", sources, built))
    compiler.library(f"{package}_s__{DISPATCH}.so", site, built)
    return site


def _descriptions(
    package: str, definitions: Mapping[str, str], uses: Sequence[str], folder: Path, made: Path
) -> dict[str, Any]:
    """Write what generators read; return the arguments that they have in common."""
    source = folder / "source"
    stems = {name: Path(name).with_suffix("") for name in definitions}
    for name, text in definitions.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        kind = path.suffix[1:]
        convert = getattr(import_module(f"rosidl_adapter.{kind}"), f"convert_{kind}_to_idl")
        convert(source, package, Path(name), made / stems[name].parent)
    arguments: dict[str, Any] = {
        "package_name": package,
        "idl_tuples": [f"{made}:{stem}.idl" for stem in stems.values()],
        "include_paths": [f"{each}:{SHARE / each}" for each in uses],
        "target_dependencies": [],
    }
    _Generators(arguments, folder).run(
        "rosidl_generator_type_description", "generate_type_hash", made
    )
    described = [f"{stem}.idl:{made / stem}.json" for stem in stems.values()]
    return arguments | {
        "type_description_tuples": described,
        "ros_interface_files": [str(source / name) for name in definitions],
    }


class _Generators:
    def __init__(self, arguments: Mapping[str, Any], folder: Path) -> None:
        self._arguments, self._file = arguments, folder / "arguments.json"

    def run(self, room: str, function: str, output: Path, *more: Any) -> None:
        output.mkdir(parents=True, exist_ok=True)
        resources = SHARE / room / "resource"
        document = {"output_dir": str(output), "template_dir": str(resources)}
        self._file.write_text(json.dumps({**self._arguments, **document}))
        getattr(import_module(room), function)(str(self._file), *more)
        package = self._arguments["package_name"]
        for template in resources.glob("*__visibility_control.h.in"):
            text = template.read_text().replace("@PROJECT_NAME@", package)
            (output / "msg").mkdir(exist_ok=True)
            header = output / "msg" / template.stem
            header.write_text(text.replace("@PROJECT_NAME_UPPER@", package.upper()))


class _Compiler:
    def __init__(self, package: str, uses: Iterable[str], folder: Path, target: Path) -> None:
        self._target, self._folder = target, folder
        headers = [folder / "include", *(folder / form for form in FORMS), HEADERS]
        headers += [path for path in HEADERS.iterdir() if path.is_dir()]
        headers += [Path(sysconfig.get_paths()["include"]), Path(np.get_include())]
        self._headers = [f"-I{path}" for path in headers]
        names = [
            *LINKED,
            *(f"{each}__{room}" for each in uses for room in (*ROOMS, "rosidl_generator_py")),
        ]
        found = [LIBRARIES / f"lib{name}.so" for name in names]
        found += sorted(LIBRARIES.glob("libfastcdr.so*"))[:1]
        self._linked = [str(path) for path in found if path.is_file()]
        self._package = package

    def library(self, name: str, sources: Path, libraries: Sequence[str]) -> str:
        """Make a library of all sources below a folder; return its path."""
        objects = []
        for index, source in enumerate(sorted([*sources.rglob("*.c"), *sources.rglob("*.cpp")])):
            objects.append(str(self._folder / f"{name}.{index}.o"))
            compiler = ["gcc", "-std=gnu11"] if source.suffix == ".c" else ["g++", "-std=c++17"]
            self._run([*compiler, "-w", "-fPIC", *self._headers, "-c", source, "-o", objects[-1]])
        made = str(self._target / name)
        places = [f"-Wl,-rpath,{each}" for each in ("$ORIGIN", LIBRARIES)]
        places += [f"-Wl,-rpath-link,{LIBRARIES}", f"-Wl,-soname,{name}"]
        self._run(
            [
                "g++",
                "-shared",
                "-Wl,--no-as-needed",
                "-o",
                made,
                *objects,
                *libraries,
                *self._linked,
                *places,
            ]
        )
        return made

    def _run(self, command: Sequence[object]) -> None:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command[-1]}: {done.stderr[:4000]}"
