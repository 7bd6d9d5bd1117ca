"""How a simulation stands, in words and figures for people; knows no ROS."""

from __future__ import annotations

from dataclasses import dataclass

from dql_ros.diagnostic_level import Level
from dql_ros.sim_run import SimulationRun

_SILENCE_NS = 2_000_000_000


@dataclass(frozen=True)
class Standing:
    """How a simulation stands.

    Attributes:
        level: How bad that is.
        state: One of ``waiting``, ``running``, ``unanswered``, ``paused``, ``behind``,
            ``stopped``, ``finished``; or ``contested``, when several nodes command the robot.
        reason: Why, for people.
    """

    level: Level
    state: str
    reason: str


def standing_of(run: SimulationRun, steady_ns: int) -> Standing:
    """Say how ``run`` stands at a time of the steady clock."""
    if run.frame is None:
        return Standing(Level.WARN, "waiting", "waiting for a policy and recorders to listen")
    if run.is_over:
        return Standing(Level.OK, "finished", "all episodes are done")
    if run.gate.paused:
        return Standing(Level.OK, "paused", "paused")
    return _in_lockstep(run, steady_ns) if run.lockstep else _in_real_time(run)


def figures_of(run: SimulationRun, steady_ns: int) -> dict[str, str]:
    """Return what can be counted of ``run`` at a time of the steady clock."""
    frame, held = run.frame, run.held
    figures: dict[str, object] = {
        "state": standing_of(run, steady_ns).state,
        "mode": "lockstep" if run.lockstep else "real_time",
        "simulated time (s)": f"{0.0 if frame is None else frame.stamp_ns / 1e9:.3f}",
        "episode": run.episode,
        "steps": run.steps,
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
    return {key: str(value) for key, value in figures.items()}


def _in_lockstep(run: SimulationRun, steady_ns: int) -> Standing:
    if run.answer_needed and steady_ns - run.shown_ns > _SILENCE_NS:
        return Standing(Level.WARN, "unanswered", "waiting for a command")
    return Standing(Level.OK, "running", "running in lockstep")


def _in_real_time(run: SimulationRun) -> Standing:
    if run.held.stopped:
        return Standing(Level.ERROR, "stopped", "no command came in time: the robot was stopped")
    if run.pace.is_behind:
        return Standing(
            Level.WARN,
            "behind",
            f"simulated time runs at {run.pace.factor:.2f} of the wall's instead of "
            f"{run.factor:g}, {run.pace.missed} periods are lost: lower real_time_factor",
        )
    return Standing(Level.OK, "running", "running in real time")
