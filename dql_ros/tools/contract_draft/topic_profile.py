"""What a draft is based on: each topic of the recordings, and the rates and ages that follow."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rosbags.typesys.store import Typestore

from dql_core.errors import BagError
from dql_ros.bag.reader import Bag
from dql_ros.codecs.block import MessageBlock
from dql_ros.contract import Element
from dql_ros.convert.report.topic_statistics import TopicStatistics
from dql_ros.tools.survey import survey
from dql_ros.tools.topic_numbers import NumberFacts, TopicNumbers

# Parts of a path that are about the message rather than the robot.
BOOKKEEPING = re.compile(
    r"header|layout|stamp|sec|nanosec|nsec|seq|\w*timestamp\w*|time_from_start|\w*covariance\w*"
)
# A clock that is this far ahead of, or behind, the recorder's is another clock.
AHEAD_MS, BEHIND_MS = -10.0, 1000.0
# No contract is faster, and nothing that comes by hand needs to be.
FASTEST_HZ = 2000.0
BY_HAND_HZ = 20.0
# Commands that are rarer, such as whole trajectories, do not say how often to decide.
SLOWEST_HZ = 1.0
# Numbers that are not in all messages are proposed if they are in such a share of them.
OFTEN = 0.1
# A value is valid for so many usual pauses.
PATIENCE = 5.0
# What is sent at most so often is sent once: at the start, or once an episode.
FEW = 3
# How a control rate is usually chosen.
RATES = (1, 2, 5, 10, 15, 20, 25, 30, 40, 50, 60, 100, 120, 125, 200, 240, 250, 400, 500, 1000)
# What is smaller is zero with noise.
SMALLEST = 1e-300


@dataclass(frozen=True)
class TopicProfile:
    """One topic of the recordings.

    Attributes:
        name: Absolute topic name.
        msgtype: Type of its messages.
        count: Number of messages.
        timing: Its row as `TopicStatistics.to_json` has it.
        numbers: What its messages hold; ``None`` if they cannot be decoded.
        typestore: Knows its type; ``None`` likewise.
        longest_usual_s: The longest of its pauses, interruptions left out; 0 without pauses.
        late_s: The same, but for one pause in a hundred.
        until_end_s: From its last message to the end of the recording, the longest of them.
        absent_from: A recording that has no message of it; empty if all have.
    """

    name: str
    msgtype: str
    count: int
    timing: dict[str, Any]
    numbers: TopicNumbers | None
    typestore: Typestore | None
    longest_usual_s: float = 0.0
    late_s: float = 0.0
    until_end_s: float = 0.0
    absent_from: str = ""

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
        """The numbers of its messages that are not about the message itself.

        Those that all messages have; if they have none in common, those that come together in
        most.
        """
        if self.numbers is None:
            return {}
        common = _of_robot(self.numbers.common)
        if common or (group := largest_group(self.numbers)) is None:
            return common
        return _of_robot({key: self.numbers.facts[key] for key in group})

    @property
    def is_partial(self) -> bool:
        """Whether there are messages without the numbers that are useful."""
        return self.numbers is not None and not _of_robot(self.numbers.common)

    @property
    def last_segment(self) -> str:
        """The last part of its name."""
        return self.name.rpartition("/")[2]


def largest_group(numbers: TopicNumbers) -> frozenset[Element] | None:
    """The most numbers that come together in a good part of the messages; ``None`` if none do."""
    often = {
        elements: pauses.count * len(_of_robot({key: numbers.facts[key] for key in elements}))
        for elements, pauses in numbers.groups.items()
        if pauses.count >= OFTEN * numbers.messages
    }
    return max(often, key=often.__getitem__, default=None)


def _of_robot(facts: Mapping[Element, NumberFacts]) -> dict[Element, NumberFacts]:
    """The numbers that are not about the message itself."""
    return {
        element: fact
        for element, fact in facts.items()
        if not any(BOOKKEEPING.fullmatch(part) for part in element.path.split("."))
    }


@dataclass
class _Known:
    """What is known of a topic so far."""

    msgtype: str
    statistics: TopicStatistics
    numbers: TopicNumbers | None
    typestore: Typestore | None
    recordings: int = 0
    until_end_s: float = 0.0


class Profiler:
    """Reads recordings, each once from its start to its end, one after the other."""

    def __init__(self) -> None:
        self._topics: dict[str, _Known] = {}
        self._absent: dict[str, str] = {}
        self._recordings: list[str] = []

    def add(self, bag: Bag, progress: Callable[[int], None] = lambda _: None) -> None:
        """Read a bag.

        Raises:
            BagError: If it is damaged.
        """
        numbers = {}
        for name, topic in bag.topics.items():
            if (reader := self._numbers(bag, name, topic.msgtype)) is not None:
                numbers[name] = reader

        def visit(block: MessageBlock) -> None:
            if block.topic in numbers:
                numbers[block.topic].add(block)

        before = {name: known.statistics.count for name, known in self._topics.items()}
        statistics = {name: known.statistics for name, known in self._topics.items()}
        for each in survey(bag, progress, visit, statistics):
            name = each.topic.name
            known = self._topics.setdefault(
                name,
                _Known(each.topic.msgtype, each.statistics, numbers.get(name), _store(bag, name)),
            )
            if each.unreadable or known.msgtype != each.topic.msgtype:
                known.numbers = known.typestore = None
            if each.statistics.count > before.get(name, 0):
                if known.recordings < len(self._recordings):
                    self._absent.setdefault(name, self._recordings[known.recordings])
                known.recordings += 1
                end_s = (bag.end_ns - each.statistics.pauses.last_ns) / 1e9
                known.until_end_s = max(known.until_end_s, end_s)
        self._recordings.append(str(bag.path))

    def topics(self) -> list[TopicProfile]:
        """All topics, in the order of their names."""
        return [self._profile(name, self._topics[name]) for name in sorted(self._topics)]

    def _numbers(self, bag: Bag, name: str, msgtype: str) -> TopicNumbers | None:
        """What takes a topic's messages; ``None`` if nobody can read them."""
        store = _store(bag, name)
        if store is None:
            return None
        known = self._topics.get(name)
        if known is None:
            return TopicNumbers(name, msgtype, store)
        if known.numbers is not None and known.msgtype == msgtype:
            known.numbers.begin_recording(store)
            return known.numbers
        return None

    def _profile(self, name: str, known: _Known) -> TopicProfile:
        absent = self._absent.get(name, "")
        if known.recordings < len(self._recordings):
            absent = absent or self._recordings[known.recordings]
        pauses, timing = known.statistics.pauses, known.statistics.to_json()
        if known.numbers is not None and not _of_robot(known.numbers.common):
            group = largest_group(known.numbers)
            if group is not None:
                pauses = known.numbers.groups[group]
                timing |= pauses.to_json()
        return TopicProfile(
            name=name,
            msgtype=known.msgtype,
            count=pauses.count,
            timing=timing,
            numbers=known.numbers,
            typestore=known.typestore,
            longest_usual_s=pauses.usual_s(1.0) or 0.0,
            late_s=pauses.usual_s(0.99) or 0.0,
            until_end_s=known.until_end_s,
            absent_from=absent,
        )


def profile_topics(
    bag: Bag, progress: Callable[[int], None] = lambda _: None
) -> list[TopicProfile]:
    """Read one bag; see `Profiler`."""
    profiler = Profiler()
    profiler.add(bag, progress)
    return profiler.topics()


def _store(bag: Bag, topic: str) -> Typestore | None:
    """What knows a topic's type; ``None`` if it is unknown, or recorded with several."""
    try:
        return bag.typestore(topic)
    except BagError:
        return None


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
        return _chosen(min(rate, fastest), f"as often as {name} came: {rate:.4g} times a second")
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
