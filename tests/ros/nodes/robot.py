"""Node processes under test and a probe that talks to them over topics."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.utilities import get_rmw_implementation_identifier
from std_msgs.msg import String

from dql_ros.nodes.topics import reliable
from dql_ros.processes import NodeCommand, NodeProcess
from dql_ros.transport import inside
from tests.ros.nodes.node_server import ForkedNodes

SCARA = Path(__file__).parents[3] / "config" / "contracts" / "scara.yaml"
SAFE = [0.125, -0.25]
TIMEOUT_S = 30.0


class Probe:
    """A node of the test's own on the domain of the processes under test."""

    def __init__(self, domain: int, watch: Callable[[], None]) -> None:
        self._watch = watch
        self._context = Context()
        with inside(domain, get_rmw_implementation_identifier()):
            rclpy.init(args=[], context=self._context)
            self.node = Node("probe", context=self._context, enable_rosout=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Spin until ``condition`` gives something true, and return that."""
        deadline = time.monotonic() + TIMEOUT_S
        while not (found := condition()):
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            self._watch()
            self._executor.spin_once(timeout_sec=0.02)
        return found

    def spin(self, timeout_s: float = 0.01) -> None:
        """Handle what has arrived, or arrives in time."""
        self._executor.spin_once(timeout_sec=timeout_s)

    def collect(self, kind: Any, topic: str, *, latched: bool = False) -> list[Any]:
        """Return a list that messages of ``topic`` will be appended to."""
        messages: list[Any] = []
        qos = reliable(1000, latched=latched)
        self.node.create_subscription(kind, topic, messages.append, qos)
        return messages

    def states(self, node: str) -> list[str]:
        """Return a list that the states on a control node's ``~/status`` will be appended to."""
        states: list[str] = []

        def note(message: Any) -> None:
            states.append(json.loads(message.data)["state"])

        self.node.create_subscription(String, f"{node}/status", note, reliable(10, latched=True))
        return states

    def call(self, kind: Any, service: str, request: Any) -> Any:
        """Call a service and return its response."""
        client = self.node.create_client(kind, service)
        self.until(client.service_is_ready, f"service {service}")
        future = client.call_async(request)
        self.until(future.done, f"an answer of {service}")
        return future.result()

    def begin_transition(self, node: str, transition: int) -> Any:
        """Ask a lifecycle node for a transition; return the answer's future."""
        client = self.node.create_client(ChangeState, f"{node}/change_state")
        self.until(client.service_is_ready, f"service {node}/change_state")
        return client.call_async(ChangeState.Request(transition=Transition(id=transition)))

    def change_state(self, node: str, transition: int) -> bool:
        """Ask a lifecycle node for a transition; say whether it succeeded."""
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self.call(ChangeState, f"{node}/change_state", request).success)

    def activate(self, node: str) -> None:
        """Configure and activate a lifecycle node."""
        assert self.change_state(node, Transition.TRANSITION_CONFIGURE)
        assert self.change_state(node, Transition.TRANSITION_ACTIVATE)

    def close(self) -> None:
        """Leave the domain."""
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()


class Robot:
    """Node processes under test on a domain of their own, and a probe among them."""

    def __init__(self, domain: int) -> None:
        self.domain = domain
        self._processes = ForkedNodes(domain)
        self._has_killed = False
        self.probe = Probe(domain, self._check)

    def start(self, node: str, namespace: str = "/", **parameters: Any) -> NodeProcess:
        """Start ``<node>_node`` under the name ``node``."""
        return self.run(f"dql_ros.nodes.{node}_node", node, namespace, **parameters)

    def run(self, module: str, node: str, namespace: str = "/", **parameters: Any) -> NodeProcess:
        """Start the node of any module under the name ``node``."""
        return self._processes.start(NodeCommand(module, node, parameters, namespace))

    def start_anew(self, command: NodeCommand) -> NodeProcess:
        """Start a node in an interpreter of its own, in a way of the test's own."""
        return self._processes.start_anew(command)

    def kill(self, process: NodeProcess) -> None:
        """End a process as a crash would; from then on nobody minds that one has ended."""
        self._has_killed = True
        process.send_signal(signal.SIGKILL)
        assert process.wait(TIMEOUT_S)

    def _check(self) -> None:
        if not self._has_killed:
            self._processes.check()

    def __enter__(self) -> "Robot":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._processes.__exit__(kind, value, traceback)
        self.probe.close()
