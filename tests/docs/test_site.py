"""The site builds without a warning, needs no network, and its search works from a folder."""

import os
import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.html_page import BROWSER, FLAGS, needs_browser

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
# What the theme's script fetches by itself: for diagrams, and for browsers of before 2020.
FETCHED = {"unpkg.com/mermaid@11/dist/mermaid.min.js", "unpkg.com/resize-observer-polyfill"}


def mkdocs(config: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "-f", str(config), "--site-dir", str(out)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(
        command,
        cwd=config.parent,
        env=quiet,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = mkdocs(ROOT / "mkdocs.yml", out)
    assert done.returncode == 0, done.stderr
    return out


class Loaded(HTMLParser):
    """Collects what a page loads, and the classes of its elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.classes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.classes |= set((given.get("class") or "").split())
        if address := given.get(LOADING.get(tag, "")):
            self.addresses.append(address)


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    # A server shows 404.html in the place of any address, so that its own are absolute.
    pages = [page for page in site.rglob("*.html") if page.name != "404.html"]
    assert len(pages) > 60
    for page in pages:
        loaded = Loaded(page.read_text())
        assert loaded.addresses
        assert "mermaid" not in loaded.classes, page
        for address in loaded.addresses:
            assert not re.match(r"\w+:|//", address), f"{page}: {address}"
            assert (page.parent / address.partition("?")[0]).exists(), f"{page}: {address}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//|@import", sheet.read_text()), sheet
    scripts = "".join(script.read_text() for script in site.rglob("assets/javascripts/*.js"))
    assert set(re.findall(r"unpkg\.com/[\w@/.-]+|\w+\.googleapis\.com", scripts)) == FETCHED


def test_every_page_of_docs_and_what_it_links_to_is_there(site: Path) -> None:
    pages = [page.relative_to(ROOT) for page in (ROOT / "docs").rglob("*.md")]
    named = [page.with_name(page.stem.replace("README", "index")) for page in pages]
    assert [page for page in named if not (site / f"{page}.html").is_file()] == []
    for other in ("CONTRIBUTING.html", "CHANGELOG.rst.html", "config/contracts/scara.yaml.html"):
        assert (site / other).is_file()
    shown = (site / "config/contracts/scara.yaml.html").read_text()
    assert "velocity_controller/commands" in shown


def test_the_front_page_is_the_readme(site: Path) -> None:
    front = (site / "index.html").read_text()
    for needed in ("make demo", "docs/images/robot.png", "docs/images/judge.svg"):
        assert needed in front
    rows = re.findall(r"^\| walker2d-mixed \|.*", (ROOT / "README.md").read_text(), re.M)
    for cell in rows[0].strip("| ").split(" | "):
        assert f"<td>{cell}</td>" in front


def test_docstrings_are_shown_without_importing_anything(site: Path) -> None:
    page = (site / "docs/reference/api.html").read_text()
    assert 'id="dql_core.runtime.bundle_policy.load_policy"' in page
    assert "Load a policy bundle for inference." in page
    assert 'id="dql_core.errors.BagError"' in page
    config = (ROOT / "mkdocs.yml").read_text()
    assert "allow_inspection: false" in config


@needs_browser
def test_the_search_finds_something_in_a_folder_without_a_network(
    site: Path, tmp_path: Path
) -> None:
    assert BROWSER is not None
    address = f"{(site / 'index.html').as_uri()}?q=takeover"
    done = subprocess.run(
        [BROWSER, *FLAGS, f"--user-data-dir={tmp_path}", address],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    found = re.findall(r'class="md-search-result__link"[^>]*href="([^"?#]*)', done.stdout)
    found += re.findall(r'href="([^"?#]*)[^>]*class="md-search-result__link"', done.stdout)
    assert any(each.endswith("docs/how-to/take-over-from-the-policy.html") for each in found)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A repository of two pages, built by the same rules."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "README.md").write_text("# Front\n\n[page](docs/page.md#a--b)\n")
    (tmp_path / "docs/page.md").write_text("# Page\n\n## A & b\n")
    (tmp_path / "mkdocs.yml").write_text(
        f"INHERIT: {ROOT / 'mkdocs.yml'}\nhooks: [{ROOT / 'scripts/site_pages.py'}]\nwatch: []\n"
        "plugins: []\nextra_css: []\nextra: {polyfills: []}\nnav: [Front: README.md, P: [docs/]]\n"
        "not_in_nav: /results/\n"
    )
    return tmp_path


def complaint(folder: Path) -> str:
    """What a build that fails says; nothing if it does not."""
    done = mkdocs(folder / "mkdocs.yml", folder / "site")
    _, _, said = re.split("(WARNING|ERROR|$)", done.stderr, maxsplit=1)
    assert (done.returncode == 0) == (said.strip() == ""), done.stderr
    return said


def test_what_a_page_links_to_is_on_the_site(small: Path) -> None:
    links = "[rows](../results/rows.txt) [how](../results/how.py)"
    (small / "docs/page.md").write_text(f"# Page\n\n## A & b\n\n{links}\n")
    (small / "results/rows.txt").write_text("1")
    (small / "results/how.py").write_text("print(1 < 2)\n")
    (small / "results/other.py").write_text("print(3)\n")
    assert complaint(small).strip() == ""
    page = (small / "site/docs/page.html").read_text()
    assert 'href="../results/rows.txt"' in page
    assert 'href="../results/how.py.html"' in page
    shown = (small / "site/results/how.py.html").read_text()
    assert "1 < 2" in unescape(re.sub("<[^>]*>", "", shown))
    assert not (small / "site/results/other.py.html").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[x](page.md#nowhere)", "'page.md#nowhere'"),
        ("[x](../config/missing.yaml)", "'../config/missing.yaml'"),
        ("[x](../results)", "unrecognized relative link '../results'"),
    ],
)
def test_what_leads_nowhere_ends_the_build(small: Path, text: str, said: str) -> None:
    (small / "docs/page.md").write_text(f"# Page\n\n## A & b\n\n{text}\n")
    assert said in complaint(small)


def test_a_page_that_the_navigation_forgets_ends_the_build(small: Path) -> None:
    (small / "docs/how-to").mkdir()
    (small / "docs/how-to/new.md").write_text("# New\n")
    config = (small / "mkdocs.yml").read_text()
    (small / "mkdocs.yml").write_text(config.replace("[docs/]", "[docs/page.md]"))
    assert "docs/how-to/new.md" in complaint(small)
