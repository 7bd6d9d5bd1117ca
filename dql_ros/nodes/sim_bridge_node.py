"""The simulated robot as ROS 2 topics: a Gymnasium environment or MJCF file behind a contract.

In lockstep the simulation waits for the command that answers each state, however long it takes,
and is otherwise as fast as it can be; a run is then reproducible to the bit. In real time it steps
at the contract's rate and follows the last command, as long as that is young enough.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

from dql_ros.contract import load_contract
from dql_ros.nodes.base import run
from dql_ros.nodes.parameters import declare, path_of, require, value_of
from dql_ros.nodes.sim_bridge_parameters import (
    PARAMETERS,
    command_timeout_ns,
    declare_settable,
    link_faults,
)
from dql_ros.nodes.sim_bridge_report import BridgeReporter, Standing
from dql_ros.nodes.sim_bridge_services import BridgeServices
from dql_ros.nodes.sim_bridge_topics import BridgeOutputs, CommandInputs, OutputSettings
from dql_ros.nodes.stream_io import parts, wait_for_delivery
from dql_ros.sim_commands import HeldCommand
from dql_ros.sim_gate import StepGate
from dql_ros.sim_pacing import Pace
from dql_ros.sim_video import SimVideo
from dql_ros.simulation import EpisodeRunner, Frame, open_environment

# A state without an answer is sent again after so many seconds: soon while the policy starts.
_FIRST_RETRY_S = 0.1
_RETRY_S = 0.5
_SILENCE_S = 2.0
_WATCH_PERIOD_S = 0.05
_REPORT_PERIOD_S = 1.0
_LINK_PERIOD_S = 0.001
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
        declare_settable(self)
        require(self, PARAMETERS)
        contract = load_contract(path_of(self, "contract"))
        self._lockstep = value_of(self, "mode") == "lockstep"
        # Faults and time-outs count simulated time; in real time it runs with the steady clock.
        self._factor = 1.0 if self._lockstep else value_of(self, "real_time_factor")
        self._environment = open_environment(
            value_of(self, "env"), contract, value_of(self, "max_episode_steps")
        )
        self._runner = EpisodeRunner(
            self._environment,
            contract.period_ns,
            seed=value_of(self, "seed"),
            episodes=value_of(self, "episodes"),
        )
        self._video = self._open_video(contract.rate_hz)
        self._frame: Frame | None = None
        self._asked = False
        self._answered_once = False
        self._sent_s = self._shown_s = 0.0
        self._steps = 0
        self._paused_since_ns: int | None = None
        self._gate = StepGate()
        self._pace = Pace(round(contract.period_ns / self._factor), self._factor)
        self._reporter = BridgeReporter(self)
        seed = value_of(self, "fault_seed")
        state_faults = link_faults(self, "state")
        self._outputs = BridgeOutputs(
            self, contract, OutputSettings(self._lockstep, state_faults, seed)
        )
        self._held = HeldCommand(
            contract.safe_command,
            list(parts(contract.action)),
            None if self._lockstep else command_timeout_ns(self, contract),
            link_faults(self, "command"),
            seed,
        )
        self._commands = CommandInputs(
            self, contract, self._held, self._fault_clock_ns, self._on_commands
        )
        BridgeServices(self, self._gate, self._runner, self._is_running, self._on_asked)
        self._start_timers(
            contract.period_ns, bool(state_faults.latency_ns + state_faults.jitter_ns)
        )

    def last_acts(self) -> None:
        """Finish the film."""
        if self._video is not None and not self._video.close():
            failure = self._video.failure
            outcome = f"there is no film: {failure}" if failure else "the film is still being made"
            self.get_logger().warning(outcome)

    def _open_video(self, rate_hz: float) -> SimVideo | None:
        if not value_of(self, "video"):
            return None
        return SimVideo(
            self._environment, path_of(self, "video"), rate_hz, value_of(self, "camera")
        )

    def _start_timers(self, period_ns: int, delayed: bool) -> None:
        periods_s: list[tuple[float, Any]] = [
            (_WATCH_PERIOD_S, self._on_watch),
            (_REPORT_PERIOD_S, self._report),
        ]
        if not self._lockstep:
            periods_s.append((period_ns / 1e9 / self._factor, self._on_real_time_step))
            if delayed:
                periods_s.append((_LINK_PERIOD_S, self._on_link))
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        for period_s, act in periods_s:
            self.create_timer(period_s, act, clock=steady)

    def _fault_clock_ns(self) -> int:
        """Simulated time as the links count it, which never goes back."""
        if not self._lockstep:
            return round(time.monotonic_ns() * self._factor)
        return self._frame.stamp_ns if self._frame is not None else 0

    def _is_running(self) -> bool:
        return self._frame is not None and self._frame.result is None

    def _is_over(self) -> bool:
        last = self._frame is not None and self._frame.result is not None
        return last and self._runner.finished

    def _on_watch(self) -> None:
        """Begin when all who must listen do; ask again after a silence; end when all is done."""
        waited_s = time.monotonic() - self._sent_s
        if self._frame is None:
            self._begin_if_heard()
        elif self._is_over():
            delivered = wait_for_delivery(self._outputs.publishers)
            self.finished = delivered or waited_s > _DELIVERY_TIMEOUT_S
            if self.finished and not delivered:
                self.get_logger().warning("some subscriber did not take all messages")
        elif self._lockstep and waited_s > (_RETRY_S if self._answered_once else _FIRST_RETRY_S):
            if not self._commands.complete:
                self._outputs.repeat()
            self._sent_s = time.monotonic()
        if self._reporter.told != self._standing().state:
            self._report()

    def _begin_if_heard(self) -> None:
        alone = not value_of(self, "wait_for_policy")
        heard = self._outputs.are_heard(value_of(self, "recorders"))
        if alone or (heard and self._commands.have_source()):
            self._show(self._runner.begin())
            self._go_on()

    def _on_commands(self) -> None:
        if self._lockstep and self._frame is not None:
            self._answered_once = True
            self._go_on()

    def _go_on(self) -> None:
        """In lockstep: step as long as no answer is missing."""
        while self._lockstep and self._is_answered() and self._gate.is_open:
            self._proceed()

    def _is_answered(self) -> bool:
        """Whether the policy has said what it will: a state that was lost has no answer."""
        begun = self._frame is not None and not self._is_over()
        return begun and (self._commands.complete or not self._asked)

    def _on_real_time_step(self) -> None:
        if self._frame is None or not self._gate.is_open:
            self._pace.rest()
            return
        self._pace.stepped(time.monotonic_ns())
        self._proceed()

    def _on_link(self) -> None:
        self._outputs.deliver(self._fault_clock_ns())

    def _proceed(self) -> None:
        """Step; after an episode's last state, whose command moves nothing, begin the next."""
        if self._is_over():
            return
        interrupt = self._gate.pass_through()
        if self._frame is not None and self._frame.result is not None:
            self._show(self._runner.begin())
            return
        command = self._held.at(self._fault_clock_ns())
        self._steps += 1
        self._show(self._runner.advance(command, interrupt=interrupt))

    def _show(self, frame: Frame) -> None:
        self._frame = frame
        self._commands.forget()
        if self._video is not None:
            self._video.show()
        self._asked = self._outputs.publish(frame, self._fault_clock_ns())
        self._shown_s = self._sent_s = time.monotonic()

    def _on_asked(self) -> None:
        """After a service call: what was held back may go on now."""
        now_ns = self._fault_clock_ns()
        if self._gate.paused and self._paused_since_ns is None:
            self._paused_since_ns = now_ns
        elif not self._gate.paused and self._paused_since_ns is not None:
            self._held.forgive(now_ns - self._paused_since_ns)
            self._paused_since_ns = None
        self._go_on()
        self._report()

    def _standing(self) -> Standing:
        if self._frame is None:
            return Standing("warning", "waiting", "waiting for a policy and recorders to listen")
        if self._is_over():
            return Standing("ok", "finished", "all episodes are done")
        if self._gate.paused:
            return Standing("ok", "paused", "paused")
        return self._lockstep_standing() if self._lockstep else self._real_time_standing()

    def _lockstep_standing(self) -> Standing:
        silent_s = time.monotonic() - self._shown_s
        if silent_s > _SILENCE_S and not self._is_answered():
            return Standing("warning", "unanswered", "waiting for a command")
        return Standing("ok", "running", "running in lockstep")

    def _real_time_standing(self) -> Standing:
        if self._held.stopped:
            return Standing("error", "stopped", "no command came in time: the robot was stopped")
        if self._pace.is_behind:
            return Standing(
                "warning",
                "behind",
                f"simulated time runs at {self._pace.factor:.2f} of the wall's instead of "
                f"{self._factor:g}, {self._pace.missed} periods are lost: lower real_time_factor",
            )
        return Standing("ok", "running", "running in real time")

    def _report(self) -> None:
        if self._video is not None and self._video.failure:
            self.get_logger().warning(f"there is no film: {self._video.failure}", once=True)
        self._reporter.tell(self._standing(), self._figures())

    def _figures(self) -> dict[str, object]:
        standing = self._standing()
        figures: dict[str, object] = {
            "state": standing.state,
            "mode": "lockstep" if self._lockstep else "real_time",
            "simulated time (s)": f"{self._frame.stamp_ns / 1e9:.3f}" if self._frame else "0.000",
            "episode": self._runner.episode,
            "steps": self._steps,
            "commands received": self._held.received,
            "commands malformed": self._commands.malformed,
            "commands not finite": self._held.refused,
            "commands lost on purpose": self._held.lost,
            "states lost on purpose": self._outputs.lost,
        }
        if self._video is not None:
            figures["video"] = self._video.failure or f"{self._video.frames} pictures"
        if self._lockstep:
            return figures
        age_ns = self._held.age_ns(self._fault_clock_ns())
        factor = self._pace.factor
        return figures | {
            "age of the command (s)": "never came" if age_ns is None else f"{age_ns / 1e9:.3f}",
            "stops for lack of a command": self._held.stops,
            "real-time factor wanted": self._factor,
            "real-time factor": "unknown" if factor is None else f"{factor:.3f}",
            "periods lost": self._pace.missed,
        }


def main() -> None:
    """Run the node."""
    sys.exit(run(SimBridgeNode))


if __name__ == "__main__":
    main()
