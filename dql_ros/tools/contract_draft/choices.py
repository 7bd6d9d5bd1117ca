"""The numbers of a draft that follow from times and ranges of topics: rate, ages and bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dql_ros.tools.contract_draft.frames_seen import SeenPose
from dql_ros.tools.contract_draft.topic_profile import TopicProfile
from dql_ros.tools.survey import FEW
from dql_ros.tools.topic_clock import AHEAD_MS, BEHIND_MS

# No contract is faster, and nothing that comes by hand needs to be.
FASTEST_HZ = 2000.0
BY_HAND_HZ = 20.0
# Commands that are rarer, such as whole trajectories, do not say how often to decide.
SLOWEST_HZ = 1.0
# A value is valid for so many usual pauses.
PATIENCE = 5.0
# How a control rate is usually chosen.
RATES = (1, 2, 5, 10, 15, 20, 25, 30, 40, 50, 60, 100, 120, 125, 200, 240, 250, 400, 500, 1000)
# What is smaller is zero with noise.
SMALLEST = 1e-300


@dataclass(frozen=True)
class Chosen:
    """A value of the contract and why it was chosen."""

    value: float
    reason: str


def control_rate(
    actions: Sequence[TopicProfile], observations: Sequence[TopicProfile]
) -> Chosen | None:
    """Choose the rate of the commands, or else that of what is observed.

    Returns:
        ``None`` if nothing came more than once.
    """
    commands = [(t.rate_hz, t.name) for t in actions if t.rate_hz]
    regular = [(t.rate_hz, t.name) for t in actions if t.rate_hz and t.is_regular]
    seen = [(t.rate_hz, t.name) for t in observations if t.rate_hz]
    fastest = max((rate for rate, _ in seen), default=FASTEST_HZ)
    # What comes far more rarely than the rest, such as a battery's state, can be held.
    seen = [(rate, name) for rate, name in seen if rate >= min(BY_HAND_HZ, fastest) / 10]
    if regular and (max(regular)[0] >= SLOWEST_HZ or fastest < SLOWEST_HZ):
        rate, name = max(regular)
        if fastest < rate:
            seldom = f"but nothing that is observed more often than {fastest:.4g} times"
            return _chosen(fastest, f"{name} came {rate:.4g} times a second, {seldom}")
        reason = f"as often as {name} came: {rate:.4g} times a second"
        return _chosen(rate, reason + _spread(actions, name))
    if seen:
        rate, name = min(seen)
        reason = f"as often as {name} came, the slowest that is observed: {rate:.4g} Hz"
        if commands and max(commands)[0] < BY_HAND_HZ < rate:
            rate, reason = BY_HAND_HZ, "a guess: the commands came too unevenly, or too rarely"
        return _chosen(rate, reason)
    if commands:
        rate, name = max(commands)
        return _chosen(rate, f"as often as {name} came, unevenly: {rate:.4g} times a second")
    return None


def _spread(topics: Sequence[TopicProfile], name: str) -> str:
    """How far the rates of a topic's recordings are apart, where that is more than a tenth."""
    rates = next(topic.rates_hz for topic in topics if topic.name == name)
    if not rates or max(rates) <= 1.1 * min(rates):
        return ""
    return f", the median of the recordings ({min(rates):.3g} to {max(rates):.3g})"


def _chosen(rate_hz: float, reason: str) -> Chosen:
    return Chosen(usual_rate(min(rate_hz, FASTEST_HZ)), reason)


def distrust_of_stamps(topic: TopicProfile, rate_hz: float | None = None) -> str:
    """Why a topic's header stamps are not to be used, at a control rate; empty if they are."""
    stamps, delay = topic.timing["stamps"], topic.timing["receive_minus_header_ms"]
    if stamps is None:
        return "no header"
    if stamps["zero"] or delay is None:
        return "header stamps are zero"
    if not AHEAD_MS <= delay["p50"] <= BEHIND_MS or delay["max"] > 60_000:
        return f"header stamps are {delay['p50'] / 1000:.4g} s off the time of receipt"
    if rate_hz is not None and delay["min"] < -1000 / rate_hz:
        return f"header stamps are up to {-delay['min'] / 1000:.4g} s ahead of the time of receipt"
    return ""


def observed_age(topic: TopicProfile, rate_hz: float, *, by_header: bool) -> Chosen:
    """Choose how old an observed value may be: as old as a few missing messages make it."""
    timing = topic.timing
    if timing["median_pause_ms"] is None:
        return Chosen(upward(2 / rate_hz), "a guess: came once")
    usual_s = timing["median_pause_ms"] / 1000
    delay_s = max(0.0, timing["receive_minus_header_ms"]["p95"] / 1000) if by_header else 0.0
    limit = max(PATIENCE * usual_s, 1.5 * topic.late_s, 2 / rate_hz) + delay_s
    return Chosen(_limit(limit), _pauses(topic))


def distrust_of_pose(pose: SeenPose, rate_hz: float) -> str:
    """Why the header stamps of transforms are not to be used; empty if they are."""
    least_s = max(AHEAD_MS / 1000, -1 / rate_hz)
    if least_s <= pose.least_delay_s and pose.most_delay_s <= BEHIND_MS / 1000:
        return ""
    return "header stamps are ahead of the time of receipt, or far from it"


def pose_age(pose: SeenPose, rate_hz: float) -> Chosen:
    """Choose how old the transforms in the chain may be; see `observed_age`."""
    delay_s = 0.0 if distrust_of_pose(pose, rate_hz) else max(0.0, pose.most_delay_s)
    limit = max(PATIENCE * pose.usual_s, 1.5 * pose.late_s, 2 / rate_hz) + delay_s
    return Chosen(_limit(limit), f"the slowest came every {pose.usual_s:.3g} s")


def commanded_age(topic: TopicProfile, rate_hz: float) -> Chosen:
    """Choose how long a command stays in force: one that comes by hand, until the next."""
    if topic.count <= FEW:
        times = "once" if topic.count == 1 else f"{topic.count} times"
        until_next_s = max(topic.timing["longest_pause_s"], topic.until_end_s, 2 / rate_hz)
        return Chosen(_limit(until_next_s), f"a guess: sent {times}, and in force until the end")
    if not topic.is_regular:
        return Chosen(
            _limit(max(topic.longest_usual_s, 2 / rate_hz)),
            f"a guess: {_pauses(topic)}; say how long your robot obeys one command",
        )
    return observed_age(topic, rate_hz, by_header=False)


def _limit(seconds: float) -> float:
    return upward(min(max(seconds, 1e-3), 1e6))


def _pauses(topic: TopicProfile) -> str:
    timing = topic.timing
    longest = timing["longest_pause_s"]
    longest_s = f"{longest:.0f}" if 100 <= longest < 1e6 else f"{longest:.3g}"
    return f"came every {timing['median_pause_ms'] / 1000:.3g} s, at most {longest_s} s apart"


def outward(low: float, high: float) -> tuple[float, float]:
    """Widen a range to round numbers: by less than a tenth of its width at each end.

    A range without width is widened by the size of its number, or by 1.
    """
    width = high - low
    if not math.isfinite(width):
        return low, high
    if width < SMALLEST:
        width = max(abs(low), abs(high))
        width = width if width > SMALLEST else 1.0
        low, high = low - width, high + width
    step = _step(width / 10)
    digits = max(0, -math.floor(math.log10(step)))
    least, greatest = math.floor(low / step) * step, math.ceil(high / step) * step
    # Adding 0 turns a minus zero into a zero.
    rounded = round(least, digits) + 0.0, round(greatest, digits) + 0.0
    # Where the width is hardly more than what a float resolves, nothing is rounder.
    return rounded if rounded[0] < rounded[1] else (low, high)


def upward(number: float) -> float:
    """Return the smallest of 1, 2, 3, 5 times a power of ten that is not below ``number``."""
    power = 10.0 ** math.floor(math.log10(number))
    steps = (1, 2, 3, 5, 10)
    chosen = next(step for step in steps if step * power >= number * (1 - 1e-9))
    return float(f"{chosen * power:.3g}")


def usual_rate(rate_hz: float) -> float:
    """Return the usual control rate within a tenth of ``rate_hz``, or else two digits of it."""
    nearest = min(RATES, key=lambda rate: abs(math.log(rate / rate_hz)))
    if abs(nearest - rate_hz) <= 0.1 * rate_hz:
        return float(nearest)
    return float(f"{rate_hz:.2g}")


def _step(number: float) -> float:
    """Return the largest of 1, 2, 5 times a power of ten that is not above ``number``."""
    power = 10.0 ** math.floor(math.log10(number))
    return next(step * power for step in (5, 2, 1) if step * power <= number * (1 + 1e-9))
