"""The simulated robot as ROS 2 topics: a Gymnasium environment or MJCF file behind a contract.

In lockstep the simulation waits for the command that answers each state, however long it takes,
and is otherwise as fast as it can be; a run is then reproducible to the bit. In real time it steps
at the contract's rate and follows the last command, as long as that is young enough.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from rclpy.node import Node

from dql_core.errors import ConfigError
from dql_ros.contract import Contract, contract_path, load_contract, parts
from dql_ros.diagnostics import Level, Status
from dql_ros.nodes.base import run
from dql_ros.nodes.diagnostics import StatusReporter
from dql_ros.nodes.parameters import (
    CONTRACT,
    Parameter,
    declare,
    path_of,
    require,
    value_of,
)
from dql_ros.nodes.sim_bridge_topics import (
    BridgeOutputs,
    BridgeServices,
    CommandInputs,
)
from dql_ros.nodes.topics import steady_clock, wait_for_delivery
from dql_ros.sim.episodes import (
    BUNDLED_ENVIRONMENT,
    EpisodeRunner,
    Frame,
    open_environment,
    task_of,
)
from dql_ros.sim.faults import LinkFaults
from dql_ros.sim.run import HeldCommand, SimulationRun, diagnostics_of, status_of
from dql_ros.sim.video import SimVideo

# A state without an answer is sent again after so many seconds: soon while the policy starts.
_FIRST_RETRY_S = 0.1
_RETRY_S = 0.5
_WATCH_PERIOD_S = 0.05
_REPORT_PERIOD_S = 1.0
_LINK_PERIOD_S = 0.001
# Longer than Fast DDS takes by default to learn what has arrived.
_DELIVERY_TIMEOUT_S = 5.0
_LOG_PERIOD_S = 10.0
_MAX_MS = 60_000.0
_MAX_INTEGER = 2**31


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
        declare(self, DECLARED)
        require(self, PARAMETERS)
        contract = load_contract(contract_path(path_of(self, CONTRACT.name))).of_one_instant()
        lockstep = value_of(self, "mode") == "lockstep"
        environment = open_environment(
            value_of(self, "env"),
            contract,
            value_of(self, "max_episode_steps"),
            value_of(self, "reset_noise_scale"),
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
            task=task_of(environment, contract),
        )
        self._reporter = StatusReporter(self, "simulation", has_topic=False)
        self._listeners = 0
        faults, seed = link_faults(self, "state"), value_of(self, "fault_seed")
        self._outputs = BridgeOutputs(self, contract, lockstep, faults, seed)
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
        self._start_timers(contract.period_ns, is_delayed=faults.are_late)

    def on_exit(self) -> None:
        """Report the last figures, and finish the film."""
        self._report()
        self._reporter.flush()
        if self._video is not None and not self._video.close():
            failure = self._video.failure
            outcome = f"could not be made: {failure}" if failure else "is still being written"
            self.get_logger().warning(f"the video {outcome}")

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
        steady = steady_clock()
        for period_s, act in timers:
            self.create_timer(period_s, act, clock=steady)

    def _on_watch(self) -> None:
        """Begin when all who must listen do; ask again after a silence; end when all is done."""
        now_ns = time.monotonic_ns()
        # First, so that the end is reported before the process ends.
        is_new = self._status(now_ns).state != self._reporter.state
        if is_new or self._count_listeners() > self._listeners:
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
            self.get_logger().warning(
                "a subscriber did not acknowledge all messages: if it records, the end of its "
                "recording may be missing"
            )

    def _on_commands(self) -> None:
        self._answered_once = True
        self._run.answer(time.monotonic_ns())

    def _on_period(self) -> None:
        self._run.tick(time.monotonic_ns())

    def _on_link(self) -> None:
        self._outputs.deliver(self._run.clock_ns(time.monotonic_ns()))

    def _on_asked(self) -> None:
        self._run.pause_control_changed(time.monotonic_ns())
        self._report()

    def _show(self, frame: Frame, clock_ns: int) -> bool:
        if self._video is not None:
            self._video.show()
        if frame.result is not None and frame.result.failure:
            self.get_logger().error(
                f"episode {frame.result.episode} ended as failed: {frame.result.failure}"
            )
        asked = self._outputs.publish(frame, clock_ns)
        self._asked_ns = time.monotonic_ns()
        return asked

    def _report(self) -> None:
        now_ns = time.monotonic_ns()
        values = diagnostics_of(self._run, now_ns) | {
            "commands malformed": str(self._commands.malformed),
            "states lost on purpose": str(self._outputs.lost),
        }
        if self._video is not None:
            failure = self._video.failure
            values["video"] = failure or f"{self._video.frames} pictures"
            if failure:
                self.get_logger().warning(f"the video could not be made: {failure}", once=True)
        status = self._status(now_ns)
        if status.state == self._reporter.state == "behind":
            self.get_logger().warning(
                status.message, throttle_duration_sec=_LOG_PERIOD_S, skip_first=True
            )
        self._listeners = self._count_listeners()
        self._reporter.report(status, values)

    def _status(self, now_ns: int) -> Status:
        status, problem = status_of(self._run, now_ns), self._commands.senders.problem()
        return Status(Level.ERROR, "contested", problem) if problem else status

    def _count_listeners(self) -> int:
        """How many hear the reports: one that is new has heard nothing yet."""
        return int(self._reporter.publisher.get_subscription_count())


def _faults(link: str) -> tuple[Parameter, ...]:
    return (
        Parameter(
            f"{link}_latency_ms", 0.0, f"delay of the {link}s; simulated ms", (0.0, _MAX_MS)
        ),
        Parameter(
            f"{link}_latency_spread_ms",
            0.0,
            "largest delay on top that is drawn once an episode; simulated ms",
            (0.0, _MAX_MS),
        ),
        Parameter(
            f"{link}_jitter_ms", 0.0, "largest random delay on top; simulated ms", (0.0, _MAX_MS)
        ),
        Parameter(f"{link}_drop", 0.0, f"share of the {link}s that are lost", (0.0, 0.95)),
        Parameter(
            f"{link}_noise",
            0.0,
            f"standard deviation of the noise on each number of a {link}, in its own unit",
            (0.0, 1e9),
        ),
    )


PARAMETERS = (
    CONTRACT,
    Parameter(
        "env", BUNDLED_ENVIRONMENT, "Gymnasium id of the environment to step, or an MJCF file"
    ),
    Parameter(
        "mode",
        "lockstep",
        "'lockstep' waits for each command, 'real_time' holds the last one",
        choices=("lockstep", "real_time"),
    ),
    Parameter("episodes", 0, "end after this many episodes; 0: never", (0, _MAX_INTEGER)),
    Parameter(
        "max_episode_steps",
        0,
        "truncate episodes after this many steps; 0: the environment's own limit, of which an "
        "MJCF file has none",
        (0, _MAX_INTEGER),
    ),
    Parameter(
        "reset_noise_scale",
        0.0,
        "of an MJCF file: each hinge and slide joint begins up to so many rad or m from its "
        "start, drawn by the episode's seed",
        (0.0, 1e3),
    ),
    Parameter("seed", 0, "episode i is reset with seed + i", (0, _MAX_INTEGER)),
    Parameter(
        "real_time_factor", 1.0, "in real time: simulated seconds per wall second", (0.01, 100.0)
    ),
    Parameter(
        "recorders",
        0,
        "number of recorders that must subscribe to every topic before the first episode",
        (0, 100),
    ),
    Parameter(
        "wait_for_policy",
        True,
        "begin only when the states have a subscriber and the commands a publisher",
    ),
    Parameter(
        "command_timeout_s",
        0.5,
        "in real time: after this time without a command the robot gets the contract's safe "
        "command; simulated seconds; 0: never",
        (0.0, 3600.0),
    ),
    *_faults("state"),
    *_faults("command"),
    Parameter("fault_seed", 0, "seed of latency, loss and noise", (0, _MAX_INTEGER)),
    Parameter("video", "", "MP4 file to film the robot into; it needs an OpenGL driver"),
    Parameter("camera", "", "camera of the model; by default its first, else a free one"),
)

# The services of std_srvs carry no numbers, so that these say what a call means.
SETTABLE = (
    Parameter(
        "reset_seed",
        -1,
        "seed of the episode that ~/reset begins; -1: seed + i",
        (-1, _MAX_INTEGER),
        read_only=False,
    ),
    Parameter(
        "keyframe",
        "",
        "keyframe of the model, by name or number, in which the next episodes begin; empty: the "
        "environment's own start",
        read_only=False,
    ),
    Parameter(
        "steps", 1, "number of steps that a call of ~/step makes", (1, 1_000_000), read_only=False
    ),
)
DECLARED = (*PARAMETERS, *SETTABLE)


def link_faults(node: Node, link: str) -> LinkFaults:
    """Return the faults of the ``state`` or ``command`` link, as the parameters give them."""
    return LinkFaults(
        latency_ns=round(value_of(node, f"{link}_latency_ms") * 1e6),
        spread_ns=round(value_of(node, f"{link}_latency_spread_ms") * 1e6),
        jitter_ns=round(value_of(node, f"{link}_jitter_ms") * 1e6),
        drop=value_of(node, f"{link}_drop"),
        noise=value_of(node, f"{link}_noise"),
    )


def command_timeout_ns(node: Node, contract: Contract) -> int | None:
    """Return how long a command is followed, in simulated time; ``None`` without limit.

    Raises:
        ConfigError: If that is shorter than a control period.
    """
    timeout_ns = round(value_of(node, "command_timeout_s") * 1e9)
    if 0 < timeout_ns < contract.period_ns:
        raise ConfigError(
            f"parameter 'command_timeout_s' of {node.get_name()} is {timeout_ns / 1e9:g}: it must "
            f"not be below the control period of '{contract.robot}', {contract.period_ns / 1e9:g}"
            f"; raise it, or set 0 for no limit"
        )
    return timeout_ns or None


def main() -> None:
    """Run the node."""
    sys.exit(run(SimBridgeNode))


if __name__ == "__main__":
    main()
