"""One policy at work on the robot's topics, from configure to cleanup."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

from dql_core.errors import ContractError
from dql_core.normalize import Normalizer
from dql_core.runtime.controller import Controller, Fallback
from dql_core.runtime.guard import GuardLimits, Guards
from dql_core.runtime.policy import Policy
from dql_ros.contract import Contract, ObservationStream
from dql_ros.deadline import DeadlineTicker
from dql_ros.lockstep import Answer, LockstepTrigger
from dql_ros.loop_statistics import LoopStatistics
from dql_ros.nodes.base import ManagedNode
from dql_ros.nodes.diagnostics import LoopReporter
from dql_ros.nodes.interfaces import message_class, qos_profile
from dql_ros.nodes.stream_io import StreamPublisher, parts, wait_for_delivery
from dql_ros.observer import Observer

# Commands kept for readers that are slow to acknowledge; in real time the contract decides.
_LOCKSTEP_DEPTH = 1000
_WARM_UP_CALLS = 20
_HEALTH_PERIOD_S = 0.05
_REPORT_PERIOD_S = 1.0
_LOG_PERIOD_S = 1.0
_DELIVERY_TIMEOUT_S = 0.5


@dataclass(frozen=True)
class LoadedPolicy:
    """What a node is given to run.

    Attributes:
        policy: Samples actions.
        normalizer: Statistics of its training data, if it has any.
        source: What it was loaded from, for the log.
    """

    policy: Policy
    normalizer: Normalizer | None
    source: str


@dataclass(frozen=True)
class LoopSettings:
    """How a policy is run.

    Attributes:
        lockstep: Answer each simulated instant, instead of ticking at the contract's rate.
        seed: Seed of the sampled actions; ``None`` for another at each start.
        warm_up_ticks: `GuardLimits.warm_up_ticks`.
        max_z_score: `GuardLimits.max_z_score`.
        recorders: In lockstep, recorders that must listen before the first command goes out.
    """

    lockstep: bool
    seed: int | None
    warm_up_ticks: int
    max_z_score: float
    recorders: int


class ControlLoop:
    """Everything that exists between configure and cleanup."""

    def __init__(
        self, node: ManagedNode, contract: Contract, loaded: LoadedPolicy, settings: LoopSettings
    ) -> None:
        """Prepare everything but the topics, and warm the policy up.

        Raises:
            ContractError: If the contract cannot be run as the settings ask.
        """
        self._node = node
        self._contract = contract
        self._settings = settings
        self._triggers = _triggering_streams(contract) if settings.lockstep else []
        self._trigger = LockstepTrigger(stream.topic for stream in self._triggers)
        self._observer = Observer(contract)
        self._controller = _controller(contract, loaded, settings)
        self._statistics = LoopStatistics()
        self._ticker: DeadlineTicker | None = None
        self._active = False
        self._policy = loaded.policy
        self._episode_begins = threading.Event()
        self._last_command: NDArray[np.float32] | None = None
        self._last_stamp_ns = 0
        self._outputs: list[StreamPublisher] = []
        self._reporter: LoopReporter | None = None
        self._subscriptions: list[Any] = []
        self._timers: list[Any] = []
        _warm_up(node, loaded.policy, contract.period_ns)

    def open(self) -> None:
        """Open the topics.

        Raises:
            ContractError: If a message type is not installed.
        """
        node = self._node
        for stream, part in zip(self._contract.action, parts(self._contract.action), strict=True):
            qos = qos_profile(stream.qos, min_depth=_LOCKSTEP_DEPTH if self._triggers else 1)
            publisher = node.create_lifecycle_publisher(
                message_class(stream.type), stream.topic, qos
            )
            self._outputs.append(StreamPublisher(publisher, stream, part))
        self._reporter = LoopReporter(node)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        for period_s, act in (
            (_HEALTH_PERIOD_S, self._check_health),
            (_REPORT_PERIOD_S, self._report),
        ):
            self._timers.append(node.create_timer(period_s, act, clock=steady))
        # The state last, since a lockstep simulator begins when all is subscribed to.
        for observed in sorted(self._contract.observation, key=lambda stream: not stream.latched):
            self._subscriptions.append(self._subscribe(observed))

    def start(self) -> None:
        """Begin to act."""
        self._controller.reset()
        self._trigger.clear()
        self._active = True
        if not self._settings.lockstep:
            self._ticker = DeadlineTicker(self._contract.period_ns, self._tick_now)
            self._ticker.start()

    def stop(self) -> None:
        """Stop acting; the safe command is the last one sent."""
        was_active, self._active = self._active, False
        try:
            if self._ticker is not None:
                self._ticker.stop()
        finally:
            self._ticker = None
            if was_active:
                stamp_ns = self._last_stamp_ns if self._settings.lockstep else self._ros_now_ns()
                self._publish(self._controller.safe_command, stamp_ns)
                publishers = [output.publisher for output in self._outputs]
                wait_for_delivery(publishers, _DELIVERY_TIMEOUT_S)
                self._report()

    def close(self) -> None:
        """Close the topics, as far as they were opened."""
        node = self._node
        for timer in self._timers:
            node.destroy_timer(timer)
        for subscription in self._subscriptions:
            node.destroy_subscription(subscription)
        for output in self._outputs:
            node.destroy_lifecycle_publisher(output.publisher)
        if self._reporter is not None:
            self._reporter.close()

    def _subscribe(self, stream: ObservationStream) -> Any:
        topic = stream.topic
        asks = stream in self._triggers

        def receive(message: Any) -> None:
            received_ns = self._ros_now_ns() if stream.stamp == "receive" else 0
            try:
                stamp_ns = self._observer.receive(topic, message, received_ns)
            except ContractError as error:
                self._node.get_logger().error(str(error), throttle_duration_sec=_LOG_PERIOD_S)
                return
            if stream.latched:
                # What is sent once an episode tells that a new one begins.
                self._episode_begins.set()
            if asks and self._active:
                self._answer(topic, stamp_ns)

        qos = qos_profile(stream.qos)
        return self._node.create_subscription(message_class(stream.type), topic, receive, qos)

    def _answer(self, topic: str, stamp_ns: int) -> None:
        """In lockstep: act if the simulator has shown a whole new instant."""
        reply = self._trigger.arrived(topic, stamp_ns, time.monotonic_ns())
        if reply.answer is Answer.ACT and self._is_heard():
            if self._tick(reply.stamp_ns):
                self._trigger.answered(reply.stamp_ns, time.monotonic_ns())
        elif reply.answer is Answer.REPEAT and self._last_command is not None:
            self._publish(self._last_command, reply.stamp_ns)
            self._trigger.answered(reply.stamp_ns, time.monotonic_ns())

    def _is_heard(self) -> bool:
        """Whether robot and recorders will get the first command; later ones are not checked."""
        needed = 1 + self._settings.recorders
        return self._last_command is not None or all(
            output.publisher.get_subscription_count() >= needed for output in self._outputs
        )

    def _tick_now(self) -> None:
        self._tick(self._ros_now_ns())

    def _tick(self, now_ns: int) -> bool:
        """Decide and publish; say whether anything was sent."""
        if self._episode_begins.is_set():
            self._episode_begins.clear()
            self._policy.reset()
        observation = self._observer.at(now_ns)
        command = self._controller.step(now_ns, observation)
        self._statistics.add(time.monotonic_ns(), observation, command)
        if command.values is None:
            return False
        self._publish(command.values, now_ns)
        return True

    def _publish(self, values: NDArray[np.float32], stamp_ns: int) -> None:
        self._last_command, self._last_stamp_ns = values, stamp_ns
        for output in self._outputs:
            output.publish(values, stamp_ns)

    def _ros_now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _check_health(self) -> None:
        """Tell a change of state at once; let the tick thread's failure end the node."""
        if self._ticker is not None:
            self._ticker.raise_failure()
        if self._reporter is not None and self._reporter.told_state != self._state():
            self._report()

    def _state(self) -> str:
        return self._controller.state.value if self._active else "inactive"

    def _report(self) -> None:
        if self._reporter is None:
            return
        summary = self._statistics.summary()
        fault = summary.command.fault if summary.command is not None else None
        reason = fault.reason if fault is not None and self._active else ""
        missed = self._ticker.missed if self._ticker is not None else 0
        self._reporter.tell(self._state(), reason, summary, self._controller.counts, missed)


def _controller(contract: Contract, loaded: LoadedPolicy, settings: LoopSettings) -> Controller:
    limits = GuardLimits(
        warm_up_ticks=settings.warm_up_ticks,
        max_z_score=settings.max_z_score,
        max_inference_ns=None if settings.lockstep else contract.period_ns,
    )
    guards = Guards(contract.policy_spec(), loaded.normalizer, limits)
    fallback = Fallback(round(contract.on_fault.hold_s * 1e9), contract.safe_command)
    return Controller(loaded.policy, guards, fallback, np.random.default_rng(settings.seed))


def _warm_up(node: Node, policy: Policy, period_ns: int) -> None:
    """Run the policy until its slow first calls are over; compare its time with the period."""
    observation = np.zeros(len(policy.spec.observation), dtype=np.float32)
    rng = np.random.default_rng(0)
    times_ns = []
    for _ in range(_WARM_UP_CALLS):
        started_ns = time.perf_counter_ns()
        policy.act(observation, rng)
        times_ns.append(time.perf_counter_ns() - started_ns)
    policy.reset()
    median_ms, period_ms = float(np.median(times_ns)) / 1e6, period_ns / 1e6
    node.get_logger().info(f"inference takes {median_ms:.2f} ms of a period of {period_ms:.1f} ms")
    if median_ms > period_ms / 2:
        node.get_logger().warning("inference takes most of the period: lower num_candidates")


def _triggering_streams(contract: Contract) -> list[ObservationStream]:
    """Streams whose header stamps tell which instant a lockstep simulator asks about."""
    streams = [s for s in contract.observation if not s.latched and s.stamp == "header"]
    if not streams:
        raise ContractError(
            f"the contract of '{contract.robot}' cannot run in lockstep, since no observation "
            f"stream that is not latched has 'stamp: header'; use mode:=real_time"
        )
    return streams
