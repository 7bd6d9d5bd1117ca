"""The conversion report as one html page that needs no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.data.dataset import Episode
from dql_core.spec import FieldSpec, PolicySpec

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d1d9e0; --bar: #2f6fbd;
  --bound: #c2410c; --paper: #ffffff; --tint: #f6f8fa }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa4af; --line: #3d444d;
  --bar: #6ea8e8; --bound: #f59e6b; --paper: #0d1117; --tint: #161b22 } }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: var(--ink);
  background: var(--paper); font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
.totals { display: flex; flex-wrap: wrap; gap: .6rem }
.totals div { background: var(--tint); border-radius: 6px; padding: .5rem .9rem }
.totals b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums }
.totals span, .soft, figcaption { color: var(--soft); font-size: .85rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .7rem .25rem 0; text-align: right;
  white-space: nowrap }
th:first-child, td:first-child, .text { text-align: left }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem }
figure { margin: 0 } svg { width: 100%; height: auto; display: block }
.bar { fill: var(--bar) } .bound { stroke: var(--bound); stroke-dasharray: 3 2 }
.axis { stroke: var(--line) } code { font-size: .82rem; overflow-wrap: anywhere }
"""

BINS = 40
WIDTH, HEIGHT = 240, 70


def render(report: dict[str, Any], episodes: Sequence[Episode], spec: PolicySpec) -> str:
    """Return the page.

    Args:
        report: What `make_report` returned.
        episodes: The dataset's episodes.
        spec: Names and bounds of their fields.
    """
    observations = np.concatenate([episode.observations for episode in episodes])
    actions = np.concatenate([episode.actions for episode in episodes])
    title = f"Conversion of {report['robot']}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p class=soft>{report['rate_hz']:g} Hz, contract {escape(report['contract'])} "
        f"<code>{report['contract_hash'][:16]}</code></p>",
        _totals(report["totals"]),
        _section("Remarks", _list(report["remarks"])) if report["remarks"] else "",
        _section("Episodes", _episodes(report["episodes"])),
        *(_section(f"Topics of {bag['bag']}", _bag(bag)) for bag in report["bags"]),
        _section("Observation", _plots(spec.observation, observations)),
        _section("Action, as in the dataset", _plots(spec.action, actions)),
        _section("Inputs", _inputs(report["bags_sha256"])),
        _section("Versions", _table(("package", "version"), report["versions"].items())),
    ]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
        f"<meta name=viewport content='width=device-width'><style>{STYLE}</style>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def _totals(totals: dict[str, Any]) -> str:
    tiles = "".join(
        f"<div><b>{value:g}</b><span>{escape(name.replace('_', ' '))}</span></div>"
        for name, value in totals.items()
    )
    return f"<div class=totals>{tiles}</div>"


def _episodes(rows: list[dict[str, Any]]) -> str:
    header = ("bag", "from s", "to s", "transitions", "return", "how it ended")
    return _table(
        header,
        (
            (
                row["bag"],
                f"{row['from_s']:.2f}",
                f"{row['to_s']:.2f}",
                row["length"],
                f"{row['return']:.4g}",
                row["ending"],
            )
            for row in rows
        ),
    )


def _bag(bag: dict[str, Any]) -> str:
    header = (
        "topic",
        "used as",
        "messages",
        "Hz",
        "longest pause s",
        "gaps",
        "age at tick ms: p50",
        "p95",
        "max",
    )
    rows = (
        (
            topic["topic"],
            topic["role"],
            topic["count"],
            "" if topic["rate_hz"] is None else f"{topic['rate_hz']:.2f}",
            f"{topic['longest_pause_s']:.3f}",
            "" if topic["limit_s"] is None else f"{topic['gaps']} over {topic['limit_s']:g} s",
            *((topic["age_at_tick_ms"] or {}).get(key, "") for key in ("p50", "p95", "max")),
        )
        for topic in bag["topics"]
    )
    left_out = [
        f"{span['from_s']:.2f} s to {span['to_s']:.2f} s left out: {span['reason']}"
        for span in bag["left_out"]
    ]
    return _table(header, rows) + _list(left_out)


def _inputs(digests: dict[str, dict[str, str]]) -> str:
    rows = (
        (bag, name, digest) for bag, files in digests.items() for name, digest in files.items()
    )
    return _table(("bag", "file", "SHA-256"), rows)


def _plots(specs: Sequence[FieldSpec], values: NDArray[Any]) -> str:
    plots = "".join(
        f"<figure>{_histogram(spec, column)}<figcaption>{escape(spec.name)}"
        f"{f' [{escape(spec.unit)}]' if spec.unit else ''}: {column.min():.4g} to "
        f"{column.max():.4g}</figcaption></figure>"
        for spec, column in zip(specs, values.T, strict=True)
    )
    return f"<div class=plots>{plots}</div>"


def _histogram(spec: FieldSpec, column: NDArray[Any]) -> str:
    """A histogram as inline SVG, with the finite bounds as dashed lines."""
    bounds = [bound for bound in (spec.low, spec.high) if np.isfinite(bound)]
    low, high = (
        min(float(column.min()), *bounds, np.inf),
        max(float(column.max()), *bounds, -np.inf),
    )
    high = high if high > low else low + 1.0
    counts, _ = np.histogram(column.astype(np.float64), bins=BINS, range=(low, high))
    heights = counts / counts.max() * (HEIGHT - 2)
    step = WIDTH / BINS
    bars = "".join(
        f"<rect class=bar x={index * step:.1f} y={HEIGHT - height:.1f} width={step - 1:.1f} "
        f"height={height:.1f} />"
        for index, height in enumerate(heights)
        if height > 0
    )
    lines = "".join(
        f"<line class=bound x1={x:.1f} x2={x:.1f} y1=0 y2={HEIGHT} />"
        for x in ((bound - low) / (high - low) * WIDTH for bound in bounds)
    )
    return (
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT + 1}' role=img aria-label='{escape(spec.name)}'>"
        f"{bars}{lines}<line class=axis x1=0 x2={WIDTH} y1={HEIGHT} y2={HEIGHT} /></svg>"
    )


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>{content}"


def _list(items: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>" if items else ""


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<div class=wide><table><tr>{head}</tr>{body}</table></div>"
