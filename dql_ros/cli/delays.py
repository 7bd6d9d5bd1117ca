"""What `dql inspect --delay` shows of a bag's delays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group
from rich.text import Text

from dql_core.cli.console import plain_table
from dql_core.cli.terminal import NameText
from dql_core.errors import visible
from dql_ros.tools.delay.picture import shown_delay

_OF_PAIRS = (
    "delay: from a command to the first answer; lag: of the actuator, which is no part of it; "
    "explained: share of the state's motion"
)
_OF_STREAMS = "from header stamp to receipt; jitter: what 99 % need more than the median"


def delay_tables(document: Mapping[str, Any]) -> Group:
    """Show a bag's delays on a terminal.

    Args:
        document: With the keys ``bag`` and ``delay``, as `find_delays` returned it.
    """
    found = document["delay"]
    pairs = plain_table("command", "answered by", "delay", "lag", "explained")
    for pair in found["pairs"]:
        speed = "the speed of " if pair["answers_by"] == "speed" else ""
        state = (
            Text("nothing") if pair["state"] is None else NameText(speed + visible(pair["state"]))
        )
        numbers = (f"{pair['lag_ms']:.0f} ms", f"{pair['explained']:.0%}")
        if pair["delay_ms"] is None:
            numbers = ("", "")
        pairs.add_row(NameText(visible(pair["command"])), state, shown_delay(pair), *numbers)
    streams = plain_table("stream", "messages", "median ms", "99 % ms", "jitter ms", "")
    for row in found["streams"]:
        keys = ("median_ms", "p99_ms", "jitter_ms")
        figures = ("" if row[key] is None else f"{row[key]:.2f}" for key in keys)
        count = f"{row['messages']:,}"
        streams.add_row(NameText(visible(row["topic"])), count, *figures, row["doubt"])
    return Group(
        NameText(visible(f"delays of bag {document['bag']}"), "bold", overflow="fold"),
        pairs,
        Text(_OF_PAIRS, "dim italic"),
        streams,
        Text(_OF_STREAMS, "dim italic"),
        *(NameText(visible(f"- {remark}"), "yellow") for remark in found["remarks"]),
        *(NameText(visible(line)) for line in _lines(found)),
    )


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what to write into the contract."""
    for line in found["contract"]:
        if line["delay_s"] is None:
            yield f"{line['topic']}: no delay_s for the contract: {line['doubt']}"
        else:
            yield (
                f"{line['topic']}: in the contract  delay_s: {line['delay_s']:g}  if the node's "
                f"commands go this way, and  recorded_delay_s: {line['delay_s']:g}  to convert "
                f"this bag"
            )
