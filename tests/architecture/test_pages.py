"""What the pages name is there: files, modules, functions, tests, headings."""

import ast
import importlib.util
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("dql_core", "dql_ros")
FOLDERS = (*PACKAGES, "tests", "benchmarks", "config", "docs", "examples", "launch", "scripts")
PAGES = sorted(
    [*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))]
)
# Pages in which each name in code must be in a file that is named beside it.
GUIDES = (
    ROOT / "CONTRIBUTING.md",
    ROOT / "docs/explanation/architecture.md",
    ROOT / "docs/decisions/0013-rooms.md",
)
NO_PATHS = {"dql_core/ScaraReach-v0", "dql_ros/domain-N"}  # an environment, and a socket


@cache
def files() -> list[str]:
    """All files of ours, relative to the repository."""
    found = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))
    return [f"/{path.relative_to(ROOT)}" for path in found if path.is_file()]


def parametrized(pages: list[Path] | tuple[Path, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(ROOT)))


@parametrized(PAGES)
def test_the_files_that_a_page_names_are_there(page: Path) -> None:
    text = re.sub(r"\]\([^)]*\)", "]", page.read_text())  # links have a test of their own
    ours = rf"(?<![\w/.:-])(?:{'|'.join(FOLDERS)})/[\w./*-]*\w"
    named = {*re.findall(ours, text), *re.findall(r"(?<![\w/.-])[\w./*-]+\.py\b", text)}
    made = set(re.findall(r"^cat > (\S+) <<", text, re.M))  # by the reader
    assert {name for name in named - NO_PATHS - made if not is_there(name)} == set()


def is_there(name: str) -> bool:
    """Whether a path, a pattern, or the end of a path names a file or folder of ours."""
    if any(ROOT.glob(name)):
        return True
    return "*" not in name and any(path.endswith(f"/{name}") for path in files())


@parametrized(PAGES)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for target, anchor in re.findall(r"\]\(([^)\s#]*)#?([^)\s]*)\)", text):
        if re.match(r"\w+:", target):
            continue
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(found), f"{page.name}: {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The headings of a page as links to them are written."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@parametrized(PAGES)
def test_the_modules_that_a_page_runs_are_there(page: Path) -> None:
    named = re.findall(r"python3? -m ([\w.]+)", page.read_text())
    ours = {name for name in named if name.split(".")[0] in FOLDERS}
    assert {name for name in ours if importlib.util.find_spec(name) is None} == set()


@parametrized(PAGES)
def test_the_dotted_names_of_a_page_can_be_imported(page: Path) -> None:
    dotted = rf"(?<![\w/.])((?:{'|'.join(PACKAGES)})(?:\.\w+)+(?::\w+)?)"
    named = re.findall(dotted, page.read_text())
    for name in set(named):
        assert pkgutil.resolve_name(name) is not None


@cache
def names_of_tests() -> set[str]:
    """The names of all tests."""
    texts = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    return {name for text in texts for name in re.findall(r"^def (test_\w+)", text, re.M)}


@parametrized(PAGES)
def test_the_tests_that_a_page_names_are_there(page: Path) -> None:
    assert set(re.findall(r"`(test_\w+)`", page.read_text())) <= names_of_tests()


@parametrized(GUIDES)
def test_a_guide_names_what_the_files_beside_it_define(page: Path) -> None:
    checked = 0
    for passage in passages(page):
        paths = [path for path in re.findall(r"`([\w/.]+\.py)`", passage) if is_there(path)]
        names = re.findall(r"`([A-Za-z_]\w*)`", passage)
        known = {name for path in paths for name in defined_in(path)}
        assert not paths or set(names) <= known, passage
        checked += len(set(names) & known)
    assert checked


def passages(page: Path) -> Iterator[str]:
    """The items, table rows and paragraphs of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    yield from re.split(r"\n(?=\||\d+\. |\* |\n|#)", text)


@cache
def defined_in(path: str) -> set[str]:
    """Everything that a file defines; the end of its path will do."""
    found = [ROOT / name[1:] for name in files() if name.endswith(f"/{path}")]
    nodes = [node for each in found for node in ast.walk(ast.parse(each.read_text()))]
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = {node.name for node in nodes if isinstance(node, defined)}
    return names | {
        node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
