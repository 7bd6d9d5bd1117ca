"""Records the contract's topics, and others, into a rosbag2 MCAP folder."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosgraph_msgs.msg import Clock as ClockMessage

from dql_ros.bag.sim_time import SimTimeOrder
from dql_ros.bag.writer import BagWriter
from dql_ros.contract import (
    Contract,
    Event,
    QualityOfService,
    SignalStream,
    Stream,
    load_contract,
)
from dql_ros.nodes.base import run
from dql_ros.nodes.interfaces import message_class, qos_profile
from dql_ros.nodes.parameters import Parameter, declare, path_of, require, value_of

PARAMETERS = (
    Parameter("contract", "", "path of the robot contract (yaml)", required=True),
    Parameter("out", "", "folder to record into; it must not exist", required=True),
    Parameter("topics", ("",), "further topics to record"),
    Parameter(
        "depth", 10_000, "messages of a topic that may wait to be written", low=1, high=1_000_000
    ),
)

_DISCOVERY_PERIOD_S = 0.05
_WRITE_PERIOD_S = 0.1
# Messages still on their way when the recording is asked to end arrive within this silence.
_SILENCE_S = 0.2
_CLOCK_TOPIC = "/clock"


@dataclass
class _Recorded:
    """One subscription, and how much came through it."""

    subscription: Any
    last_sequence_number: int | None = None
    received: int = 0
    lost: int = 0


class RecorderNode(Node):
    """Subscribes to serialised messages, with what the publishers offer, and writes them down.

    Without ``use_sim_time``, a message's log time is when it was received. With it, it is the
    simulated time at which the message was sent, see `SimTimeOrder`; lockstep simulation outruns
    the transport, so that the time at which a message is received says little.

    Attributes:
        finished: Never; it ends by a signal.
    """

    finished = False

    def __init__(self) -> None:
        """Open the recording and look for publishers.

        Raises:
            DqlError: If a parameter, the contract or the folder does not fit.
        """
        super().__init__("recorder")
        declare(self, PARAMETERS)
        require(self, PARAMETERS)
        path = path_of(self, "contract")
        contract = load_contract(path)
        self._types = self._wanted(contract)
        self._unheard = set(self._types)
        self._recorded: dict[str, _Recorded] = {}
        latched = [s.topic for s in contract.observation if s.latched]
        self._order = (
            SimTimeOrder(latched=[self.resolve_topic_name(topic) for topic in latched])
            if value_of(self, "use_sim_time")
            else None
        )
        self._written = 0
        self._writer = BagWriter(path_of(self, "out"), contract_text=path.read_text())
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_DISCOVERY_PERIOD_S, self._discover, clock=steady)
        self.create_timer(_WRITE_PERIOD_S, self._take_all, clock=steady)

    def last_acts(self) -> None:
        """Write what is still on its way, finish the recording and say what it holds."""
        silent_since = time.monotonic()
        while time.monotonic() - silent_since < _SILENCE_S:
            if self._take_all():
                silent_since = time.monotonic()
            time.sleep(0.01)
        if self._order is not None:
            self._write_stamped(self._order.flush())
        self._writer.close()
        lost = sum(recorded.lost for recorded in self._recorded.values())
        late, dropped = (self._order.late, self._order.dropped) if self._order else (0, 0)
        level = "warning" if lost or late or dropped else "info"
        getattr(self.get_logger(), level)(
            f"recorded {self._written} messages in {value_of(self, 'out')}, lost {lost}, "
            f"late {late}, dropped from before the first clock {dropped}: "
            + ", ".join(f"{topic} {r.received}" for topic, r in self._recorded.items())
        )

    def _wanted(self, contract: Contract) -> dict[str, str]:
        """Types of the topics to record; empty where only the publisher knows it."""
        streams: list[Stream | SignalStream | Event] = [*contract.observation, *contract.action]
        streams += [*contract.signals.values(), *contract.events.values()]
        wanted = {self.resolve_topic_name(stream.topic): stream.type for stream in streams}
        wanted |= {self.resolve_topic_name(name): "" for name in value_of(self, "topics") if name}
        return wanted | {_CLOCK_TOPIC: "rosgraph_msgs/msg/Clock"}

    def _discover(self) -> None:
        """Subscribe to each topic once it has a publisher, in the way that it offers."""
        for topic in sorted(self._unheard):
            publishers = self.get_publishers_info_by_topic(topic)
            if publishers:
                self._unheard.remove(topic)
                self._record(topic, self._types[topic] or publishers[0].topic_type, publishers)

    def _record(self, topic: str, type_name: str, publishers: Any) -> None:
        offered = [_quality(publisher.qos_profile) for publisher in publishers]
        self._writer.add_topic(topic, type_name, qos=offered)
        qos = qos_profile(_weakest(offered), min_depth=value_of(self, "depth"))

        def receive(data: bytes, info: Mapping[str, Any]) -> None:
            self._receive(topic, data, info)
            # One wake-up costs more than many messages: take whatever else has come.
            self._take_all()

        callback: Any = receive  # rclpy's stubs do not know the message's information
        subscription = self.create_subscription(
            message_class(type_name), topic, callback, qos, raw=True
        )
        self._recorded[topic] = _Recorded(subscription)

    def _take_all(self) -> bool:
        """Take all that has arrived, and write what is due; say whether anything came."""
        now_ns = time.time_ns()
        before = sum(recorded.received for recorded in self._recorded.values())
        for topic, recorded in self._recorded.items():
            handle, kind = recorded.subscription.handle, recorded.subscription.msg_type
            with handle:
                while (taken := handle.take_message(kind, True)) is not None:
                    self._receive(topic, *taken)
        if self._order is not None:
            self._write_stamped(self._order.pop_ready(now_ns))
        return sum(recorded.received for recorded in self._recorded.values()) > before

    def _receive(self, topic: str, data: bytes, info: Mapping[str, Any]) -> None:
        self._count(self._recorded[topic], info.get("publication_sequence_number"))
        source_ns = info["source_timestamp"]
        if self._order is None:
            self._writer.write(topic, data, info["received_timestamp"], source_ns)
            self._written += 1
            return
        if topic == _CLOCK_TOPIC:
            clock = deserialize_message(data, ClockMessage).clock
            self._order.push_clock(clock.sec * 1_000_000_000 + clock.nanosec, source_ns)
        self._order.push(topic, data, source_ns)

    def _count(self, recorded: _Recorded, number: int | None) -> None:
        """Count a message, and those lost before it; numbers are those of the one publisher."""
        recorded.received += 1
        last, recorded.last_sequence_number = recorded.last_sequence_number, number
        if last is not None and number is not None and number > last:
            recorded.lost += number - last - 1

    def _write_stamped(self, messages: Any) -> None:
        for message in messages:
            self._writer.write(
                message.topic, message.data, message.log_time_ns, message.publish_time_ns
            )
        self._written += len(messages)


def _quality(offered: QoSProfile) -> QualityOfService:
    reliable = offered.reliability == ReliabilityPolicy.RELIABLE
    latched = offered.durability == DurabilityPolicy.TRANSIENT_LOCAL
    return QualityOfService(
        reliability="reliable" if reliable else "best_effort",
        durability="transient_local" if latched else "volatile",
        depth=max(offered.depth, 1),
    )


def _weakest(offered: list[QualityOfService]) -> QualityOfService:
    """What every publisher can serve: one that offers less does not connect at all."""
    reliable = all(quality.reliability == "reliable" for quality in offered)
    latched = all(quality.durability == "transient_local" for quality in offered)
    return QualityOfService(
        reliability="reliable" if reliable else "best_effort",
        durability="transient_local" if latched else "volatile",
    )


def main() -> None:
    """Run the node."""
    sys.exit(run(RecorderNode, SingleThreadedExecutor))


if __name__ == "__main__":
    main()
