"""Vectors out of a node and into it: a publisher and an encoder, or a decoder, for each stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.publisher import Publisher
from trajectory_msgs.msg import JointTrajectoryPoint

from dql_ros.codecs import StreamEncoder
from dql_ros.contract import FlagStream, SignalStream, Stream
from dql_ros.message_path import MessagePath
from dql_ros.nodes.interfaces import message_class


class StreamPublisher:
    """Publishes one stream's part of a vector."""

    def __init__(
        self,
        publisher: Any,
        stream: Stream,
        part: slice,
        joint_order: Sequence[str] = (),
        unknown: float | None = None,
        frame_id: str = "",
    ) -> None:
        """Prepare to publish.

        Args:
            publisher: Of the stream's topic and type; rclpy's, managed by the lifecycle or not.
            stream: What the contract says of it.
            part: Where its values stand in the whole vector.
            joint_order: Order of the joints in its messages; the contract's by default.
            unknown: Value of what the contract does not select; see `StreamEncoder`.
            frame_id: ``header.frame_id`` of an observation; a command has the contract's.
        """
        self.publisher = publisher
        self._encoder = StreamEncoder(stream, joint_order, unknown)
        self._message = message_class(stream.type)()
        if frame_id and hasattr(self._message, "header"):
            self._message.header.frame_id = frame_id
        self._part = part

    def publish(self, vector: NDArray[np.floating[Any]], stamp_ns: int) -> None:
        """Send this stream's part of ``vector``, stamped with ``stamp_ns``."""
        values = vector[self._part]
        self._encoder.encode(values, self._message, stamp_ns, JointTrajectoryPoint)
        self.publisher.publish(self._message)


class SignalPublisher:
    """Publishes one number or flag."""

    def __init__(self, publisher: Publisher, signal: SignalStream) -> None:
        """Prepare to publish ``signal`` through ``publisher``."""
        self.publisher = publisher
        self._message = message_class(signal.type)()
        self._path = MessagePath(signal.path, signal.topic)
        self._flag = signal if isinstance(signal, FlagStream) else None

    def publish(self, value: float) -> None:
        """Send ``value``; that of a flag is whether it is raised."""
        sent = value if self._flag is None else self._flag.value_of(bool(value))
        self._path.assign(self._message, sent)
        self.publisher.publish(self._message)


def parts(streams: Sequence[Stream]) -> Iterator[slice]:
    """Where each stream's values stand in the vector that all streams make up."""
    start = 0
    for stream in streams:
        yield slice(start, start + stream.width)
        start += stream.width


def joints_of(stream: Stream) -> tuple[str, ...]:
    """Names of the joints that a stream selects, without repetition."""
    return stream.joints


def wait_for_delivery(publishers: Sequence[Publisher], timeout_s: float = 0.0) -> bool:
    """Wait until every reliable subscriber has acknowledged everything; say whether all have.

    Fast DDS asks for acknowledgements with each message only where the history's depth is used up,
    as with a depth of 1; otherwise every 3 s.
    """
    timeout = Duration(seconds=timeout_s)
    delivered = [publisher.wait_for_all_acked(timeout) for publisher in publishers]
    return all(delivered)
