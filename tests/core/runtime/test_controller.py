from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.errors import ConfigError
from dql_core.normalize import Normalizer
from dql_core.runtime.controller import Controller, State
from dql_core.runtime.fallback import Fallback, FallbackRules, Interlock
from dql_core.runtime.guard import Guard, GuardLimits, Guards
from dql_core.runtime.inference import Inference, SameThread
from dql_core.runtime.policy import Committed, Decision
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
    horizon = 1

    def __init__(self, actions: list[float]) -> None:
        self._actions: Iterator[float] = iter(actions)
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def act(
        self,
        observation: NDArray[np.float32],
        rng: np.random.Generator,
        committed: Committed | None = None,
    ) -> Decision:
        action = np.array([next(self._actions)], dtype=np.float32)
        return Decision(action, np.zeros(1, np.float32), action[None])


def controller(
    actions: list[float],
    hold_ticks: int = 0,
    took_ns: int = 0,
    rules: dict[str, Any] | None = None,
    interlock: Interlock | None = None,
    policy: Scripted | None = None,
    smoothing: float = 0.0,
    **limits: Any,
) -> Controller:
    ticking = iter(range(0, 10**9 * max(took_ns, 1), max(took_ns, 1)))
    normalizer = Normalizer.fit(np.array([[-0.5], [0.5]], np.float32), SPEC)
    inference = Inference(
        policy or Scripted(actions), SameThread(), None, steady_ns=lambda: next(ticking)
    )
    fallback = FallbackRules((SAFE,), **({"hold_ns": hold_ticks * PERIOD} | (rules or {})))
    return Controller(
        inference,
        Guards(SPEC, normalizer, GuardLimits(**limits)),
        Fallback(fallback),
        interlock or Interlock(),
        smoothing,
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


def test_while_only_the_past_is_missing_the_safe_command_is_sent() -> None:
    """What the robot is sent becomes its past, and in lockstep lets time go on."""
    younger = Observation(
        None, ("joint_states",), {"joint_states": 0}, past_ns={"joint_states": PERIOD}
    )
    nothing = Observation(None, ("a", "b"), {"a": 0, "b": None}, past_ns={"a": PERIOD})
    subject = controller([1.0, 2.0])
    assert drive(subject, [nothing, younger, younger, seen(), younger]) == [
        (State.WAITING, None),
        (State.WAITING, SAFE),
        (State.WAITING, SAFE),
        (State.RUNNING, 1.0),
        (State.STALE, SAFE),
    ]
    assert subject.last_reasons["stale_stream"] == (
        "no fresh observation: 'joint_states' was not known 0.05 s ago"
    )


def test_a_complete_observation_that_cannot_be_acted_on_yet_is_answered_by_nothing() -> None:
    assert drive(controller([], warm_up_ticks=1), [seen()]) == [(State.WAITING, None)]


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
    assert warned == [
        Guard.UNUSUAL_OBSERVATION,
        Guard.UNSEEN_OBSERVATION,
        Guard.CLAMPED_ACTION,
    ]


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
        ["unusual_observation", "unseen_observation", "slow_inference"],
        ["unusual_observation", "unseen_observation", "non_finite_action"],
        ["unusual_observation", "unseen_observation", "clamped_action", "published"],
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
    policy = Scripted([1.0, 1.0])
    subject = controller([], hold_ticks=10, policy=policy)
    subject.step(0, seen())
    subject.reset()
    assert subject.state is State.WAITING
    assert subject.step(PERIOD, MISSING).values is None
    held = subject.step(2 * PERIOD, seen(np.nan)).values
    assert held == pytest.approx(np.array([SAFE]))
    resets = policy.resets
    subject.step(3 * PERIOD, seen())
    assert policy.resets == resets + 1


def test_caller_that_changes_a_command_does_not_change_what_is_held() -> None:
    subject = controller([1.0], hold_ticks=1)
    first = subject.step(0, seen()).values
    assert first is not None
    first[:] = 99.0
    held = subject.step(PERIOD, MISSING).values
    assert held == pytest.approx(np.array([1.0]))


def test_safe_command_of_another_width_is_refused() -> None:
    guards = Guards(SPEC, None, GuardLimits())
    inference = Inference(Scripted([]), SameThread(), None)
    fallback = Fallback(FallbackRules((0.0, 0.0)))
    with pytest.raises(ConfigError, match="the safe command has 2 entries for 1 action fields"):
        Controller(inference, guards, fallback, Interlock())


def test_after_the_hold_a_ramp_leads_to_the_safe_command_in_a_straight_line() -> None:
    subject = controller([1.75], hold_ticks=2, rules={"ramp_ns": 4 * PERIOD})
    sent = [value for _, value in drive(subject, [seen(), *[MISSING] * 9])]
    assert sent == [1.75, 1.75, 1.75, 1.75, 1.25, 0.75, 0.25, SAFE, SAFE, SAFE]


def test_robot_is_given_up_once_it_could_not_act_for_long_enough() -> None:
    subject = controller([1.0] * 5, rules={"give_up_after_ns": 3 * PERIOD})
    given_up = []
    for tick, observation in enumerate([seen(), *[MISSING] * 3, seen(), *[MISSING] * 4]):
        subject.step(tick * PERIOD, observation)
        given_up.append(subject.given_up)
    assert given_up == [False] * 8 + [True]


def test_every_command_is_within_reach_of_the_one_before() -> None:
    subject = controller([2.0] * 4 + [-2.0], max_steps=(0.5,))
    observations = [seen(), seen(), seen(np.nan), seen(), seen(), seen()]
    sent = [value for _, value in drive(subject, observations)]
    # The safe command counts as sent before the first one.
    assert sent == [0.25, 0.75, 0.25, 0.75, 1.25, 0.75]
    assert subject.counts["slew_limited_action"] == 5
    assert subject.counts["clamped_action"] == 0


def test_the_rate_is_limited_after_the_bounds() -> None:
    command = controller([5.0], max_steps=(0.5,)).step(0, seen())
    assert [trip.guard for trip in command.warnings] == [
        Guard.CLAMPED_ACTION,
        Guard.SLEW_LIMITED_ACTION,
    ]
    assert command.warnings[1].reason == (
        "action 'elbow_velocity' = 2 is more than 0.5 from -0.25, which was sent last"
    )


def test_ramp_that_is_steeper_than_allowed_is_slowed() -> None:
    subject = controller([2.0], rules={"ramp_ns": PERIOD}, max_steps=(3.0,))
    sent = [value for _, value in drive(subject, [seen(), MISSING, MISSING])]
    assert sent == [2.0, 2.0, SAFE]
    subject = controller([2.0], max_steps=(1.0,))
    sent = [value for _, value in drive(subject, [seen(), MISSING, MISSING])]
    assert sent == [0.75, SAFE, SAFE]


def test_unusual_observation_stops_only_if_that_is_asked_for() -> None:
    told = controller([1.0], max_z_score=1.0).step(0, seen(9.0))
    assert (told.state, told.fault) == (State.RUNNING, None)
    assert [trip.guard for trip in told.warnings] == [
        Guard.UNUSUAL_OBSERVATION,
        Guard.UNSEEN_OBSERVATION,
    ]
    stopping = controller([1.0], max_z_score=1.0, unusual_stops=True).step(0, seen(9.0))
    assert stopping.state is State.FAULT
    assert stopping.fault is not None
    assert stopping.fault.guard is Guard.UNUSUAL_OBSERVATION
    assert stopping.values == pytest.approx(np.array([SAFE]))
    assert stopping.decision is None


def test_stop_sends_the_safe_command_at_once_until_it_is_reset() -> None:
    interlock = Interlock()
    subject = controller([2.0] * 9, hold_ticks=5, interlock=interlock, max_steps=(1.0,))
    assert drive(subject, [seen(), seen()])[-1] == (State.RUNNING, 1.75)
    interlock.set_button(True)
    assert drive(subject, [seen(), MISSING]) == [(State.STOPPED, SAFE)] * 2
    interlock.set_button(False)
    assert drive(subject, [seen()]) == [(State.STOPPED, SAFE)]
    interlock.reset()
    assert drive(subject, [seen()]) == [(State.RUNNING, 0.75)]


def test_pause_ramps_to_the_safe_command_without_holding_and_is_no_fault() -> None:
    interlock = Interlock()
    rules = {"ramp_ns": 2 * PERIOD, "give_up_after_ns": 3 * PERIOD}
    subject = controller([1.75] * 9, hold_ticks=1, rules=rules, interlock=interlock)
    drive(subject, [seen()])
    interlock.paused = True
    outcome = drive(subject, [seen()] * 6)
    assert {state for state, _ in outcome} == {State.PAUSED}
    assert [value for _, value in outcome] == [1.75, 0.75, SAFE, SAFE, SAFE, SAFE]
    assert not subject.given_up
    interlock.paused = False
    assert drive(subject, [seen(), MISSING]) == [(State.RUNNING, 1.75), (State.STALE, 1.75)]
    assert not subject.given_up


def test_warm_up_is_asked_for_again_after_a_stop() -> None:
    interlock = Interlock()
    subject = controller([1.0] * 9, interlock=interlock, warm_up_ticks=1)
    drive(subject, [seen(), seen()])
    interlock.set_button(True)
    drive(subject, [seen()])
    interlock.set_button(False)
    interlock.reset()
    assert drive(subject, [seen(), seen()]) == [(State.WAITING, SAFE), (State.RUNNING, 1.0)]


def test_restart_in_mid_motion_keeps_sending() -> None:
    subject = controller([1.0] * 9)
    drive(subject, [seen()])
    subject.restart()
    assert drive(subject, [MISSING, seen()]) == [(State.WAITING, SAFE), (State.RUNNING, 1.0)]


def test_policy_that_has_not_answered_is_a_slow_one() -> None:
    class Busy(SameThread):
        def is_busy(self) -> bool:
            return True

    inference = Inference(Scripted([]), Busy(), PERIOD, steady_ns=lambda: 70_000_000)
    guards = Guards(SPEC, None, GuardLimits(max_inference_ns=PERIOD))
    subject = Controller(inference, guards, Fallback(FallbackRules((SAFE,))), Interlock())
    command = subject.step(0, seen())
    assert command.fault is not None
    assert command.fault.reason == "inference has not answered for 70.0 ms of 50.0 ms"
    assert command.state is State.FAULT


def test_smoothing_is_a_low_pass_filter_from_what_was_sent_last() -> None:
    steps = drive(controller([1.0, 1.0, 1.0], smoothing=0.75), [seen()] * 3)
    distances = [(SAFE - 1.0) * 0.75**n for n in (1, 2, 3)]
    assert [value for _, value in steps] == pytest.approx([1.0 + away for away in distances])


def test_what_was_smoothed_is_cut_to_the_bounds() -> None:
    subject = controller([9.0], smoothing=0.5)
    assert drive(subject, [seen()]) == [(State.RUNNING, 2.0)]
    assert subject.counts["clamped_action"] == 1


def test_smoothing_comes_before_the_bounds_and_the_slew_limit() -> None:
    subject = controller([9.0, 2.0], smoothing=0.5, max_steps=(1.0,))
    steps = drive(subject, [seen()] * 2)
    # Half of the way from the safe command is beyond the bounds, and they are farther than 1.
    sent = [value for _, value in steps]
    assert sent == pytest.approx([SAFE + 1.0, (SAFE + 1.0 + 2.0) / 2.0])
    assert subject.counts["clamped_action"] == subject.counts["slew_limited_action"] == 1


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_a_filter_that_never_arrives_is_refused(smoothing: float) -> None:
    with pytest.raises(ConfigError, match="it must be from 0 to less than 1"):
        controller([], smoothing=smoothing)


def test_a_safe_command_beyond_the_bounds_is_refused() -> None:
    guards = Guards(SPEC, None, GuardLimits())
    inference = Inference(Scripted([]), SameThread(), None)
    with pytest.raises(
        ConfigError, match=r"safe command is 2.5 for 'elbow_velocity', beyond its bounds \[-2, 2\]"
    ):
        Controller(inference, guards, Fallback(FallbackRules((2.5,))), Interlock())
