"""The figures of the conversion report as inline SVG: histograms and what became of the time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

WIDTH, HEIGHT, LABEL = 240, 70, 12
TIME_WIDTH = 1000
MAX_SPANS = 2000
LEGEND = (
    "<div class=soft><i class='key used'></i>in an episode<i class='key unused'></i>left out"
    "<i class='key gap'></i>gap in a topic</div>"
)


def histograms(rows: Sequence[dict[str, Any]]) -> str:
    """One histogram a field, with its figures and its bounds as dashed lines.

    Args:
        rows: What `FieldStatistics.to_json` returned; an action's rows have more.
    """
    figures = "".join(
        f"<figure>{_histogram(row)}<figcaption>{_caption(row)}</figcaption></figure>"
        for row in rows
        if row["min"] is not None
    )
    return f"<div class=plots>{figures}</div>" if figures else ""


def histogram_of(name: str, values: Iterable[float], unit: str = "") -> dict[str, Any]:
    """A row for `histograms` from a few values, at least one of them."""
    column = np.array(list(values), dtype=np.float64)
    counts, edges = np.histogram(column, bins=40)
    return {
        "name": name,
        "unit": unit,
        "low": None,
        "high": None,
        "min": float(column.min()),
        "max": float(column.max()),
        "mean": float(column.mean()),
        "std": float(column.std()),
        "beyond_bounds": 0,
        "histogram": {"low": edges[0], "high": edges[-1], "counts": counts.tolist()},
    }


def timeline(bag: dict[str, Any], episodes: Sequence[dict[str, Any]]) -> str:
    """A bag from its start to its end: what is in episodes, what is left out, and gaps.

    Args:
        bag: The bag's entry in the report.
        episodes: The rows of its episodes.
    """
    ends = [row["to_s"] for row in (*episodes, *bag["left_out"])]
    length = max([bag["duration_s"], *ends])
    if length <= 0:
        return ""
    gaps = [span for topic in bag["topics"] for span in topic["gap_spans"]]
    spans = (
        *_spans(bag["left_out"], "unused", 0, 22, length),
        *_spans(episodes, "used", 0, 22, length),
        *_spans(gaps, "gap", 17, 5, length),
    )
    return (
        f"<svg class=time viewBox='0 0 {TIME_WIDTH} 22' preserveAspectRatio=none role=img "
        f"aria-label='{escape(bag['bag'])} over time'><rect class=track width={TIME_WIDTH} "
        f"height=22 />{''.join(spans)}</svg>{LEGEND}"
    )


def _spans(
    rows: Sequence[dict[str, Any]], kind: str, top: int, height: int, length: float
) -> Iterable[str]:
    scale = TIME_WIDTH / length
    for row in rows[:MAX_SPANS]:
        told = row.get("reason") or row.get("ending") or "gap"
        # A hair of the track stays visible between neighbours.
        width = max((row["to_s"] - row["from_s"]) * scale - 0.5, 0.7)
        yield (
            f"<rect class={kind} x={row['from_s'] * scale:.2f} y={top} width={width:.2f} "
            f"height={height}><title>{row['from_s']:.2f} s to {row['to_s']:.2f} s: "
            f"{escape(told)}</title></rect>"
        )


def _caption(row: dict[str, Any]) -> str:
    unit = f" [{row['unit']}]" if row["unit"] else ""
    lines = [
        f"<b>{escape(row['name'])}</b>{escape(unit)}",
        f"{row['min']:.4g} to {row['max']:.4g}, mean {row['mean']:.3g} ± {row['std']:.3g}",
    ]
    bounds = [("low", row["low"]), ("high", row["high"])]
    told = ", ".join(f"{name} {bound:.4g}" for name, bound in bounds if bound is not None)
    if told:
        lines.append(f"bounds: {told}")
    if row["beyond_bounds"]:
        lines.append(f"{row['beyond_bounds']:,} beyond the bounds")
    if row.get("clipped"):
        recorded = f"recorded {row['recorded_min']:.4g} to {row['recorded_max']:.4g}"
        lines.append(f"{row['clipped']:,} recorded beyond the bounds ({recorded})")
    return "<br>".join(lines)


def _histogram(row: dict[str, Any]) -> str:
    low, high = row["histogram"]["low"], row["histogram"]["high"]
    counts = row["histogram"]["counts"]
    step, most = WIDTH / len(counts), max(*counts, 1)
    bars = "".join(
        f"<rect class=bar x={index * step:.1f} y={HEIGHT - height:.1f} width={step - 1:.1f} "
        f"height={height:.1f}><title>{count:,} from {edge:.4g} on</title></rect>"
        for index, (count, height, edge) in enumerate(
            # What is rare stays visible.
            (
                count,
                max(count / most * (HEIGHT - 2), 1.0),
                low + (high - low) * index / len(counts),
            )
            for index, count in enumerate(counts)
        )
        if count > 0
    )
    lines = "".join(
        f"<line class=bound x1={x:.1f} x2={x:.1f} y1=0 y2={HEIGHT} />"
        for x in (
            (bound - low) / (high - low) * WIDTH
            for bound in (row["low"], row["high"])
            if bound is not None
        )
    )
    return (
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT + LABEL}' role=img "
        f"aria-label='{escape(row['name'])}'>{bars}{lines}"
        f"<line class=axis x1=0 x2={WIDTH} y1={HEIGHT} y2={HEIGHT} />"
        f"<text x=0 y={HEIGHT + 10}>{low:.4g}</text>"
        f"<text x={WIDTH} y={HEIGHT + 10} text-anchor=end>{high:.4g}</text></svg>"
    )
