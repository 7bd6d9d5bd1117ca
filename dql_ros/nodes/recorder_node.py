"""Records the contract's topics, and others, into rosbag2 MCAP folders."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rosbags.typesys import Stores, get_typestore
from rosgraph_msgs.msg import Clock as ClockMessage

from dql_core.errors import BagError
from dql_ros.bag.recorder import FinishedBag, Recorder
from dql_ros.bag.sim_time import SimTimeOrder
from dql_ros.bag.topic_metadata import TopicMetadata, describe
from dql_ros.contract import (
    Contract,
    Event,
    SignalStream,
    Stream,
    load_contract,
)
from dql_ros.nodes.base import run
from dql_ros.nodes.parameters import contract_of, declare, refuse_unknown, require, value_of
from dql_ros.nodes.recorder_parameters import PARAMETERS, recorder_options
from dql_ros.nodes.recorder_report import FAILED, RECORDING, STOPPED, RecorderReporter, Standing
from dql_ros.nodes.recorder_services import RecorderServices
from dql_ros.nodes.recorder_topics import FoundTopic, RecorderTopics
from dql_ros.nodes.type_definition import type_definition

_DISCOVERY_PERIOD_S = 0.05
_ADAPTATION_PERIOD_S = 0.2
_WRITE_PERIOD_S = 0.1
_REPORT_PERIOD_S = 1.0
# Messages still on their way when the recording is asked to end arrive within this silence, or,
# from a robot that goes on and so is never silent, within this time.
_SILENCE_S = 0.2
_END_S = 1.0
_CLOCK_TOPIC = "/clock"
_TYPESTORE = get_typestore(Stores.ROS2_JAZZY)


class RecorderNode(Node):
    """Subscribes to serialised messages, with what the publishers offer, and writes them down.

    Without ``use_sim_time``, a message's log time is when it was received. With it, it is the
    simulated time at which the message was sent, see `SimTimeOrder`; lockstep simulation outruns
    the transport, so that the time at which a message is received says little.

    Attributes:
        finished: Never; it ends by a signal.
        has_failed: Whether something that arrived could not be written.
    """

    finished = False
    has_failed = False

    def __init__(self) -> None:
        """Open the recording and look for publishers.

        Raises:
            DqlError: If a parameter, the contract or the folder does not fit.
        """
        super().__init__("recorder")
        declare(self, PARAMETERS)
        refuse_unknown(self)
        require(self, PARAMETERS)
        path = contract_of(self)
        contract = load_contract(path)
        self._latched = {
            self.resolve_topic_name(s.topic) for s in contract.observation if s.latched
        }
        self._order = (
            SimTimeOrder(latched=[*self._latched, self._marker_topic])
            if value_of(self, "use_sim_time")
            else None
        )
        self._recorder = Recorder(
            recorder_options(self, path.read_text(), self._marker_topic), self._order
        )
        self._topics = RecorderTopics(
            self, self._wanted(contract), value_of(self, "depth"), self._announce, self._receive
        )
        self._lost_before: dict[str, int] = {}
        self._received_before: dict[str, int] = {}
        self._bag = self._recorder.bag
        if value_of(self, "record_at_start"):
            self._bag = self._recorder.start(time.time_ns())
        self._reporter = RecorderReporter(self)
        RecorderServices(self, self._start, self._stop, self._label)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_DISCOVERY_PERIOD_S, self._topics.discover, clock=steady)
        self.create_timer(_ADAPTATION_PERIOD_S, self._topics.adapt, clock=steady)
        self.create_timer(_WRITE_PERIOD_S, self._write, clock=steady)
        self.create_timer(_REPORT_PERIOD_S, self._report, clock=steady)

    def last_acts(self) -> None:
        """Write what is still on its way, finish the recording and say what it holds."""
        if self._recorder.bag is not None:
            self._finish()
        self._reporter.tell(self._standing())
        self._topics.close()

    @property
    def _marker_topic(self) -> str:
        return self.resolve_topic_name("~/episode")

    def _wanted(self, contract: Contract) -> dict[str, str]:
        """Types of the topics to record; empty where only the publisher knows it."""
        streams: list[Stream | SignalStream | Event] = [*contract.observation, *contract.action]
        streams += [*contract.signals.values(), *contract.events.values()]
        wanted = {self.resolve_topic_name(name): "" for name in value_of(self, "topics") if name}
        wanted |= {self.resolve_topic_name(stream.topic): stream.type for stream in streams}
        wanted.pop(self._marker_topic, None)  # It is written by the recorder itself.
        return wanted | {_CLOCK_TOPIC: "rosgraph_msgs/msg/Clock"}

    def _announce(self, found: FoundTopic) -> str:
        topic = _described(found)
        if topic.type_hash and found.hashes and topic.type_hash not in found.hashes:
            raise BagError(
                f"it is published with another definition of {found.msgtype} than is installed "
                f"here: install the same version of '{found.msgtype.partition('/')[0]}'"
            )
        latching = all(quality.durability == "transient_local" for quality in found.offered)
        self._recorder.announce(topic, latched=latching or found.label in self._latched)
        return topic.type_hash

    def _receive(self, topic: str, data: bytes, info: Mapping[str, Any]) -> None:
        source_ns = info["source_timestamp"]
        if topic == _CLOCK_TOPIC and self._order is not None:
            clock = deserialize_message(data, ClockMessage).clock
            self._recorder.receive_clock(clock.sec * 1_000_000_000 + clock.nanosec, source_ns)
        self._recorder.receive(topic, data, info["received_timestamp"], source_ns)

    def _write(self) -> None:
        now_ns = time.time_ns()  # Before taking: what is sent later is not waited for.
        self._topics.take_all()
        self._recorder.advance(now_ns)
        if self._recorder.bag is not None and self._recorder.error:
            self._finish()

    def _report(self) -> None:
        self._reporter.tell(self._standing())

    def _standing(self) -> Standing:
        state = RECORDING if self._recorder.is_recording else STOPPED
        order = self._order
        return Standing(
            state=FAILED if self._recorder.error else state,
            reason=self._recorder.error,
            bag=self._bag,
            size_bytes=self._recorder.size_bytes,
            received=_since(self._received_before, self._topics.received),
            lost=_since(self._lost_before, self._topics.lost),
            late=order.late if order else 0,
            dropped=order.dropped if order else 0,
            unheard=self._topics.unheard,
            refused=self._topics.refused,
            remarks=self._topics.remarks,
        )

    def _finish(self) -> FinishedBag:
        """Finish the bag with all that is on its way, and say what it holds."""
        asked = silent_since = now = time.monotonic()
        while now < min(silent_since + _SILENCE_S, asked + _END_S) and not self._recorder.error:
            if self._topics.take_all():
                silent_since = now
            time.sleep(0.01)
            now = time.monotonic()
        lost = _since(self._lost_before, self._topics.lost)
        finished = self._recorder.stop(lost, _sentences(self._topics))
        self.has_failed = self.has_failed or bool(finished.error)
        text = _summary(finished, sum(lost.values()))
        # Two calls, since rclpy raises where one place logs with different severities.
        if finished.error:
            self.get_logger().error(f"{text}; {finished.error}")
        elif self._is_imperfect(finished, lost):
            self.get_logger().warning(text)
        else:
            self.get_logger().info(text)
        return finished

    def _is_imperfect(self, finished: FinishedBag, lost: dict[str, int]) -> bool:
        return bool(
            any(lost.values())
            or (finished.late or finished.dropped or finished.unwritten)
            or (self._topics.remarks or self._topics.refused)
        )

    def _start(self) -> Path:
        self._bag = self._recorder.start(time.time_ns())
        self._lost_before, self._received_before = self._topics.lost, self._topics.received
        self._reporter.tell(self._standing())
        return self._bag

    def _stop(self) -> FinishedBag:
        if self._recorder.bag is None:
            raise BagError("nothing is being recorded")
        finished = self._finish()
        self._reporter.tell(self._standing())
        return finished

    def _label(self, text: str) -> None:
        self._recorder.label(text, time.time_ns())


def _since(before: dict[str, int], now: dict[str, int]) -> dict[str, int]:
    return {topic: count - before.get(topic, 0) for topic, count in now.items()}


def _sentences(topics: RecorderTopics) -> list[str]:
    """What a reader of the bag should know of its topics."""
    refused = [f"{label} was not recorded: {why}" for label, why in topics.refused.items()]
    return refused + [f"{label} {text}" for label, text in topics.remarks.items()]


def _described(found: FoundTopic) -> TopicMetadata:
    """Describe a topic by the definition in the type's files, if that is the installed one."""
    own = type_definition(found.msgtype)
    alias = "" if found.label == found.name else found.label
    common = found.name, found.msgtype, found.offered
    topic = describe(*common, own, _TYPESTORE)
    if found.msgtype in _TYPESTORE.fielddefs:
        standard = describe(*common, None, _TYPESTORE)
        if topic.type_hash in {standard.type_hash, ""}:
            topic = standard  # It has the constants and comments, too.
    return replace(topic, alias=alias)


def _summary(finished: FinishedBag, lost: int) -> str:
    """What a parent process finds on the recorder's last line."""
    counts = ", ".join(f"{topic} {count}" for topic, count in finished.counts.items())
    return (
        f"recorded {sum(finished.counts.values())} messages in {finished.path}, lost {lost}, "
        f"unwritten {finished.unwritten}, late {finished.late}, dropped from before the first "
        f"clock {finished.dropped}: {counts}"
    )


def main() -> None:
    """Run the node; the exit code is 1 also if something could not be written."""
    made: list[RecorderNode] = []

    def make() -> RecorderNode:
        made.append(RecorderNode())
        return made[0]

    code = run(make, SingleThreadedExecutor)
    sys.exit(code or int(any(node.has_failed for node in made)))


if __name__ == "__main__":
    main()
