"""From the robot's messages to what is known at a tick; knows no ROS."""

from __future__ import annotations

import threading
from typing import Any

from dql_core.streams import Observation, ObservationBuilder, StreamSpec
from dql_ros.codecs import StreamDecoder, stamp_ns
from dql_ros.contract import Contract, ObservationStream


class Observer:
    """Decodes messages on one thread and tells on another what was known at a time."""

    def __init__(self, contract: Contract) -> None:
        """Prepare for the observation streams of ``contract``."""
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
            received_ns: Now, on the clock of the header stamps; used only for a stream without.

        Returns:
            The message's time in nanoseconds.

        Raises:
            ContractError: If the message lacks what the contract names.
        """
        value = self._decoders[topic](message)
        time_ns = _time_of(message, self._streams[topic], received_ns)
        with self._lock:
            self._builder.push(topic, time_ns, value)
        return time_ns

    def at(self, now_ns: int) -> Observation:
        """Return what is known at ``now_ns``."""
        with self._lock:
            return self._builder.at(now_ns)


def _time_of(message: Any, stream: ObservationStream, received_ns: int) -> int:
    return stamp_ns(message) if stream.stamp == "header" else received_ns
