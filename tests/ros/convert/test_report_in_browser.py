"""The report page as headless Chromium shows it: offline, without errors, on any screen."""

import json
import re
import shutil
import subprocess
from html import escape
from pathlib import Path
from typing import Any

import pytest

from dql_ros.convert.bag_result import BagResult
from dql_ros.convert.report.page import render
from tests.ros.convert.report_sample import eventful, part, report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--log-level=0",
    "--enable-logging=stderr",
    "--host-resolver-rules=MAP * ~NOTFOUND",
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
      tables: visible('table'),
      figures: visible('figure svg'),
      bars: visible('.bar'),
      timelines: visible('svg.time .used'),
      styled: view.getComputedStyle(page.querySelector('.totals') || page.body).display,
      all_tables: count('table'),
    };
  });
  document.body.replaceChildren(JSON.stringify(seen));
});
"""
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="chromium is not installed: the report page is not opened"
)


def look(folder: Path, *frames: tuple[int, str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Show pages in frames of given widths; return what is seen, and what the console says."""
    assert BROWSER is not None
    shown = "".join(
        f"<iframe width={width} height=900 srcdoc='{escape(text)}'></iframe>"
        for width, text in frames
    )
    page = folder / "frames.html"
    page.write_text(
        f"<!doctype html><meta charset=utf-8><style>iframe {{ border: 0 }}</style>"
        f"<body>{shown}<script>{LOOK}</script></body>"
    )
    done = subprocess.run(
        [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = re.search(r"<body>(\[.*\])</body>", done.stdout, re.DOTALL)
    assert found is not None, done.stdout[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(found.group(1)), console


def test_the_page_opens_offline_on_wide_and_narrow_screens(tmp_path: Path) -> None:
    long_name = "bags/" + "a_very_long_name_without_a_break_" * 6
    failed = BagResult(bag=long_name, error=f"{long_name}: holds no message")
    made = report([part("bags/a"), eventful(), part(long_name + "2"), failed])
    page = render(made)
    seen, console = look(tmp_path, (1280, page), (390, page))
    assert console == []
    fields = (*made["observation"], *made["action"], *made["reward"])
    bars = sum(count > 0 for row in fields for count in row["histogram"]["counts"])
    for view, width in zip(seen, (1280, 390), strict=True):
        assert view["width"] == width
        assert view["overflow"] <= 0
        assert view["requests"] == []
        assert view["mode"] == "CSS1Compat"
        assert view["styled"] == "flex"
        assert view["tables"] == view["all_tables"] >= 12
        assert view["figures"] == len(fields) + 2
        assert view["bars"] >= bars
        assert view["timelines"] == 6


def test_the_look_would_see_what_must_not_be(tmp_path: Path) -> None:
    bad = (
        "<!doctype html><title>bad</title><img src='http://example.invalid/a.png'>"
        "<div style='width: 900px'>wide</div><script>console.error('oh')</script>"
    )
    (view,), console = look(tmp_path, (390, bad))
    assert view["overflow"] > 0
    assert view["requests"] == ["http://example.invalid/a.png"]
    assert any("oh" in line for line in console)


def test_a_report_of_nothing_opens_too(tmp_path: Path) -> None:
    page = render(report([BagResult(bag="bags/a", error="bags/a: holds no message")]))
    (view,), console = look(tmp_path, (390, page))
    assert (view["overflow"], view["figures"], console) == (0, 0, [])
