"""What a draft is based on: each topic of a bag, and the rates, ages and bounds that follow."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rosbags.typesys.store import Typestore

from dql_core.errors import BagError
from dql_ros.bag.reader import Bag
from dql_ros.codecs.block import MessageBlock
from dql_ros.contract import Element
from dql_ros.tools.survey import NumberFacts, SurveyedTopic, TopicNumbers, survey

# Parts of a path that are about the message rather than the robot.
BOOKKEEPING = re.compile(
    r"header|stamp|sec|nanosec|nsec|seq|timestamp(_sample)?|time_from_start|\w*covariance\w*"
)
# A clock that is this far ahead of, or behind, the recorder's is another clock.
AHEAD_MS, BEHIND_MS = -10.0, 1000.0
# No contract is faster, and nothing that comes by hand needs to be.
FASTEST_HZ = 2000.0
BY_HAND_HZ = 20.0
# A value is valid for so many usual pauses.
PATIENCE = 5.0
# How a control rate is usually chosen.
RATES = (1, 2, 5, 10, 15, 20, 25, 30, 40, 50, 60, 100, 120, 125, 200, 240, 250, 400, 500, 1000)
# What is smaller is zero with noise.
SMALLEST = 1e-300


@dataclass(frozen=True)
class TopicProfile:
    """One topic of a bag.

    Attributes:
        name: Absolute topic name.
        msgtype: Type of its messages.
        count: Number of messages.
        timing: Its row as `TopicStatistics.to_json` has it.
        numbers: What its messages hold; ``None`` if they cannot be decoded.
        typestore: Knows its type; ``None`` likewise.
    """

    name: str
    msgtype: str
    count: int
    timing: dict[str, Any]
    numbers: TopicNumbers | None
    typestore: Typestore | None

    @property
    def rate_hz(self) -> float | None:
        """How often it usually comes; ``None`` for fewer than two messages."""
        mean, median_ms = self.timing["rate_hz"], self.timing["median_pause_ms"]
        if not mean or not median_ms:
            return None
        # A mean suffers from pauses, a median from messages that come in bursts or late by turns.
        return max(float(mean), 1000.0 / median_ms) if self.is_regular else float(mean)

    @property
    def is_regular(self) -> bool:
        """Whether most messages come about as far apart as the median."""
        jitter, median_ms = self.timing["jitter_ms"], self.timing["median_pause_ms"]
        return jitter is not None and jitter["p50"] <= 0.25 * median_ms

    @property
    def useful(self) -> dict[Element, NumberFacts]:
        """The numbers that all its messages have and that are not about the message itself."""
        common = {} if self.numbers is None else self.numbers.common
        return {
            element: fact
            for element, fact in common.items()
            if not any(BOOKKEEPING.fullmatch(part) for part in element.path.split("."))
        }

    @property
    def last_segment(self) -> str:
        """The last part of its name."""
        return self.name.rpartition("/")[2]


def profile_topics(
    bag: Bag, progress: Callable[[int], None] = lambda _: None
) -> list[TopicProfile]:
    """Read a bag once, from start to end; topics come in the order of their names.

    Raises:
        BagError: If the bag is damaged.
    """
    stores: dict[str, Typestore] = {}
    for name in bag.topics:
        try:
            stores[name] = bag.typestore(name)
        except BagError:
            continue  # of unknown type, or of several
    numbers = {
        name: TopicNumbers(name, bag.topics[name].msgtype, store) for name, store in stores.items()
    }

    def visit(block: MessageBlock) -> None:
        if block.topic in numbers:
            numbers[block.topic].add(block)

    return [
        _profile(each, numbers.get(each.topic.name), stores.get(each.topic.name))
        for each in survey(bag, progress, visit)
    ]


def _profile(
    surveyed: SurveyedTopic, numbers: TopicNumbers | None, store: Typestore | None
) -> TopicProfile:
    timing = surveyed.statistics.to_json()
    count = surveyed.statistics.count
    topic = surveyed.topic
    return TopicProfile(topic.name, topic.msgtype, count, timing, numbers, store)


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
    if regular:
        rate, name = max(regular)
        return _chosen(min(rate, fastest), f"as often as {name} came: {rate:.4g} times a second")
    if seen:
        rate, name = min(seen)
        reason = f"as often as {name} came, the slowest that is observed: {rate:.4g} Hz"
        if commands and max(commands)[0] < BY_HAND_HZ < rate:
            rate, reason = BY_HAND_HZ, "a guess: the commands came too unevenly"
        return _chosen(rate, reason)
    if commands:
        rate, name = max(commands)
        return _chosen(rate, f"as often as {name} came, unevenly: {rate:.4g} times a second")
    return None


def _chosen(rate_hz: float, reason: str) -> Chosen:
    return Chosen(usual_rate(min(rate_hz, FASTEST_HZ)), reason)


def distrust_of_stamps(topic: TopicProfile) -> str:
    """Why a topic's header stamps are not to be used; empty if they are."""
    stamps, delay = topic.timing["stamps"], topic.timing["receive_minus_header_ms"]
    if stamps is None:
        return "no header"
    if stamps["zero"] or delay is None:
        return "header stamps are zero"
    if not AHEAD_MS <= delay["p50"] <= BEHIND_MS or delay["max"] > 60_000:
        return f"header stamps are {delay['p50'] / 1000:.4g} s off the time of receipt"
    return ""


def observed_age(topic: TopicProfile, rate_hz: float, *, by_header: bool) -> Chosen:
    """Choose how old an observed value may be: as old as a few missing messages make it."""
    timing = topic.timing
    if timing["median_pause_ms"] is None:
        return Chosen(upward(2 / rate_hz), "a guess: came once")
    usual_s = timing["median_pause_ms"] / 1000
    uneven_s = usual_s + timing["jitter_ms"]["p99"] / 1000
    delay_s = max(0.0, timing["receive_minus_header_ms"]["p95"] / 1000) if by_header else 0.0
    limit = max(PATIENCE * usual_s, 1.5 * uneven_s, 2 / rate_hz) + delay_s
    return Chosen(_limit(limit), _pauses(topic))


def commanded_age(topic: TopicProfile, rate_hz: float) -> Chosen:
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


def _pauses(topic: TopicProfile) -> str:
    timing = topic.timing
    longest = timing["longest_pause_s"]
    return f"came every {timing['median_pause_ms'] / 1000:.3g} s, at most {longest:.3g} s apart"


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
