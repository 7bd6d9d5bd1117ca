"""Commands that take effect ``delay_s`` after a tick: which is its action, and where none is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.delay import arm, record
from dql_core.errors import ContractError, SpecMismatchError
from dql_ros.bag.reader import Bag
from dql_ros.contract import Contract
from dql_ros.contract.shadow import shadow_streams
from dql_ros.control.agreement import LiveAgreement
from dql_ros.convert.bag_episodes import read_bag_episodes
from dql_ros.convert.recorded_episode import Cause, Interruption, Reason, RecordedEpisode
from dql_ros.sim.faults import LinkFaults
from dql_ros.tools.replay.recorded import RecordedCommands
from tests.ros.convert.fed_assembler import Arrival, Fed

MS = 1_000_000
PERIOD_NS = 20 * MS
START_NS = 10_000 * MS
FLOAT, FLAG = "std_msgs/msg/Float64", "std_msgs/msg/Bool"


def contract(delay_s: float = 0.0, **changes: Any) -> Contract:
    command = {"topic": "command", "type": FLOAT, "max_age_s": 0.2, "delay_s": delay_s}
    document: dict[str, Any] = {
        "robot": "r",
        "rate_hz": 50.0,
        "observation": [
            {"topic": "fast", "type": FLOAT, "max_age_s": 0.1, "fields": [{"path": "data"}]}
        ],
        "action": [{**command, "fields": [{"path": "data", "low": -1e9, "high": 1e9}]}],
        "reward": {"topic": "reward", "type": FLOAT},
        "episode": {"terminated": {"topic": "terminated", "type": FLAG}},
    }
    return Contract.model_validate({**document, **changes})


def recording(
    seconds: float = 2.0, ended_ms: int | None = None, commands_until_ms: int = 10**9
) -> list[Arrival]:
    """States every 20 ms, commands unevenly, and a reward just after each state."""
    rng = np.random.default_rng(0)
    found = []
    for index in range(round(seconds * 50)):
        at_ns = START_NS + index * PERIOD_NS
        found.append(Arrival(at_ns, "observation", "fast", float(index)))
        found.append(Arrival(at_ns + MS, "signal", "reward", float(index)))
    now_ms = 3.0
    while now_ms < min(1000 * seconds - 20, commands_until_ms):
        at_ns = START_NS + round(now_ms * MS)
        found.append(Arrival(at_ns, "action", "command", now_ms))
        now_ms += rng.uniform(5, 45)
    if ended_ms is not None:
        at_ns = START_NS + ended_ms * MS
        found.append(Arrival(at_ns, "signal", "terminated", 1.0))
    return sorted(found, key=lambda each: each.arrived_ns)


def in_force(arrivals: list[Arrival], at_ns: int) -> float:
    """The first command of the period that begins then, else the one before."""
    sent = [each for each in arrivals if each.kind == "action"]
    within = [each for each in sent if at_ns <= each.arrived_ns < at_ns + PERIOD_NS]
    before = [each for each in sent if each.arrived_ns < at_ns]
    return within[0].value if within else before[-1].value


@pytest.mark.parametrize("delay_ms", [0, 7, 20, 43, 100])
def test_the_action_of_a_tick_is_in_force_so_much_later(delay_ms: int) -> None:
    arrivals = recording()
    (episode,) = Fed(contract(delay_ms / 1000), arrivals).episodes
    starts = episode.ticks_ns[:-1].tolist()
    expected = [in_force(arrivals, each + delay_ms * MS) for each in starts]
    assert episode.actions[:, 0].tolist() == expected
    assert episode.observations[:, 0].tolist() == list(range(len(episode) + 1))
    assert episode.rewards is not None
    assert episode.rewards.tolist() == list(range(len(episode)))
    assert episode.ending == Reason(Cause.RECORDING_STOPPED)
    # The last one's period is whole, delay included, when the recording stops.
    last_ns = arrivals[-1].arrived_ns
    assert episode.end_ns + delay_ms * MS <= last_ns < episode.end_ns + PERIOD_NS + delay_ms * MS


@pytest.mark.parametrize("delay_ms", [0, 43])
def test_previous_actions_are_those_of_the_ticks_before(delay_ms: int) -> None:
    """As the node sent them: what is under way to the robot, and takes effect only later."""
    rules = contract(delay_ms / 1000, previous_action=2)
    (episode,) = Fed(rules, recording()).episodes
    _, last, one_before = episode.observations.T
    actions = episode.actions[:, 0]
    assert last[1:].tolist() == actions.tolist()
    assert one_before[2:].tolist() == actions[:-1].tolist()


def test_an_attempt_that_was_too_short_is_no_past_of_the_next() -> None:
    """It ends by a signal before five commands are known, and so before it is an episode."""
    rules = contract(previous_action=5)
    (whole,), (episode,) = (Fed(rules, recording(ended_ms=end)).episodes for end in (None, 90))
    assert whole.start_ns > START_NS + 90 * MS
    assert whole.observations[0, 1:].min() < 90  # a command's value is its time in ms
    assert episode.observations[0, 1:].min() > 90


def test_who_hears_commands_of_another_delay_cannot_know_the_last_ones() -> None:
    contract(0.06).require_known_past("a replay")
    told = contract(0.06, previous_action=1)
    with pytest.raises(ContractError, match=r"^a replay cannot .* set recorded_delay_s to 0\.06$"):
        told.require_known_past("a replay")
    with pytest.raises(ContractError, match=r"^shadow mode cannot observe previous_action"):
        LiveAgreement(told)
    document = told.model_dump(exclude_none=True)
    document["action"][0]["recorded_delay_s"] = 0.06
    LiveAgreement(Contract.model_validate(document))


def test_a_tick_on_commands_lies_before_them() -> None:
    arrivals = recording()
    rules = contract(0.043, tick="action", reward=None)
    (episode,) = Fed(rules, arrivals).episodes
    sent = [each for each in arrivals if each.kind == "action"]
    known = [each for each in sent if each.arrived_ns - 43 * MS >= START_NS]
    assert (
        episode.ticks_ns.tolist()
        == [each.arrived_ns - 43 * MS for each in known][: len(episode) + 1]
    )
    assert episode.actions[:, 0].tolist() == [each.value for each in known[: len(episode)]]


def test_an_end_keeps_its_reward_where_the_recording_goes_on() -> None:
    arrivals = recording(ended_ms=1003)
    plain, delayed = (Fed(contract(delay_s), arrivals).episodes[0] for delay_s in (0.0, 0.06))
    assert delayed.terminated
    assert delayed.ticks_ns.tolist() == plain.ticks_ns.tolist()
    assert delayed.rewards is not None
    assert plain.rewards is not None
    assert delayed.rewards.tolist() == plain.rewards.tolist()
    last_ns = int(delayed.ticks_ns[-2])
    assert delayed.actions[-1, 0] == in_force(arrivals, last_ns + 60 * MS)


def test_an_end_of_which_no_command_is_recorded_is_not_made_up() -> None:
    arrivals = [
        each for each in recording(ended_ms=1003) if each.arrived_ns <= START_NS + 1003 * MS
    ]
    (plain,) = Fed(contract(), arrivals).episodes
    assert plain.terminated
    (delayed,) = Fed(contract(0.06), arrivals).episodes
    assert (delayed.terminated, delayed.truncated) == (False, True)
    assert delayed.end_ns + 60 * MS <= START_NS + 1003 * MS


def test_where_commands_stop_they_are_held_for_as_long_as_without_a_delay() -> None:
    arrivals = recording(commands_until_ms=1000)
    plain, delayed = (Fed(contract(delay_s), arrivals).episodes[0] for delay_s in (0.0, 0.1))
    assert plain.ending == delayed.ending == Reason(Cause.NO_COMMAND, ("command",))
    assert plain.end_ns - delayed.end_ns == 100 * MS


def test_an_interruption_is_an_end_of_the_recording() -> None:
    arrivals = recording()
    cut_ns = START_NS + 1000 * MS
    cut = Interruption(cut_ns, cut_ns, Reason(Cause.CLOCK, ("set back",)))
    first, second = Fed(contract(0.06), arrivals, interruptions=[cut]).episodes
    assert first.end_ns + 60 * MS <= cut_ns
    assert second.start_ns >= cut_ns
    assert second.actions[0, 0] == in_force(arrivals, second.start_ns + 60 * MS)


def test_what_recorded_commands_took_counts_against_it() -> None:
    arrivals = recording()
    both, less, none = (
        Fed(with_recorded(0.06, recorded_s), arrivals).episodes[0]
        for recorded_s in (0.06, 0.05, 0.0)
    )
    (plain,) = Fed(contract(), arrivals).episodes
    assert both.actions.tolist() == plain.actions.tolist()
    assert less.actions.tolist() == Fed(contract(0.01), arrivals).episodes[0].actions.tolist()
    assert none.actions.tolist() == Fed(contract(0.06), arrivals).episodes[0].actions.tolist()
    specs = [with_recorded(0.06, recorded_s).policy_spec() for recorded_s in (0.0, 0.06)]
    specs[0].require_fits(specs[1], "the contract", "the policy")
    with pytest.raises(ValueError, match=r"(?s)recorded_delay_s.*more than delay_s, 0\.06"):
        with_recorded(0.06, 0.07)


def with_recorded(delay_s: float, recorded_s: float) -> Contract:
    document = contract(delay_s).model_dump(exclude_none=True)
    document["action"][0]["recorded_delay_s"] = recorded_s
    return Contract.model_validate(document)


def test_streams_have_delays_of_their_own() -> None:
    document = contract(0.04).model_dump(exclude_none=True)
    other = {**document["action"][0], "topic": "gripper", "delay_s": 0.0}
    rules = Contract.model_validate({**document, "action": [*document["action"], other]})
    arrivals = recording()
    twice = [
        copy
        for each in arrivals
        for copy in ([each, each._replace(name="gripper")] if each.kind == "action" else [each])
    ]
    (episode,) = Fed(rules, twice).episodes
    for row, tick_ns in zip(episode.actions, episode.ticks_ns.tolist(), strict=False):
        assert row[0] == in_force(arrivals, tick_ns + 40 * MS)
        assert row[1] == in_force(arrivals, tick_ns)


def test_a_delay_is_a_part_of_what_an_action_means() -> None:
    none, zero, some = contract(), contract(0.0), contract(0.04)
    assert none.hash() == zero.hash() != some.hash()
    assert zero.policy_spec() == none.policy_spec()
    assert zero.policy_spec().action[0].source == {
        key: value
        for key, value in (some.policy_spec().action[0].source or {}).items()
        if key != "delay_s"
    }
    with pytest.raises(SpecMismatchError, match=r"delay_s"):
        some.policy_spec().require_fits(none.policy_spec(), "the contract", "the policy")
    for shadow in shadow_streams(some.action):
        assert shadow.delay_s == shadow.lookahead_ns == 0


@pytest.mark.parametrize("delay_s", [-0.01, 10.5, float("nan"), float("inf")])
def test_a_delay_that_no_robot_has_is_refused(delay_s: float) -> None:
    with pytest.raises(ValueError, match="delay_s"):
        contract(delay_s)


def test_a_replay_shows_beside_a_tick_what_a_conversion_makes_its_action(tmp_path: Path) -> None:
    robot = arm(tmp_path)
    record(tmp_path / "bag", robot, LinkFaults(), seconds=4.0)
    document = robot.contract.model_dump(exclude_none=True) | {"rate_hz": 50.0}
    document["action"][0]["delay_s"] = 0.043
    rules = Contract.model_validate(document)
    episodes: list[RecordedEpisode] = []
    with Bag(tmp_path / "bag") as bag:
        read_bag_episodes(bag, rules, "/", episodes.append)
        commands = RecordedCommands(bag, rules, "/")
        for batch in bag.batches(commands.topics):
            for block in batch.blocks:
                commands.visit(block)
        (episode,) = episodes
        shown = commands.at(episode.ticks_ns[:-1])
        # So long before the end, what a conversion would make their actions was not recorded.
        ages_ns = 43 * MS + np.array([1, 0, -1, -10 * MS, -42 * MS])
        late = commands.at(bag.end_ns - ages_ns)[:, 0]
    np.testing.assert_array_equal(shown, episode.actions)
    np.testing.assert_array_equal(np.isnan(late), [False, False, True, True, True])
    assert len(np.unique(episode.actions[:, 0])) > 50
