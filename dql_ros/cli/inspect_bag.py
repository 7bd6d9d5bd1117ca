"""What `dql inspect` tells of a bag, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from dql_core.cli.facts import facts_table
from dql_core.errors import visible
from dql_ros.bag.reader import Bag
from dql_ros.survey.topics import SurveyedTopic

# A contract's default limit, `max_skew_s`.
OTHER_CLOCK_MS = 60_000
# What a topic's row has no need of: there is no contract that sets limits or ticks.
_OF_A_CONTRACT = {"role", "limit_s", "gaps", "gap_spans", "missing_estimate", "age_at_tick_ms"}


def bag_document(bag: Bag, topics: Sequence[SurveyedTopic]) -> dict[str, Any]:
    """Return all that is known of a surveyed bag, ready for JSON."""
    return {
        "bag": str(bag.path),
        "files": [{"name": file.name, "bytes": file.stat().st_size} for file in bag.files],
        "size_bytes": bag.size_bytes,
        "start_ns": bag.start_ns,
        "end_ns": bag.end_ns,
        "duration_s": round((bag.end_ns - bag.start_ns) / 1e9, 9),
        "message_count": bag.message_count,
        "carries": sorted(bag.custom_data),
        "topics": [_topic_document(each) for each in topics],
        "losses": [vars(loss) for loss in bag.losses],
        "notes": list(bag.notes),
    }


def bag_tables(document: Mapping[str, Any]) -> Group:
    """Show a bag's document on a terminal."""
    started = datetime.fromtimestamp(document["start_ns"] / 1e9, tz=timezone.utc)
    names = ", ".join(file["name"] for file in document["files"])
    facts = {
        "starts": f"{document['start_ns'] / 1e9:.3f} s ({started:%Y-%m-%d %H:%M:%S} UTC)",
        "duration": f"{document['duration_s']:.3f} s",
        "messages": f"{document['message_count']:,}",
        "files": f"{names} ({document['size_bytes'] / 1e6:.2f} MB)",
        "carries": ", ".join(document["carries"]),
    }
    parts: list[Any] = [Text(visible(f"bag {document['bag']}"), "bold", overflow="fold")]
    parts += [facts_table("", facts), _topics_table(document["topics"])]
    parts += [Text(visible(f"- {remark}"), "yellow") for remark in bag_remarks(document)]
    return Group(*parts)


def bag_remarks(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is odd about a bag, a sentence each."""
    yield from document["notes"]
    for loss in document["losses"]:
        count = "messages" if loss["messages"] is None else f"{loss['messages']:,} messages"
        size = "" if loss["bytes"] is None else f" ({loss['bytes']:,} bytes)"
        yield f"lost: {count} of {loss['file']}{size}: {loss['reason']}"
    for topic in document["topics"]:
        name = topic["topic"]
        if not topic["known"]:
            yield (
                f"{name}: its {topic['stated']:,} messages cannot be decoded: the type "
                f"{topic['type']} is not known, or they are not serialised as ROS does it"
            )
        elif topic["stated"] == 0:
            yield f"{name}: has no message"
        yield from (f"{name}: {oddity}" for oddity in _stamp_oddities(topic))


def _topic_document(surveyed: SurveyedTopic) -> dict[str, Any]:
    figures = surveyed.statistics.to_json()
    return {
        **{key: value for key, value in figures.items() if key not in _OF_A_CONTRACT},
        "stated": surveyed.topic.count,
        "known": surveyed.known,
        "read": surveyed.read,
    }


def _stamp_oddities(topic: Mapping[str, Any]) -> Iterator[str]:
    for kind, words in (
        ("zero", "header stamps are zero"),
        ("backwards", "header stamps go backwards"),
        ("duplicate", "header stamps repeat the one before"),
    ):
        if count := (topic["stamps"] or {}).get(kind, 0):
            yield f"{count:,} of {topic['count']:,} {words}"
    delay = topic["receive_minus_header_ms"]
    if _of_other_clock(delay):
        yield (
            f"header stamps and times of receipt are {delay['p50'] / 1000:.4g} s apart: they are "
            f"of different clocks"
        )


def _topics_table(topics: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column(Text("topic\ntype"), overflow="fold")
    for heading in ("\ncount", "rate\nHz", "spacing\nms", "jitter\nms", "longest\ns", "delay\nms"):
        table.add_column(Text(heading), justify="right")
    for topic in topics:
        msgtype = visible(topic["type"].replace("/msg/", "/"))
        name = Text.assemble(visible(topic["topic"]), "\n", (msgtype, "dim"))
        table.add_row(name, f"{topic['count' if topic['read'] else 'stated']:,}", *_timing(topic))
    if any(topic["count"] for topic in topics):
        table.caption = (
            "rate: mean; spacing: median; jitter: 95 % of the spacings are so near to the median; "
            "longest: spacing; delay: from header stamp to receipt, median and longest"
        )
        table.caption_justify = "left"
    return table


def _timing(topic: Mapping[str, Any]) -> Iterator[str]:
    rate, jitter = topic["rate_hz"], topic["jitter_ms"]
    yield "" if rate is None else _short(rate)
    yield "" if topic["median_pause_ms"] is None else _short(topic["median_pause_ms"])
    yield "" if jitter is None else _short(jitter["p95"])
    yield "" if jitter is None else _short(topic["longest_pause_s"])
    delay = topic["receive_minus_header_ms"]
    if _of_other_clock(delay):
        yield "other clock"
    else:
        yield "" if delay is None else f"{_short(delay['p50'])}, {_short(delay['max'])}"


def _of_other_clock(delay: Mapping[str, float] | None) -> bool:
    """Whether header stamps are so far from the receipt as only another clock explains."""
    return delay is not None and abs(delay["p50"]) > OTHER_CLOCK_MS


def _short(number: float) -> str:
    """Three digits, or all before the point, without an exponent where that is readable."""
    if number == 0 or 0.001 <= abs(number) < 1e6:
        return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"
    return f"{number:.1e}"
