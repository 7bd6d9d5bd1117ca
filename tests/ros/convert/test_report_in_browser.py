"""The report page as headless Chromium shows it: offline, without errors, on any screen."""

from pathlib import Path

from dql_ros.convert.bag_result import BagResult
from dql_ros.convert.report.page import render
from tests.html_page import look, needs_browser
from tests.ros.convert.report_sample import eventful, part, report

pytestmark = needs_browser
ASKED = ("table", "figure svg", ".bar", "svg.time .used")


def test_the_page_opens_offline_on_wide_and_narrow_screens(tmp_path: Path) -> None:
    long_name = "bags/" + "a_very_long_name_without_a_break_" * 6
    failed = BagResult(bag=long_name, error=f"{long_name}: holds no message")
    made = report([part("bags/a"), eventful(), part(long_name + "2"), failed])
    page = render(made)
    seen, console = look(tmp_path, (1280, page), (390, page), asked=ASKED)
    assert console == []
    fields = (*made["observation"], *made["action"], *made["reward"])
    bars = sum(count > 0 for row in fields for count in row["histogram"]["counts"])
    for view, width in zip(seen, (1280, 390), strict=True):
        assert view["width"] == width
        assert view["overflow"] <= 0
        assert view["requests"] == []
        assert view["mode"] == "CSS1Compat"
        assert view["styled"] != view["ink"]
        tables, figures, found_bars, timelines = view["visible"].values()
        assert tables == view["all_tables"] >= 12
        assert figures == len(fields) + 2
        assert found_bars >= bars
        assert timelines == 6


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
    (view,), console = look(tmp_path, (390, page), asked=ASKED)
    assert (view["overflow"], view["visible"]["figure svg"], console) == (0, 0, [])
