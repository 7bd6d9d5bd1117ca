"""The topics and services of a control node, apart from its lifecycle and its reports.

Observations come in by `StreamInputs`, commands go out by `CommandOutputs`, people stop and pause
by `SafetyInputs`, and `CandidatePublisher` shows what the policy chose from. `CommanderInputs`
hears who drives in shadow mode, in which nothing that is published may reach the robot, and, with
`SwitchInput`, the person who may take over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool, Float64MultiArray, MultiArrayDimension
from std_srvs.srv import Trigger

from dql_core.errors import ContractError
from dql_core.runtime.fallback import Interlock, StillStoppedError
from dql_core.runtime.policy import Decision
from dql_ros.codecs import stamp_ns
from dql_ros.codecs.installed import goal_part, installed_types, message_class
from dql_ros.codecs.sendable import left_out, require_room, require_sendable
from dql_ros.contract import ActionStream, Contract, FlagStream, Goals, ObservationStream, parts
from dql_ros.control.health import TO_CONTINUE
from dql_ros.control.heard import HeardCommands
from dql_ros.control.observer import Observer
from dql_ros.control.person import PersonHeard
from dql_ros.control.settings import LoopSettings
from dql_ros.control.ticking import steady_ns
from dql_ros.nodes.goals import GoalOutput, flush_goals
from dql_ros.nodes.topics import (
    PublisherEvents,
    QosConflicts,
    SignalPublisher,
    StreamPublisher,
    SubscriptionEvents,
    qos_profile,
    reliable,
    steady_clock,
    wait_for_delivery,
)

_LOG_PERIOD_S = 1.0
_CLOCK_TOPIC = "/clock"
# Called with each message that was taken in: its stream and its time in nanoseconds.
OnArrival = Callable[[ObservationStream, int], None]
_DELIVERY_TIMEOUT_S = 0.5
_GOALS_TIMEOUT_S = 1.0
# Commands kept for readers that are slow to acknowledge; in real time the contract decides.
_LOCKSTEP_DEPTH = 1000
# A button may repeat its state at 1 kHz, and the executor may be busy for as long as a second.
_DEPTH = 1000
# Of the commands that others send, the newest is enough.
_COMMANDER_DEPTH = 10
_FLAG_DEPTH = 100
_JOYSTICK = "sensor_msgs/msg/Joy"


class StreamInputs:
    """Subscribes to the observation streams of a contract."""

    def __init__(
        self,
        node: Node,
        contract: Contract,
        observer: Observer,
        conflicts: QosConflicts,
        on_arrival: OnArrival,
    ) -> None:
        """Subscribe.

        Raises:
            ContractError: If a message type is not installed.
        """
        self._node = node
        self._observer = observer
        self._conflicts = conflicts
        self._on_arrival = on_arrival
        self._subscriptions: list[Any] = []
        for stream in contract.observed_topics:
            # What cannot be heard is refused before anything is opened.
            message_class(stream.type)
        # The state last, since a lockstep simulator begins when all is subscribed to.
        for stream in sorted(contract.observed_topics, key=lambda stream: not stream.latched):
            self._subscriptions.append(self._subscribe(stream))

    def poll(self) -> None:
        """Take in what has arrived, while the executor waits for the caller."""
        self._observer.heartbeat(steady_ns())
        # First rclpy's own subscription to a simulated clock, which no state is to be ahead of.
        clocks = [each for each in self._node.subscriptions if each.topic_name == _CLOCK_TOPIC]
        for subscription in [*clocks, *self._subscriptions]:
            take_all(subscription)

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _subscribe(self, stream: ObservationStream) -> Any:
        def receive(message: Any) -> None:
            now_ns = self._node.get_clock().now().nanoseconds
            try:
                stamp_ns = self._observer.receive(stream.key, message, now_ns, steady_ns())
            except ContractError as error:
                self._node.get_logger().error(str(error), throttle_duration_sec=_LOG_PERIOD_S)
                return
            if stamp_ns is not None:
                self._on_arrival(stream, stamp_ns)

        return self._node.create_subscription(
            message_class(stream.type),
            stream.topic,
            receive,
            qos_profile(stream.qos),
            event_callbacks=SubscriptionEvents(
                incompatible_qos=self._conflicts.listener(stream.topic)
            ),
        )


def take_all(subscription: Any) -> None:
    """Hand a subscription's waiting messages to its callback, without an executor."""
    while (taken := subscription.handle.take_message(subscription.msg_type, False)) is not None:
        subscription.callback(taken[0])


class CommandOutputs:
    """Publishes whole commands, from any thread, and sends as goals what the contract says.

    Attributes:
        goals: What sends goals; nothing in lockstep, where a simulator takes commands by topics.
        last: The last command sent, shape (A,); ``None`` before the first.
        last_stamp_ns: Its stamp in nanoseconds.
        sent: How many were sent.
        is_persons: Whether the last one is a person's.
    """

    def __init__(
        self,
        node: LifecycleNode,
        streams: Sequence[ActionStream],
        conflicts: QosConflicts,
        settings: LoopSettings,
        intervention: FlagStream | None = None,
        period_ns: int = 0,
    ) -> None:
        """Open the topics, which are silent until the node is active, and the actions.

        Args:
            node: Publishes.
            streams: The contract's action or, in shadow mode, its `shadow_streams`.
            conflicts: Takes note of subscribers that cannot be met.
            settings: How the node runs.
            intervention: Where each command is said to be a person's or not; ``None``: nowhere.
            period_ns: From one action of a chunk to the next, on the robot's clock.

        Raises:
            ContractError: If a type is not installed, or a message cannot be filled.
        """
        self.last: NDArray[np.float32] | None = None
        self.last_stamp_ns = 0
        self.sent = 0
        self.is_persons = False
        self._node = node
        self._lock = threading.Lock()
        self._outputs: list[StreamPublisher] = []
        self._flag: SignalPublisher | None = None
        self._flag_first = settings.lockstep  # where a simulator goes on at once
        self.goals: list[GoalOutput] = []
        for stream in streams:
            # What cannot be sent is refused before anything is opened.
            typestore = installed_types(stream.type)
            require_sendable(stream, typestore)
            require_room(stream, typestore)
            if text := left_out(stream, typestore):
                node.get_logger().warning(text)
            if stream.send_as is not None:
                goal_part(stream.send_as.type, stream.type)
        min_depth = _LOCKSTEP_DEPTH if settings.lockstep else 1
        for stream, part in zip(streams, parts(streams), strict=True):
            publisher = node.create_lifecycle_publisher(
                message_class(stream.type),
                stream.topic,
                qos_profile(stream.qos, min_depth=min_depth),
                event_callbacks=PublisherEvents(incompatible_qos=conflicts.listener(stream.topic)),
            )
            output = StreamPublisher(publisher, stream, part, period_ns=period_ns)
            self._outputs.append(output)
            if stream.send_as is not None:
                self._open_goals(stream, stream.send_as, output, settings)
        if intervention is not None:
            kind = message_class(intervention.type)
            quality = reliable(max(min_depth, _FLAG_DEPTH))
            publisher = node.create_lifecycle_publisher(kind, intervention.topic, quality)
            self._flag = SignalPublisher(publisher, intervention)

    def _open_goals(
        self, stream: ActionStream, goals: Goals, output: StreamPublisher, settings: LoopSettings
    ) -> None:
        if settings.lockstep:
            self._node.get_logger().info(
                f"in lockstep commands go out on '{stream.topic}' only, not as goals of "
                f"'{goals.action}'"
            )
            return
        min_period_ns = settings.steady_ns(goals.min_period_s)
        self.goals.append(GoalOutput(self._node, stream, goals, output, min_period_ns))

    def send(
        self,
        values: NDArray[np.float32],
        stamp_ns: Callable[[], int],
        is_void: Callable[[], bool] = lambda: False,
        *,
        is_persons: bool = False,
        is_safe: bool = False,
        ahead: NDArray[np.float32] | None = None,
    ) -> bool:
        """Publish a command, shape (A,), unless it is void by the time it would be; say whether.

        Args:
            values: The command.
            stamp_ns: Gives its stamp in nanoseconds; asked once nobody else can send any more.
            is_void: Asked then, too.
            is_persons: Whether it is a person's command.
            is_safe: Whether it is the safe command, which replaces goals that are under way.
            ahead: What follows it, shape (n, A), for trajectories.

        Raises:
            Exception: What a topic or an action raised; the command went out on all others.
        """
        with self._lock:
            if is_void():
                return False
            stamp = stamp_ns()
            # First of all, since a part may go out although another one raises.
            self.last, self.last_stamp_ns, self.is_persons = values, stamp, is_persons
            self.sent += 1
            steps: list[Callable[[], object]] = [
                partial(output.publish, values, stamp, ahead) for output in self._outputs
            ]
            if self._flag is not None:
                place = 0 if self._flag_first else len(steps)
                steps.insert(place, partial(self._flag.publish, is_persons))
            steps += [partial(goal.offer, values, is_safe=is_safe) for goal in self.goals]
            _do_all(steps)
        return True

    def are_heard_by(self, robots: int, recorders: int) -> bool:
        """Whether so many listen to each topic; to who commands, only recorders need."""
        wanted = [(output.publisher, robots + recorders) for output in self._outputs]
        if self._flag is not None:
            wanted.append((self._flag.publisher, recorders))
        return all(publisher.get_subscription_count() >= count for publisher, count in wanted)

    def flush(self) -> None:
        """Wait a while for reliable subscribers and servers to have the last, safe command."""
        wait_for_delivery([output.publisher for output in self._outputs], _DELIVERY_TIMEOUT_S)
        if self.last is not None:
            flush_goals(self.goals, self.last, _GOALS_TIMEOUT_S)

    def close(self) -> None:
        """Close the topics and actions."""
        for goal in self.goals:
            goal.close()
        publishers = [output.publisher for output in self._outputs]
        for publisher in publishers + ([] if self._flag is None else [self._flag.publisher]):
            self._node.destroy_lifecycle_publisher(publisher)


def _do_all(steps: Sequence[Callable[[], object]]) -> None:
    """Take all steps, in their order; one that raises keeps none from being taken."""
    with ExitStack() as left:
        for step in reversed(steps):
            left.callback(step)


class CommanderInputs:
    """Hears the commands that others send."""

    def __init__(
        self,
        node: Node,
        streams: Sequence[ActionStream],
        heard: HeardCommands,
        clock_ns: Callable[[], int],
        is_late: Callable[[], bool] = lambda: False,
    ) -> None:
        """Subscribe, whatever QoS their publishers have.

        Args:
            node: Subscribes.
            streams: Where they are sent.
            heard: Takes them.
            clock_ns: Its clock.
            is_late: Asked of each message; one that is late is taken for one that did not come.

        Raises:
            ContractError: If a message type is not installed.
        """
        self._node = node
        self._heard, self._clock_ns, self._is_late = heard, clock_ns, is_late
        everyone = _everyone(_COMMANDER_DEPTH)
        self._subscriptions = [
            node.create_subscription(
                message_class(stream.type), stream.topic, self._receiver(stream.key), everyone
            )
            for stream in streams
        ]

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _receiver(self, topic: str) -> Callable[[Any], None]:
        def receive(message: Any) -> None:
            if self._is_late():
                return
            try:
                self._heard.receive(topic, message, self._clock_ns())
            except ContractError as error:
                self._node.get_logger().warning(
                    f"{self._heard.complaint}: {error}", throttle_duration_sec=_LOG_PERIOD_S
                )

        return receive


class SwitchInput:
    """The switch by which a person takes over; its last message says whether it is raised.

    It is subscribed to twice, as ``~/stop`` is, but for a joystick, which says its state again and
    again: its driver would warn of a subscriber that wants it latched.
    """

    def __init__(
        self,
        node: Node,
        switch: FlagStream,
        person: PersonHeard,
        on_stamp: Callable[[str, int], None],
    ) -> None:
        """Subscribe; ``on_stamp`` is told topic and header stamp of what ``person`` could read.

        Raises:
            ContractError: If the message type is not installed.
        """
        self._node, self._person, self._topic = node, person, switch.topic
        self._on_stamp = on_stamp
        qualities = [_everyone(_DEPTH)]
        if switch.type != _JOYSTICK:
            qualities.append(reliable(1, latched=True))
        self._subscriptions = [
            node.create_subscription(
                message_class(switch.type),
                switch.topic,
                self._receive,
                qos,
                event_callbacks=SubscriptionEvents(use_default_callbacks=False),
            )
            for qos in qualities
        ]

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _receive(self, message: Any) -> None:
        try:
            self._person.receive_switch(message)
        except ContractError as error:
            self._node.get_logger().warning(str(error), throttle_duration_sec=_LOG_PERIOD_S)
            return
        if hasattr(message, "header"):
            self._on_stamp(self._topic, stamp_ns(message))


def _everyone(depth: int) -> QoSProfile:
    """What hears every publisher."""
    return QoSProfile(
        depth=depth,
        reliability=ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
    )


class SafetyInputs:
    """``~/stop``, ``~/reset_stop``, ``~/pause`` and ``~/resume``.

    The stop topic is subscribed to twice. The latched subscription learns of a stop from before
    this node's start, but cannot hear publishers that are not latched; the other hears everyone.
    Both report a stop, which does no harm.
    """

    def __init__(self, node: Node, interlock: Interlock, on_change: Callable[[], None]) -> None:
        """Listen; ``on_change`` is called after each change, which must take effect at once."""
        self._node = node
        self._interlock = interlock
        self._on_change = on_change
        self._subscriptions = [
            node.create_subscription(
                Bool,
                "~/stop",
                self._on_stop,
                qos,
                # That publishers are not latched is nothing to warn of.
                event_callbacks=SubscriptionEvents(use_default_callbacks=False),
            )
            for qos in (reliable(_DEPTH, latched=True), _everyone(_DEPTH))
        ]
        node.create_service(Trigger, "~/reset_stop", self._on_reset)
        node.create_service(Trigger, "~/pause", self._on_pause)
        node.create_service(Trigger, "~/resume", self._on_resume)

    def poll(self) -> None:
        """Take in a stop that still waits for the executor; from any thread."""
        for subscription in self._subscriptions:
            take_all(subscription)

    def _on_stop(self, message: Any) -> None:
        if self._interlock.set_button(message.data):
            self._on_change()
            self._node.get_logger().error(f"stopped by ~/stop: {TO_CONTINUE}")

    def _on_reset(self, _request: Any, response: Any) -> Any:
        try:
            was_stopped = self._interlock.reset()
        except StillStoppedError as error:
            return _answer(response, False, str(error))
        self._on_change()
        return _answer(response, True, "the stop is reset" if was_stopped else "was not stopped")

    def _on_pause(self, _request: Any, response: Any) -> Any:
        self._interlock.paused = True
        self._on_change()
        return _answer(response, True, "paused: to continue, call ~/resume")

    def _on_resume(self, _request: Any, response: Any) -> Any:
        was_paused, self._interlock.paused = self._interlock.paused, False
        self._on_change()
        if self._interlock.stopped:
            return _answer(response, False, f"stopped: {TO_CONTINUE}")
        return _answer(response, True, "resumed" if was_paused else "was not paused")


def _answer(response: Any, success: bool, message: str) -> Any:
    response.success, response.message = success, message
    return response


class CandidatePublisher:
    """Publishes the newest decision's candidates at a limited rate, off the control thread.

    ``~/candidates`` is a Float64MultiArray of K rows: the A numbers of an action, or of the first
    of a chunk, then its Q.

    Attributes:
        newest: The newest decision; set by the control thread.
    """

    def __init__(self, node: Node, rate_hz: float) -> None:
        """Publish at most ``rate_hz`` times a second."""
        self.newest: Decision | None = None
        self._node = node
        self._publisher = node.create_publisher(Float64MultiArray, "~/candidates", reliable(1))
        steady = steady_clock()
        self._timer = node.create_timer(1.0 / rate_hz, self._publish, clock=steady)

    def close(self) -> None:
        """Close the topic."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)

    def _publish(self) -> None:
        decision, self.newest = self.newest, None
        if decision is None:
            return
        table = np.column_stack([decision.first_actions, decision.q_values]).astype(np.float64)
        message = Float64MultiArray(data=table.ravel().tolist())
        rows, columns = table.shape
        message.layout.dim = [
            MultiArrayDimension(label="candidate", size=rows, stride=table.size),
            MultiArrayDimension(label="action and Q", size=columns, stride=columns),
        ]
        self._publisher.publish(message)
