"""The uses that a contract makes of a recording's topics, and how each takes in messages.

Decodes blocks of messages that tell of the task: rewards, ends of episodes, events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys.store import Typestore

from dql_core.errors import BagError
from dql_ros.bag.storage.definitions import is_service_event
from dql_ros.codecs.block import MessageBlock
from dql_ros.codecs.block_decoder import BlockDecoder, MessageError
from dql_ros.contract import (
    ActionStream,
    Contract,
    Equal,
    Event,
    FieldSelection,
    FlagStream,
    ObservationStream,
    RewardTopic,
    SignalStream,
    Stream,
    matches,
)
from dql_ros.convert.columns import Times, are_numbers


@dataclass(frozen=True)
class Use:
    """One use that the contract makes of a topic.

    Attributes:
        topic: Absolute topic name.
        rule: What the contract says of it.
        kind: As `Alignment.push` names it: ``observation``, ``action``, ``signal`` or ``event``.
        name: The stream's topic as in the contract, or the name of the signal or event.
    """

    topic: str
    rule: Stream | SignalStream | Event
    kind: str
    name: str

    @property
    def role(self) -> str:
        """What the topic is used as, in one word."""
        return self.name if self.kind in {"signal", "event"} else self.kind

    @property
    def may_be_silent(self) -> bool:
        """Whether the bag may have the topic without a message: a flag that was never raised."""
        return self.role in {"terminated", "truncated", "stop"}

    @property
    def limit_ns(self) -> int | None:
        """Pause from which on the topic counts as interrupted."""
        rule = self.rule
        return rule.max_age_ns if isinstance(rule, ObservationStream | ActionStream) else None


def uses_of(contract: Contract, namespace: str) -> list[Use]:
    """All uses of topics; relative names are those under ``namespace``."""
    found: list[tuple[Stream | SignalStream | Event, str, str]] = [
        *((stream, "observation", stream.topic) for stream in contract.observation),
        *((stream, "action", stream.topic) for stream in contract.action),
        *((signal, "signal", name) for name, signal in contract.signals.items()),
        *((event, "event", name) for name, event in contract.events.items()),
    ]
    return [Use(rule.resolved_topic(namespace), rule, kind, name) for rule, kind, name in found]


class Intake:
    """Turns the blocks of one use into columns.

    Args:
        use: The use.
        typestore: Knows the topic's type.
        refuses_nonfinite: Whether a needed number that is none is an error.
    """

    def __init__(self, use: Use, typestore: Typestore, *, refuses_nonfinite: bool) -> None:
        self._use = use
        self._refuses = refuses_nonfinite
        rule = use.rule
        self._streams: BlockDecoder | None = None
        self._signals: SignalDecoder | None = None
        if isinstance(rule, Stream):
            self._streams = BlockDecoder(
                use.topic,
                rule.fields,
                rule.unnamed,
                typestore,
                rule.type,
                stamped=rule.stamp == "header",
            )
        else:
            self._signals = SignalDecoder(rule, use.topic, typestore)

    @property
    def by_index(self) -> int:
        """Messages without joint names that were read in the contract's order."""
        return 0 if self._streams is None else self._streams.by_index

    def __call__(self, block: MessageBlock) -> tuple[Times, tuple[NDArray[Any], ...]]:
        """Return when the messages arrived, and their columns for `Alignment.push`.

        Raises:
            MessageError: At the first message that does not fit the contract.
        """
        arrived_ns = block.log_times_ns
        if self._signals is not None:
            values = self._signals.decode(block)
            finite = np.isfinite(values)  # what is no number counts as not sent
            if not isinstance(self._use.rule, Event):
                self._require_numbers(values[:, None], finite[:, None])
            return arrived_ns[finite], (values[finite],)
        assert self._streams is not None
        assert isinstance(self._use.rule, Stream)
        decoded = self._streams.decode(block)
        times = arrived_ns
        if decoded.stamps_ns is not None:
            times = decoded.stamps_ns
            _require_one_clock(self._use.rule, self._use.topic, times, arrived_ns)
        self._require_numbers(decoded.values, are_numbers(decoded.values))
        return arrived_ns, (times, decoded.values)

    def _require_numbers(self, values: NDArray[np.float64], good: NDArray[np.bool_]) -> None:
        if self._refuses and not good.all():
            row, column = (int(each[0]) for each in np.nonzero(~good))
            rule = self._use.rule
            names = [s.name for s in rule.specs] if isinstance(rule, Stream) else [rule.path]
            raise MessageError(
                f"{self._use.topic}: '{names[column]}' is {values[row, column]}; set "
                f"'nonfinite: split' or 'drop' in the contract, or cut this part out of the "
                f"recording",
                row,
            )


def _require_one_clock(rule: Stream, topic: str, stamps_ns: Times, arrived_ns: Times) -> None:
    """Check that header stamps and log times are of the same clock."""
    limit_ns = rule.max_skew_ns
    if limit_ns is None:
        return
    strange = np.flatnonzero(np.abs(arrived_ns - stamps_ns) > limit_ns)
    if not len(strange):
        return
    row = int(strange[0])
    if stamps_ns[row] == 0:
        raise MessageError(
            f"{topic}: the header stamp is zero, so the publisher did not set it; set "
            f"'stamp: receive' in the contract",
            row,
        )
    raise MessageError(
        f"{topic}: header stamp and log time are {(arrived_ns[row] - stamps_ns[row]) / 1e9:.1f} s "
        f"apart (limit {limit_ns / 1e9:g} s), so they are of different clocks; set "
        f"'stamp: receive' in the contract, record with use_sim_time, or raise 'max_skew_s'",
        row,
    )


def located(cause: MessageError, block: MessageBlock, start_ns: int, where: object) -> BagError:
    """Say in which bag and when a message came that does not fit.

    Args:
        cause: What is wrong with it.
        block: The block that has it.
        start_ns: The bag's first log time.
        where: The bag.
    """
    seconds = (int(block.log_times_ns[cause.index]) - start_ns) / 1e9
    return BagError(f"{where}, {seconds:.3f} s from its start: {cause}")


class SignalDecoder:
    """Decodes the blocks of a signal's or an event's topic.

    Args:
        signal: The contract's description.
        topic: The absolute topic name, for error messages.
        typestore: Knows the type.
    """

    def __init__(self, signal: SignalStream | Event, topic: str, typestore: Typestore) -> None:
        self._signal = signal
        self._topic = topic
        self._path = signal.path
        self._equals: Equal | None = None
        if isinstance(signal, FlagStream | Event):
            self._equals = signal.equals
        selections = (FieldSelection(path=self._path),) if self._path is not None else ()
        self._decoder = BlockDecoder(
            topic, selections, "refuse", typestore, signal.type, stamped=False
        )

    def decode(self, block: MessageBlock) -> NDArray[np.float64]:
        """Return a reward topic's rewards, or 1 for each message that matches and 0 for others.

        Returns:
            Shape (n,); NaN for a service event without the request or response that is asked for.

        Raises:
            MessageError: At the first message that has nothing fitting at the signal's path.
        """
        if self._path is None:
            return np.ones(len(block))
        if isinstance(self._signal, Event) or isinstance(self._equals, str):
            return self._matching(
                self._decoder.decode_objects(
                    block, self._path, may_lack_elements=is_service_event(self._signal.type)
                )
            )
        values = self._decoder.decode(block).values[:, 0]
        if isinstance(self._signal, RewardTopic):
            return values
        raised = values != 0 if self._equals is None else values == self._equals
        return np.asarray(raised, np.float64)

    def _matching(self, objects: list[Any]) -> NDArray[np.float64]:
        for index, found in enumerate(objects):
            if found is None:
                continue
            is_plain = isinstance(found, bool | int | float | str | np.number | np.bool_)
            is_text = isinstance(found, str)
            compares = self._equals is None or is_text == isinstance(self._equals, str)
            if not (is_plain and compares):
                wanted = "a number, flag or string"
                if self._equals is not None:
                    wanted = f"comparable with {self._equals!r}"
                raise MessageError(
                    f"{self._topic}: '{self._path}' is a {type(found).__name__}, which is not "
                    f"{wanted}; correct 'path' or 'equals' in the contract",
                    index,
                )
        # An event has a request, a response, or neither; it says nothing of what it has not.
        raised = [np.nan if each is None else matches(each, self._equals) for each in objects]
        return np.array(raised, np.float64)
