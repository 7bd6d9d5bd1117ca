"""The simulated robot as ROS 2 topics: a Gymnasium environment behind a contract.

In lockstep the simulation waits for the command that answers each state, however long it takes,
and is otherwise as fast as it can be; a run is then reproducible to the bit. In real time it steps
at the contract's rate and holds the last command.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from std_srvs.srv import Trigger

from dql_ros.contract import load_contract
from dql_ros.nodes.base import run
from dql_ros.nodes.parameters import Parameter, declare, path_of, require, value_of
from dql_ros.nodes.sim_bridge_topics import BridgeOutputs, CommandInputs
from dql_ros.nodes.stream_io import wait_for_delivery
from dql_ros.simulation import BUNDLED_ENVIRONMENT, EpisodeRunner, Frame, open_environment

PARAMETERS = (
    Parameter("contract", "", "path of the robot contract (yaml)", required=True),
    Parameter("env", BUNDLED_ENVIRONMENT, "Gymnasium id of the environment to step"),
    Parameter(
        "mode",
        "lockstep",
        "'lockstep' waits for each command, 'real_time' holds the last one",
        choices=("lockstep", "real_time"),
    ),
    Parameter("episodes", 0, "end after so many episodes; 0 for never", low=0, high=2**31),
    Parameter("seed", 0, "episode i is reset with seed + i", low=0, high=2**31),
    Parameter(
        "real_time_factor", 1.0, "simulated over wall seconds in real time", low=0.01, high=100.0
    ),
    Parameter(
        "recorders",
        0,
        "recorders that must listen to every topic before the first episode begins",
        low=0,
        high=100,
    ),
)

# A state without an answer is sent again after so many seconds: soon while the policy starts.
_FIRST_RETRY_S = 0.1
_RETRY_S = 0.5
_WATCH_PERIOD_S = 0.05
# Longer than Fast DDS takes by default to learn what has arrived.
_DELIVERY_TIMEOUT_S = 5.0


class SimBridgeNode(Node):
    """Publishes states, rewards and the clock; takes commands.

    Attributes:
        finished: Whether the asked number of episodes is done.
    """

    def __init__(self) -> None:
        """Open the environment and the topics.

        Raises:
            DqlError: If a parameter, the contract or the environment does not fit.
        """
        super().__init__("sim_bridge")
        self.finished = False
        declare(self, PARAMETERS)
        require(self, PARAMETERS)
        self._contract = load_contract(path_of(self, "contract"))
        self._lockstep = value_of(self, "mode") == "lockstep"
        self._runner = EpisodeRunner(
            open_environment(value_of(self, "env"), self._contract),
            self._contract.period_ns,
            seed=value_of(self, "seed"),
            episodes=value_of(self, "episodes"),
        )
        self._frame: Frame | None = None
        self._reset_requested = False
        self._answered_once = False
        self._sent_s = 0.0
        self._outputs = BridgeOutputs(self, self._contract)
        self._commands = CommandInputs(self, self._contract, self._on_commands)
        self.create_service(Trigger, "~/reset", self._on_reset)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._watch = self.create_timer(_WATCH_PERIOD_S, self._on_watch, clock=steady)
        if not self._lockstep:
            period_s = self._contract.period_ns / 1e9 / value_of(self, "real_time_factor")
            self.create_timer(period_s, self._on_real_time_step, clock=steady)

    def last_acts(self) -> None:
        """Nothing is left to be done."""

    def _on_watch(self) -> None:
        """Begin when all who must listen do; ask again after a silence; end when all is done."""
        waited_s = time.monotonic() - self._sent_s
        if self._frame is None:
            heard = self._outputs.are_heard(value_of(self, "recorders"))
            if heard and self._commands.have_source():
                self._show(self._runner.begin())
        elif self._is_over():
            delivered = wait_for_delivery(self._outputs.publishers)
            self.finished = delivered or waited_s > _DELIVERY_TIMEOUT_S
            if self.finished and not delivered:
                self.get_logger().warning("some subscriber did not take all messages")
        elif self._lockstep and waited_s > (_RETRY_S if self._answered_once else _FIRST_RETRY_S):
            self._outputs.publish_state(self._frame)
            self._sent_s = time.monotonic()

    def _is_over(self) -> bool:
        last = self._frame is not None and self._frame.result is not None
        return last and self._runner.finished

    def _on_commands(self) -> None:
        if self._lockstep and self._frame is not None:
            self._answered_once = True
            self._proceed(self._commands.take())

    def _on_real_time_step(self) -> None:
        if self._frame is not None:
            self._proceed(self._commands.held)

    def _proceed(self, command: NDArray[np.float64]) -> None:
        """Step; after an episode's last state, whose command moves nothing, begin the next."""
        if self._is_over():
            return
        if self._frame is not None and self._frame.result is not None:
            self._show(self._runner.begin())
            return
        self._show(self._runner.advance(command, interrupt=self._reset_requested))
        self._reset_requested = False

    def _show(self, frame: Frame) -> None:
        self._frame = frame
        self._commands.forget()
        self._outputs.publish(frame)
        self._sent_s = time.monotonic()

    def _on_reset(self, _request: Any, response: Any) -> Any:
        """End the running episode as truncated with its next step."""
        running = self._frame is not None and self._frame.result is None
        self._reset_requested = running
        response.success = True
        response.message = "the next step ends the episode" if running else "no episode is running"
        return response


def main() -> None:
    """Run the node."""
    sys.exit(run(SimBridgeNode))


if __name__ == "__main__":
    main()
