"""A topic's row of the conversion report, as `TopicStatistics` tells it."""

from __future__ import annotations

from dql_core.strict_yaml import StrictModel


class Spread(StrictModel):
    """Quantiles in milliseconds; ``sampled`` tells that all but the ends are of a sample."""

    min: float
    p50: float
    p95: float
    max: float
    sampled: bool


class Jitter(StrictModel):
    """Distances of pauses from the median pause in milliseconds."""

    p50: float
    p95: float
    p99: float
    max: float
    sampled: bool


class StampCounts(StrictModel):
    """Header stamps before the one before, equal to it, and never set."""

    backwards: int
    duplicate: int
    zero: int


class GapRow(StrictModel):
    """A pause over the limit; times are seconds from the bag's start."""

    from_s: float
    to_s: float


class TopicRow(StrictModel):
    """One use of one topic.

    Attributes:
        topic: Absolute topic name.
        type: Message type.
        role: What the contract uses it for.
        count: Number of messages.
        rate_hz: Messages a second between the first and the last.
        median_pause_ms: Median time between two messages.
        jitter_ms: How uneven the pauses are.
        longest_pause_s: The longest of them.
        limit_s: A longer pause is a gap; ``None`` where pauses are in order.
        gaps: Number of gaps.
        gap_spans: The first of them.
        missing_estimate: How many messages fit into pauses that are a multiple of the median;
            ``None`` where most pauses are uneven or of any length.
        receive_minus_header_ms: Time of receipt less the header's stamp; ``None`` without stamps.
        stamps: What is odd about the stamps; ``None`` without stamps.
        age_at_tick_ms: How old its value was at the ticks that used one.
    """

    topic: str
    type: str
    role: str
    count: int
    rate_hz: float | None
    median_pause_ms: float | None
    jitter_ms: Jitter | None
    longest_pause_s: float
    limit_s: float | None
    gaps: int
    gap_spans: tuple[GapRow, ...]
    missing_estimate: int | None
    receive_minus_header_ms: Spread | None
    stamps: StampCounts | None
    age_at_tick_ms: Spread | None
