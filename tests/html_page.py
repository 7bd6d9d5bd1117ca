"""Pages of html as a parser reads them, and as headless Chromium shows them without a network."""

import json
import shutil
import subprocess
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

VOID = {"meta", "rect", "line", "br", "circle", "polygon", "path"}
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="chromium is not installed: the page is not opened"
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--log-level=0",
    "--enable-logging=stderr",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--virtual-time-budget=5000",
    "--dump-dom",
)
# Looks into the frames, which share the origin of this page, when all of them are loaded.
LOOK = """
addEventListener('load', () => {
  const seen = [...document.querySelectorAll('iframe')].map((frame) => {
    const page = frame.contentDocument, view = frame.contentWindow;
    const count = (selector) => page.querySelectorAll(selector).length;
    const visible = (selector) => [...page.querySelectorAll(selector)].filter(
      (each) => each.getBoundingClientRect().height > 0).length;
    return {
      width: view.innerWidth,
      overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
      requests: view.performance.getEntriesByType('resource').map((entry) => entry.name),
      mode: page.compatMode,
      styled: view.getComputedStyle(page.querySelector('.soft') || page.body).color,
      ink: view.getComputedStyle(page.body).color,
      all_tables: count('table'),
      visible: Object.fromEntries(ASKED.map((selector) => [selector, visible(selector)])),
    };
  });
  document.body.replaceChildren(JSON.stringify(seen));
});
"""


class Page(HTMLParser):
    """Checks that tags are balanced, and collects attributes, tags and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def assert_loads_nothing(text: str, page: Page) -> None:
    """No script, no reference to anything outside the page."""
    assert page.attributes.isdisjoint({"src", "href", "srcset", "action", "data", "onload"})
    assert set(page.tags).isdisjoint({"script", "link", "iframe", "img", "object"})
    assert not [word for word in ("url(", "@import", "http:", "https:") if word in text]


def look(
    folder: Path, *frames: tuple[int, str], asked: tuple[str, ...] = ()
) -> tuple[list[dict[str, Any]], list[str]]:
    """Show pages in frames of given widths; return what is seen, and what the console says.

    ``asked`` are selectors of which what is visible is counted.
    """
    shown = "".join(
        f"<iframe width={width} height=900 srcdoc='{escape(text)}'></iframe>"
        for width, text in frames
    )
    page = folder / "frames.html"
    page.write_text(
        f"<!doctype html><meta charset=utf-8><style>iframe {{ border: 0 }}</style>"
        f"<body>{shown}<script>const ASKED = {json.dumps(asked)};{LOOK}</script></body>"
    )
    shown_by_then, console = browse(folder, page.as_uri())
    _, begun, rest = shown_by_then.partition("<body>[")
    found, ended, _ = rest.partition("]</body>")
    assert begun, shown_by_then[-2000:]
    assert ended, shown_by_then[-2000:]
    return json.loads(f"[{found}]"), console


def browse(folder: Path, address: str) -> tuple[str, list[str]]:
    """Return what a page is after five seconds of its time, and what the console says."""
    assert BROWSER is not None
    done = subprocess.run(
        [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", address],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
