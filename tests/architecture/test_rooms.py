"""The rooms are few, small and as docs/explanation/architecture.md draws them."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from scripts.trace_files import WAYS
from tests.architecture.test_imports import LAYERS, ROOT, modules, relative

PAGE = ROOT / "docs/explanation/architecture.md"
MAX_ROOMS = 10
MAX_LINES = 500
MAX_FILES = 22
MAX_STOPS = 10


def units(package: str) -> set[str]:
    """The rooms and loose files of a package, as LAYERS names them."""
    found = (path.relative_to(ROOT / package).parts[0] for path in modules(package))
    return {name.removesuffix(".py") for name in found} - {"__init__"}


def drawn_layers(package: str) -> list[set[str]]:
    """The boxes of a package in the drawing, from the lowest on."""
    drawing = re.search(rf"^  subgraph {package}\n(.*?)^  end$", PAGE.read_text(), re.M | re.S)
    assert drawing is not None, package
    boxes = dict(re.findall(r'^ +(\w+)\["(.*)"\]$', drawing[1], re.M))
    arrows = re.search(r"^ +(\w+(?: --> \w+)+)$", drawing[1], re.M)
    assert arrows is not None, package
    order = arrows[1].split(" --> ")
    assert set(order) == set(boxes), "a box without an arrow, or an arrow without a box"
    return [set(boxes[name].split(" · ")) for name in reversed(order)]


@pytest.mark.parametrize("package", LAYERS)
def test_the_drawing_shows_the_layers_that_the_imports_obey(package: str) -> None:
    assert drawn_layers(package) == list(LAYERS[package])


@pytest.mark.parametrize("package", LAYERS)
def test_every_layer_holds_what_there_is_and_each_once(package: str) -> None:
    named = [unit for layer in LAYERS[package] for unit in layer]
    assert len(named) == len(set(named))
    assert set(named) == units(package)


@pytest.mark.parametrize("package", LAYERS)
def test_the_page_has_a_line_for_each_room_and_file(package: str) -> None:
    table = re.search(rf"^\| `{package}/` .*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE.read_text(), re.M)
    assert table is not None, package
    cells = (line.split("|")[1] for line in table[1].splitlines())
    named = [name for cell in cells for name in re.findall(r"`([\w.]+)/?`", cell)]
    assert len(named) == len(set(named))
    assert {name.removesuffix(".py") for name in named} == units(package)


@pytest.mark.parametrize("package", LAYERS)
def test_no_floor_has_more_than_ten_rooms(package: str) -> None:
    folders = {path.parent for path in modules(package)}
    rooms = Counter(folder.parent for folder in folders)
    assert {relative(floor) for floor, count in rooms.items() if count > MAX_ROOMS} == set()


@pytest.mark.parametrize("package", LAYERS)
def test_no_folder_has_too_many_files(package: str) -> None:
    files = Counter(path.parent for path in modules(package))
    assert {relative(folder) for folder, count in files.items() if count > MAX_FILES} == set()


@pytest.mark.parametrize("package", LAYERS)
def test_no_file_is_too_long(package: str) -> None:
    lines = {relative(path): path.read_text().count("\n") for path in modules(package)}
    assert {path: count for path, count in lines.items() if count > MAX_LINES} == {}


def test_each_way_has_a_heading_and_at_most_ten_stops() -> None:
    ways = re.findall(r"^### (\d)\. [^\n]*\n(.*?)(?=^##|\Z)", PAGE.read_text(), re.M | re.S)
    assert [number for number, _ in ways] == ["1", "2", "3", "4"]
    for number, way in ways:
        stops = re.findall(r"^(\d+)\. `[\w/]+\.py` `\w+`", way, re.M)
        numbered = re.findall(r"^(\d+)\.", way, re.M)
        assert stops == numbered == [str(i + 1) for i in range(len(stops))], number
        assert 5 < len(stops) <= MAX_STOPS, number


def test_the_trace_of_the_ways_finds_where_they_begin_and_end() -> None:
    defined = {name for package in LAYERS for path in modules(package) for name in functions(path)}
    marks = {mark for way in WAYS for mark in (way.begin, way.end) if mark}
    assert marks <= defined


def functions(path: Path) -> set[str]:
    """The qualified names of a module's functions and methods."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            methods = (each for each in node.body if isinstance(each, ast.FunctionDef))
            found |= {f"{node.name}.{method.name}" for method in methods}
    return found
