"""The parts of the report page that tell of bags: an overview, then topics, gaps and losses."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from dql_ros.bag.report_figures import timeline
from dql_ros.bag.report_markup import bullets, details, soft, subsection, table

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
