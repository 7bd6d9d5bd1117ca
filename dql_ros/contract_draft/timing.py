"""The times of a draft: control rate, which stamps count, and how long a value is valid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dql_ros.contract_draft.rounding import upward, usual_rate
from dql_ros.contract_draft.studied import StudiedTopic

# A clock that is this far ahead of, or behind, the recorder's is another clock.
AHEAD_MS, BEHIND_MS = -10.0, 1000.0
# No contract is faster, and nothing that comes by hand needs to be.
FASTEST_HZ = 2000.0
BY_HAND_HZ = 20.0
# A value is valid for so many usual pauses.
PATIENCE = 5.0


@dataclass(frozen=True)
class Chosen:
    """A value of the contract and why it was chosen."""

    value: float
    reason: str


def control_rate(
    actions: Sequence[StudiedTopic], observations: Sequence[StudiedTopic]
) -> Chosen | None:
    """Choose the rate of the commands, or else that of what is observed.

    Returns:
        ``None`` if nothing came more than once.
    """
    commands = [(t.rate_hz, t.name) for t in actions if t.rate_hz]
    regular = [(t.rate_hz, t.name) for t in actions if t.rate_hz and t.is_regular]
    seen = [(t.rate_hz, t.name) for t in observations if t.rate_hz]
    fastest = max((rate for rate, _ in seen), default=FASTEST_HZ)
    if regular:
        rate, name = max(regular)
        return _chosen(min(rate, fastest), f"as often as {name} came: {rate:.4g} times a second")
    if seen:
        rate, name = min(seen)
        reason = f"as often as {name} came, the slowest that is observed: {rate:.4g} Hz"
        if commands and max(commands)[0] < BY_HAND_HZ < rate:
            rate, reason = BY_HAND_HZ, "a guess: the commands came too unevenly to tell"
        return _chosen(rate, reason)
    if commands:
        rate, name = max(commands)
        return _chosen(rate, f"as often as {name} came, unevenly: {rate:.4g} times a second")
    return None


def _chosen(rate_hz: float, reason: str) -> Chosen:
    return Chosen(usual_rate(min(rate_hz, FASTEST_HZ)), reason)


def distrust_of_stamps(topic: StudiedTopic) -> str:
    """Why a topic's header stamps are not to be used; empty if they are."""
    stamps, delay = topic.timing["stamps"], topic.timing["receive_minus_header_ms"]
    if stamps is None:
        return "no header"
    if stamps["zero"] or delay is None:
        return "header stamps are zero"
    if not AHEAD_MS <= delay["p50"] <= BEHIND_MS or delay["max"] > 60_000:
        return f"header stamps are {delay['p50'] / 1000:.4g} s off the time of receipt"
    return ""


def observed_age(topic: StudiedTopic, rate_hz: float, *, by_header: bool) -> Chosen:
    """Choose how old an observed value may be: as old as a few missing messages make it."""
    timing = topic.timing
    if timing["median_pause_ms"] is None:
        return Chosen(upward(2 / rate_hz), "a guess: came once")
    usual_s = timing["median_pause_ms"] / 1000
    uneven_s = usual_s + timing["jitter_ms"]["p99"] / 1000
    delay_s = max(0.0, timing["receive_minus_header_ms"]["p95"] / 1000) if by_header else 0.0
    limit = max(PATIENCE * usual_s, 1.5 * uneven_s, 2 / rate_hz) + delay_s
    return Chosen(_limit(limit), _pauses(topic))


def commanded_age(topic: StudiedTopic, rate_hz: float) -> Chosen:
    """Choose how long a command stays in force: one that comes by hand, until the next."""
    timing = topic.timing
    if timing["median_pause_ms"] is None:
        return Chosen(upward(2 / rate_hz), "a guess: came once")
    if not topic.is_regular:
        return Chosen(
            _limit(max(timing["longest_pause_s"], 2 / rate_hz)),
            f"a guess: {_pauses(topic)}; say how long your robot obeys one command",
        )
    return observed_age(topic, rate_hz, by_header=False)


def _limit(seconds: float) -> float:
    return upward(min(max(seconds, 1e-3), 1e6))


def _pauses(topic: StudiedTopic) -> str:
    timing = topic.timing
    longest = timing["longest_pause_s"]
    return f"came every {timing['median_pause_ms'] / 1000:.3g} s, at most {longest:.3g} s apart"
