"""The conversion report as one html page that needs no network, a function of its JSON alone.

The parts of the report page that tell of bags: an overview, then topics, gaps and losses.

The few pieces of html that the conversion report is made of; all text is escaped here.

How the conversion report looks: colours for light and dark, and a page that never overflows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from typing import Any

from dql_ros.convert.report.figures import histogram_of, histograms, timeline

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
OPEN_BAGS = 3
MAX_BAGS = 200
Table = tuple[tuple[str, ...], list[tuple[object, ...]]]
TOPIC_HEADER = (
    "topic",
    "messages",
    "Hz",
    ("jitter ms", ("p50", "p95", "max")),
    ("pauses", ("longest s", "limit s", "gaps", "missing")),
    ("delay ms", ("p50", "max")),
    ("stamps", ("back", "twice", "zero")),
    ("age at tick ms", ("p50", "p95", "max")),
)
TOPIC_NOTE = (
    "Jitter is the distance of a pause from the median pause, delay the time of receipt less the "
    "header's stamp. What is missing is estimated: it is how many messages fit into pauses that "
    "are a multiple of the median; no number where most pauses are uneven or of any length. An "
    "age of 0 is a command that came within the tick's period. Quantiles of more than 65,536 "
    "values are taken from an evenly spread sample; smallest and largest are always exact."
)
STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d1d9e0;
  --bar: #2f6fbd; --bound: #c2410c; --paper: #ffffff; --tint: #f6f8fa; --warn: #fff4e5;
  --used: #3f9d63; --unused: #c4ccd4; --gap: #c2410c }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa4af; --line: #3d444d;
  --bar: #6ea8e8; --bound: #f59e6b; --paper: #0d1117; --tint: #161b22; --warn: #33240f;
  --used: #57b87d; --unused: #444c56; --gap: #f59e6b } }
* { box-sizing: border-box }
body { margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: var(--ink);
  background: var(--paper); font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.2rem; margin-top: 2.4rem }
h3 { font-size: .95rem; margin: 1.2rem 0 .4rem }
.totals { display: flex; flex-wrap: wrap; gap: .6rem; margin-top: 1rem }
.totals div { background: var(--tint); border-radius: 6px; padding: .5rem .9rem }
.totals .warn { background: var(--warn) }
.totals b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums }
.totals span, .soft, figcaption { color: var(--soft); font-size: .85rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem .25rem 0; text-align: right;
  white-space: nowrap; vertical-align: top }
th { font-weight: 600; color: var(--soft) }
th[colspan] { text-align: center; border: 0; padding-bottom: 0 }
th[rowspan] { vertical-align: bottom }
tr:first-child th:first-child, td:first-child { text-align: left }
.long { text-align: left } td.long { white-space: normal; min-width: 14rem }
details { border: 1px solid var(--line); border-radius: 6px; padding: .4rem .9rem;
  margin: .7rem 0 }
summary { cursor: pointer; font-weight: 600 }
h2 ~ .wide + .plots { margin-top: 1rem }
.plots { display: grid; gap: 1.2rem 1.6rem;
  grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)) }
figure { margin: 0 } figcaption b { color: var(--ink) }
svg { width: 100%; height: auto; display: block } svg.time { height: 22px; margin: .6rem 0 .2rem }
svg text { fill: var(--soft); font: 9px system-ui, sans-serif }
.bar { fill: var(--bar) } .bound { stroke: var(--bound); stroke-dasharray: 3 2 }
.axis { stroke: var(--line) } .track { fill: var(--tint) }
.used { fill: var(--used) } .unused { fill: var(--unused) } .gap { fill: var(--gap) }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px;
  margin: 0 .3em 0 .8em }
.key.used { background: var(--used) } .key.unused { background: var(--unused) }
.key.gap { background: var(--gap) }
code, pre { font: .82rem/1.45 ui-monospace, monospace }
pre { background: var(--tint); border-radius: 6px; padding: .8rem; overflow-x: auto }
"""


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


def bags(report: dict[str, Any]) -> str:
    """An overview of all bags, and what is to tell of each."""
    entries = report["bags"]
    episodes = {
        bag: list(rows) for bag, rows in groupby(report["episodes"], key=lambda row: row["bag"])
    }
    shown = "".join(
        details(
            bag["bag"], _bag(bag, episodes.get(bag["bag"], [])), is_open=len(entries) <= OPEN_BAGS
        )
        for bag in entries[:MAX_BAGS]
    )
    hidden = len(entries) - MAX_BAGS
    rest = soft(f"The other {hidden:,} are in report.json.") if hidden > 0 else ""
    return _overview(entries) + shown + rest + (soft(TOPIC_NOTE) if entries else "")


def inputs(digests: dict[str, dict[str, str]]) -> str:
    """The files that were read, with their hashes."""
    rows = (
        (bag, name, digest) for bag, files in digests.items() for name, digest in files.items()
    )
    return table(("bag", "file", "SHA-256"), rows, long=(1, 2))


def _overview(entries: list[dict[str, Any]]) -> str:
    header = ("bag", "s", "MB", "messages", "episodes", "transitions", "gaps", "left out s")
    rows = (
        (
            bag["bag"],
            f"{bag['duration_s']:.2f}",
            f"{bag['size_bytes'] / 1e6:.1f}",
            f"{bag['message_count']:,}",
            f"{bag['episodes']:,}",
            f"{bag['transitions']:,}",
            sum(topic["gaps"] for topic in bag["topics"]),
            f"{sum(span['to_s'] - span['from_s'] for span in bag['left_out']):.2f}",
        )
        for bag in entries
    )
    return table(header, rows)


def _bag(bag: dict[str, Any], episodes: list[dict[str, Any]]) -> str:
    return (
        timeline(bag, episodes)
        + table(TOPIC_HEADER, (_topic(topic) for topic in bag["topics"]))
        + subsection("Gaps", _gaps(bag))
        + subsection("Left out", _left_out(bag))
        + subsection("What else", bullets(_what_else(bag)))
        + subsection("Lost", table(*_losses(bag), long=(1,)))
        + subsection("Topics of unknown types, skipped", table(*_skipped(bag), long=(1,)))
    )


def _topic(topic: dict[str, Any]) -> tuple[object, ...]:
    jitter, delays = topic["jitter_ms"] or {}, topic["receive_minus_header_ms"] or {}
    stamps, ages = topic["stamps"] or {}, topic["age_at_tick_ms"] or {}
    limit, rate = topic["limit_s"], topic["rate_hz"]
    return (
        (topic["topic"], topic["role"], topic["type"]),
        f"{topic['count']:,}",
        None if rate is None else f"{rate:.2f}",
        *(_ms(jitter.get(key)) for key in ("p50", "p95", "max")),
        f"{topic['longest_pause_s']:.3f}",
        None if limit is None else f"{limit:g}",
        None if limit is None else topic["gaps"],
        topic["missing_estimate"],
        *(_ms(delays.get(key)) for key in ("p50", "max")),
        *(stamps.get(key) for key in ("backwards", "duplicate", "zero")),
        *(_ms(ages.get(key)) for key in ("p50", "p95", "max")),
    )


def _ms(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def _gaps(bag: dict[str, Any]) -> str:
    rows = [
        (topic["topic"], f"{span['from_s']:.3f}", f"{span['to_s']:.3f}", f"{length:.3f}")
        for topic in bag["topics"]
        for span in topic["gap_spans"]
        for length in (span["to_s"] - span["from_s"],)
    ]
    hidden = sum(topic["gaps"] for topic in bag["topics"]) - len(rows)
    rest = soft(f"and {hidden:,} more") if hidden > 0 else ""
    return table(("topic", "from s", "to s", "s"), rows) + rest


def _left_out(bag: dict[str, Any]) -> str:
    rows = (
        (f"{span['from_s']:.2f}", f"{span['to_s']:.2f}", span["reason"])
        for span in bag["left_out"]
    )
    return table(("from s", "to s", "why"), rows, long=(2,))


def _what_else(bag: dict[str, Any]) -> Iterable[str]:
    yield from bag["notes"]
    if bag["between_episodes_s"]:
        yield f"{bag['between_episodes_s']:.2f} s lie between episodes."
    if bag["dropped_ticks"]:
        yield f"Ticks dropped at a number that was not finite: {bag['dropped_ticks']:,}."
    if bag["split_nonfinite"]:
        yield f"Episodes split at a number that was not finite: {bag['split_nonfinite']:,}."
    if any(bag["clipped"]):
        yield f"Action values beyond the bounds: {sum(bag['clipped']):,}."
    if bag["by_index_warnings"]:
        yield f"Messages without joint names, read by position: {bag['by_index_warnings']:,}."


def _losses(bag: dict[str, Any]) -> Table:
    rows: list[tuple[object, ...]] = [
        (loss["file"], loss["reason"], loss["messages"], loss["bytes"]) for loss in bag["losses"]
    ]
    return ("file", "why", "messages", "bytes"), rows


def _skipped(bag: dict[str, Any]) -> Table:
    rows: list[tuple[object, ...]] = [
        (topic["name"], topic["type"], topic["count"]) for topic in bag["skipped_topics"]
    ]
    return ("topic", "type", "messages"), rows


def section(title: str, content: str) -> str:
    """A titled part of the page; nothing where there is no content."""
    return f"<h2>{escape(title)}</h2>{content}" if content else ""


def subsection(title: str, content: str) -> str:
    """A titled part of a section; nothing where there is no content."""
    return f"<h3>{escape(title)}</h3>{content}" if content else ""


def bullets(items: Iterable[str]) -> str:
    """A list; nothing where there is no item."""
    lines = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>{lines}</ul>" if lines else ""


def soft(text: str) -> str:
    """A line of small print."""
    return f"<p class=soft>{escape(text)}</p>"


def details(summary: str, content: str, *, is_open: bool) -> str:
    """Content that folds."""
    opened = " open" if is_open else ""
    return f"<details{opened}><summary>{escape(summary)}</summary>{content}</details>"


def table(
    header: Sequence[str | tuple[str, Sequence[str]]],
    rows: Iterable[Sequence[object]],
    *,
    long: Iterable[int] = (),
) -> str:
    """A table that scrolls in its own box; nothing where there is no row.

    Args:
        header: Column titles; a pair is a title over several columns and their own titles.
        rows: One cell a column; ``None`` is shown as a dash, a tuple as a word over
            lines of small print.
        long: Columns of running text, which may be broken into lines; not under a pair.
    """
    wrapped = frozenset(long)
    body = "".join(f"<tr>{_cells(row, wrapped)}</tr>" for row in rows)
    return f"<div class=wide><table>{_head(header, wrapped)}{body}</table></div>" if body else ""


def _cells(row: Sequence[object], wrapped: frozenset[int]) -> str:
    return "".join(
        f"<td{' class=long' if index in wrapped else ''}>{_cell(cell)}</td>"
        for index, cell in enumerate(row)
    )


def _cell(cell: object) -> str:
    if isinstance(cell, tuple):
        word, *small = (escape(str(each)) for each in cell)
        return word + "".join(f"<br><span class=soft>{line}</span>" for line in small)
    return "&ndash;" if cell is None else escape(str(cell))


def _head(header: Sequence[str | tuple[str, Sequence[str]]], wrapped: frozenset[int]) -> str:
    grouped = any(isinstance(each, tuple) for each in header)
    above, below = [], []
    for index, each in enumerate(header):
        if isinstance(each, tuple):
            title, columns = each
            above.append(f"<th colspan={len(columns)}>{escape(title)}</th>")
            below += [f"<th>{escape(column)}</th>" for column in columns]
        else:
            span = " rowspan=2" if grouped else ""
            kind = " class=long" if index in wrapped else ""
            above.append(f"<th{span}{kind}>{escape(each)}</th>")
    second = f"<tr>{''.join(below)}</tr>" if grouped else ""
    return f"<tr>{''.join(above)}</tr>{second}"
