"""The topics and services of the simulated robot.

`BridgeOutputs` publishes states, signals, results and the clock, `CommandInputs` takes commands,
and `BridgeServices` reset, pause and step the simulation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from dql_core.errors import ContractError, SimulationError
from dql_ros.codecs import CommandEndedError, StreamDecoder
from dql_ros.codecs.installed import message_class
from dql_ros.codecs.message_path import AbsentError
from dql_ros.contract import ActionStream, Contract, parts
from dql_ros.nodes.parameters import value_of
from dql_ros.nodes.topics import (
    Rivals,
    SignalPublisher,
    StreamPublisher,
    qos_profile,
    reliable,
    time_message,
    wait_for_delivery,
)
from dql_ros.sim.episodes import EpisodeRunner, Frame
from dql_ros.sim.faults import FaultyLink, LinkFaults, Vector, link_rng
from dql_ros.sim.run import SimulationRun

# Deep enough that a recorder is sent again whatever it missed.
_DEPTH = 1000
_DELIVERY_TIMEOUT_S = 2.0
# The fixed frame of a model, and the messages that are of it; what an IMU measures is of its own.
_FRAME = "world"
_IN_FRAME = frozenset(
    f"geometry_msgs/msg/{name}Stamped"
    for name in ("Point", "Pose", "Transform", "Vector3", "Twist")
) | {"nav_msgs/msg/Odometry", "geometry_msgs/msg/PoseWithCovarianceStamped"}
_LOG_PERIOD_S = 1.0


class BridgeOutputs:
    """All topics of the bridge, written in an order from which every reader can learn causes.

    In lockstep all topics of a state arrive or are lost together, and the newest is enough; a new
    episode waits for its latched topics to arrive. ``faults``, drawn from ``seed``, concern only
    the states.
    """

    def __init__(
        self, node: Node, contract: Contract, lockstep: bool, faults: LinkFaults, seed: int
    ) -> None:
        # The clock first: discovery keeps the order, so that a recorder that has found the other
        # topics has found the clock, without which it cannot date them.
        self._clock = node.create_publisher(Clock, "/clock", reliable(_DEPTH))
        self._result = node.create_publisher(String, "~/episode", reliable(_DEPTH, latched=True))
        self._signals = {
            name: SignalPublisher(
                node.create_publisher(message_class(signal.type), signal.topic, reliable(_DEPTH)),
                signal,
            )
            for name, signal in contract.signals.items()
        }
        self._resets: SignalPublisher | None = None
        if reset := contract.reset_signal:
            publisher = node.create_publisher(
                message_class(reset.type), reset.topic, reliable(_DEPTH)
            )
            self._resets = SignalPublisher(publisher, reset)
        self._latched: list[StreamPublisher] = []
        self._live: list[StreamPublisher] = []
        for stream, part in zip(contract.observation, parts(contract.observation), strict=True):
            qos = reliable(1, latched=True) if stream.latched else reliable(_DEPTH)
            publisher = node.create_publisher(message_class(stream.type), stream.topic, qos)
            # Alphabetical, as many drivers list them, lest anyone rely on the contract's order.
            joints = sorted(stream.joints)
            frame = _FRAME if stream.type in _IN_FRAME else ""
            output = StreamPublisher(publisher, stream, part, joints, np.nan, frame)
            (self._latched if stream.latched else self._live).append(output)
        self._lockstep = lockstep
        groups = [self._live] if lockstep else [[output] for output in self._live]
        self._links: list[tuple[FaultyLink[int], list[StreamPublisher]]] = [
            (FaultyLink(faults, link_rng(seed, 0, index)), group)
            for index, group in enumerate(groups)
        ]
        self._asked: tuple[Vector, int] | None = None

    @property
    def publishers(self) -> list[Publisher]:
        """All publishers."""
        return [self._clock, self._result, *self._signal_publishers, *self._state_publishers]

    def are_heard(self, recorders: int) -> bool:
        """Whether a policy hears the state, and ``recorders`` more hear everything."""
        state = all(p.get_subscription_count() > recorders for p in self._state_publishers)
        others = [self._clock, *self._signal_publishers]
        return state and all(p.get_subscription_count() >= recorders for p in others)

    @property
    def lost(self) -> int:
        """How many states the faults lost."""
        return sum(link.dropped for link, _ in self._links)

    def publish(self, frame: Frame, now_ns: int) -> bool:
        """Send all that became known at one instant; say whether a state went out.

        The state goes last, since it asks for an answer, and the latched streams that are part of
        it have arrived by then. Faults concern only the state.

        Args:
            frame: The instant.
            now_ns: Time on the clock of the faults, which never goes back.
        """
        self._clock.publish(Clock(clock=time_message(frame.stamp_ns)))
        if frame.transition is None:
            for output in self._latched:
                output.publish(frame.observation, frame.stamp_ns)
            if self._lockstep:
                latched = [output.publisher for output in self._latched]
                wait_for_delivery(latched, _DELIVERY_TIMEOUT_S)
        else:
            # Where nothing says that the task has ended, a recording would hold the next episode
            # for what followed in this one.
            is_known = frame.transition.terminated and "terminated" in self._signals
            ends = frame.result is not None and not is_known
            for name, signal in self._signals.items():
                said = getattr(frame.transition, name)
                signal.publish(ends or said if name == "truncated" else said)
            if self._resets is not None:
                self._resets.publish(ends)
        for link, _ in self._links:
            if frame.transition is None:
                link.begin_episode()
            link.send(frame.observation, frame.stamp_ns, now_ns)
        sent = self.deliver(now_ns)
        if frame.result is not None:
            self._result.publish(String(data=frame.result.to_json()))
        return sent

    def deliver(self, now_ns: int) -> bool:
        """Send the states that are due; say whether there were any."""
        sent = False
        for link, outputs in self._links:
            due = list(link.due(now_ns))
            # In lockstep each state asks for one answer, and there can only be one.
            for _, values, stamp_ns in due[-1:] if self._lockstep else due:
                self._asked, sent = (values, stamp_ns), True
                for output in outputs:
                    output.publish(values, stamp_ns)
        return sent

    def repeat(self) -> None:
        """Send the last state again, and thereby ask again for its command."""
        if self._asked is not None:
            for output in self._live:
                output.publish(*self._asked)

    @property
    def _signal_publishers(self) -> list[Publisher]:
        resets = [] if self._resets is None else [self._resets]
        return [signal.publisher for signal in (*self._signals.values(), *resets)]

    @property
    def _state_publishers(self) -> list[Publisher]:
        return [output.publisher for output in (*self._latched, *self._live)]


class CommandInputs:
    """Hears one command of each action stream and hands it to the simulation.

    Attributes:
        malformed: How many messages lacked what the contract names.
        senders: The nodes that command the robot.
    """

    def __init__(
        self,
        node: Node,
        contract: Contract,
        run: SimulationRun,
        on_complete: Callable[[], None],
    ) -> None:
        """Subscribe; ``on_complete`` is called once every stream has sent another command."""
        self.malformed = 0
        self._node = node
        self._run = run
        self._on_complete = on_complete
        self.senders = Rivals(node, [each.topic for each in contract.action], is_commander=False)
        self._topics = [each.topic for each in contract.action]
        self._fresh: set[str] = set()
        for index, stream in enumerate(contract.action):
            self._subscribe(index, stream)

    def _subscribe(self, index: int, stream: ActionStream) -> None:
        decode = StreamDecoder(stream)

        def receive(message: object) -> None:
            now_ns = self._run.clock_ns(time.monotonic_ns())
            try:
                self._run.held.receive(index, decode(message), now_ns)
            except CommandEndedError:
                self._run.held.end(index, now_ns)
            except ContractError as error:
                if isinstance(error, AbsentError) and stream.skips_absent:
                    return
                self.malformed += 1
                self._node.get_logger().error(
                    f"command ignored: {error}", throttle_duration_sec=_LOG_PERIOD_S
                )
            self._fresh.add(stream.topic)
            if len(self._fresh) == len(self._topics):
                self._fresh.clear()
                self._on_complete()

        self._node.create_subscription(
            message_class(stream.type),
            stream.topic,
            receive,
            qos_profile(stream.qos, min_depth=10),
        )


class BridgeServices:
    """Passes requests on to the pause control and to the next reset."""

    def __init__(
        self,
        node: Node,
        run: SimulationRun,
        runner: EpisodeRunner,
        changed: Callable[[], None],
    ) -> None:
        """Offer the services; ``changed`` is called after each request.

        Raises:
            SimulationError: If the model has no such keyframe.
        """
        self._node = node
        self._run = run
        self._pause_control = run.pause_control
        self._runner = runner
        self._changed = changed
        runner.set_next_start(None, value_of(node, "keyframe"))
        node.create_service(Trigger, "~/reset", self._on_reset)
        node.create_service(SetBool, "~/pause", self._on_pause)
        node.create_service(Trigger, "~/step", self._on_step)
        node.add_on_set_parameters_callback(self._on_parameters)

    def _on_reset(self, _request: Any, response: Any) -> Any:
        """End the running episode as truncated with its next step, and begin another."""
        response.success = True
        if self._run.frame is None:
            response.message = "no episode has begun"
            return response
        seed = value_of(self._node, "reset_seed")
        self._runner.set_next_start(None if seed < 0 else seed, value_of(self._node, "keyframe"))
        if self._run.is_running:
            self._pause_control.request_reset()
            response.message = "the next step ends the episode"
        else:
            self._pause_control.allow(1)
            response.message = "the next step begins an episode"
        self._changed()
        return response

    def _on_pause(self, request: Any, response: Any) -> Any:
        self._pause_control.pause(request.data)
        response.success = True
        response.message = "paused" if request.data else "running"
        self._changed()
        return response

    def _on_step(self, _request: Any, response: Any) -> Any:
        """Allow as many steps as the parameter says, while paused."""
        steps = value_of(self._node, "steps")
        response.success = self._pause_control.paused
        if self._pause_control.paused:
            self._pause_control.allow(steps)
            response.message = f"{steps} {'step' if steps == 1 else 'steps'} allowed"
        else:
            response.message = "the simulation is not paused: call ~/pause with true first"
        self._changed()
        return response

    def _on_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        """Refuse a keyframe that the model does not have; later episodes begin in it."""
        for parameter in parameters:
            if parameter.name == "keyframe":
                try:
                    self._runner.set_next_start(None, str(parameter.value))
                except SimulationError as error:
                    return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)
