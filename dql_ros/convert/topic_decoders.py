"""The roles that a contract gives to a recording's topics, and the decoders of their messages."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys.store import Typestore

from dql_core.data.infos import INTERVENTION
from dql_core.errors import BagError
from dql_ros.bag.reader import Bag
from dql_ros.bag.storage.definitions import is_service_event
from dql_ros.codecs.block import MessageBlock
from dql_ros.codecs.block_decoder import COMPLETE, ENDED, BlockDecoder, MessageError
from dql_ros.codecs.sendable import require_sendable
from dql_ros.codecs.stamps import shifted
from dql_ros.contract import (
    ActionStream,
    Contract,
    Event,
    FieldSelection,
    FlagStream,
    ObservationStream,
    RewardTopic,
    SignalStream,
    Stream,
    TransformStream,
    equal_values,
    is_text,
    matches,
)
from dql_ros.contract.outcomes import LABELS
from dql_ros.convert.clock import StreamClock
from dql_ros.convert.columns import Times, are_numbers
from dql_ros.convert.transforms import TransformJudge, TransformTopicDecoder
from dql_ros.convert.values_seen import Unmatched, ValuesSeen

_MAY_BE_SILENT = {"terminated", "truncated", "stop", "person", "switch", INTERVENTION}


@dataclass(frozen=True)
class TopicRole:
    """What the contract needs a topic for; one topic may have several roles.

    Attributes:
        topic: Absolute topic name.
        rule: What the contract says of it.
        kind: As `Alignment.push` names it: ``observation``, ``action``, ``signal``, ``event``,
            ``info`` or ``outcome``; or of what a person takes over by, ``person`` or ``switch``.
        name: The stream's key (its topic, or its name), or as `Alignment.push` has it.
    """

    topic: str
    rule: Stream | SignalStream | Event
    kind: str
    name: str

    @property
    def label(self) -> str:
        """The role in one word: ``observation``, ``action``, or the signal's or event's name."""
        of_one_value = {"signal", "event", "info", "outcome"}
        return self.name if self.kind in of_one_value else self.kind

    @property
    def may_be_silent(self) -> bool:
        """Whether the bag may have the topic without a message: a flag was never raised."""
        is_transform = isinstance(self.rule, TransformStream)  # all may move, or none
        return is_transform or self.kind == "outcome" or self.label in _MAY_BE_SILENT

    @property
    def limit_ns(self) -> int | None:
        """Pause from which on the topic counts as interrupted."""
        rule = self.rule
        return rule.max_age_ns if isinstance(rule, ObservationStream | ActionStream) else None


def takeover_roles(
    bag: Bag, contract: Contract, namespace: str, kinds: Collection[str] = ("info",)
) -> list[TopicRole]:
    """The roles of the topics of the contract's takeover that the bag has.

    Args:
        bag: An opened bag.
        contract: The robot contract.
        namespace: Namespace of its relative topics in the bag.
        kinds: Of ``person``, ``switch``, and the ``info`` of who commanded.

    Raises:
        BagError: If one is of another type.
    """
    takeover = contract.takeover
    if takeover is None:
        return []
    found: list[tuple[Stream | SignalStream, str, str]] = [
        *((stream, "person", stream.key) for stream in takeover.streams(contract.action)),
        *([] if takeover.switch is None else [(takeover.switch, "switch", "switch")]),
        (takeover.flag, "info", INTERVENTION),
    ]
    roles = [
        TopicRole(rule.resolved_topic(namespace), rule, kind, name) for rule, kind, name in found
    ]
    roles = [role for role in roles if role.kind in kinds and role.topic in bag.topics]
    for role in roles:
        bag.require_topic(role.topic, role.rule.type, role.label, may_be_silent=True)
    return roles


def topic_roles(contract: Contract, namespace: str) -> list[TopicRole]:
    """All roles of topics; relative names are those under ``namespace``."""
    found: list[tuple[Stream | SignalStream | Event, str, str]] = [
        *((stream, "observation", stream.key) for stream in contract.observed_topics),
        *((stream, "action", stream.key) for stream in contract.action),
        *((signal, "signal", name) for name, signal in contract.signals.items()),
        *((event, "event", name) for name, event in contract.events.items()),
    ]
    return [
        TopicRole(rule.resolved_topic(namespace), rule, kind, name) for rule, kind, name in found
    ]


def present_roles(bag: Bag, contract: Contract, namespace: str) -> list[TopicRole]:
    """The roles of the topics that a bag needs: of the two of transforms it may lack one."""

    def may_lack(rule: Stream | SignalStream | Event) -> bool:
        if not isinstance(rule, TransformStream):
            return False
        return rule.latched or rule.static.resolved_topic(namespace) in bag.topics

    return [
        role
        for role in topic_roles(contract, namespace)
        if role.topic in bag.topics or not may_lack(role.rule)
    ]


def reset_roles(bag: Bag, contract: Contract, namespace: str) -> list[TopicRole]:
    """The role of a simulation's resets, if the bag has them and the contract needs them."""
    signal = contract.reset_signal
    if signal is None:
        return []
    topic = bag.topics.get(signal.resolved_topic(namespace))
    if topic is None or signal.type not in topic.msgtype.split(" and "):
        return []
    return [TopicRole(topic.name, signal, "signal", "truncated")]


class TopicDecoder(Protocol):
    """Turns the blocks of a topic in one role into columns."""

    @property
    def absent(self) -> int:
        """Messages that were skipped since they have not got what the contract selects."""

    @property
    def ended(self) -> int:
        """Trajectories without points, which end the command in force."""

    @property
    def absence(self) -> tuple[str, int] | None:
        """What the first message lacks, and its log time, if every message lacks it."""

    @property
    def by_index(self) -> int:
        """Messages without joint names that were read in the contract's order."""

    @property
    def unmatched(self) -> Unmatched | None:
        """What the messages have instead, if none raises a flag or an event."""

    def __call__(self, block: MessageBlock) -> tuple[Times, tuple[NDArray[Any], ...]]:
        """Return when the messages arrived, and their columns for `Alignment.push`.

        Raises:
            MessageError: At the first message that does not fit the contract.
        """


def topic_decoder(
    role: TopicRole,
    typestore: Typestore,
    *,
    refuse_nonfinite: bool,
    clock: StreamClock | TransformJudge | None = None,
) -> TopicDecoder:
    """Return the decoder of a topic in a role.

    Args:
        role: The role.
        typestore: Knows the topic's type.
        refuse_nonfinite: Whether a NaN or an infinity in a needed number is an error.
        clock: Judges the header stamps of a stream; transforms need it.
    """
    if isinstance(role.rule, TransformStream):
        assert isinstance(clock, TransformJudge)
        return TransformTopicDecoder(role.topic, role.rule, typestore, clock, refuse_nonfinite)
    assert not isinstance(clock, TransformJudge)
    if isinstance(role.rule, Stream):
        return StreamTopicDecoder(role.topic, role.rule, typestore, refuse_nonfinite, clock)
    kind = SignalTopicDecoder
    if role.kind == "outcome" and isinstance(role.rule, Event):
        kind = LabelTopicDecoder
    return kind(role.topic, role.rule, typestore, refuse_nonfinite, role.label)


class StreamTopicDecoder:
    """Decodes a stream's messages into stamps (n,) and vectors (n, width).

    Those of an action have a third column: which are trajectories without points, shape (n,).

    Args:
        topic: Absolute topic name.
        stream: The contract's description.
        typestore: Knows the type.
        refuse_nonfinite: Whether a NaN or an infinity is an error.
        clock: Judges the header stamps; messages that it rejects are left out.
    """

    unmatched = None

    def __init__(
        self,
        topic: str,
        stream: Stream,
        typestore: Typestore,
        refuse_nonfinite: bool,
        clock: StreamClock | None = None,
    ) -> None:
        self._topic, self._stream, self._refuse = topic, stream, refuse_nonfinite
        self._clock = clock
        self._typestore, self._is_looked_at = typestore, False
        self._names = [spec.name for spec in stream.specs]
        self._decoder = BlockDecoder(stream.model_copy(update={"topic": topic}), typestore)
        self.absent = self.ended = 0
        self._has_values = False

    @property
    def absence(self) -> tuple[str, int] | None:
        """See `TopicDecoder`."""
        return None if self._has_values else self._decoder.absence

    @property
    def by_index(self) -> int:
        """See `TopicDecoder.by_index`."""
        return self._decoder.by_index

    def __call__(self, block: MessageBlock) -> tuple[Times, tuple[NDArray[Any], ...]]:
        """Return the times of arrival, and the columns; see `TopicDecoder`.

        Raises:
            ContractError: If it is of commands that cannot be sent.
        """
        decoded = self._decoder.decode(block)
        if isinstance(self._stream, ActionStream) and not self._is_looked_at:
            require_sendable(self._stream, self._typestore)  # else it is not worth learning
            self._is_looked_at = True
        arrived_ns, values = block.log_times_ns, decoded.values
        times_ns, kept, ended = arrived_ns, decoded.present, np.zeros(len(block), bool)
        if decoded.lacks is not None:
            ended = decoded.lacks == ENDED
            self.absent += len(block) - int(kept.sum())
            self.ended += int(ended.sum())
        if decoded.stamps_ns is not None:
            times_ns = shifted(decoded.stamps_ns, block.shift_ns)
            if self._clock is not None:
                kept = self._clock.judge(arrived_ns, times_ns, kept)
        if not kept.all():
            arrived_ns, times_ns = arrived_ns[kept], times_ns[kept]
            values, ended = values[kept], ended[kept]
        self._has_values |= len(arrived_ns) > 0
        if self._refuse:
            # Of the whole block, so that the message that is named is the right one.
            good = are_numbers(decoded.values)
            if decoded.lacks is not None:
                good |= (decoded.lacks != COMPLETE)[:, None]
            _require_all(good, decoded.values, self._topic, self._names)
        if isinstance(self._stream, ActionStream):
            return arrived_ns, (times_ns, values, ended)
        return arrived_ns, (times_ns, values)


class SignalTopicDecoder:
    """Decodes the messages of a signal or an event into numbers (n,).

    Args:
        topic: Absolute topic name.
        signal: The contract's description.
        typestore: Knows the type.
        refuse_nonfinite: Whether a NaN or an infinity at its path is an error.
        role: The contract's key of a flag or an event.
    """

    by_index = ended = 0
    absence = None

    def __init__(
        self,
        topic: str,
        signal: SignalStream | Event,
        typestore: Typestore,
        refuse_nonfinite: bool = False,
        role: str = "",
    ) -> None:
        self._topic, self._signal, self._path = topic, signal, signal.path
        self._refuse = refuse_nonfinite
        self._equals = signal.equals if isinstance(signal, FlagStream | Event) else None
        fields = (FieldSelection(path=self._path),) if self._path is not None else ()
        stream = Stream.model_construct(
            topic=topic,
            type=signal.type,
            fields=fields,
            stamp="receive",
            when_absent="skip" if signal.skips_absent else "refuse",
        )
        self._decoder = BlockDecoder(stream, typestore)
        self._seen = ValuesSeen(role, topic, self._path or "", self._equals)
        self.absent = 0

    @property
    def unmatched(self) -> Unmatched | None:
        """See `TopicDecoder.unmatched`."""
        return self._seen.unmatched

    def __call__(self, block: MessageBlock) -> tuple[Times, tuple[NDArray[Any], ...]]:
        """Return the times of arrival, and the values; see `TopicDecoder`.

        A value that is NaN or infinite counts as not sent.
        """
        values, present = self._values(block)
        self.absent += len(block) - int(present.sum())
        finite = np.isfinite(values)
        if self._refuse and not isinstance(self._signal, Event):
            good = finite | ~present
            _require_all(good[:, None], values[:, None], self._topic, [str(self._path)])
        return block.log_times_ns[finite], (values[finite],)

    def values(self, block: MessageBlock) -> NDArray[np.float64]:
        """Return a reward topic's rewards, or 1 for each message that matches and 0 for others.

        Returns:
            Shape (n,); NaN for a message that has nothing at the signal's path, where that is
            allowed, for a service event without the request or response that is asked for, and
            where a flag or an event is NaN or infinite.

        Raises:
            MessageError: At the first message that has nothing fitting at the signal's path.
        """
        return self._values(block)[0]

    def _values(self, block: MessageBlock) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the values, and which messages have one, shapes (n,)."""
        present = np.ones(len(block), bool)
        if self._path is None:
            return np.ones(len(block)), present
        if isinstance(self._signal, Event) or is_text(self._equals):
            is_service = is_service_event(self._signal.type)
            may_lack = is_service or self._signal.skips_absent
            objects = self._decoder.decode_objects(block, self._path, may_lack_elements=may_lack)
            if not is_service:
                present = np.array([each is not None for each in objects], bool)
            raised = self._matching(objects)
            self._seen.add(objects, raised)
            return raised, present
        decoded = self._decoder.decode(block)
        values = decoded.values[:, 0]
        if decoded.lacks is not None:
            present = decoded.present
            values = np.where(present, values, np.nan)
        if isinstance(self._signal, RewardTopic):
            return values, present
        flags = values != 0
        if self._equals is not None:
            flags = np.isin(values, np.array(equal_values(self._equals), np.float64))
        raised = np.where(np.isfinite(values), flags, values)
        if self._equals is not None:
            self._seen.add(values, raised)
        return raised, present

    def _matching(self, objects: list[Any]) -> NDArray[np.float64]:
        for index, found in enumerate(objects):
            if found is None:
                continue
            is_plain = isinstance(found, bool | int | float | str | np.number | np.bool_)
            compares = self._equals is None or isinstance(found, str) == is_text(self._equals)
            if not (is_plain and compares):
                wanted = "a number, flag or string"
                if self._equals is not None:
                    shown = " or ".join(repr(each) for each in equal_values(self._equals))
                    wanted = f"comparable with {shown}"
                raise MessageError(
                    f"{self._topic}: '{self._path}' is a {type(found).__name__}, which is not "
                    f"{wanted}; correct 'path' or 'equals' in the contract",
                    index,
                )
            if self._refuse and _is_nonfinite(found):
                raise MessageError(_nonfinite(self._topic, str(self._path), found), index)
        # An event has a request, a response, or neither; it says nothing of what it has not.
        raised = [
            np.nan if each is None or _is_nonfinite(each) else matches(each, self._equals)
            for each in objects
        ]
        return np.array(raised, np.float64)


class LabelTopicDecoder(SignalTopicDecoder):
    """Decodes words into numbers (n,): the position of a label in `LABELS`, from 1, else 0.

    A topic of words may have others, too: none of them is wrong.
    """

    @property
    def unmatched(self) -> Unmatched | None:
        """See `TopicDecoder.unmatched`."""
        return None

    def _matching(self, objects: list[Any]) -> NDArray[np.float64]:
        codes = {label: float(number) for number, label in enumerate(LABELS, start=1)}
        return np.array([codes.get(found, 0.0) for found in objects], np.float64)


def _require_all(
    good: NDArray[np.bool_], values: NDArray[np.float64], topic: str, names: list[str]
) -> None:
    """Check that all values, shape (n, len(names)), are good numbers."""
    if not good.all():
        row, column = (int(each[0]) for each in np.nonzero(~good))
        raise MessageError(_nonfinite(topic, names[column], values[row, column]), row)


def _is_nonfinite(found: object) -> bool:
    return isinstance(found, float | np.floating) and not np.isfinite(found)


def _nonfinite(topic: str, name: str, value: float) -> str:
    return (
        f"{topic}: '{name}' is {value}; set 'nonfinite: split' or 'drop' in the contract, or cut "
        f"this part out of the recording"
    )


def located(cause: MessageError, block: MessageBlock, start_ns: int, where: object) -> BagError:
    """Say in which bag and when a message came that does not fit.

    Args:
        cause: What is wrong with it.
        block: The block that has it.
        start_ns: The bag's first log time.
        where: The bag.
    """
    time_ns = cause.arrived_ns
    if time_ns is None:
        time_ns = int(block.log_times_ns[cause.index])
    return located_at(str(cause), time_ns, start_ns, where)


def located_at(text: str, time_ns: int, start_ns: int, where: object) -> BagError:
    """Say in which bag and when something went wrong; see `located`."""
    return BagError(f"{where}, {(time_ns - start_ns) / 1e9:.3f} s from its start: {text}")
