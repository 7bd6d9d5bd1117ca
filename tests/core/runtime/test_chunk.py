"""Chunks of actions: each tick plays the action that is due, and never one that must not be."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dql_core.runtime.chunk import ChunkPlayer, soft_weights
from dql_core.runtime.controller import Command, Controller, State
from dql_core.runtime.fallback import Fallback, FallbackRules, Interlock
from dql_core.runtime.guard import Guard, GuardLimits, Guards
from dql_core.runtime.inference import SameThread, WorkerThread
from dql_core.runtime.policy import Committed, Decision
from dql_core.runtime.takeover import Commander, HandBack, Person
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.streams import Observation

BOUND = 1000.0
SPEC = PolicySpec(
    robot="arm",
    rate_hz=20.0,
    observation=(FieldSpec("tick"),),
    action=(FieldSpec("asked", "", -BOUND, BOUND), FieldSpec("step", "", -BOUND, BOUND)),
)
PERIOD = 50_000_000
HORIZON, EXECUTE = 8, 3
FOR_EVER = 10**15
SAFE = (-1.0, -1.0)


class Dated:
    """Each action says at which tick its chunk was asked for, and how many steps in it is.

    With ``obeys`` it is what was committed, as far as that is held fixed.
    """

    spec = SPEC
    horizon = HORIZON

    def __init__(self, *, obeys: bool = False, noise: float = 0.0) -> None:
        self.asked: list[int] = []
        self.resets = 0
        self.committed: list[Committed | None] = []
        self.spoilt_step: int | None = None
        self._obeys = obeys
        self._noise = noise

    def reset(self) -> None:
        self.resets += 1

    def act(
        self,
        observation: NDArray[np.float32],
        rng: np.random.Generator,
        committed: Committed | None = None,
    ) -> Decision:
        self.asked.append(int(observation[0]))
        self.committed.append(committed)
        steps = np.arange(HORIZON, dtype=np.float32)
        chunk = np.stack([np.full_like(steps, observation[0]), steps], axis=1)
        chunk += self._noise * rng.standard_normal(chunk.shape, dtype=np.float32)
        if committed is not None and self._obeys:
            weights = committed.weights[:, None]
            chunk = (1 - weights) * chunk + weights * committed.actions
        if self.spoilt_step is not None:
            chunk[self.spoilt_step] = np.nan
        return Decision.of_chunk(chunk, np.zeros(1, np.float32), chunk[None])


class Slow:
    """A `Caller` whose calls take a time by a clock that is set by hand."""

    def __init__(self, takes: Callable[[], float]) -> None:
        self.now_ns = 0
        self._takes = takes
        self._running: tuple[int, Callable[[], object]] | None = None

    def is_busy(self) -> bool:
        self._advance(self.now_ns)
        return self._running is not None

    def begin(self, function: Callable[[], object]) -> None:
        assert self._running is None
        self._running = self.now_ns + round(self._takes() * PERIOD), function

    def wait(self, timeout_s: float | None) -> None:
        until_ns = FOR_EVER if timeout_s is None else self.now_ns + round(timeout_s * 1e9)
        if self._running is not None:
            until_ns = min(until_ns, self._running[0])
        self._advance(until_ns)

    def call(self, function: Callable[[], Any], timeout_s: float | None = None) -> Any:
        raise AssertionError("chunks are begun and waited for: a call would keep the tick")

    def stop(self) -> None:
        """Nothing is left to be done."""

    def _advance(self, until_ns: int) -> None:
        if self._running is not None and self._running[0] <= until_ns:
            (self.now_ns, function), self._running = self._running, None
            function()
        self.now_ns = until_ns


@dataclass
class Drive:
    """A controller that is ticked, with what it sent."""

    policy: Dated = field(default_factory=Dated)
    takes: Callable[[], float] = lambda: 0.1
    limit_ns: int | None = 4 * PERIOD
    execute: int = EXECUTE
    send_after_ns: int = 0
    fresh_ns: float = math.inf
    max_steps: tuple[float, ...] = ()
    rules: dict[str, Any] = field(default_factory=dict)
    others: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tick = 0
        self.caller = Slow(self.takes)
        self.interlock = Interlock()
        self.player = ChunkPlayer(
            self.policy,
            self.caller,
            self.limit_ns,
            PERIOD,
            self.execute,
            send_after_ns=self.send_after_ns,
            steady_ns=lambda: self.caller.now_ns,
        )
        self.player.seed(0)
        limits = GuardLimits(max_inference_ns=self.limit_ns, max_steps=self.max_steps)
        guards = Guards(SPEC, None, limits)
        fallback = Fallback(FallbackRules(SAFE, **self.rules))
        self.controller = Controller(self.player, guards, fallback, self.interlock, **self.others)

    def step(self, values: float | None = None, **changes: Any) -> Command:
        """Tick once; the observation is the tick's number, unless it is given."""
        now_ns = self.tick * PERIOD
        self.caller.wait(max(0, now_ns - self.caller.now_ns) / 1e9)
        # What a call needed beyond the tick is part of the time, as on another thread.
        self.caller.now_ns = max(self.caller.now_ns, now_ns)
        seen = np.array([self.tick if values is None else values], np.float32)
        person = changes.pop("person", None)
        observation = Observation(seen, (), {"joints": 0}, changes.pop("fresh", self.fresh_ns))
        if changes.pop("missing", False):
            observation = Observation(None, ("joints",), {"joints": None})
        command = self.controller.step(now_ns, observation, person)
        self.tick += 1
        return command

    def played(self, ticks: int) -> list[tuple[int, int] | str]:
        """Tick so often; return what was played, or which guard objected."""
        return [described(self.step()) for _ in range(ticks)]


def described(command: Command) -> tuple[int, int] | str:
    if command.fault is not None:
        return str(command.fault.guard.value)
    if command.state is not State.RUNNING:
        return str(command.state.value)
    assert command.values is not None
    asked, step = command.values
    return int(asked), int(step)


def actions(found: Sequence[tuple[int, int] | str]) -> list[tuple[int, int]]:
    """What was played; that something was withheld is left out."""
    return [each for each in found if isinstance(each, tuple)]


def run_of(asked: int, *steps: int) -> list[tuple[int, int] | str]:
    return [(asked, step) for step in steps]


@pytest.mark.filterwarnings("error")
def test_weights_of_the_longest_chunks_are_numbers() -> None:
    weights = soft_weights(1000, 1000, 1000)
    np.testing.assert_array_equal(weights, np.ones(1000))


@pytest.mark.parametrize(("left", "delay"), [(5, 0), (5, 2), (5, 5), (8, 3), (1, 1), (1, 0)])
def test_weights_are_the_papers(left: int, delay: int) -> None:
    horizon = 8
    begun = horizon - left
    expected = []
    for i in range(horizon):
        c = (horizon - begun - i) / (horizon - begun - delay + 1)
        if i < delay:
            expected.append(1.0)
        elif i < horizon - begun:
            expected.append(c * (math.exp(c) - 1) / (math.e - 1))
        else:
            expected.append(0.0)
    found = soft_weights(horizon, left, delay)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert (np.diff(found) <= 0).all()


def test_where_time_waits_each_chunk_is_played_from_its_first_action_on() -> None:
    drive = Drive(limit_ns=None, takes=lambda: 2.5)
    found = drive.played(7)
    assert found == run_of(0, 0, 1, 2) + run_of(3, 0, 1, 2) + run_of(6, 0)
    assert drive.policy.committed[0] is None
    committed = drive.policy.committed[1]
    assert committed is not None
    np.testing.assert_array_equal(committed.actions[:5, 1], [3, 4, 5, 6, 7])
    np.testing.assert_array_equal(committed.weights, soft_weights(HORIZON, 5, 0))


def test_a_whole_chunk_can_be_played_where_time_waits() -> None:
    drive = Drive(limit_ns=None, execute=HORIZON)
    assert drive.played(9) == run_of(0, *range(HORIZON)) + run_of(8, 0)


@pytest.mark.parametrize("takes", [0.6, 1.0, 1.7, 2.0, 2.9, 3.4])
def test_a_decision_that_takes_periods_costs_no_tick(takes: float) -> None:
    drive = Drive(takes=lambda: takes)
    drive.played(math.ceil(takes))
    delay = math.ceil(takes)
    found = drive.played(60)
    played = actions(found)
    assert played == found
    # The first chunk begins when it comes in, all others at the tick at which they are asked for.
    first = sum(asked == 0 for asked, _ in played)
    assert [step for _, step in played[:first]] == list(range(first))
    assert [asked + step for asked, step in played[first:]] == list(
        range(delay + first, delay + 60)
    )
    assert max(step for _, step in played) < max(EXECUTE, delay) + delay
    gaps = np.diff(drive.policy.asked)
    assert gaps[0] == delay + EXECUTE
    assert set(gaps[1:]) == {max(EXECUTE, delay)}


def test_what_is_due_meanwhile_is_committed_and_the_new_chunk_comes_in_behind_it() -> None:
    drive = Drive(Dated(obeys=True), takes=lambda: 1.5)
    # The first one comes in after two ticks, so that then as many are expected.
    assert drive.played(2) == ["awaited_chunk", "awaited_chunk"]
    sent = np.array([drive.step().values for _ in range(9)])
    for committed in drive.policy.committed[1:]:
        assert committed is not None
        np.testing.assert_array_equal(committed.weights, soft_weights(HORIZON, 5, 2))
    assert drive.policy.asked == [0, 5, 8]
    # Asked at tick 5, when the action that was due was the first chunk's fourth: what is held
    # fixed of it has been played when the new one comes in, with what it is held to by halves.
    committed = drive.policy.committed[1]
    assert committed is not None
    np.testing.assert_array_equal(committed.actions[:3], [[0, 3], [0, 4], [0, 5]])
    weight = committed.weights[2]
    np.testing.assert_array_equal(sent[:5], [[0, 0], [0, 1], [0, 2], [0, 3], [0, 4]])
    np.testing.assert_allclose(sent[5], [5 * (1 - weight), 2 * (1 - weight) + 5 * weight])


def test_as_many_ticks_are_expected_as_the_slowest_of_the_last_ten_decisions_took() -> None:
    takes = iter([0.1, 2.5, *[0.4] * 40])
    drive = Drive(takes=lambda: next(takes), execute=4)
    drive.played(60)
    known = [each.weights for each in drive.policy.committed if each is not None]
    fixed = [int((weights == 1).sum()) for weights in known]
    # The one that took three ticks is told of by the next ten, and no longer.
    assert fixed == [0, *[3] * 10, *[0] * (len(fixed) - 11)]
    assert len(fixed) >= 14


@pytest.mark.parametrize("takes", [0.0, 0.1, 0.5])
def test_decisions_within_half_a_period_come_in_at_the_ticks_of_their_observations(
    takes: float,
) -> None:
    drive = Drive(takes=lambda: takes)
    assert drive.played(7) == run_of(0, 0, 1, 2) + run_of(3, 0, 1, 2) + run_of(6, 0)
    assert drive.player.figures()["ticks to a decision"] == "0"


def test_a_slower_decision_costs_no_tick_and_the_next_ten_are_not_awaited() -> None:
    takes = iter([0.1, 0.6, *[0.1] * 40])
    drive = Drive(takes=lambda: next(takes))
    assert drive.played(7) == run_of(0, 0, 1, 2, 3) + run_of(3, 1, 2, 3)
    # The tick that awaited it for half a period went on with the chunk that it had.
    assert drive.caller.now_ns == 6 * PERIOD
    found = actions(drive.played(33))
    begins = [step for _, step in found if step <= 1]
    assert begins[:9] == [1] * 9
    assert [asked + step for asked, step in found] == list(range(7, 40))
    assert 0 in begins
    assert drive.player.figures()["ticks to a decision"] == "0"


def test_a_process_that_stood_still_is_no_slow_policy() -> None:
    takes = iter([0.1, 100.5, *[0.4] * 40])
    drive = Drive(Dated(obeys=True), takes=lambda: next(takes), execute=4)
    drive.played(5)
    drive.tick += 100  # it was suspended, in mid-decision
    assert drive.played(3) == run_of(105, 0, 1, 2)
    assert drive.player.figures()["ticks to a decision"] == "4"  # as many as the limit has
    drive.played(20)
    later = [each.weights for each in drive.policy.committed[3:] if each is not None]
    assert later
    assert all((weights == 1).sum() <= 4 for weights in later)


@pytest.mark.parametrize("ticks", [6, 100, -10])
def test_no_first_chunk_begins_that_is_found_after_the_limit_or_by_a_clock_set_back(
    ticks: int,
) -> None:
    drive = Drive(takes=lambda: 0.6)

    def decided(tick: int) -> list[float] | None:
        seen = np.array([tick], np.float32)
        decision = drive.player.decide(seen, tick * PERIOD, math.inf).decision
        drive.caller.now_ns += PERIOD  # in which what was asked for is decided
        return None if decision is None else decision.action.tolist()

    assert decided(20) is None
    later = 20 + ticks
    assert [decided(later), decided(later + 1)] == [None, [later, 0]]


def test_an_observation_of_a_slow_simulator_is_fresh_for_longer() -> None:
    player = ChunkPlayer(Dated(), SameThread(), None, PERIOD, EXECUTE, pace=0.5)
    assert player.decide(np.zeros(1, np.float32), 0, 2 * PERIOD).until_ns == 4 * PERIOD


def test_the_first_chunk_is_awaited_in_its_tick_for_half_a_period() -> None:
    assert Drive(takes=lambda: 0.4).played(1) == [(0, 0)]
    drive = Drive(takes=lambda: 1.4)
    first = drive.step()
    assert first.state is State.WAITING
    assert first.values is None
    assert first.fault is not None
    assert first.fault.reason == (
        "the first chunk is decided: inference has not answered for 25.0 ms of 200.0 ms"
    )
    assert drive.played(3) == ["awaited_chunk", *run_of(0, 0, 1)]


def test_what_goes_stale_while_a_chunk_is_awaited_in_mid_motion_is_told() -> None:
    drive = Drive(takes=lambda: 2.5)
    assert drive.step().state is State.WAITING
    first = drive.step(missing=True)
    assert (first.state, first.values) == (State.WAITING, None)  # nothing was sent yet
    assert actions(drive.played(8))
    drive.controller.begin_episode()
    assert [drive.step().state for _ in range(2)] == [State.WAITING] * 2
    assert [drive.step(missing=True).state for _ in range(3)] == [State.STALE] * 3


def test_a_chunk_that_is_over_before_the_next_has_come_ends_in_the_fallback() -> None:
    takes = iter([0.1, 5.5, 0.1, 0.1, 0.1])
    drive = Drive(takes=lambda: next(takes), limit_ns=6 * PERIOD)
    found = drive.played(12)
    # Five of the first one's actions were played meanwhile, and in the tick between nothing.
    assert found == [*run_of(0, *range(8)), "slow_inference", (3, 5), *run_of(9, 1, 2)]


def test_a_decision_beyond_the_limit_is_dropped_when_it_comes() -> None:
    takes = iter([0.1, 6.5, *[0.1] * 9])
    drive = Drive(takes=lambda: next(takes))
    found = drive.played(12)
    assert found[:8] == run_of(0, *range(8))
    assert found[8:10] == ["slow_inference", "slow_inference"]
    assert found[10:] == run_of(10, 0, 1)
    reason = drive.controller.last_reasons["slow_inference"]
    assert reason == "inference has not answered for 300.0 ms of 200.0 ms"


def test_nothing_is_played_that_is_older_than_its_observation_may_be() -> None:
    drive = Drive(fresh_ns=4 * PERIOD, takes=lambda: 3.5, execute=4)
    found = drive.played(10)
    assert found == ["awaited_chunk"] * 4 + [(0, 0), *["old_chunk"] * 3, (4, 1), "old_chunk"]
    assert "older than max_age_s" in drive.controller.last_reasons["old_chunk"]


def test_the_next_chunk_is_asked_for_early_where_the_rest_would_be_too_old() -> None:
    drive = Drive(fresh_ns=2 * PERIOD, takes=lambda: 0.9, execute=4)
    drive.step()
    found = drive.played(30)
    assert actions(found) == found
    assert max(step for _, step in actions(found)) == 2
    assert int(drive.player.figures()["chunks ended early"]) > 5


def test_an_action_may_be_sent_as_long_as_its_observation_is_fresh() -> None:
    drive = Drive(fresh_ns=4.5 * PERIOD)
    assert [drive.step().until_ns for _ in range(3)] == [4.5 * PERIOD] * 3


def test_what_is_held_back_is_still_fresh_when_it_is_sent() -> None:
    held_ns = round(0.7 * PERIOD)
    drive = Drive(fresh_ns=2.5 * PERIOD, send_after_ns=held_ns, takes=lambda: 0.9, execute=4)
    drive.step()
    for _ in range(30):
        now_ns = drive.tick * PERIOD
        command = drive.step()
        assert command.state is State.RUNNING
        assert now_ns + held_ns <= command.until_ns


@pytest.mark.parametrize(
    "fault",
    [
        {"missing": True},
        {"values": math.nan},
        {"values": 1e30},
        {"person": Person(Commander.PERSON, np.zeros(2))},
        {"person": Person(Commander.NOBODY, silence="nothing is said")},
    ],
)
def test_after_a_fault_in_mid_chunk_all_begins_anew(fault: dict[str, Any]) -> None:
    drive = Drive()
    assert drive.played(2) == run_of(0, 0, 1)
    assert drive.step(**fault).state is not State.RUNNING
    assert drive.played(2) == run_of(3, 0, 1)
    assert drive.policy.committed == [None, None]


def test_what_was_under_way_before_a_fault_is_dropped_when_it_comes() -> None:
    drive = Drive(takes=lambda: 2.5)
    drive.played(7)
    assert drive.policy.asked == [0]
    drive.step(missing=True)  # while one from tick 6 is under way
    assert drive.played(6) == ["awaited_chunk"] * 4 + run_of(9, 0, 1)
    assert drive.policy.asked == [0, 6, 9]


def stop_and_reset(drive: Drive) -> None:
    drive.interlock.set_button(True)
    assert drive.step().state is State.STOPPED
    drive.interlock.set_button(False)
    drive.interlock.reset()


def stop_between_ticks(drive: Drive) -> None:
    drive.interlock.set_button(True)
    drive.interlock.set_button(False)
    drive.interlock.reset()


def pause_and_resume(drive: Drive) -> None:
    drive.interlock.paused = True
    assert drive.step().state is State.PAUSED
    drive.interlock.paused = False


@pytest.mark.parametrize("takes", [0.1, 1.5])
@pytest.mark.parametrize(
    "interrupt",
    [
        stop_and_reset,
        stop_between_ticks,
        pause_and_resume,
        lambda drive: drive.controller.begin_episode(),
        lambda drive: drive.controller.restart(),
        lambda drive: drive.controller.reset(),
    ],
)
def test_after_an_interruption_only_what_is_asked_for_then_is_played(
    interrupt: Callable[[Drive], None], takes: float
) -> None:
    drive = Drive(takes=lambda: takes)
    drive.played(5)
    interrupt(drive)
    resumed, resets = drive.tick, drive.policy.resets
    found = drive.played(8)
    assert all(asked >= resumed for asked, _ in actions(found))
    assert len(actions(found)) >= 3
    assert {each for each in found if isinstance(each, str)} <= {"awaited_chunk"}
    assert drive.policy.resets == resets + 1


def test_a_clock_that_is_set_back_ends_the_chunk() -> None:
    drive = Drive()
    drive.played(2)
    drive.tick = 100
    drive.played(2)
    drive.tick = 50
    assert drive.played(2) == run_of(50, 0, 1)


def test_ticks_that_are_left_out_are_not_made_up_for() -> None:
    drive = Drive()
    assert drive.played(1) == [(0, 0)]
    drive.tick = 2
    assert drive.played(1) == [(0, 2)]
    drive.tick = 60
    assert drive.played(1) == [(60, 0)]


@pytest.mark.parametrize("step", [0, 4, 7])
def test_a_chunk_with_a_number_that_is_none_is_not_played_and_not_gone_on_from(step: int) -> None:
    drive = Drive()
    drive.policy.spoilt_step = step
    assert drive.played(2) == ["non_finite_action"] * 2
    assert drive.policy.committed == [None, None]
    drive.policy.spoilt_step = None
    assert drive.played(2) == run_of(2, 0, 1)


def test_nothing_is_committed_that_is_no_number() -> None:
    drive = Drive(takes=lambda: 1.2, execute=2)
    drive.policy.spoilt_step = 5
    drive.played(20)
    # What is spoilt comes in at a tick at which it is time to ask again.
    assert drive.policy.committed == [None] * 6
    assert drive.policy.asked == list(range(0, 18, 3))


def test_bounds_and_the_largest_step_hold_for_each_action() -> None:
    drive = Drive(Dated(noise=600.0), max_steps=(100.0, 150.0))
    commands = [drive.step() for _ in range(60)]
    sent = np.array([command.values for command in commands])
    assert (np.abs(sent) <= BOUND).all()
    assert (np.abs(np.diff(sent, axis=0)) <= [100.001, 150.001]).all()
    guards = {trip.guard for command in commands for trip in command.warnings}
    assert Guard.SLEW_LIMITED_ACTION in guards


def test_what_is_ahead_is_what_will_be_sent() -> None:
    others = {"ahead_ns": PERIOD, "smoothing": 0.25}
    drive = Drive(
        Dated(noise=900.0), limit_ns=None, execute=6, max_steps=(300.0, 400.0), others=others
    )
    commands = [drive.step() for _ in range(24)]
    sent = np.array([command.values for command in commands])
    slowed = 0
    for index in range(18):
        ahead = commands[index].ahead
        assert ahead is not None
        assert ahead.dtype == np.float32
        assert len(ahead) == HORIZON - 1 - index % 6
        # By the chunk in play; the next one comes in after six.
        count = 5 - index % 6
        np.testing.assert_array_equal(ahead[:count], sent[index + 1 : index + 1 + count])
        slowed += any(trip.guard is Guard.SLEW_LIMITED_ACTION for trip in commands[index].warnings)
    assert slowed > 5
    assert drive.controller.counts["slew_limited_action"] <= 24, "nobody counts what is ahead"


def test_nothing_is_ahead_for_longer_than_its_observation_is_fresh() -> None:
    drive = Drive(limit_ns=None, fresh_ns=3 * PERIOD, others={"ahead_ns": PERIOD})
    counts = [
        None if ahead is None else len(ahead) for ahead in (drive.step().ahead for _ in "1234")
    ]
    assert counts == [3, 2, 1, 3]
    assert drive.step(missing=True).ahead is None
    assert Drive().step().ahead is None, "where nobody wants it"


@pytest.mark.parametrize("fresh", [2.1, 3.5, 3.9])
def test_what_is_held_back_has_nothing_ahead_that_would_be_too_old_when_it_is_sent(
    fresh: float,
) -> None:
    held_ns = round(0.7 * PERIOD)
    drive = Drive(
        fresh_ns=fresh * PERIOD,
        send_after_ns=held_ns,
        execute=HORIZON,
        others={"ahead_ns": PERIOD, "send_after_ns": held_ns},
    )
    for _ in range(20):
        now_ns = drive.tick * PERIOD
        command = drive.step()
        ahead = () if command.ahead is None else command.ahead
        assert now_ns + len(ahead) * PERIOD + held_ns <= command.until_ns
        assert now_ns + (len(ahead) + 1) * PERIOD + held_ns > command.until_ns


def test_nothing_is_ahead_on_the_way_back_from_a_person() -> None:
    ramp = HandBack(3 * PERIOD)
    drive = Drive(limit_ns=None, others={"ahead_ns": PERIOD, "hand_back": ramp})
    drive.step(person=Person(Commander.PERSON, np.zeros(2)))
    assert [drive.step().ahead is None for _ in range(5)] == [True, True, True, False, False]


def test_equal_seeds_give_equal_commands() -> None:
    def sent(seed: int) -> NDArray[np.float32]:
        drive = Drive(Dated(noise=1.0), limit_ns=None)
        drive.player.seed(seed)
        return np.array([drive.step().values for _ in range(20)])

    np.testing.assert_array_equal(sent(1), sent(1))
    assert (sent(1) != sent(2)).any()


def test_a_decision_is_told_of_at_the_tick_at_which_it_comes_in() -> None:
    drive = Drive(takes=lambda: 0.6)
    drive.step()
    commands = [drive.step() for _ in range(6)]
    decided = [command.decision is not None for command in commands]
    assert decided == [True, False, False, False, True, False]
    assert commands[4].inference_ns == 0.6 * PERIOD
    assert commands[1].inference_ns is None
    assert drive.player.figures() == {
        "execute": "3 of 8",
        "action of the chunk": "3 of 8",
        "decisions (Hz)": "5.000",
        "ticks to a decision": "1",
        "chunks ended early": "0",
    }


def test_what_the_policy_raises_is_raised() -> None:
    class Broken(Dated):
        def act(self, *_: Any, **__: Any) -> Decision:
            raise ZeroDivisionError("the policy broke")

    with pytest.raises(ZeroDivisionError, match="the policy broke"):
        Drive(Broken()).played(3)


def test_a_policy_that_gives_up_by_itself_is_asked_again() -> None:
    class Impatient(Dated):
        gives_up = True

        def act(self, *args: Any, **others: Any) -> Decision:
            if self.gives_up:
                raise TimeoutError("the device does not answer")
            return super().act(*args, **others)

    policy, thread = Impatient(), WorkerThread("inference")
    player = ChunkPlayer(policy, thread, 4 * PERIOD, PERIOD, EXECUTE)
    try:
        assert player.decide(np.zeros(1, np.float32), 0, math.inf).decision is None
        policy.gives_up = False
        answers = [
            player.decide(np.zeros(1, np.float32), tick * PERIOD, math.inf) for tick in (1, 2, 3)
        ]
        assert answers[-1].decision is not None
    finally:
        thread.stop()


EVENTS = ("go on",) * 6 + ("miss", "nan", "stop", "pause", "episode", "takeover")
FAULTS: dict[str, dict[str, Any]] = {
    "miss": {"missing": True},
    "nan": {"values": math.nan},
    "takeover": {"person": Person(Commander.PERSON, np.zeros(2))},
}


def disturbed(drive: Drive, event: str, fresh_ns: float) -> Command:
    """Tick with what happens at the tick; there is no stop and no pause after it."""
    if event == "episode":
        drive.controller.begin_episode()
    drive.interlock.set_button(event == "stop")
    drive.interlock.paused = event == "pause"
    command = drive.step(fresh=fresh_ns, **FAULTS.get(event, {}))
    drive.interlock.set_button(False)
    drive.interlock.reset()
    drive.interlock.paused = False
    return command


@given(
    events=st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 2)), max_size=60),
    takes=st.lists(st.floats(0.0, 9.0), min_size=1, max_size=20),
    fresh=st.lists(st.floats(0.0, 12.0), min_size=1, max_size=20),
    execute=st.integers(1, HORIZON),
    waits=st.booleans(),
)
def test_no_action_is_played_late_or_from_before_an_interruption(
    events: Sequence[tuple[str, int]],
    takes: Sequence[float],
    fresh: Sequence[float],
    execute: int,
    waits: bool,
) -> None:
    """Whatever happens: what is sent is due now, of a fresh observation, and decided since.

    A chunk begins with the tick of its observation, or later by ticks in which nothing was played.
    """
    calls = iter(range(10**6))
    drive = Drive(
        takes=lambda: takes[next(calls) % len(takes)],
        execute=execute,
        limit_ns=None if waits else 5 * PERIOD,
    )
    earliest = 0
    sent: list[int] = []
    begins: dict[int, int] = {}
    for event, left_out in events:
        drive.tick += left_out
        tick = drive.tick
        command = disturbed(drive, event, fresh[tick % len(fresh)] * PERIOD)
        if event == "episode":
            earliest = tick
        elif event != "go on":
            assert command.state is not State.RUNNING
            earliest = tick + 1
        for asked, step in actions([described(command)]):
            age = fresh[asked % len(fresh)]
            assert asked >= earliest
            assert begins.setdefault(asked, tick - step) == tick - step
            idle = begins[asked] - asked
            assert 0 <= idle <= tick - asked - sum(asked <= each < tick for each in sent)
            assert 0 <= step < HORIZON
            assert tick - asked <= age + 1e-6
            assert command.until_ns <= (asked + age) * PERIOD + 1
            sent.append(tick)


def test_a_policy_without_a_delay_needs_no_thread() -> None:
    player = ChunkPlayer(Dated(), SameThread(), None, PERIOD, EXECUTE)
    asked = [
        player.decide(np.array([tick], np.float32), tick * PERIOD, math.inf) for tick in range(4)
    ]
    found = [each.decision.action.tolist() for each in asked if each.decision is not None]
    assert found == [[0, 0], [0, 1], [0, 2], [3, 0]]
