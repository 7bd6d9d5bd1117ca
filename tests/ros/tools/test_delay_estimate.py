"""Dead times of made-up robots: found, or honestly not."""

import numpy as np
import pytest

from dql_ros.tools.delay.estimate import Delay, Track, estimate_delay
from dql_ros.tools.delay.response import HeldResponse, Lag, Numbers

SECONDS, STEP_S = 30.0, 0.0002
DEAD_S = 0.043


def wander(seed: int = 0, hz: float = 50.0) -> Track:
    """A command that wanders, sent a little unevenly."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.8, 1.2, round(SECONDS * hz)) / hz)
    values = np.zeros(len(times))
    for index in range(1, len(times)):
        values[index] = 0.9 * values[index - 1] + rng.normal()
    return Track(times, values)


def robot(
    command: Track,
    dead_s: float,
    lag: Lag,
    *,
    integrated: bool = False,
    noise: float = 0.0,
    hz: float = 50.0,
) -> Track:
    """What answers it, stepped finely and sampled; an own computation of the lags."""
    grid = np.arange(0, SECONDS, STEP_S)
    place = np.searchsorted(command.times_s, grid - dead_s, side="right") - 1
    answer = command.values[np.maximum(place, 0)]
    for _ in range(lag.order if lag.seconds else 0):
        level, decay = answer[0], np.exp(-STEP_S / lag.seconds)
        followed = np.empty_like(answer)
        for index, value in enumerate(answer.tolist()):
            followed[index] = level
            level = value + (level - value) * decay
        answer = followed
    if integrated:
        answer = np.concatenate([[0.0], np.cumsum(answer)[:-1] * STEP_S])
    rng = np.random.default_rng(1)
    shown = np.arange(0.0037, SECONDS - 0.1, 1 / hz)
    shown += rng.uniform(0, 0.2 / hz, len(shown))
    values = (
        np.interp(shown, grid, answer)
        if lag.seconds or integrated
        else answer[(shown / STEP_S).astype(np.int64)]
    )
    return Track(shown, values + noise * values.std() * rng.normal(size=len(shown)))


def require_found(found: Delay, dead_s: float, within_s: float = 0.002) -> None:
    assert found.is_told, found.doubt
    assert found.seconds == pytest.approx(dead_s, abs=within_s)


def require_honest(found: Delay, dead_s: float) -> None:
    """It is right, or it says that it does not know."""
    if found.is_told:
        require_found(found, dead_s)
    elif found.seconds is not None and found.low_s is not None and found.high_s is not None:
        assert (
            found.high_s - found.low_s > 0.004 or found.explained < 0.3 or "follows" in found.doubt
        )


@pytest.mark.parametrize("lag", [Lag(1, 0.03), Lag(2, 0.02), Lag(1, 0.5)])
@pytest.mark.parametrize("integrated", [False, True])
def test_a_response_is_that_of_small_steps(lag: Lag, integrated: bool) -> None:
    command = wander()
    expected = robot(command, DEAD_S, lag, integrated=integrated)
    response = HeldResponse(command.times_s, command.values, (Lag(1, 0.1), lag))
    found: Numbers = response.at(expected.times_s - DEAD_S, integrated=integrated)[1]
    difference = found - expected.values
    assert np.ptp(difference) < 0.02 * np.ptp(expected.values)


@pytest.mark.parametrize("dead_s", [0.0, 0.02, 0.043, 0.08])
@pytest.mark.parametrize(
    ("lag", "integrated"), [(Lag(1, 0.0), False), (Lag(1, 0.03), True), (Lag(2, 0.02), False)]
)
def test_a_dead_time_is_found_apart_from_the_lag(
    dead_s: float, lag: Lag, integrated: bool
) -> None:
    command = wander()
    state = robot(command, dead_s, lag, integrated=integrated)
    found = estimate_delay(command, state, integrated=integrated, rises=True)
    require_found(found, dead_s)
    assert found.lag.seconds * found.lag.order == pytest.approx(lag.seconds * lag.order, abs=0.003)
    assert found.gain == pytest.approx(1.0, abs=0.05)


def test_noise_widens_the_interval() -> None:
    command = wander()
    clear, noisy = (
        estimate_delay(
            command, robot(command, DEAD_S, Lag(1, 0.03), noise=noise), integrated=False
        )
        for noise in (0.0, 0.1)
    )
    assert clear.low_s is not None
    assert clear.high_s is not None
    assert noisy.low_s is not None
    assert noisy.high_s is not None
    assert noisy.high_s - noisy.low_s > 2 * (clear.high_s - clear.low_s)
    assert noisy.low_s <= DEAD_S <= noisy.high_s


def test_messages_that_are_lost_doubled_or_no_numbers_do_not_move_it() -> None:
    command = wander()
    state = robot(command, DEAD_S, Lag(1, 0.03))
    rng = np.random.default_rng(2)
    values = state.values.copy()
    values[::17] = np.nan
    kept = np.sort(rng.permutation(len(values))[: round(0.7 * len(values))])
    twice = np.sort(np.concatenate([kept, kept[::9]]))
    worse = Track(state.times_s[twice], values[twice])
    require_found(estimate_delay(command, worse, integrated=False, rises=True), DEAD_S)


def test_a_clock_that_is_set_back_leaves_out_what_comes_twice() -> None:
    command = wander()
    state = robot(command, DEAD_S, Lag(1, 0.03))
    half = len(state.times_s) // 2
    times = state.times_s.copy()
    times[half:] -= 5.0
    found = estimate_delay(command, Track(times, state.values), integrated=False, rises=True)
    require_honest(found, DEAD_S)


def test_a_command_that_does_not_change_tells_nothing() -> None:
    command = wander()
    still = Track(command.times_s, np.ones(len(command.times_s)))
    state = robot(command, DEAD_S, Lag(1, 0.03))
    assert "changes 0 times" in estimate_delay(still, state, integrated=False).doubt
    rigid = Track(state.times_s, np.ones(len(state.times_s)))
    assert "does not move" in estimate_delay(command, rigid, integrated=False).doubt


def test_a_state_that_does_not_answer_tells_nothing() -> None:
    rng = np.random.default_rng(3)
    times = np.arange(0, SECONDS, 0.02)
    found = estimate_delay(wander(), Track(times, rng.normal(size=len(times))), integrated=False)
    assert "explains 0%" in found.doubt


@pytest.mark.parametrize("period_s", [0.1, 0.2])
def test_a_command_that_repeats_itself_fits_a_period_later_as_well(period_s: float) -> None:
    times = np.arange(0, SECONDS, 0.02)
    command = Track(times, np.sign(np.sin(2 * np.pi * times / period_s) + 0.1))
    found = estimate_delay(
        command, robot(command, DEAD_S, Lag(1, 0.03), noise=0.02), integrated=False, rises=True
    )
    assert not found.is_told
    assert found.low_s is not None
    assert found.high_s is not None
    assert found.low_s - 0.002 <= DEAD_S <= found.high_s + 0.002
    assert found.high_s - found.low_s > 0.9 * period_s


def test_held_commands_and_states_in_step_say_only_between_which_states() -> None:
    times = np.arange(0, SECONDS, 0.02)
    command = Track(times, wander().values[: len(times)])
    place = np.searchsorted(times, times + 0.01 - DEAD_S, side="right") - 1
    state = Track(times + 0.01, command.values[np.maximum(place, 0)])
    found = estimate_delay(command, state, integrated=False, rises=True)
    assert not found.is_told
    assert found.low_s is not None
    assert found.high_s is not None
    assert found.low_s <= DEAD_S <= found.high_s
    assert found.high_s - found.low_s == pytest.approx(0.02, abs=0.003)


def test_a_robot_that_saturates_is_not_told_wrongly() -> None:
    command = wander()
    state = robot(command, DEAD_S, Lag(1, 0.03))
    state = Track(state.times_s, np.clip(state.values, -0.5, 0.5))
    require_honest(estimate_delay(command, state, integrated=False, rises=True), DEAD_S)


def controlled(dead_s: float, moves: bool, seed: int = 0) -> tuple[Track, Track]:
    """A position held by a P controller against gusts; the target moves now and then, or not."""
    rng = np.random.default_rng(seed)
    step_s, every, dead = 0.001, 20, round(dead_s / 0.001)
    count = round(SECONDS / step_s)
    sent, states = np.zeros(count), np.zeros(count)
    command = speed = gust = target = 0.0
    sent_at, shown_at = [], []
    for index in range(1, count):
        states[index] = states[index - 1] + step_s * (speed + gust)
        if index % every == 7:
            if moves and rng.random() < 0.03:
                target = rng.normal()
            command = 2.0 * (target - states[index])
            sent_at.append(index)
        sent[index] = command
        speed += step_s / 0.03 * (sent[max(index - dead, 0)] - speed)
        gust += -step_s / 0.3 * gust + 0.02 * rng.normal()
        if index % every == 0:
            shown_at.append(index)
    sent_i, shown_i = np.array(sent_at), np.array(shown_at)
    return Track(sent_i * step_s, sent[sent_i]), Track(shown_i * step_s, states[shown_i])


@pytest.mark.parametrize("dead_s", [0.0, 0.06])
def test_a_controller_that_answers_the_state_is_not_taken_for_the_robot(dead_s: float) -> None:
    command, state = controlled(dead_s, moves=True)
    require_found(estimate_delay(command, state, integrated=True, rises=True), dead_s, 0.003)
    command, state = controlled(dead_s, moves=False)
    assert not estimate_delay(command, state, integrated=True, rises=True).is_told
    backwards = estimate_delay(command, state, integrated=False)
    assert "the command follows the state" in backwards.doubt
