"""The conversion report as one html page that needs no network, a function of its JSON alone."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from dql_ros.bag.report_bags import bags, inputs
from dql_ros.bag.report_figures import histogram_of, histograms
from dql_ros.bag.report_markup import bullets, details, section, soft, table
from dql_ros.bag.report_style import STYLE

OPEN_EPISODES = 200
MAX_EPISODES = 5000
# Totals that ask for attention, shown only where there is something to tell.
WARNINGS = {
    "failed_bags": "bags failed",
    "gaps": "gaps in topics",
    "losses": "losses in files",
    "dropped_ticks": "ticks dropped",
    "nonfinite_splits": "splits at NaN or inf",
    "clipped_actions": "action values beyond the bounds",
    "by_index_messages": "messages read by position",
}
TOTALS = {
    "bags": "bags",
    "recorded_s": "s recorded",
    "messages": "messages",
    "episodes": "episodes",
    "transitions": "transitions",
    "terminated": "terminated",
    "truncated": "truncated",
    "mean_length": "mean length",
    "mean_return": "mean return",
}


def render(report: dict[str, Any]) -> str:
    """Return the page.

    Args:
        report: What `make_report` returned, also after a trip through JSON.
    """
    title = f"Conversion of {report['robot']}"
    failed = ((row["bag"], row["error"]) for row in report["failed"])
    body = [
        f"<h1>{escape(title)}</h1>",
        soft(
            f"{report['rate_hz']:g} Hz, contract {report['contract'] or 'without a name'}, "
            f"namespace {report['namespace']}"
        ),
        _tiles(report["totals"]),
        section("Bags that could not be converted", table(("bag", "why"), failed, long=(1,))),
        section("Remarks", bullets(report["remarks"])),
        section("Episodes", _episodes(report)),
        section("Bags", bags(report)),
        section("Observation", histograms(report["observation"])),
        section("Action, as in the dataset", histograms(report["action"])),
        section("Reward", histograms(report["reward"])),
        section("Inputs", inputs(report["bags_sha256"])),
        section("Contract", _contract(report)),
        section("Versions", table(("package", "version"), report["versions"].items())),
    ]
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{escape(title)}</title>"
        f"<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<style>{STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _tiles(totals: dict[str, Any]) -> str:
    plain = ((totals[key], name, "") for key, name in TOTALS.items())
    told = ((totals[key], name, " class=warn") for key, name in WARNINGS.items() if totals[key])
    tiles = "".join(
        f"<div{kind}><b>{_figure(value)}</b><span>{name}</span></div>"
        for value, name, kind in (*plain, *told)
    )
    return f"<div class=totals>{tiles}</div>"


def _figure(value: float | None) -> str:
    if value is None:
        return "&ndash;"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _episodes(report: dict[str, Any]) -> str:
    rows = report["episodes"]
    if not rows:
        return soft("There is none.")
    endings = ((row["ending"], _kind(row), f"{row['episodes']:,}") for row in report["endings"])
    summaries = [
        histogram_of("length", (row["length"] for row in rows), "transitions"),
        histogram_of("return", (row["return"] for row in rows)),
    ]
    folded = details(
        f"{len(rows):,} episodes, one a row",
        _episode_table(rows),
        is_open=len(rows) <= OPEN_EPISODES,
    )
    return (
        table(("how it ended", "that is", "episodes"), endings)
        + (histograms(summaries) if len(rows) > 1 else "")
        + folded
    )


def _episode_table(rows: Sequence[dict[str, Any]]) -> str:
    header = ("bag", "from s", "to s", "transitions", "return", "that is", "how it ended")
    cells = (
        (
            row["bag"],
            f"{row['from_s']:.2f}",
            f"{row['to_s']:.2f}",
            row["length"],
            f"{row['return']:.4g}",
            _kind(row),
            row["ending"],
        )
        for row in rows[:MAX_EPISODES]
    )
    hidden = len(rows) - MAX_EPISODES
    rest = soft(f"The other {hidden:,} are in report.json.") if hidden > 0 else ""
    return table(header, cells, long=(6,)) + rest


def _kind(row: dict[str, Any]) -> str:
    return "terminated" if row["terminated"] else "truncated"


def _contract(report: dict[str, Any]) -> str:
    text = report["contract_text"]
    shown = f"<pre>{escape(text)}</pre>" if text else ""
    name = escape(report["contract"])
    return f"<p>{name} <code>SHA-256 of its meaning: {report['contract_hash']}</code></p>{shown}"
