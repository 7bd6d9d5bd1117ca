"""When a simulation steps: lockstep, real time, pauses, resets and lost states, without ROS."""

from collections.abc import Callable

import numpy as np

from dql_ros.diagnostics import Level
from dql_ros.sim.episodes import EpisodeRunner, Frame, open_environment
from dql_ros.sim.faults import LinkFaults
from dql_ros.sim.run import HeldCommand, SimulationRun, diagnostics_of, status_of
from tests.ros.sim.test_simulation import PERIOD_NS, contract

SECOND = 1_000_000_000


class Simulation:
    """A pendulum of five steps an episode; what it shows is kept."""

    def __init__(
        self,
        factor: float | None,
        episodes: int = 0,
        shown: Callable[[int], bool] = lambda _: True,
        timeout_ns: int | None = None,
    ) -> None:
        environment = open_environment("Pendulum-v1", contract(), max_episode_steps=5)
        self.frames: list[Frame] = []
        self.held = HeldCommand([0.25], [slice(0, 1)], timeout_ns)
        self._shown = shown
        runner = EpisodeRunner(environment, PERIOD_NS, seed=0, episodes=episodes)
        self.run = SimulationRun(runner, self.held, self._publish, PERIOD_NS, factor)

    def _publish(self, frame: Frame, _clock_ns: int) -> bool:
        self.frames.append(frame)
        return self._shown(len(self.frames) - 1)

    def answer(self, value: float, steady_ns: int = 0) -> None:
        self.held.receive(0, np.array([value]), self.run.clock_ns(steady_ns))
        self.run.answer(steady_ns)


def test_in_lockstep_each_answer_is_one_step_and_the_last_states_answer_moves_nothing() -> None:
    simulation = Simulation(factor=None, episodes=2)
    simulation.answer(1.0)
    assert simulation.frames == []
    simulation.run.begin(0)
    for _ in range(11):
        simulation.answer(1.0)
    frames = simulation.frames
    assert [frame.stamp_ns for frame in frames] == [index * PERIOD_NS for index in range(12)]
    assert [index for index, frame in enumerate(frames) if frame.transition is None] == [0, 6]
    assert [index for index, frame in enumerate(frames) if frame.result is not None] == [5, 11]
    assert simulation.run.is_over
    simulation.answer(1.0)
    assert len(frames) == 12
    assert simulation.run.steps == 10


def test_lockstep_follows_the_answer_to_the_very_state() -> None:
    simulation, twin = Simulation(factor=None), Simulation(factor=None)
    for one in (simulation, twin):
        one.run.begin(0)
    simulation.answer(2.0)
    twin.answer(-2.0)
    assert simulation.frames[1].observation[2] > twin.frames[1].observation[2]


def test_in_lockstep_a_lost_state_is_stepped_over_with_the_command_held() -> None:
    simulation = Simulation(factor=None, shown=lambda index: index % 3 == 0)
    simulation.run.begin(0)
    assert len(simulation.frames) == 1
    simulation.answer(1.0)
    assert len(simulation.frames) == 4
    assert simulation.run.answer_needed


def test_a_first_state_that_is_lost_does_not_hold_the_run_up() -> None:
    simulation = Simulation(factor=None, shown=lambda index: index >= 2)
    simulation.run.begin(0)
    assert len(simulation.frames) == 3


def test_in_lockstep_an_answer_that_comes_while_paused_counts_later() -> None:
    simulation = Simulation(factor=None)
    simulation.run.begin(0)
    simulation.run.pause_control.pause(True)
    simulation.run.pause_control_changed(0)
    simulation.answer(1.0)
    assert len(simulation.frames) == 1
    assert status_of(simulation.run, 0).state == "paused"
    simulation.run.pause_control.allow(1)
    simulation.run.pause_control_changed(0)
    assert len(simulation.frames) == 2
    simulation.answer(1.0)
    assert len(simulation.frames) == 2
    simulation.run.pause_control.pause(False)
    simulation.run.pause_control_changed(0)
    assert len(simulation.frames) == 3


def test_in_real_time_each_period_is_a_step_with_or_without_a_command() -> None:
    simulation = Simulation(factor=2.0)
    simulation.run.tick(0)
    assert simulation.frames == []
    simulation.run.begin(0)
    for index in range(1, 5):
        simulation.run.tick(index * PERIOD_NS // 2)
    assert [frame.stamp_ns for frame in simulation.frames] == [i * PERIOD_NS for i in range(5)]
    figures = diagnostics_of(simulation.run, 2 * PERIOD_NS)
    assert figures["real-time factor"] == "2.000"
    assert figures["age of the command (s)"] == "never came"
    assert status_of(simulation.run, 2 * PERIOD_NS).state == "running"


def test_the_command_timeout_counts_simulated_time() -> None:
    simulation = Simulation(factor=0.5, timeout_ns=SECOND)
    simulation.run.begin(0)
    simulation.answer(2.0, steady_ns=0)
    simulation.run.tick(2 * SECOND)
    assert status_of(simulation.run, 2 * SECOND).state != "stopped"
    simulation.run.tick(2 * SECOND + 10)
    status = status_of(simulation.run, 2 * SECOND + 10)
    assert (status.level, status.state) == (Level.ERROR, "stopped")


def test_a_pause_in_real_time_is_no_silence_and_no_delay() -> None:
    simulation = Simulation(factor=1.0, timeout_ns=SECOND)
    simulation.run.begin(0)
    simulation.answer(2.0, steady_ns=0)
    simulation.run.tick(0)
    simulation.run.pause_control.pause(True)
    simulation.run.pause_control_changed(SECOND // 2)
    for seconds in range(1, 100):
        simulation.run.tick(seconds * SECOND)
    assert len(simulation.frames) == 2
    simulation.run.pause_control.pause(False)
    simulation.run.pause_control_changed(100 * SECOND)
    simulation.run.tick(100 * SECOND + 1)
    assert len(simulation.frames) == 3
    assert not simulation.held.stopped
    assert simulation.run.pace.missed == 0


def test_silence_in_lockstep_is_told() -> None:
    simulation = Simulation(factor=None)
    assert status_of(simulation.run, 0).state == "waiting"
    simulation.run.begin(0)
    assert status_of(simulation.run, SECOND).state == "running"
    assert status_of(simulation.run, 3 * SECOND).state == "unanswered"


def test_falling_behind_is_told_with_the_remedy() -> None:
    simulation = Simulation(factor=1.0)
    simulation.run.begin(0)
    for index in range(1, 40):
        simulation.run.tick(index * 2 * PERIOD_NS)
    status = status_of(simulation.run, 80 * PERIOD_NS)
    assert status.level is Level.WARN
    assert status.message.startswith("simulated time runs at 0.50 of wall time instead of 1, 38 ")


def test_each_episode_draws_how_late_its_commands_are() -> None:
    simulation = Simulation(factor=None, episodes=40)
    faults = LinkFaults(spread_ns=3 * PERIOD_NS)
    held = HeldCommand([0.25], [slice(0, 1)], faults=faults, seed=1)
    simulation.held = simulation.run.held = held
    simulation.run.begin(0)
    waited: list[float] = []
    while not simulation.run.is_over:
        if simulation.frames[-1].transition is None:
            sent_ns = simulation.run.clock_ns(0)
        simulation.answer(float(len(waited) + 1))
        age_ns = held.age_ns(simulation.run.clock_ns(0))
        if simulation.frames[-1].result is not None and age_ns is not None:
            waited.append((simulation.run.clock_ns(0) - age_ns - sent_ns) / PERIOD_NS)
    # The fraction of a period by which the command that was followed last had come late.
    assert len(waited) == 40
    assert len({round(each % 1, 6) for each in waited}) > 30
