"""The topics that command the robot; one sender at a time, so that the last word is the last."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.lifecycle import LifecycleNode

from dql_ros.codecs import StreamEncoder
from dql_ros.contract import Contract
from dql_ros.nodes.interfaces import message_class, qos_profile
from dql_ros.nodes.qos_conflicts import QosConflicts
from dql_ros.nodes.stream_io import StreamPublisher, parts, wait_for_delivery

_DELIVERY_TIMEOUT_S = 0.5


class CommandOutputs:
    """Publishes whole commands, from any thread.

    Attributes:
        last: The last command sent, shape (A,); ``None`` before the first.
        last_stamp_ns: Its stamp in nanoseconds.
    """

    def __init__(
        self, node: LifecycleNode, contract: Contract, conflicts: QosConflicts, min_depth: int
    ) -> None:
        """Open the topics; they are silent until the node is active.

        Args:
            node: The node to publish with.
            contract: The robot contract.
            conflicts: Takes note of subscribers that cannot be reached.
            min_depth: How many commands are kept at least for a slow reader.

        Raises:
            ContractError: If a message type is not installed, or a message cannot be filled.
        """
        self.last: NDArray[np.float32] | None = None
        self.last_stamp_ns = 0
        self._node = node
        self._lock = threading.Lock()
        self._outputs: list[StreamPublisher] = []
        for stream in contract.action:
            # What cannot be sent is refused before anything is opened.
            message_class(stream.type)
            StreamEncoder(stream)
        for stream, part in zip(contract.action, parts(contract.action), strict=True):
            publisher = node.create_lifecycle_publisher(
                message_class(stream.type),
                stream.topic,
                qos_profile(stream.qos, min_depth=min_depth),
                event_callbacks=PublisherEventCallbacks(
                    incompatible_qos=conflicts.listener(stream.topic)
                ),
            )
            self._outputs.append(StreamPublisher(publisher, stream, part))

    def send(
        self,
        values: NDArray[np.float32],
        stamp_ns: int,
        is_void: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Publish a command, shape (A,), unless it is void by the time it would be; say whether.

        Args:
            values: The command.
            stamp_ns: Its stamp in nanoseconds.
            is_void: Asked once nobody else can send any more.
        """
        with self._lock:
            if is_void():
                return False
            for output in self._outputs:
                output.publish(values, stamp_ns)
            self.last, self.last_stamp_ns = values, stamp_ns
        return True

    def are_heard_by(self, subscribers: int) -> bool:
        """Whether so many listen to each topic."""
        return all(
            output.publisher.get_subscription_count() >= subscribers for output in self._outputs
        )

    def flush(self) -> None:
        """Wait a while for reliable subscribers to acknowledge what was sent."""
        wait_for_delivery([output.publisher for output in self._outputs], _DELIVERY_TIMEOUT_S)

    def close(self) -> None:
        """Close the topics."""
        for output in self._outputs:
            self._node.destroy_lifecycle_publisher(output.publisher)
