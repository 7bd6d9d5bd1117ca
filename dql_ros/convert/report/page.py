"""The conversion report as one html page that needs no network, a function of its JSON alone.

The page is laid out in ``page.html`` beside this file; here is what it shows of the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from dql_core.page import Filters, fill

_TEMPLATE = Path(__file__).with_name("page.html")
TOTALS = {
    "bags": "bags",
    "recorded_s": "s recorded",
    "messages": "messages",
    "episodes": "episodes",
    "transitions": "transitions",
    "terminated": "terminated",
    "truncated": "truncated",
    "success": "labelled success",
    "failure": "labelled failure",
    "mean_length": "mean length",
    "mean_return": "mean return",
}
# Totals that ask for attention, shown only where they are not 0.
WARNINGS = {
    "failed_bags": "bags failed",
    "discarded": "episodes discarded",
    "gaps": "gaps in topics",
    "losses": "losses in files",
    "dropped_ticks": "ticks dropped",
    "nonfinite_splits": "splits at NaN or inf",
    "clock_splits": "splits for a clock",
    "clipped_actions": "action values beyond the bounds",
    "by_index_messages": "messages read by position",
    "absent_messages": "messages skipped",
}
Row = dict[str, Any]


def render(report: Row) -> str:
    """Return the page.

    Args:
        report: What `make_report` returned, also after a trip through JSON.
    """
    episodes = groupby(report["episodes"], key=lambda row: row["bag"])
    return fill(
        _TEMPLATE,
        _FILTERS,
        report=report,
        totals=TOTALS,
        # There is none where the contract names no reward, or there is no episode.
        has_rewards=report["totals"]["mean_return"] is not None,
        has_labels=any(row["outcome"] for row in report["episodes"]),
        warnings=WARNINGS,
        episodes_of={bag: list(rows) for bag, rows in episodes},
        inputs=[
            (bag, name, digest)
            for bag, files in report["bags_sha256"].items()
            for name, digest in files.items()
        ],
    )


def _bars(field: Row) -> str:
    """The bars of a field's histogram in a box of 240 by 70; what is rare stays visible.

    They are most of a page, and nothing but numbers.
    """
    histogram = field["histogram"]
    low, high, counts = histogram["low"], histogram["high"], histogram["counts"]
    step, most = 240 / len(counts), max(*counts, 1)
    bars = []
    for index, count in enumerate(counts):
        if count > 0:
            height = max(count / most * 68, 1.0)
            begin = low + (high - low) * index / len(counts)
            bars.append(
                f"<rect class=bar x={index * step:.1f} y={70 - height:.1f} width={step - 1:.1f} "
                f"height={height:.1f}><title>{count:,} from {begin:.4g} on</title></rect>"
            )
    return "".join(bars)


def _shown_s(bag: Row, episodes: Sequence[Row]) -> float:
    """How many seconds the timeline of a bag shows."""
    ends = [row["to_s"] for row in (*episodes, *bag["left_out"])]
    return float(max([bag["duration_s"], *ends]))


def _further_notes(bag: Row) -> list[str]:
    figures = {
        "Ticks dropped at a number that was not finite": bag["dropped_ticks"],
        "Episodes split at a number that was not finite": bag["split_nonfinite"],
        "Action values beyond the bounds": sum(bag["clipped"]),
        "Messages without joint names, read by position": bag["by_index_warnings"],
    }
    between = f"{bag['between_episodes_s']:.2f} s lie between episodes."
    return [
        *bag["notes"],
        *([between] if bag["between_episodes_s"] else []),
        *(f"{what}: {count:,}." for what, count in figures.items() if count),
    ]


def _episode_histograms(episodes: Sequence[Row], has_rewards: bool) -> list[Row]:
    lengths = _histogram_of("length", "transitions", [row["length"] for row in episodes])
    if not has_rewards:
        return [lengths]
    return [lengths, _histogram_of("return", "", [row["return"] for row in episodes])]


def _histogram_of(name: str, unit: str, values: Sequence[float]) -> Row:
    """A row as `FieldStatistics.to_json` returns it."""
    column = np.array(values, dtype=np.float64)
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


_FILTERS: Filters = {
    "bars": _bars,
    "shown_s": _shown_s,
    "further_notes": _further_notes,
    "episode_histograms": _episode_histograms,
}
