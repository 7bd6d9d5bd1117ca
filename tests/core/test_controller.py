from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.errors import ConfigError
from dql_core.normalize import Normalizer
from dql_core.runtime.controller import Controller, Fallback, State
from dql_core.runtime.guard import Guard, GuardLimits, Guards
from dql_core.runtime.policy import Decision
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.streams import Observation

SPEC = PolicySpec(
    robot="arm",
    rate_hz=20.0,
    observation=(FieldSpec("elbow", "rad"),),
    action=(FieldSpec("elbow_velocity", "rad/s", -2.0, 2.0),),
)
PERIOD = 50_000_000
SAFE = -0.25


class Scripted:
    """A policy whose actions are written down beforehand."""

    spec = SPEC

    def __init__(self, actions: list[float]) -> None:
        self._actions: Iterator[float] = iter(actions)
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def act(self, observation: NDArray[np.float32], rng: np.random.Generator) -> Decision:
        action = np.array([next(self._actions)], dtype=np.float32)
        return Decision(action, np.zeros(1, np.float32), action[None])


def controller(
    actions: list[float], hold_ticks: int = 0, took_ns: int = 0, **limits: Any
) -> Controller:
    ticking = iter(range(0, 10**9 * max(took_ns, 1), max(took_ns, 1)))
    normalizer = Normalizer.fit(
        np.array([[-0.5], [0.5]], np.float32), SPEC.action_low, SPEC.action_high
    )
    return Controller(
        Scripted(actions),
        Guards(SPEC, normalizer, GuardLimits(**limits)),
        Fallback(hold_ticks * PERIOD, (SAFE,)),
        np.random.default_rng(0),
        steady_ns=lambda: next(ticking),
    )


def seen(value: float = 0.0) -> Observation:
    return Observation(np.array([value], dtype=np.float32), (), {"joint_states": 0})


MISSING = Observation(None, ("joint_states",), {"joint_states": None})


def drive(
    subject: Controller, observations: list[Observation]
) -> list[tuple[State, float | None]]:
    """Return state and command of consecutive ticks."""
    outcome = []
    for tick, observation in enumerate(observations):
        command = subject.step(tick * PERIOD, observation)
        value = None if command.values is None else float(command.values[0])
        outcome.append((command.state, value))
    return outcome


def test_nothing_is_sent_before_the_first_complete_observation() -> None:
    outcome = drive(controller([1.0]), [MISSING, MISSING, seen()])
    assert outcome == [(State.WAITING, None), (State.WAITING, None), (State.RUNNING, 1.0)]


def test_stale_stream_ends_in_the_safe_command_and_recovers_by_itself() -> None:
    outcome = drive(controller([1.0, 2.0]), [seen(), MISSING, MISSING, seen()])
    assert outcome == [
        (State.RUNNING, 1.0),
        (State.STALE, SAFE),
        (State.STALE, SAFE),
        (State.RUNNING, 2.0),
    ]


def test_last_sound_command_is_held_for_the_hold_time_and_no_longer() -> None:
    outcome = drive(controller([1.5], hold_ticks=2), [seen(), MISSING, MISSING, MISSING])
    assert [value for _, value in outcome] == [1.5, 1.5, 1.5, SAFE]


def test_changing_faults_do_not_prolong_the_hold() -> None:
    observations = [seen(), MISSING, seen(np.nan), MISSING]
    outcome = drive(controller([1.5], hold_ticks=2), observations)
    assert outcome[1:] == [(State.STALE, 1.5), (State.FAULT, 1.5), (State.STALE, SAFE)]


def test_sound_action_between_two_faults_renews_the_hold() -> None:
    observations = [seen(), MISSING, seen(), MISSING]
    outcome = drive(controller([1.0, 0.5], hold_ticks=1), observations)
    assert [value for _, value in outcome] == [1.0, 1.0, 0.5, 0.5]


def test_clock_that_jumps_back_ends_the_hold_for_good() -> None:
    subject = controller([1.0], hold_ticks=5)
    sent = []
    for tick, observation in ((10, seen()), (11, MISSING), (0, MISSING), (12, MISSING)):
        values = subject.step(tick * PERIOD, observation).values
        assert values is not None
        sent.append(float(values[0]))
    assert sent == [1.0, 1.0, SAFE, SAFE]


def test_fault_before_the_first_action_sends_the_safe_command() -> None:
    assert drive(controller([], hold_ticks=3), [seen(np.nan)]) == [(State.FAULT, SAFE)]


def test_non_finite_action_never_reaches_the_robot() -> None:
    outcome = drive(controller([np.nan, 1.0]), [seen(), seen()])
    assert outcome == [(State.FAULT, SAFE), (State.RUNNING, 1.0)]


def test_late_result_is_dropped_but_its_time_is_told() -> None:
    subject = controller([1.0], took_ns=3_000_000, max_inference_ns=2_000_000)
    command = subject.step(0, seen())
    assert command.state is State.FAULT
    assert command.values == pytest.approx(np.array([SAFE]))
    assert command.inference_ns == 3_000_000
    assert command.fault is not None
    assert command.fault.guard is Guard.SLOW_INFERENCE


def test_warm_up_withholds_commands_without_asking_the_policy() -> None:
    outcome = drive(controller([1.0], warm_up_ticks=2), [seen(), seen(), seen()])
    assert outcome == [(State.WAITING, None), (State.WAITING, None), (State.RUNNING, 1.0)]


def test_unusual_observation_and_clamped_action_warn_and_pass() -> None:
    command = controller([9.0], max_z_score=3.0).step(0, seen(5.0))
    assert command.state is State.RUNNING
    assert command.fault is None
    assert command.values == pytest.approx(np.array([2.0]))
    warned = [trip.guard for trip in command.warnings]
    assert warned == [Guard.UNUSUAL_OBSERVATION, Guard.CLAMPED_ACTION]


def test_the_first_guard_in_the_fixed_order_decides() -> None:
    # Everything is wrong at once; mending the first fault shows the next guard.
    order = []
    everything: dict[str, Any] = {"warm_up_ticks": 1, "max_z_score": 1.0, "max_inference_ns": 1}
    for actions, observation, mended in (
        ([np.nan], MISSING, {}),
        ([np.nan], seen(np.nan), {}),
        ([np.nan], seen(np.nan), {"warm_up_ticks": 0}),
        ([np.nan], seen(9.0), {"warm_up_ticks": 0}),
        ([np.nan], seen(9.0), {"warm_up_ticks": 0, "max_inference_ns": 10}),
        ([9.0], seen(9.0), {"warm_up_ticks": 0, "max_inference_ns": 10}),
    ):
        subject = controller(actions, took_ns=5, **(everything | mended))
        subject.step(0, observation)
        order.append([name for name, count in subject.counts.items() if count])
    assert order == [
        ["stale_stream"],
        ["warm_up"],
        ["non_finite_observation"],
        ["unusual_observation", "slow_inference"],
        ["unusual_observation", "non_finite_action"],
        ["unusual_observation", "clamped_action", "published"],
    ]
    assert [guard.value for guard in Guard] == list(subject.counts)[:-1]


def test_counts_name_every_guard_and_the_published_commands() -> None:
    subject = controller([1.0, np.nan, 3.0])
    drive(subject, [MISSING, seen(), seen(), seen()])
    assert {name: count for name, count in subject.counts.items() if count} == {
        "stale_stream": 1,
        "non_finite_action": 1,
        "clamped_action": 1,
        "published": 2,
    }


def test_reset_waits_again_forgets_the_last_command_and_resets_the_policy() -> None:
    policy = Scripted([1.0])
    guards = Guards(SPEC, None, GuardLimits())
    rng = np.random.default_rng(0)
    subject = Controller(policy, guards, Fallback(10 * PERIOD, (SAFE,)), rng)
    subject.step(0, seen())
    subject.reset()
    assert subject.state is State.WAITING
    assert policy.resets == 1
    assert subject.step(PERIOD, MISSING).values is None
    held = subject.step(2 * PERIOD, seen(np.nan)).values
    assert held == pytest.approx(np.array([SAFE]))


def test_caller_that_changes_a_command_does_not_change_what_is_held() -> None:
    subject = controller([1.0], hold_ticks=1)
    first = subject.step(0, seen()).values
    assert first is not None
    first[:] = 99.0
    held = subject.step(PERIOD, MISSING).values
    assert held == pytest.approx(np.array([1.0]))


def test_safe_command_of_another_width_is_refused() -> None:
    guards = Guards(SPEC, None, GuardLimits())
    with pytest.raises(ConfigError, match="the safe command has 2 entries for 1 action fields"):
        Controller(Scripted([]), guards, Fallback(0, (0.0, 0.0)), np.random.default_rng(0))
