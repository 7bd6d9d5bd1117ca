"""The commands that the simulated robot hears."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.node import Node

from dql_core.errors import ContractError
from dql_ros.codecs import StreamDecoder
from dql_ros.contract import ActionStream, Contract
from dql_ros.nodes.interfaces import message_class, qos_profile
from dql_ros.nodes.rivals import Rivals
from dql_ros.sim_run import SimulationRun

_LOG_PERIOD_S = 1.0


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
        """Subscribe to the action topics.

        Args:
            node: The bridge.
            contract: Names the topics.
            run: Takes the commands, and has their clock.
            on_complete: Called when every stream has sent one since the last call, whatever
                became of it.
        """
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
            try:
                now_ns = self._run.clock_ns(time.monotonic_ns())
                self._run.held.receive(index, decode(message), now_ns)
            except ContractError as error:
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
