"""When a simulation steps, and with which command; knows no ROS and is told the time."""

from __future__ import annotations

from collections.abc import Callable

from dql_ros.sim_commands import HeldCommand
from dql_ros.sim_gate import StepGate
from dql_ros.sim_pacing import Pace
from dql_ros.simulation import EpisodeRunner, Frame


class SimulationRun:
    """A simulation in lockstep or in real time, from its first instant to its last.

    Times are of a steady clock, in nanoseconds. Faults and time-outs count simulated time: in
    lockstep that of the frames; in real time that of the steady clock, times the factor.

    Attributes:
        frame: The newest instant; ``None`` before the first.
        gate: What people have asked for.
        held: The command that the robot follows.
        pace: How it keeps up, in real time.
        lockstep: Whether it waits for the answer to each state.
        factor: Simulated over wall time.
        steps: How many steps it has made.
        shown_ns: When the newest instant was shown.

    Args:
        runner: Steps the episodes.
        held: Takes the commands.
        publish: Shows a frame at a simulated time; says whether a state went out.
        period_ns: Simulated time of a step.
        factor: Simulated over wall time; ``None`` for lockstep.
    """

    def __init__(
        self,
        runner: EpisodeRunner,
        held: HeldCommand,
        publish: Callable[[Frame, int], bool],
        period_ns: int,
        factor: float | None,
    ) -> None:
        self.frame: Frame | None = None
        self.gate = StepGate()
        self.held = held
        self.lockstep = factor is None
        self.factor = 1.0 if factor is None else factor
        self.pace = Pace(round(period_ns / self.factor), self.factor)
        self.steps = 0
        self.shown_ns = 0
        self._runner = runner
        self._publish = publish
        self._answer_needed = False
        self._paused_since_ns: int | None = None

    @property
    def is_running(self) -> bool:
        """Whether an episode has begun and not ended."""
        return self.frame is not None and self.frame.result is None

    @property
    def is_over(self) -> bool:
        """Whether the last episode has ended."""
        return self.frame is not None and self.frame.result is not None and self._runner.finished

    @property
    def answer_needed(self) -> bool:
        """Whether lockstep waits for a command: a state that was lost needs none."""
        return self.lockstep and self._answer_needed and not self.is_over

    @property
    def episode(self) -> int:
        """Number of the episode, from 0; -1 before the first."""
        return self._runner.episode

    def clock_ns(self, steady_ns: int) -> int:
        """Simulated time as faults and time-outs count it, which never goes back."""
        if not self.lockstep:
            return round(steady_ns * self.factor)
        return self.frame.stamp_ns if self.frame is not None else 0

    def begin(self, steady_ns: int) -> None:
        """Show the first instant."""
        self._show(self._runner.begin(), steady_ns)
        self._go_on(steady_ns)

    def answer(self, steady_ns: int) -> None:
        """Take note that a whole command has come; in lockstep, step."""
        if self.frame is not None:
            self._answer_needed = False
            self._go_on(steady_ns)

    def tick(self, steady_ns: int) -> None:
        """In real time: a period has passed."""
        if self.frame is None or self.is_over or not self.gate.is_open:
            self.pace.rest()
            return
        self.pace.stepped(steady_ns)
        self._proceed(steady_ns)

    def asked(self, steady_ns: int) -> None:
        """Take note that the gate was changed: what it held back may go on now."""
        now_ns = self.clock_ns(steady_ns)
        if self.gate.paused and self._paused_since_ns is None:
            self._paused_since_ns = now_ns
        elif not self.gate.paused and self._paused_since_ns is not None:
            self.held.forgive(now_ns - self._paused_since_ns)
            self._paused_since_ns = None
        self._go_on(steady_ns)

    def _go_on(self, steady_ns: int) -> None:
        """In lockstep: step as long as no answer is missing."""
        begun = self.lockstep and self.frame is not None
        while begun and self.gate.is_open and not (self.is_over or self.answer_needed):
            self._proceed(steady_ns)

    def _proceed(self, steady_ns: int) -> None:
        """Step; after an episode's last state, whose command moves nothing, begin the next."""
        interrupt = self.gate.pass_through()
        if not self.is_running:
            self._show(self._runner.begin(), steady_ns)
            return
        command = self.held.at(self.clock_ns(steady_ns))
        self.steps += 1
        self._show(self._runner.advance(command, interrupt=interrupt), steady_ns)

    def _show(self, frame: Frame, steady_ns: int) -> None:
        self.frame = frame
        self.shown_ns = steady_ns
        self._answer_needed = self._publish(frame, self.clock_ns(steady_ns))
