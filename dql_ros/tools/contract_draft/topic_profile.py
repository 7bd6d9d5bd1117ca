"""What a draft is based on: each topic of the recordings, its numbers and its times."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rosbags.typesys.store import Typestore

from dql_core.errors import BagError, counted
from dql_ros.bag.reader import Bag, ClockStep, unreadable_remarks
from dql_ros.bag.storage.storage import lost_words
from dql_ros.codecs.block import MessageBlock
from dql_ros.contract import Element
from dql_ros.convert.report.topic_statistics import Pauses, TopicStatistics
from dql_ros.tools.contract_draft.frames_seen import FramesSeen
from dql_ros.tools.contract_draft.topic_parts import Part, is_of_robot, parts_of
from dql_ros.tools.survey import SurveyedTopic, survey
from dql_ros.tools.topic_numbers import NumberFacts, TopicNumbers

# Log times that go back by more are of a clock that was set back.
SET_BACK_NS = 10_000_000
# A command: messages that have more than others do not make those worthless.
COMMAND_TYPE = re.compile(
    r"/(Twist|\w*(Cmd|Commands?|Setpoint|JointTrajectory|JointJog|AckermannDrive(Stamped)?))$"
)


@dataclass(frozen=True)
class TopicProfile:
    """One topic of the recordings, or one of its streams where what it holds comes apart.

    Attributes:
        name: Absolute topic name.
        msgtype: Type of its messages.
        count: Number of messages that have the stream's numbers.
        timing: Its row as `TopicStatistics.to_json` has it.
        numbers: What its messages hold; ``None`` if they cannot be decoded.
        typestore: Knows its type; ``None`` likewise.
        longest_usual_s: The longest of its pauses, interruptions left out; 0 without pauses.
        late_s: The same, but for one pause in a hundred.
        until_end_s: From its last message to the end of the recording, the longest of them.
        absent_from: A recording that has no message of it; empty if all have.
        rates_hz: How often it usually comes in each of several recordings; empty for one.
        part: The numbers that come together, and which of the topic's streams that is; ``None``
            where no numbers do.
        rare: Of the numbers that no stream of the topic has, how rare each is; with the first
            stream.
        recordings: How many recordings there are.
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
    rates_hz: tuple[float, ...] = ()
    part: Part | None = None
    rare: Mapping[Element, str] = field(default_factory=dict)
    recordings: int = 1

    @property
    def rate_hz(self) -> float | None:
        """How often it usually comes; ``None`` for fewer than two messages.

        Of several recordings, the median: one that is odd does not decide.
        """
        return median(self.rates_hz) if self.rates_hz else _usual_rate_hz(self.timing)

    @property
    def is_regular(self) -> bool:
        """Whether most messages come about as far apart as the median."""
        return _is_regular(self.timing)

    @property
    def useful(self) -> dict[Element, NumberFacts]:
        """The numbers of the stream, in the messages' order."""
        if self.numbers is None or self.part is None:
            return {}
        facts = self.numbers.facts
        return {key: fact for key, fact in facts.items() if key in self.part.elements}

    @property
    def lacking(self) -> int:
        """How many messages have not all of the stream's numbers."""
        if self.numbers is None or self.part is None:
            return 0
        return self.numbers.messages - self.part.count

    @property
    def stream_name(self) -> str:
        """The stream's name among those of the topic; empty for the first."""
        label = "" if self.part is None else self.part.label
        topic = re.sub(r"[^\w/.-]+", "_", self.name.strip("/"))
        return f"{topic}/{label}" if label else ""

    @property
    def key(self) -> str:
        """What the contract calls the stream."""
        return self.stream_name or self.name

    @property
    def title(self) -> str:
        """The topic's name, with that of the stream where it has several."""
        label = "" if self.part is None else self.part.label
        return f"{self.name}, {label}" if label else self.name

    @property
    def last_segment(self) -> str:
        """The last part of its name."""
        return self.name.rpartition("/")[2]


def _is_regular(timing: Mapping[str, Any]) -> bool:
    jitter, median_ms = timing["jitter_ms"], timing["median_pause_ms"]
    return jitter is not None and bool(jitter["p50"] <= 0.25 * median_ms)


def _usual_rate_hz(timing: Mapping[str, Any]) -> float | None:
    mean, median_ms = timing["rate_hz"], timing["median_pause_ms"]
    if not mean or not median_ms:
        return None
    # A mean suffers from pauses, a median from messages that come in bursts or late by turns.
    return max(float(mean), 1000.0 / median_ms) if _is_regular(timing) else float(mean)


@dataclass
class _Known:
    """What is known of a topic so far.

    Attributes:
        lacking: Numbers that a recording with messages of the topic has not got, with its name.
    """

    msgtype: str
    statistics: TopicStatistics
    numbers: TopicNumbers | None
    typestore: Typestore | None
    recordings: int = 0
    until_end_s: float = 0.0
    rates_hz: list[float] = field(default_factory=list)
    lacking: dict[Element, str] = field(default_factory=dict)
    _seen: dict[Element, int] = field(default_factory=dict)
    _first: str = ""

    def note_numbers(self, recording: str) -> None:
        """Take note of which numbers a recording has, now that it is read."""
        if self.numbers is None:
            return
        for element, fact in self.numbers.facts.items():
            if fact.messages == self._seen.get(element, 0):
                self.lacking.setdefault(element, recording)
            elif element not in self._seen and self._first:
                self.lacking.setdefault(element, self._first)
        self._seen = {key: fact.messages for key, fact in self.numbers.facts.items()}
        self._first = self._first or recording

    def note(self, found: SurveyedTopic, *, is_damaged: bool) -> None:
        """Take note of why a recording's messages of it cannot be used, if they cannot."""
        is_other = self.msgtype != found.topic.msgtype
        if is_other or (found.unreadable and not is_damaged):
            self.numbers = self.typestore = None
        elif found.unreadable and self.numbers is not None:
            self.numbers.refusal = found.unreadable


class Profiler:
    """Reads recordings, each once from its start to its end, one after the other.

    Attributes:
        steps: Where the clocks of recordings turned out to have been set back, by their paths.
        losses: What could not be read of each recording, a sentence each.
        frames: What tf broadcasts in them.

    Args:
        steps: The same, if it is known: messages then come in the order in which they were sent.
    """

    def __init__(self, steps: Mapping[Path, Sequence[ClockStep]] | None = None) -> None:
        self.steps: dict[Path, Sequence[ClockStep]] = {}
        self.losses: list[str] = []
        self.frames = FramesSeen()
        self._known_steps = steps or {}
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

        pauses = {name: Pauses() for name in bag.topics}
        self.frames.begin_recording()

        def visit(block: MessageBlock) -> None:
            pauses[block.topic].add(block.log_times_ns)
            if (store := _store(bag, block.topic)) is not None:
                self.frames.add(block, store)
            if block.topic in numbers:
                numbers[block.topic].add(block)

        before = {name: known.statistics.count for name, known in self._topics.items()}
        statistics = {name: known.statistics for name, known in self._topics.items()}
        steps = self._known_steps.get(bag.path, ())
        surveyed = survey(bag, progress, visit, statistics, steps)
        for each in surveyed:
            name = each.topic.name
            known = self._topics.setdefault(
                name,
                _Known(each.topic.msgtype, each.statistics, numbers.get(name), _store(bag, name)),
            )
            known.note(each, is_damaged=name not in bag.unreadable)
            if each.statistics.count > before.get(name, 0):
                self._note_presence(name, bag.end_ns)
                known.note_numbers(str(bag.path))
        for name, of_recording in pauses.items():
            if (rate_hz := _usual_rate_hz(of_recording.to_json())) is not None:
                self._topics[name].rates_hz.append(rate_hz)
        self._recordings.append(str(bag.path))
        self._note_damage(bag, surveyed)

    def _note_damage(self, bag: Bag, surveyed: Sequence[SurveyedTopic]) -> None:
        unreadable = (
            (each.topic.name, each.topic.msgtype, each.statistics.count, each.unreadable)
            for each in surveyed
            if each.unreadable
        )
        self.losses += [f"{bag.path}: {text}" for text in unreadable_remarks(unreadable)]
        if bag.losses:
            self.losses.append(f"{bag.path}: lost: {lost_words(bag.losses)}")
        if found := bag.clock_steps(SET_BACK_NS):
            self.steps[bag.path] = found

    def _note_presence(self, name: str, end_ns: int) -> None:
        """Take note that the recording, which ends then, has messages of a topic."""
        known = self._topics[name]
        if known.recordings < len(self._recordings):
            self._absent.setdefault(name, self._recordings[known.recordings])
        known.recordings += 1
        until_end_s = (end_ns - known.statistics.pauses.last_ns) / 1e9
        known.until_end_s = max(known.until_end_s, until_end_s)

    def topics(self) -> list[TopicProfile]:
        """All topics, in the order of their names; those that come apart, a stream each."""
        return [
            profile
            for name in sorted(self._topics)
            for profile in self._profiles(name, self._topics[name])
        ]

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

    def _profiles(self, name: str, known: _Known) -> Iterator[TopicProfile]:
        """Yield a topic, or the streams of which it is made."""
        numbers = known.numbers
        command = COMMAND_TYPE.search(known.msgtype) is not None
        parts = [] if numbers is None else parts_of(numbers, known.lacking, command=command)
        rare = {} if numbers is None else _rare(numbers, parts, known.lacking)
        streams: list[Part | None] = [*parts] or [None]
        for part in streams:
            yield self._profile(name, known, part, rare)
            rare = {}

    def _profile(
        self, name: str, known: _Known, part: Part | None, rare: Mapping[Element, str]
    ) -> TopicProfile:
        absent = self._absent.get(name, "")
        if known.recordings < len(self._recordings):
            absent = absent or self._recordings[known.recordings]
        pauses, timing = known.statistics.pauses, known.statistics.to_json()
        rates_hz = tuple(known.rates_hz) if len(self._recordings) > 1 else ()
        count = pauses.count if part is None else part.count
        if part is not None and part.pauses is not None:
            pauses = part.pauses
            timing |= pauses.to_json()
            rates_hz = ()
        return TopicProfile(
            name=name,
            msgtype=known.msgtype,
            count=count,
            timing=timing,
            numbers=known.numbers,
            typestore=known.typestore,
            longest_usual_s=pauses.usual_s(1.0) or 0.0,
            late_s=pauses.usual_s(0.99) or 0.0,
            until_end_s=known.until_end_s,
            absent_from=absent,
            rates_hz=rates_hz,
            part=part,
            rare=rare,
            recordings=len(self._recordings),
        )


def _rare(
    numbers: TopicNumbers, parts: Sequence[Part], lacking: Mapping[Element, str]
) -> dict[Element, str]:
    """The numbers that no part has, with how rare each is."""
    taken = {element for part in parts for element in part.elements}
    return {
        element: (
            f"{lacking[element]} has none of it"
            if element in lacking
            else f"in {fact.messages:,} of {counted(numbers.messages, 'message')} only"
        )
        for element, fact in numbers.facts.items()
        if element not in taken and is_of_robot(element)
    }


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
