"""From the robot's messages to what is known at a tick; knows no ROS."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from dql_core.errors import ContractError
from dql_core.streams import Observation, ObservationBuilder, StreamSpec
from dql_ros.codecs import StreamDecoder, stamp_ns
from dql_ros.contract import Contract, ObservationStream


@dataclass
class Arrivals:
    """What came of one stream's messages.

    Attributes:
        newest_ns: The newest message's time; ``None`` before the first.
        ahead_ns: How far the newest message's stamp lies ahead of the clock, in nanoseconds.
        future: How many messages had a stamp more than a control period ahead of the clock.
        refused: How many messages lacked what the contract names.
        refusal: Why the newest message was refused; empty if it was not.
    """

    newest_ns: int | None = None
    ahead_ns: int = 0
    future: int = 0
    refused: int = 0
    refusal: str = ""


class Observer:
    """Decodes messages on one thread and tells on another what was known at a time.

    Attributes:
        arrivals: What came of each stream's messages, by topic.
    """

    def __init__(self, contract: Contract, *, lockstep: bool = False) -> None:
        """Prepare for the observation streams of ``contract``.

        Args:
            contract: The robot contract.
            lockstep: The header stamps are the clock, so that none is ahead of it.
        """
        self._lockstep = lockstep
        self._period_ns = contract.period_ns
        self.arrivals = {stream.topic: Arrivals() for stream in contract.observation}
        self._lock = threading.Lock()
        self._streams = {stream.topic: stream for stream in contract.observation}
        self._decoders = {topic: StreamDecoder(stream) for topic, stream in self._streams.items()}
        self._builder = ObservationBuilder(
            [
                StreamSpec(stream.topic, stream.width, stream.max_age_ns)
                for stream in contract.observation
            ]
        )

    def receive(self, topic: str, message: Any, received_ns: int) -> int:
        """Take in a message.

        Args:
            topic: Of its stream, as the contract names it.
            message: Of the stream's type.
            received_ns: Now, on the clock of the header stamps.

        Returns:
            The message's time in nanoseconds.

        Raises:
            ContractError: If the message lacks what the contract names.
        """
        arrivals = self.arrivals[topic]
        try:
            value = self._decoders[topic](message)
            time_ns = _time_of(message, self._streams[topic], received_ns)
        except ContractError as error:
            arrivals.refused += 1
            arrivals.refusal = str(error)
            raise
        arrivals.refusal = ""
        arrivals.newest_ns = time_ns
        arrivals.ahead_ns = 0 if self._lockstep else max(0, time_ns - received_ns)
        arrivals.future += arrivals.ahead_ns > self._period_ns
        with self._lock:
            self._builder.push(topic, time_ns, value)
        return time_ns

    def at(self, now_ns: int) -> Observation:
        """Return what is known at ``now_ns``."""
        with self._lock:
            return self._builder.at(now_ns)

    def clock_went_back(self, now_ns: int) -> None:
        """Forget what is stamped by a clock that was set back to ``now_ns``.

        A latched stream's value from before that time stays known.
        """
        with self._lock:
            ages_ns = self._builder.at(now_ns).ages_ns
            self._builder.clear(
                topic
                for topic, stream in self._streams.items()
                if not (stream.latched and ages_ns[topic] is not None)
            )

    def trouble(self, topic: str) -> str:
        """What is wrong with a stream's newest message, as a clause; empty if nothing is."""
        arrivals = self.arrivals[topic]
        if arrivals.refusal:
            return f"its newest message was refused: {arrivals.refusal}"
        if arrivals.ahead_ns > self._period_ns:
            return (
                f"its newest stamp is {arrivals.ahead_ns / 1e9:.3f} s ahead of this node's clock, "
                f"and what is from the future is not used"
            )
        return ""


def _time_of(message: Any, stream: ObservationStream, received_ns: int) -> int:
    return stamp_ns(message, stream.topic) if stream.stamp == "header" else received_ns
