"""When a simulation steps, and with which command: in lockstep or in real time.

`SimulationRun` decides, `HeldCommand` is what the robot follows, `PauseControl` holds what the
services asked for, `Pace` measures whether real time is kept, and the functions at the end make a
status of it all. Nothing here knows ROS, or reads a clock: times come as arguments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from dql_ros.diagnostics import Level, Status
from dql_ros.sim.episodes import EpisodeRunner, Frame
from dql_ros.sim.faults import FaultyLink, LinkFaults, Vector, link_rng

# A reset ends the running episode with one step and begins the next with another.
_STEPS_OF_RESET = 2
_WINDOW_NS = 5_000_000_000
_TOLERANCE = 0.98
_SILENCE_NS = 2_000_000_000


class SimulationRun:
    """A simulation in lockstep or in real time, from its first instant to its last.

    Times are of a steady clock, in nanoseconds. Faults and time-outs count simulated time: in
    lockstep that of the frames; in real time that of the steady clock, times the factor.

    Attributes:
        frame: The newest instant; ``None`` before the first.
        pause_control: What the services asked for.
        held: The command that the robot follows.
        pace: How it keeps up, in real time.
        lockstep: Whether it waits for the answer to each state.
        factor: Simulated over wall time.
        steps: How many steps it has made.
        shown_ns: When the newest instant was shown.
        failed: How many episodes the simulation could not end properly.
        failure: Why not the last of them.

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
        self.pause_control = PauseControl()
        self.held = held
        self.lockstep = factor is None
        self.factor = 1.0 if factor is None else factor
        self.pace = Pace(round(period_ns / self.factor), self.factor)
        self.steps = 0
        self.shown_ns = 0
        self.failed = 0
        self.failure = ""
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
        self._begin(steady_ns)
        self._go_on(steady_ns)

    def answer(self, steady_ns: int) -> None:
        """Take note that a whole command has come; in lockstep, step."""
        if self.frame is not None:
            self._answer_needed = False
            self._go_on(steady_ns)

    def tick(self, steady_ns: int) -> None:
        """In real time: a period has passed."""
        if self.frame is None or self.is_over or not self.pause_control.may_step:
            self.pace.rest()
            return
        self.pace.stepped(steady_ns)
        self._proceed(steady_ns)

    def pause_control_changed(self, steady_ns: int) -> None:
        """Take note that pause, step or reset was asked for; go on if that allows it."""
        now_ns = self.clock_ns(steady_ns)
        if self.pause_control.paused and self._paused_since_ns is None:
            self._paused_since_ns = now_ns
        elif not self.pause_control.paused and self._paused_since_ns is not None:
            self.held.discount(now_ns - self._paused_since_ns)
            self._paused_since_ns = None
        self._go_on(steady_ns)

    def _go_on(self, steady_ns: int) -> None:
        """In lockstep: step as long as no answer is missing."""
        begun = self.lockstep and self.frame is not None
        while begun and self.pause_control.may_step and not (self.is_over or self.answer_needed):
            self._proceed(steady_ns)

    def _proceed(self, steady_ns: int) -> None:
        """Step; after an episode's last state, whose command moves nothing, begin the next."""
        interrupt = self.pause_control.take_step()
        if not self.is_running:
            self._begin(steady_ns)
            return
        command = self.held.at(self.clock_ns(steady_ns))
        self.steps += 1
        self._show(self._runner.advance(command, interrupt=interrupt), steady_ns)

    def _begin(self, steady_ns: int) -> None:
        self.held.begin_episode()
        self._show(self._runner.begin(), steady_ns)

    def _show(self, frame: Frame, steady_ns: int) -> None:
        self.frame = frame
        self.shown_ns = steady_ns
        if frame.result is not None and frame.result.failure:
            self.failed += 1
            self.failure = f"episode {frame.result.episode}: {frame.result.failure}"
        self._answer_needed = self._publish(frame, self.clock_ns(steady_ns))


class HeldCommand:
    """Holds the newest command as a robot's driver does, and stops the robot without one.

    Attributes:
        received: How many messages came.
        refused: How many of them were not finite, and are ignored as ros2_controllers do.
        stops: How often the robot was stopped, since no command came in time.
        stopped: Whether it is stopped now.

    Args:
        safe: The command while there is no other, length A.
        parts: Where each stream's values are in it.
        timeout_ns: The command of a stream is followed for so long; ``None`` for ever.
        faults: What is wrong with the way of the commands.
        seed: Of these faults.
    """

    def __init__(
        self,
        safe: Sequence[float],
        parts: Sequence[slice],
        timeout_ns: int | None = None,
        faults: LinkFaults | None = None,
        seed: int = 0,
    ) -> None:
        self.received = 0
        self.refused = 0
        self.stops = 0
        self.stopped = False
        self._safe = np.array(safe, dtype=np.float64)
        self._values = self._safe.copy()
        self._parts = list(parts)
        self._timeout_ns = timeout_ns
        self._links: list[FaultyLink[None]] = [
            FaultyLink(faults or LinkFaults(), link_rng(seed, 1, index))
            for index in range(len(self._parts))
        ]
        self._came_ns: list[int | None] = [None] * len(self._parts)

    @property
    def lost(self) -> int:
        """How many messages the faults lost."""
        return sum(link.dropped for link in self._links)

    def begin_episode(self) -> None:
        """Draw how late commands are in the episode that begins."""
        for link in self._links:
            link.begin_episode()

    def receive(self, stream: int, values: Vector, now_ns: int) -> None:
        """Take a command of one stream, numbered as ``parts`` are, on the way."""
        self.received += 1
        if not np.isfinite(values).all():
            self.refused += 1
            return
        self._links[stream].send(values, None, now_ns)

    def end(self, stream: int, now_ns: int) -> None:
        """Take a message that ends a stream's command, on the way: the safe one follows."""
        self.receive(stream, self._safe[self._parts[stream]], now_ns)

    def at(self, now_ns: int) -> Vector:
        """Return what the robot follows at a time that never goes back, shape (A,)."""
        for index, (link, part) in enumerate(zip(self._links, self._parts, strict=True)):
            for came_ns, values, _ in link.due(now_ns):
                self._values[part] = values
                self._came_ns[index] = came_ns
        was_stopped, self.stopped = self.stopped, self._is_too_old(now_ns)
        self.stops += self.stopped and not was_stopped
        return self._safe.copy() if self.stopped else self._values.copy()

    def age_ns(self, now_ns: int) -> int | None:
        """Age of the oldest stream's command; ``None`` while one has none."""
        came = [time_ns for time_ns in self._came_ns if time_ns is not None]
        return now_ns - min(came) if len(came) == len(self._came_ns) else None

    def discount(self, elapsed_ns: int) -> None:
        """Let the commands be younger by a time that does not count, as a pause."""
        self._came_ns = [None if time is None else time + elapsed_ns for time in self._came_ns]

    def _is_too_old(self, now_ns: int) -> bool:
        """Whether a command that once came is missing now; before the first one nothing moves."""
        if self._timeout_ns is None:
            return False
        return any(
            time_ns is not None and now_ns - time_ns > self._timeout_ns
            for time_ns in self._came_ns
        )


class PauseControl:
    """Keeps what the services have asked of a simulation.

    Attributes:
        paused: Whether only steps that are asked for are made.
        reset_requested: Whether the next step ends the episode.
    """

    def __init__(self) -> None:
        self.paused = False
        self.reset_requested = False
        self._allowed = 0

    @property
    def may_step(self) -> bool:
        """Whether the simulation may step."""
        return not self.paused or self._allowed > 0

    def pause(self, paused: bool) -> None:
        """Pause, or go on."""
        self.paused = paused
        self._allowed = 0

    def allow(self, steps: int) -> None:
        """Allow so many more steps while paused."""
        self._allowed += steps

    def request_reset(self) -> None:
        """End the episode with the next step and begin another, also while paused."""
        self.reset_requested = True
        self._allowed = max(self._allowed, _STEPS_OF_RESET)

    def take_step(self) -> bool:
        """Take a step; return whether it is to end the episode."""
        self._allowed = max(0, self._allowed - 1)
        reset, self.reset_requested = self.reset_requested, False
        return reset


class Pace:
    """Judges the times at which steps were made.

    Simulated time is never hurried after a delay: a step that comes more than a period late has
    lost these periods for good, and they are counted.

    Attributes:
        missed: How many periods were left out since the start.
    """

    def __init__(self, period_ns: int, factor: float) -> None:
        self.missed = 0
        self._period_ns = period_ns
        self._wanted = factor
        self._due_ns: int | None = None
        self._times_ns: deque[int] = deque()

    def stepped(self, steady_ns: int) -> None:
        """Take note of a step at a time of a steady clock."""
        if self._due_ns is None:
            self._due_ns = steady_ns
        late = round((steady_ns - self._due_ns) / self._period_ns)
        self.missed += max(0, late)
        self._due_ns += (1 + max(0, late)) * self._period_ns
        self._times_ns.append(steady_ns)
        while steady_ns - self._times_ns[0] > _WINDOW_NS:
            self._times_ns.popleft()

    def rest(self) -> None:
        """Take note that the simulation does not step on purpose."""
        self._due_ns = None
        self._times_ns.clear()

    @property
    def factor(self) -> float | None:
        """Simulated over wall time in the last seconds; ``None`` before it is known."""
        if len(self._times_ns) < 2:
            return None
        span_ns = self._times_ns[-1] - self._times_ns[0]
        steps_ns = (len(self._times_ns) - 1) * self._period_ns
        return self._wanted * steps_ns / span_ns if span_ns else None

    @property
    def is_behind(self) -> bool:
        """Whether simulated time has lately run slower than it was to."""
        factor = self.factor
        return factor is not None and factor < _TOLERANCE * self._wanted


def status_of(run: SimulationRun, steady_ns: int) -> Status:
    """Return the status of ``run`` at a time of the steady clock."""
    if run.frame is None:
        return Status(Level.WARN, "waiting", "waiting for a policy and recorders to subscribe")
    if run.is_over:
        return Status(Level.OK, "finished", "all episodes are done")
    if run.pause_control.paused:
        return Status(Level.OK, "paused", "paused")
    if run.lockstep:
        if run.answer_needed and steady_ns - run.shown_ns > _SILENCE_NS:
            return Status(Level.WARN, "unanswered", "waiting for a command")
        return Status(Level.OK, "running", "running in lockstep")
    return _real_time_status(run)


def _real_time_status(run: SimulationRun) -> Status:
    if run.held.stopped:
        return Status(Level.ERROR, "stopped", "no command in time: the robot was stopped")
    if run.pace.is_behind:
        lag = (
            f"simulated time runs at {run.pace.factor:.2f} of wall time instead of {run.factor:g}"
        )
        remedy = f"{run.pace.missed} periods are lost: lower real_time_factor"
        return Status(Level.WARN, "behind", f"{lag}, {remedy}")
    return Status(Level.OK, "running", "running in real time")


def diagnostics_of(run: SimulationRun, steady_ns: int) -> dict[str, str]:
    """Return what can be counted of ``run`` at a time of the steady clock."""
    frame, held = run.frame, run.held
    figures: dict[str, object] = {
        "state": status_of(run, steady_ns).state,
        "mode": "lockstep" if run.lockstep else "real_time",
        "simulated time (s)": f"{0.0 if frame is None else frame.stamp_ns / 1e9:.3f}",
        "episode": run.episode,
        "steps": run.steps,
        "failed episodes": run.failed,
        "commands received": held.received,
        "commands not finite": held.refused,
        "commands lost on purpose": held.lost,
    }
    if not run.lockstep:
        age_ns = held.age_ns(run.clock_ns(steady_ns))
        factor = run.pace.factor
        figures |= {
            "age of the command (s)": "never came" if age_ns is None else f"{age_ns / 1e9:.3f}",
            "stops for lack of a command": held.stops,
            "real-time factor wanted": run.factor,
            "real-time factor": "unknown" if factor is None else f"{factor:.3f}",
            "periods lost": run.pace.missed,
        }
    if run.failure:
        figures["last failure"] = run.failure
    return {key: str(value) for key, value in figures.items()}
