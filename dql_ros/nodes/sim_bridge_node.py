"""The simulated robot as ROS 2 topics: a Gymnasium environment or MJCF file behind a contract.

In lockstep the simulation waits for the command that answers each state, however long it takes,
and is otherwise as fast as it can be; a run is then reproducible to the bit. In real time it steps
at the contract's rate and follows the last command, as long as that is young enough.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

from dql_ros.contract import Contract, load_contract
from dql_ros.diagnostic_level import Level
from dql_ros.nodes.base import run
from dql_ros.nodes.parameters import contract_of, declare, path_of, require, value_of
from dql_ros.nodes.sim_bridge_commands import CommandInputs
from dql_ros.nodes.sim_bridge_parameters import (
    PARAMETERS,
    command_timeout_ns,
    declare_settable,
    link_faults,
)
from dql_ros.nodes.sim_bridge_report import BridgeReporter
from dql_ros.nodes.sim_bridge_services import BridgeServices
from dql_ros.nodes.sim_bridge_topics import BridgeOutputs, OutputSettings
from dql_ros.nodes.stream_io import parts, wait_for_delivery
from dql_ros.sim_commands import HeldCommand
from dql_ros.sim_run import SimulationRun
from dql_ros.sim_standing import Standing, figures_of, standing_of
from dql_ros.sim_video import SimVideo
from dql_ros.simulation import EpisodeRunner, Frame, open_environment

# A state without an answer is sent again after so many seconds: soon while the policy starts.
_FIRST_RETRY_S = 0.1
_RETRY_S = 0.5
_WATCH_PERIOD_S = 0.05
_REPORT_PERIOD_S = 1.0
_LINK_PERIOD_S = 0.001
# Longer than Fast DDS takes by default to learn what has arrived.
_DELIVERY_TIMEOUT_S = 5.0
_LAST_REPORT_TIMEOUT_S = 0.5


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
        declare_settable(self)
        require(self, PARAMETERS)
        contract = load_contract(contract_of(self))
        lockstep = value_of(self, "mode") == "lockstep"
        environment = open_environment(
            value_of(self, "env"), contract, value_of(self, "max_episode_steps")
        )
        self._video: SimVideo | None = None
        if value_of(self, "video"):
            self._video = SimVideo(
                environment, path_of(self, "video"), contract.rate_hz, value_of(self, "camera")
            )
        runner = EpisodeRunner(
            environment,
            contract.period_ns,
            seed=value_of(self, "seed"),
            episodes=value_of(self, "episodes"),
        )
        self._reporter = BridgeReporter(self)
        faults, seed = link_faults(self, "state"), value_of(self, "fault_seed")
        self._outputs = BridgeOutputs(self, contract, OutputSettings(lockstep, faults, seed))
        self._run = SimulationRun(
            runner,
            self._held_command(contract, lockstep, seed),
            self._show,
            contract.period_ns,
            None if lockstep else value_of(self, "real_time_factor"),
        )
        self._answered_once = False
        self._asked_ns = 0
        self._commands = CommandInputs(self, contract, self._run, self._on_commands)
        BridgeServices(self, self._run, runner, self._on_asked)
        self._start_timers(
            contract.period_ns, is_delayed=bool(faults.latency_ns + faults.jitter_ns)
        )

    def last_acts(self) -> None:
        """Tell the last figures, and finish the film."""
        self._report()
        wait_for_delivery([self._reporter.publisher], _LAST_REPORT_TIMEOUT_S)
        if self._video is not None and not self._video.close():
            failure = self._video.failure
            outcome = f"there is no film: {failure}" if failure else "the film is still being made"
            self.get_logger().warning(outcome)

    def _held_command(self, contract: Contract, lockstep: bool, seed: int) -> HeldCommand:
        return HeldCommand(
            contract.safe_command,
            list(parts(contract.action)),
            None if lockstep else command_timeout_ns(self, contract),
            link_faults(self, "command"),
            seed,
        )

    def _start_timers(self, period_ns: int, *, is_delayed: bool) -> None:
        timers: list[tuple[float, Callable[[], None]]] = [
            (_WATCH_PERIOD_S, self._on_watch),
            (_REPORT_PERIOD_S, self._report),
        ]
        if not self._run.lockstep:
            timers.append((period_ns / 1e9 / self._run.factor, self._on_period))
            if is_delayed:
                timers.append((_LINK_PERIOD_S, self._on_link))
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        for period_s, act in timers:
            self.create_timer(period_s, act, clock=steady)

    def _on_watch(self) -> None:
        """Begin when all who must listen do; ask again after a silence; end when all is done."""
        now_ns = time.monotonic_ns()
        # First, so that the end is told before the process ends.
        if self._reporter.is_due(self._standing(now_ns)):
            self._report()
        if self._run.frame is None:
            if self._may_begin():
                self._run.begin(now_ns)
        elif self._run.is_over:
            self._end(now_ns)
        elif self._run.answer_needed:
            retry_s = _RETRY_S if self._answered_once else _FIRST_RETRY_S
            if now_ns - self._asked_ns > retry_s * 1e9:
                self._outputs.repeat()
                self._asked_ns = now_ns

    def _may_begin(self) -> bool:
        if not value_of(self, "wait_for_policy"):
            return True
        return (
            self._outputs.are_heard(value_of(self, "recorders"))
            and self._commands.senders.are_commanded()
        )

    def _end(self, now_ns: int) -> None:
        """End the process once everybody has everything, or will not take it."""
        delivered = wait_for_delivery([*self._outputs.publishers, self._reporter.publisher])
        self.finished = delivered or now_ns - self._asked_ns > _DELIVERY_TIMEOUT_S * 1e9
        if self.finished and not delivered:
            self.get_logger().warning("some subscriber did not take all messages")

    def _on_commands(self) -> None:
        self._answered_once = True
        self._run.answer(time.monotonic_ns())

    def _on_period(self) -> None:
        self._run.tick(time.monotonic_ns())

    def _on_link(self) -> None:
        self._outputs.deliver(self._run.clock_ns(time.monotonic_ns()))

    def _on_asked(self) -> None:
        self._run.asked(time.monotonic_ns())
        self._report()

    def _show(self, frame: Frame, clock_ns: int) -> bool:
        if self._video is not None:
            self._video.show()
        asked = self._outputs.publish(frame, clock_ns)
        self._asked_ns = time.monotonic_ns()
        return asked

    def _report(self) -> None:
        now_ns = time.monotonic_ns()
        figures = figures_of(self._run, now_ns) | {
            "commands malformed": str(self._commands.malformed),
            "states lost on purpose": str(self._outputs.lost),
        }
        if self._video is not None:
            failure = self._video.failure
            figures["video"] = failure or f"{self._video.frames} pictures"
            if failure:
                self.get_logger().warning(f"there is no film: {failure}", once=True)
        self._reporter.tell(self._standing(now_ns), figures)

    def _standing(self, now_ns: int) -> Standing:
        standing, trouble = standing_of(self._run, now_ns), self._commands.senders.trouble()
        return Standing(Level.ERROR, "contested", trouble) if trouble else standing


def main() -> None:
    """Run the node."""
    sys.exit(run(SimBridgeNode))


if __name__ == "__main__":
    main()
