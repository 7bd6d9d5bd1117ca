"""Records the contract's topics, and others, into rosbag2 MCAP folders."""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rosbags.typesys import Stores, get_typestore
from rosgraph_msgs.msg import Clock as ClockMessage
from std_msgs.msg import String
from std_srvs.srv import Trigger

from dql_core.errors import BagError, ContractError
from dql_core.streams import SECOND_NS
from dql_ros.bag.mcap_output import COMPRESSIONS
from dql_ros.bag.metadata import TopicMetadata, describe
from dql_ros.bag.recorder import FinishedBag, Recorder, RecorderOptions
from dql_ros.bag.sim_time import SimTimeOrder
from dql_ros.codecs.installed import message_class
from dql_ros.contract import (
    Contract,
    Event,
    SignalStream,
    Stream,
    TransformStream,
    contract_path,
    load_contract,
    resolve_topic,
)
from dql_ros.contract.outcomes import LABEL_TYPE, LABELS
from dql_ros.contract.shadow import POLICY_NODE, shadow_topic
from dql_ros.control.outcomes import HeardOutcomes
from dql_ros.diagnostics import Level, Status
from dql_ros.nodes.base import OutcomeServices, run
from dql_ros.nodes.diagnostics import StatusReporter
from dql_ros.nodes.parameters import (
    CONTRACT,
    Parameter,
    declare,
    path_of,
    require,
    value_of,
)
from dql_ros.nodes.recorder_topics import FoundTopic, RecorderTopics, type_definition
from dql_ros.nodes.topics import reliable, steady_clock

_DISCOVERY_PERIOD_S = 0.05
_ADAPTATION_PERIOD_S = 0.2
_WRITE_PERIOD_S = 0.1
_REPORT_PERIOD_S = 1.0
_LOG_PERIOD_S = 1.0
# Messages still on their way when the recording is asked to end arrive within this silence, or,
# from a robot that goes on and so is never silent, within this time.
_SILENCE_S = 0.2
_END_S = 1.0
_CLOCK_TOPIC = "/clock"
RMWError = rclpy_implementation.RMWError
_TYPESTORE = get_typestore(Stores.ROS2_JAZZY)
_EXPLAINED = "see 'Diagnostics of recorder_node' in docs/reference/nodes.md"
STOPPED, RECORDING, FAILED = "stopped", "recording", "failed"
PARAMETERS = (
    CONTRACT,
    Parameter("out", "", "folder to record into", required=True),
    Parameter(
        "when_exists",
        "refuse",
        "if 'out' exists: refuse, or record into a folder of that name with a number",
        choices=("refuse", "number"),
    ),
    Parameter("topics", ("",), "further topics to record"),
    Parameter("record_at_start", True, "record at once; false: from the call of ~/start on"),
    Parameter(
        "depth",
        10_000,
        "number of messages of a topic that may wait to be written",
        (1, 1_000_000),
    ),
    Parameter(
        "compression", "zstd", "of the chunks in the MCAP files", choices=tuple(COMPRESSIONS)
    ),
    Parameter("max_file_mb", 0.0, "begin a new file after this many MB; 0: never", (0.0, 1e9)),
    Parameter("max_file_s", 0.0, "begin a new file after this many seconds; 0: never", (0.0, 1e9)),
    Parameter(
        "flush_s",
        1.0,
        "longest time between two writes to the disk, in seconds; a kill can lose this much, "
        "and in simulation up to 5 s while the clock stands still",
        (0.05, 3600.0),
    ),
    Parameter(
        "min_free_mb", 100.0, "finish the recording when the disk has less MB free", (0.0, 1e9)
    ),
)


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
        require(self, PARAMETERS)
        path = contract_path(path_of(self, CONTRACT.name))
        contract = load_contract(path)
        self._latched = {
            self.resolve_topic_name(s.topic) for s in contract.observed_topics if s.latched
        }
        self._order = (
            SimTimeOrder(latched=[*self._latched, self._marker_topic])
            if value_of(self, "use_sim_time")
            else None
        )
        self._recorder = Recorder(self._options(path.read_text()), self._order)
        self._outcomes = self._heard_outcomes(contract)
        self._outcome_topics: dict[str, str] = {}  # by the labels that they are recorded under
        self._said: Counter[str] = Counter()
        wanted, optional = self._wanted(contract), self._sent_by_some(contract)
        self._optional = optional.keys() - wanted.keys()
        wanted |= optional
        self._topics = RecorderTopics(
            self, wanted, value_of(self, "depth"), self._announce, self._receive
        )
        self._lost_before: dict[str, int] = {}
        self._received_before: dict[str, int] = {}
        self._bag = self._recorder.bag
        if value_of(self, "record_at_start"):
            self._bag = self._recorder.start(time.time_ns())
        self._reporter = StatusReporter(self, "recording", logs=False)
        self._labels = self.create_publisher(String, "~/episode", reliable(10))
        self.create_service(Trigger, "~/start", self._on_start)
        self.create_service(Trigger, "~/stop", self._on_stop)
        OutcomeServices(self, self._label)
        self.create_subscription(String, "~/label", self._on_label, reliable(10))
        steady = steady_clock()
        self.create_timer(_DISCOVERY_PERIOD_S, self._topics.discover, clock=steady)
        self.create_timer(_ADAPTATION_PERIOD_S, self._topics.adapt, clock=steady)
        self.create_timer(_WRITE_PERIOD_S, self._write, clock=steady)
        self.create_timer(_REPORT_PERIOD_S, self._report, clock=steady)

    def on_exit(self) -> None:
        """Write what is still on its way, finish the recording and say what it holds."""
        if self._recorder.bag is not None:
            self._finish()
        self._report()
        self._reporter.flush()
        self._topics.close()

    @property
    def _marker_topic(self) -> str:
        return self.resolve_topic_name("~/episode")

    def _options(self, contract_text: str) -> RecorderOptions:
        return RecorderOptions(
            out=path_of(self, "out"),
            contract_text=contract_text,
            marker_topic=self._marker_topic,
            numbered=value_of(self, "when_exists") == "number",
            compression=value_of(self, "compression"),
            max_file_bytes=round(value_of(self, "max_file_mb") * 1e6),
            max_file_ns=round(value_of(self, "max_file_s") * 1e9),
            flush_ns=round(value_of(self, "flush_s") * 1e9),
            min_free_bytes=round(value_of(self, "min_free_mb") * 1e6),
        )

    def _wanted(self, contract: Contract) -> dict[str, str]:
        """Types of the topics to record; empty where only the publisher knows it.

        The clock comes first: a simulation that sees the recorder hear its states may begin, and
        what comes before the first clock cannot be dated.
        """
        streams: list[Stream | SignalStream | Event] = [
            *contract.observed_topics,
            *contract.action,
        ]
        streams += [*contract.signals.values(), *contract.events.values()]
        if contract.outcomes is not None:
            streams += contract.outcomes.flags.values()
        wanted = {_CLOCK_TOPIC: ""}
        wanted |= {self.resolve_topic_name(name): "" for name in value_of(self, "topics") if name}
        wanted |= {self.resolve_topic_name(stream.topic): stream.type for stream in streams}
        wanted.pop(self._marker_topic, None)  # It is written by the recorder itself.
        return wanted | {_CLOCK_TOPIC: "rosgraph_msgs/msg/Clock"}

    def _sent_by_some(self, contract: Contract) -> dict[str, str]:
        """Types of the topics that not every robot has.

        Only shadow mode, a takeover or a simulation publishes some; and all transforms may move.
        """
        policy = resolve_topic(POLICY_NODE, self.get_namespace())
        found = {shadow_topic(stream.topic, policy): stream.type for stream in contract.action}
        for stream in contract.observation:
            if isinstance(stream, TransformStream):
                found[self.resolve_topic_name(stream.static.topic)] = stream.type
        if reset := contract.reset_signal:
            found[self.resolve_topic_name(reset.topic)] = reset.type
        if takeover := contract.takeover:
            types = takeover.types(contract.action)
            found |= {self.resolve_topic_name(topic): kind for topic, kind in types.items()}
        if outcomes := contract.outcomes:
            found[self.resolve_topic_name(outcomes.topic)] = LABEL_TYPE
        return found

    def _heard_outcomes(self, contract: Contract) -> HeardOutcomes | None:
        """What tells a person's labels from other messages, if the contract has outcomes."""
        if contract.outcomes is None:
            return None
        read = self.resolve_topic_name(contract.outcomes.markers)
        if read != self._marker_topic:
            self.get_logger().warning(
                f"labels that this node is given are recorded on '{self._marker_topic}', but the "
                f"contract's outcomes.markers is '{read}': a conversion will not see them"
            )
        return HeardOutcomes(contract.outcomes, self.resolve_topic_name)

    def _announce(self, found: FoundTopic) -> str:
        topic = _described(found)
        if topic.type_hash and found.hashes and topic.type_hash not in found.hashes:
            raise BagError(
                f"it is published with another definition of {found.msgtype} than is installed "
                f"here: install the same version of '{found.msgtype.partition('/')[0]}'"
            )
        latching = all(quality.durability == "transient_local" for quality in found.offered)
        self._recorder.announce(topic, latched=latching or found.label in self._latched)
        types = {} if self._outcomes is None else self._outcomes.types
        if found.msgtype == types.get(found.name):
            self._outcome_topics[found.label] = found.name
        return topic.type_hash

    def _receive(self, topic: str, data: bytes, info: Mapping[str, Any]) -> None:
        source_ns = info["source_timestamp"]
        is_clock = topic == _CLOCK_TOPIC and self._order is not None
        if is_clock and (message := self._read(topic, data, ClockMessage)) is not None:
            clock = message.clock
            self._recorder.receive_clock(clock.sec * SECOND_NS + clock.nanosec, source_ns)
        self._recorder.receive(topic, data, info["received_timestamp"], source_ns)
        if self._outcomes is not None and topic in self._outcome_topics:
            self._hear_outcome(self._outcomes, self._outcome_topics[topic], data)

    def _hear_outcome(self, outcomes: HeardOutcomes, topic: str, data: bytes) -> None:
        """Say what a person's label does; a conversion reads it from the message itself."""
        message = self._read(topic, data, message_class(outcomes.types[topic]))
        if message is None:
            return
        try:
            labels = outcomes.receive(topic, message)
        except ContractError as error:
            self.get_logger().warning(
                f"a label cannot be read: {error}", throttle_duration_sec=_LOG_PERIOD_S
            )
            return
        for label in labels:
            if self._recorder.is_recording:
                self._said[label] += 1
                self.get_logger().info(f"'{label}' by {topic}")
            else:
                self.get_logger().warning(
                    f"'{label}' by {topic} labels nothing: nothing is being recorded"
                )

    def _read(self, topic: str, data: bytes, kind: type[Any]) -> Any:
        """Return a message; ``None`` if its bytes are none of its type, which are recorded too."""
        try:
            return deserialize_message(data, kind)
        except RMWError as error:
            self.get_logger().warning(
                f"{topic}: a message cannot be read: {error}; see who publishes it",
                throttle_duration_sec=_LOG_PERIOD_S,
            )
            return None

    def _write(self) -> None:
        now_ns = time.time_ns()  # Before taking: what is sent later is not waited for.
        self._topics.take_all()
        self._recorder.advance(now_ns)
        if self._recorder.bag is not None and self._recorder.error:
            self._finish()

    def _report(self) -> None:
        recorder, topics, order = self._recorder, self._topics, self._order
        received = _since(self._received_before, topics.received)
        lost = _since(self._lost_before, topics.lost)
        late, dropped = (order.late, order.dropped) if order else (0, 0)
        bag = "" if self._bag is None else str(self._bag)
        state = RECORDING if recorder.is_recording else STOPPED
        status = Status(Level.OK, state, state)
        if recorder.error:
            status = Status(Level.ERROR, FAILED, recorder.error)
        elif any(lost.values()) or late or dropped or topics.refused or topics.remarks:
            remarks = [f"{label} {text}" for label, text in topics.remarks.items()]
            message = "; ".join([f"{state}, incomplete", *remarks])
            status = Status(Level.WARN, state, message)
        values = {
            "state": status.state,
            "bag": bag,
            "file size (MB)": f"{recorder.size_bytes / 1e6:.3f}",
            "messages received": str(sum(received.values())),
            "messages lost": str(sum(lost.values())),
            "messages late": str(late),
            "messages dropped before the first clock": str(dropped),
            "labels": ", ".join(f"{self._said[each]} {each}" for each in LABELS),
            "topics without a publisher": ", ".join(
                topic for topic in topics.unheard if topic not in self._optional
            ),
            **{f"received of {topic}": str(count) for topic, count in received.items()},
            **{f"lost of {topic}": str(count) for topic, count in lost.items()},
            **{f"not recorded: {topic}": why for topic, why in topics.refused.items()},
            **{f"remark on {topic}": text for topic, text in topics.remarks.items()},
        }
        if self._bag is not None and self._bag.parent.is_dir():
            values["disk free (MB)"] = f"{shutil.disk_usage(self._bag.parent).free / 1e6:.0f}"
        self._reporter.report(status, values, bag=bag)

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
        elif (
            any(lost.values())
            or (finished.late or finished.dropped or finished.unwritten)
            or (self._topics.remarks or self._topics.refused)
        ):
            self.get_logger().warning(f"{text}; {_EXPLAINED}")
        else:
            self.get_logger().info(text)
        return finished

    def _on_start(self, _request: Any, response: Any) -> Any:
        try:
            self._bag = self._recorder.start(time.time_ns())
        except BagError as error:
            response.message = str(error)
            return response
        self._lost_before, self._received_before = self._topics.lost, self._topics.received
        self._said.clear()
        self._report()
        response.success, response.message = True, f"recording into {self._bag}"
        return response

    def _on_stop(self, _request: Any, response: Any) -> Any:
        if self._recorder.bag is None:
            response.message = "nothing is being recorded"
            return response
        finished = self._finish()
        self._report()
        response.success = not finished.error
        response.message = finished.error or (
            f"recorded {sum(finished.counts.values())} messages in {finished.path}"
        )
        return response

    def _on_label(self, message: Any) -> None:
        if problem := self._label(message.data):
            self.get_logger().warning(problem)

    def _label(self, text: str) -> str:
        """Label the present, in the bag and on ``~/episode``; return what is wrong with that."""
        try:
            self._recorder.label(text, time.time_ns())
        except BagError as error:
            return str(error)
        if text in LABELS:
            self._said[text] += 1
        self._labels.publish(String(data=text))
        return ""


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
        f"unwritten {finished.unwritten}, late {finished.late}, dropped before the first clock "
        f"{finished.dropped}: {counts}"
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
