"""A person takes over and hands back: who commands, the ramp, and what no sequence can do."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dql_core.normalize import Normalizer
from dql_core.runtime.controller import Command, Controller, State
from dql_core.runtime.fallback import Fallback, FallbackRules, Interlock
from dql_core.runtime.guard import Guard, GuardLimits, Guards
from dql_core.runtime.inference import Inference, SameThread
from dql_core.runtime.policy import Committed, Decision
from dql_core.runtime.takeover import Commander, HandBack, Person, who_commands
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.streams import Observation

PERIOD = 50
SAFE = (0.0, -0.25)
LOW, HIGH = (-2.0, -1.0), (2.0, 1.0)
STEPS = (0.5, np.inf)
SPEC = PolicySpec(
    robot="arm",
    rate_hz=20.0,
    observation=(FieldSpec("elbow", "rad"),),
    action=tuple(
        FieldSpec(name, "rad/s", low, high)
        for name, low, high in zip(("elbow", "wrist"), LOW, HIGH, strict=True)
    ),
)
SEEN = Observation(np.zeros(1, np.float32), (), {"joint_states": 0})
MISSING = Observation(None, ("joint_states",), {"joint_states": None})
ODD = Observation(np.array([np.nan], np.float32), (), {"joint_states": 0})
POLICY, NOBODY = Person(Commander.POLICY), Person(Commander.NOBODY, silence="the link is gone")
POLICYS = (1.5, -1.0)


class Constant:
    """A policy that always acts alike, and counts when it is asked and begins anew."""

    spec = SPEC
    horizon = 1

    def __init__(self) -> None:
        self.asked = self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def act(
        self,
        observation: NDArray[np.float32],
        rng: np.random.Generator,
        committed: Committed | None = None,
    ) -> Decision:
        self.asked += 1
        action = np.array(POLICYS, np.float32)
        return Decision(action, np.zeros(1, np.float32), action[None])


class Random(Constant):
    """Its actions are random and beyond the bounds at times."""

    def act(
        self,
        observation: NDArray[np.float32],
        rng: np.random.Generator,
        committed: Committed | None = None,
    ) -> Decision:
        action = rng.normal(scale=2.0, size=2).astype(np.float32)
        return Decision(action, np.zeros(1, np.float32), action[None])


def controller(
    policy: Constant,
    *,
    ramp_ticks: int = 0,
    hold_ticks: int = 0,
    steps: tuple[float, ...] = (),
    interlock: Interlock | None = None,
) -> Controller:
    normalizer = Normalizer.fit(np.array([[-0.5], [0.5]], np.float32), SPEC)
    inference = Inference(policy, SameThread(), None, lambda: 0)
    inference.seed(3)
    return Controller(
        inference,
        Guards(SPEC, normalizer, GuardLimits(max_steps=steps)),
        Fallback(FallbackRules(SAFE, hold_ns=hold_ticks * PERIOD)),
        interlock or Interlock(),
        hand_back=HandBack(ramp_ticks * PERIOD),
    )


def wants(*values: float) -> Person:
    return Person(Commander.PERSON, np.array(values))


def drive(subject: Controller, persons: list[Person | None], first: int = 0) -> list[Command]:
    """Return the commands of consecutive ticks."""
    return [
        subject.step((first + tick) * PERIOD, SEEN, person) for tick, person in enumerate(persons)
    ]


def sent(commands: list[Command]) -> list[list[float]]:
    return [command.values.tolist() for command in commands if command.values is not None]


def test_who_commands_is_a_table() -> None:
    table = {
        (switch, speaks, back): who_commands(switch, speaks=speaks, silence_hands_back=back)
        for switch, speaks, back in product((None, False, True), (False, True), (False, True))
    }
    person, policy, nobody = Commander.PERSON, Commander.POLICY, Commander.NOBODY
    assert {key: found for key, found in table.items() if key[0] is False} == dict.fromkeys(
        product((False,), (False, True), (False, True)), policy
    )
    assert table[None, True, True] is table[None, True, False] is person
    assert table[None, False, True] is table[None, False, False] is policy
    assert table[True, True, True] is table[True, True, False] is person
    assert table[True, False, True] is policy
    assert table[True, False, False] is nobody


def test_the_policy_yields_in_the_same_tick_and_is_not_asked() -> None:
    policy = Constant()
    subject = controller(policy)
    first, second, third = drive(subject, [POLICY, wants(0.5, 0.5), wants(-9.0, 0.25)])
    assert first.state is State.RUNNING
    assert (second.state, third.state) == (State.TAKEOVER, State.TAKEOVER)
    assert sent([first, second, third]) == [list(POLICYS), [0.5, 0.5], [-2.0, 0.25]]
    assert policy.asked == 1
    assert [trip.guard for trip in third.warnings] == [Guard.CLAMPED_ACTION]
    assert subject.obeyed == 2
    drive(subject, [POLICY], 3)
    assert policy.resets == 1, "it begins with fresh noise when it is asked again"


@pytest.mark.parametrize(("observation", "guard"), [(MISSING, "stale_stream"), (ODD, None)])
def test_the_guards_of_the_observation_watch_and_withhold_nothing(
    observation: Observation, guard: str | None
) -> None:
    subject = controller(Constant())
    command = subject.step(0, observation, wants(0.5, 0.5))
    assert command.state is State.TAKEOVER
    assert [trip.guard.value for trip in command.warnings] == [guard or "non_finite_observation"]
    assert sum(subject.counts.values()) == 1


def test_a_person_who_has_the_switch_and_says_nothing_gets_the_fallback() -> None:
    subject = controller(Constant(), hold_ticks=2)
    commands = drive(subject, [wants(0.5, 0.5), NOBODY, NOBODY, NOBODY, wants(1.0, 0.5)])
    assert [command.state.value for command in commands] == [
        *("takeover", "stale", "stale", "stale", "takeover"),
    ]
    assert sent(commands) == [[0.5, 0.5]] * 3 + [list(SAFE), [1.0, 0.5]]
    assert commands[1].fault is not None
    assert commands[1].fault.guard is Guard.SILENT_PERSON
    assert commands[1].fault.reason == "the link is gone"


def test_nothing_is_sent_before_anybody_commanded() -> None:
    command = controller(Constant()).step(0, SEEN, NOBODY)
    assert (command.state, command.values) == (State.WAITING, None)


def test_the_ramp_begins_at_the_last_command_and_ends_at_the_policys() -> None:
    subject = controller(Constant(), ramp_ticks=4)
    commands = drive(subject, [wants(-0.5, 1.0), *[POLICY] * 6])
    assert [command.state for command in commands[1:]] == [State.RUNNING] * 6
    assert sent(commands) == [
        *([-0.5, 1.0], [-0.5, 1.0], [0.0, 0.5], [0.5, 0.0]),
        *([1.0, -0.5], [1.5, -1.0], [1.5, -1.0]),
    ]


def test_no_ramp_leads_from_the_fallback_or_a_stop() -> None:
    interlock = Interlock()
    subject = controller(Constant(), ramp_ticks=4, interlock=interlock)
    drive(subject, [wants(-0.5, 1.0), POLICY])
    interlock.set_button(True)
    drive(subject, [POLICY], 2)
    interlock.set_button(False)
    interlock.reset()
    assert sent(drive(subject, [POLICY], 3)) == [list(POLICYS)]
    subject.step(4 * PERIOD, MISSING, POLICY)
    assert sent(drive(subject, [POLICY], 5)) == [list(POLICYS)]


def test_a_fault_on_the_ramp_goes_on_from_what_was_sent_and_ends_in_time() -> None:
    subject = controller(Constant(), ramp_ticks=4)
    drive(subject, [wants(-0.5, 1.0), POLICY])
    assert sent([subject.step(2 * PERIOD, MISSING, POLICY)]) == [list(SAFE)]
    rest = sent(drive(subject, [POLICY] * 3, 3))
    np.testing.assert_allclose(rest, [SAFE, np.mean([SAFE, POLICYS], axis=0), POLICYS])


@pytest.mark.parametrize("person", [wants(0.5, 0.5), NOBODY])
def test_stop_and_pause_win_over_a_person(person: Person) -> None:
    interlock = Interlock()
    subject = controller(Constant(), interlock=interlock)
    drive(subject, [wants(0.5, 0.5)])
    interlock.paused = True
    (paused,) = drive(subject, [person], 1)
    assert (paused.state, sent([paused])) == (State.PAUSED, [list(SAFE)])
    interlock.set_button(True)
    (stopped,) = drive(subject, [person], 2)
    assert (stopped.state, sent([stopped])) == (State.STOPPED, [list(SAFE)])


@given(st.integers(0, 20), st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 5)), min_size=1))
def test_the_way_back_lies_between_its_ends_and_is_over_in_time(
    ramp_ns: int, ticks: list[tuple[float, int]]
) -> None:
    back = HandBack(ramp_ns)
    back.prepare()
    begun_ns, now_ns, start = 7, 7, np.float32(1.25)
    last = np.array([start])
    for value, later_ns in ticks:
        action = np.array([value], np.float32)
        given = back.toward(now_ns, action, last)
        low, high = sorted((float(start), float(action[0])))
        assert low <= given[0] <= high
        if now_ns >= begun_ns + ramp_ns:
            assert given is action
        elif now_ns == begun_ns:
            assert given[0] == start
        last, now_ns = given, now_ns + later_ns


def test_a_clock_that_is_set_back_ends_the_way() -> None:
    back, action = HandBack(10), np.ones(1, np.float32)
    back.prepare()
    ways = [back.toward(now, action, np.zeros(1, np.float32))[0] for now in (100, 105, 3, 104)]
    assert ways == [0.0, 0.5, 1.0, 1.0]


values = st.floats(-4, 4, width=32)
persons = st.one_of(
    st.just(None), st.just(POLICY), st.just(NOBODY), st.builds(wants, values, values)
)
moments = st.tuples(
    persons,
    st.sampled_from([SEEN, SEEN, SEEN, MISSING, ODD]),
    st.sampled_from(["", "", "", "", "press", "reset", "pause", "resume"]),
)


def press(interlock: Interlock, button: str) -> None:
    if button in {"press", "reset"}:
        interlock.set_button(button == "press")
    if button == "reset":
        interlock.reset()
    if button in {"pause", "resume"}:
        interlock.paused = button == "pause"


def require_its_commander(
    command: Command, interlock: Interlock, person: Person | None, observation: Observation
) -> None:
    """See that who should decide has: stop, pause, the person, and the policy last."""
    commander = Commander.POLICY if person is None else person.commander
    if interlock.stopped:
        assert command.state is State.STOPPED
        assert sent([command]) == [list(SAFE)]
    elif interlock.paused:
        assert command.state is State.PAUSED
    elif commander is Commander.PERSON:
        assert command.state is State.TAKEOVER
    elif commander is Commander.NOBODY:
        assert command.state in {State.STALE, State.WAITING}
    elif observation is SEEN:
        assert command.state is State.RUNNING
    else:
        assert command.state in {State.STALE, State.WAITING, State.FAULT}
    assert (command.decision is None) == (command.state is not State.RUNNING)


@given(st.lists(moments, max_size=60), st.integers(0, 6), st.integers(0, 3))
def test_no_sequence_breaks_the_bounds_the_rate_or_the_order_of_who_commands(
    happened: list[tuple[Person | None, Observation, str]], ramp_ticks: int, hold_ticks: int
) -> None:
    interlock, last = Interlock(), np.array(SAFE, np.float32)
    subject = controller(
        Random(), ramp_ticks=ramp_ticks, hold_ticks=hold_ticks, steps=STEPS, interlock=interlock
    )
    for tick, (person, observation, button) in enumerate(happened):
        press(interlock, button)
        command = subject.step(tick * PERIOD, observation, person)
        require_its_commander(command, interlock, person, observation)
        if command.values is None:
            continue
        if command.state is State.TAKEOVER and person is not None:
            wanted = np.clip(np.asarray(person.command, np.float32), LOW, HIGH)
            near = np.clip(wanted, last - np.array(STEPS), last + np.array(STEPS))
            np.testing.assert_array_equal(command.values, near.astype(np.float32))
        assert (command.values >= np.array(LOW, np.float32)).all()
        assert (command.values <= np.array(HIGH, np.float32)).all()
        reach = np.full(2, np.inf) if interlock.stopped else np.array(STEPS) * (1 + 1e-6)
        assert (np.abs(command.values - last) <= reach).all()
        last = command.values


@given(st.lists(moments, max_size=60), st.integers(0, 3))
def test_where_nobody_takes_over_every_command_is_what_it_is_without_a_takeover(
    happened: list[tuple[Person | None, Observation, str]], hold_ticks: int
) -> None:
    interlock = Interlock()
    plain, able = (
        controller(
            Random(),
            ramp_ticks=ramp_ticks,
            hold_ticks=hold_ticks,
            steps=STEPS,
            interlock=interlock,
        )
        for ramp_ticks in (0, 5)
    )
    for tick, (_, observation, button) in enumerate(happened):
        press(interlock, button)
        ours = able.step(tick * PERIOD, observation, POLICY)
        theirs = plain.step(tick * PERIOD, observation)
        assert ours.state is theirs.state
        assert (ours.values is None) == (theirs.values is None)
        if ours.values is not None and theirs.values is not None:
            assert ours.values.tobytes() == theirs.values.tobytes()
