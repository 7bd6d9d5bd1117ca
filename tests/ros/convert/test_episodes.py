from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dql_ros.contract import Contract
from dql_ros.convert.alignment import AlignedRows, Alignment
from dql_ros.convert.columns import Times
from dql_ros.convert.recorded_episode import Cause, RecordedEpisode
from tests.ros.convert.fed_assembler import Arrival, Fed

PERIOD = 100_000_000
STOPPED = Cause.RECORDING_STOPPED.value
DOCUMENT: dict[str, Any] = {
    "robot": "cart",
    "rate_hz": 10.0,
    "observation": [
        {
            "topic": "state",
            "type": "std_msgs/msg/Float64",
            "stamp": "receive",
            "max_age_s": 0.15,
            "fields": [{"path": "data"}],
        },
    ],
    "action": [
        {
            "topic": "command",
            "type": "std_msgs/msg/Float64",
            "max_age_s": 0.15,
            "fields": [{"path": "data", "low": -1e9, "high": 1e9}],
        }
    ],
}
GOAL = {
    "topic": "goal",
    "type": "std_msgs/msg/Float64",
    "stamp": "receive",
    "latched": True,
    "fields": [{"path": "data"}],
}
FLAG = "std_msgs/msg/Bool"
SIGNALS: dict[str, Any] = {
    "reward": {"topic": "reward", "type": "std_msgs/msg/Float64"},
    "episode": {
        "terminated": {"topic": "terminated", "type": FLAG},
        "truncated": {"topic": "truncated", "type": FLAG},
    },
}


def contract(*, goal: bool = False, **changes: Any) -> Contract:
    observation = [*DOCUMENT["observation"], *([GOAL] if goal else [])]
    return Contract.model_validate({**DOCUMENT, "observation": observation, **changes})


def arrival(seconds: float, name: str, value: float) -> Arrival:
    kinds = {"state": "observation", "goal": "observation", "command": "action"}
    kind = "event" if name in {"start", "stop", "during"} else kinds.get(name, "signal")
    return Arrival(round(seconds * 1e9), kind, name, value)


def assemble(rules: Contract, *events: tuple[float, str, float]) -> Fed:
    """Feed (time in s, topic, value), in the order of time and as given among equal times."""
    arrivals = [arrival(*event) for event in sorted(events, key=lambda event: event[0])]
    return Fed(rules, arrivals)


def only(assembler: Fed) -> RecordedEpisode:
    (episode,) = assembler.episodes
    return episode


def lockstep(first: int, steps: int, ending: str = "") -> list[tuple[float, str, float]]:
    """What a lockstep episode of ``steps`` transitions logs, at the ticks themselves."""
    events: list[tuple[float, str, float]] = []
    for tick in range(first, first + steps + 1):
        now, is_last = tick / 10, tick == first + steps
        if tick > first:
            events.append((now, "reward", 10 * tick))
            events.append((now, "terminated", float(is_last and ending == "terminated")))
            events.append((now, "truncated", float(is_last and ending == "truncated")))
        events.append((now, "state", tick))
        if not is_last:
            events.append((now, "command", 100 * tick))
    return events


def test_a_lockstep_episode_comes_out_as_it_was() -> None:
    episode = only(assemble(contract(**SIGNALS), *lockstep(3, 4, "terminated")))
    assert episode.observations.ravel().tolist() == [3, 4, 5, 6, 7]
    assert episode.actions.ravel().tolist() == [300, 400, 500, 600]
    assert episode.rewards is not None
    assert episode.rewards.tolist() == [40, 50, 60, 70]
    assert (episode.terminated, episode.truncated, str(episode.ending)) == (
        True,
        False,
        "terminated",
    )
    assert (episode.start_ns, episode.end_ns) == (3 * PERIOD, 7 * PERIOD)


def test_one_recording_holds_many_episodes_and_their_ends_are_told_apart() -> None:
    endings = ["terminated", "truncated", "terminated", ""]
    events, first = [], 0
    for steps, ending in zip((3, 1, 2, 4), endings, strict=True):
        events += lockstep(first, steps, ending)
        first += steps + 1
    assembler = assemble(contract(**SIGNALS), *events)
    assert [len(episode) for episode in assembler.episodes] == [3, 1, 2, 4]
    assert [episode.terminated for episode in assembler.episodes] == [True, False, True, False]
    assert [episode.truncated for episode in assembler.episodes] == [False, True, False, True]
    assert [str(episode.ending) for episode in assembler.episodes] == [*endings[:3], STOPPED]
    assert [episode.observations[0, 0] for episode in assembler.episodes] == [0, 4, 6, 9]
    assert all(span.is_between for span in assembler.skipped)


def test_command_that_answers_an_episodes_last_state_is_not_the_next_ones_first() -> None:
    events = [*lockstep(0, 2, "truncated"), (0.2, "command", -1), *lockstep(3, 1, "truncated")]
    second = assemble(contract(**SIGNALS), *events).episodes[1]
    assert second.actions.ravel().tolist() == [300]


def test_goal_is_kept_over_episodes_until_a_new_one_arrives() -> None:
    rules = contract(goal=True, **SIGNALS)
    events = [(0.0, "goal", 7), *lockstep(0, 1, "terminated"), *lockstep(2, 1, "terminated")]
    events += [(0.4, "goal", 8), *lockstep(4, 1, "terminated")]
    goals = [episode.observations[:, 1].tolist() for episode in assemble(rules, *events).episodes]
    assert goals == [[7, 7], [7, 7], [8, 8]]


def test_recording_that_stops_is_truncated_and_keeps_its_last_observation() -> None:
    events = [(i / 10, topic, i) for i in range(5) for topic in ("state", "command")]
    episode = only(assemble(contract(), *events))
    assert len(episode) == 4
    assert episode.observations.ravel().tolist() == [0, 1, 2, 3, 4]
    assert (episode.terminated, episode.truncated, str(episode.ending)) == (False, True, STOPPED)
    assert episode.rewards is None


def test_terminal_transition_is_kept_if_the_recording_stops_within_its_period() -> None:
    events = [*lockstep(0, 2)[:-1], (0.25, "reward", 5), (0.25, "terminated", 1)]
    events.append((0.2, "command", 200))
    episode = only(assemble(contract(**SIGNALS), *events))
    assert len(episode) == 3
    assert episode.terminated
    assert episode.end_ns == 250_000_000


def test_what_comes_before_all_streams_are_there_is_left_out_and_said() -> None:
    events = [(i / 10, topic, i) for i in range(10) for topic in ("state", "command")]
    assembler = assemble(contract(goal=True), *events, (0.43, "goal", 1))
    episode = only(assembler)
    assert episode.start_ns == 430_000_000
    assert episode.observations[:, 0].tolist() == [4, 5, 6, 7, 8]
    assert episode.actions.ravel().tolist() == [5, 6, 7, 8]
    (before, after) = assembler.skipped
    assert (before.start_ns, before.end_ns, before.reason) == (0, 430_000_000, "no goal")
    assert after.reason == STOPPED


def test_a_gap_splits_the_episode_and_is_never_bridged() -> None:
    events = [(i / 10, "command", i) for i in range(20)]
    events += [(i / 10, "state", i) for i in range(20) if not 6 <= i < 12]
    assembler = assemble(contract(), *events)
    first, second = assembler.episodes
    assert first.observations.ravel().tolist() == [0, 1, 2, 3, 4, 5, 5]  # held for 0.1 s
    assert str(first.ending) == "no state for too long"
    assert (first.terminated, first.truncated) == (False, True)
    assert second.observations.ravel().tolist() == list(range(12, 20))
    assert second.actions.ravel().tolist() == list(range(12, 19))
    assert [span.reason for span in assembler.skipped] == ["no state for too long"]


def test_interval_without_a_command_in_force_ends_the_episode() -> None:
    events = [(i / 10, "state", i) for i in range(20)]
    events += [(i / 10, "command", i) for i in range(20) if not 6 <= i < 12]
    assembler = assemble(contract(), *events)
    first, second = assembler.episodes
    assert first.actions.ravel().tolist() == [0, 1, 2, 3, 4, 5, 5]
    assert str(first.ending) == "no command on command"
    assert second.actions.ravel().tolist() == list(range(12, 19))
    assert second.observations[0] == 12


def test_missing_reward_is_never_taken_for_zero() -> None:
    events = [event for event in lockstep(0, 6, "terminated") if event[:2] != (0.3, "reward")]
    first, second = assemble(contract(**SIGNALS), *events).episodes
    assert (len(first), str(first.ending), first.truncated) == (2, "no reward", True)
    assert (len(second), second.terminated) == (3, True)
    assert second.rewards is not None
    assert second.rewards.tolist() == [40, 50, 60]


def test_rewards_of_one_interval_add_up() -> None:
    events = [*lockstep(0, 2, "truncated"), (0.05, "reward", 0.5)]
    episode = only(assemble(contract(**SIGNALS), *events))
    assert episode.rewards is not None
    assert episode.rewards.tolist() == [10.5, 20]


def test_short_episodes_are_dropped_and_said() -> None:
    rules = contract(**{**SIGNALS, "episode": {**SIGNALS["episode"], "min_length": 3}})
    assembler = assemble(rules, *lockstep(0, 2, "terminated"), *lockstep(3, 3, "terminated"))
    assert len(only(assembler)) == 3
    assert "episode of 2 transitions, shorter than min_length 3" in [
        span.reason for span in assembler.skipped
    ]


def test_message_that_is_stamped_before_the_tick_but_arrives_after_it_is_not_used() -> None:
    def measured(tick: int) -> Arrival:
        # At the tick, received 8 ms later: at the tick only the one before was known.
        now = tick * PERIOD
        return Arrival(now + 8_000_000, "observation", "state", tick, now)

    sent = [arrival(tick / 10, "command", 0) for tick in range(4)]
    both = sorted([*sent, *map(measured, range(4))])
    assert only(Fed(contract(), both)).start_ns == 8_000_000
    both = sorted([arrival(0, "state", -1), *sent[1:], *map(measured, range(1, 4))])
    assert only(Fed(contract(), both)).observations.ravel().tolist() == [-1, 1, 2]


@given(
    states=st.lists(st.integers(0, 3_000_000_000), min_size=1, max_size=40, unique=True),
    commands=st.lists(st.integers(0, 3_000_000_000), min_size=1, max_size=40, unique=True),
)
def test_no_transition_holds_anything_from_after_it_or_too_old(
    states: list[int], commands: list[int]
) -> None:
    sent = [Arrival(time, "observation", "state", time) for time in states]
    sent += [Arrival(time, "action", "command", time) for time in commands]
    assembler = Fed(contract(), sorted(sent))
    for episode in assembler.episodes:
        ticks = episode.start_ns + PERIOD * np.arange(len(episode) + 1)
        assert episode.end_ns == ticks[-1]
        for tick, seen in zip(ticks, episode.observations[:, 0], strict=True):
            known = [time for time in states if time <= tick]
            assert seen == max(known)
            assert tick - max(known) <= 150_000_000
        for tick, action in zip(ticks[:-1], episode.actions[:, 0], strict=True):
            within = [time for time in commands if tick <= time < tick + PERIOD]
            expected = min(within) if within else max(time for time in commands if time < tick)
            assert action == expected
            assert expected >= tick - 150_000_000
    spans = sorted(
        [(episode.start_ns, episode.end_ns) for episode in assembler.episodes]
        + [(span.start_ns, span.end_ns) for span in assembler.skipped]
    )
    assert all(left[1] <= right[0] for left, right in pairwise(spans))


@pytest.mark.parametrize("steps", [1, 2])
def test_nothing_is_made_of_a_recording_without_a_whole_transition(steps: int) -> None:
    events = [(0.0, "state", 1.0), (0.0, "command", 1.0)]
    assert assemble(contract(), *events[:steps]).episodes == []


def test_the_command_held_at_the_tick_may_be_chosen_instead_of_the_first_after_it() -> None:
    events = [(i / 10, "state", i) for i in range(5)]
    events += [(i / 10 + 0.05, "command", i) for i in range(-1, 4)]
    held = [{**DOCUMENT["action"][0], "command": "held"}]
    assert only(assemble(contract(action=held), *events)).actions.ravel().tolist() == [-1, 0, 1, 2]
    assert only(assemble(contract(), *events)).actions.ravel().tolist() == [0, 1, 2, 3]


def test_reward_of_a_tick_may_be_sent_as_it_begins() -> None:
    begun = {**SIGNALS, "reward": {**SIGNALS["reward"], "tick": "begun"}}
    events = [(i / 10, topic, i) for i in range(5) for topic in ("state", "command", "reward")]
    rewards = [only(assemble(contract(**rules), *events)).rewards for rules in (begun, SIGNALS)]
    assert [None if each is None else each.tolist() for each in rewards] == [
        [0, 1, 2, 3],
        [1, 2, 3, 4],
    ]


def test_the_commands_own_times_may_be_the_ticks() -> None:
    times = [0.013, 0.12, 0.2, 0.34, 0.6, 0.7]
    events = [(i / 100, "state", i) for i in range(90)]
    events += [(time, "command", index) for index, time in enumerate(times)]
    assembler = assemble(contract(tick="action"), *events)
    first, second = assembler.episodes
    assert first.observations.ravel().tolist() == [1, 12, 20, 34]
    assert first.actions.ravel().tolist() == [0, 1, 2]
    assert str(first.ending) == "no usable tick for too long"
    assert second.observations.ravel().tolist() == [60, 70]
    assert second.actions.ravel().tolist() == [4]


def test_an_end_after_the_last_command_gives_the_terminal_observation() -> None:
    events = [(i / 100, "state", i) for i in range(60)]
    events += [(0.1, "command", 1), (0.2, "command", 2), (0.25, "terminated", 1)]
    rules = contract(tick="action", episode=SIGNALS["episode"])
    episode = only(assemble(rules, *events))
    assert episode.observations.ravel().tolist() == [10, 20, 25]
    assert episode.actions.ravel().tolist() == [1, 2]
    assert episode.terminated


MARKERS: dict[str, Any] = {
    name: {"topic": name, "type": FLAG, "path": "data"} for name in ("start", "stop", "during")
}

RUN: list[tuple[float, str, float]] = [
    (i / 10, topic, i) for i in range(20) for topic in ("state", "command")
]


def test_markers_say_when_an_episode_runs() -> None:
    rules = contract(episode={name: MARKERS[name] for name in ("start", "stop")})
    events = [*RUN, (0.25, "start", 1), (0.65, "stop", 1), (1.2, "start", 1), (1.6, "stop", 1)]
    first, second = assemble(rules, *events).episodes
    assert (first.start_ns, first.end_ns) == (250_000_000, 650_000_000)
    assert first.observations.ravel().tolist() == [2, 3, 4, 5, 6]
    assert first.actions.ravel().tolist() == [3, 4, 5, 6]
    assert (first.truncated, str(first.ending)) == (True, "ended by the stop event")
    assert second.observations.ravel().tolist() == [12, 13, 14, 15, 16]


def test_a_state_says_when_an_episode_runs() -> None:
    rules = contract(episode={"during": MARKERS["during"]})
    states = [(0.0, 0), (0.2, 1), (0.4, 1), (0.8, 0), (0.9, 0), (1.5, 1)]
    first, second = assemble(rules, *RUN, *((t, "during", v) for t, v in states)).episodes
    assert (first.start_ns, first.end_ns) == (200_000_000, 800_000_000)
    assert (second.start_ns, str(second.ending)) == (1_500_000_000, STOPPED)


def test_a_start_without_a_stop_separates_episodes() -> None:
    rules = contract(episode={"start": MARKERS["start"]})
    first, second = assemble(rules, *RUN, (0.5, "start", 1), (1.0, "start", 1)).episodes
    assert first.observations.ravel().tolist() == [5, 6, 7, 8, 9, 10]
    assert second.observations.ravel().tolist() == list(range(10, 20))


def test_after_its_end_an_episode_waits_for_the_next_start() -> None:
    rules = contract(
        episode={"start": MARKERS["start"], "terminated": SIGNALS["episode"]["terminated"]}
    )
    events = [*RUN, (0.2, "start", 1), (0.5, "terminated", 1), (1.5, "start", 1)]
    first, second = assemble(rules, *events).episodes
    assert (first.terminated, first.end_ns) == (True, 500_000_000)
    assert second.start_ns == 1_500_000_000


def test_task_that_ends_just_before_the_stop_is_terminated() -> None:
    rules = contract(
        episode={
            "start": MARKERS["start"],
            "stop": MARKERS["stop"],
            "terminated": SIGNALS["episode"]["terminated"],
        }
    )
    events = [*RUN, (0.2, "start", 1), (0.52, "terminated", 1), (0.54, "stop", 1)]
    episode = only(assemble(rules, *events))
    assert (episode.terminated, episode.end_ns) == (True, 540_000_000)


NAN = float("nan")


def test_a_value_that_is_no_number_splits_the_episode() -> None:
    events = [event for event in RUN if event[:2] not in {(0.5, "state"), (1.2, "command")}]
    events += [(0.5, "state", NAN), (1.2, "command", NAN)]
    assembler = assemble(contract(nonfinite="split"), *events)
    assert [episode.observations.ravel().tolist() for episode in assembler.episodes] == [
        [0, 1, 2, 3, 4],
        [6, 7, 8, 9, 10, 11, 12],
        [13, 14, 15, 16, 17, 18, 19],
    ]
    assert [str(episode.ending) for episode in assembler.episodes[:2]] == [
        "no finite value on state",
        "no finite value on command",
    ]
    assert assembler.split_nonfinite == 2


def test_numbers_that_stay_away_split_one_episode_however_many_ticks_they_take() -> None:
    events = [event for event in RUN if event[1] != "command" or not 0.5 <= event[0] < 0.95]
    events += [(i / 10, "command", NAN) for i in range(5, 10)]
    assembler = assemble(contract(nonfinite="split"), *events)
    assert [len(episode) for episode in assembler.episodes] == [5, 9]
    assert assembler.split_nonfinite == 1


def test_a_tick_without_a_number_may_be_dropped_and_the_episode_goes_on() -> None:
    events = [event for event in RUN if event[:2] not in {(0.5, "state"), (1.2, "command")}]
    events += [(0.5, "state", NAN), (1.2, "command", NAN)]
    assembler = assemble(
        contract(nonfinite="drop", reward=SIGNALS["reward"]),
        *events,
        *[(i / 10, "reward", i) for i in range(20)],
    )
    kept = [i for i in range(20) if i not in {5, 12}]
    episode = only(assembler)
    assert episode.observations.ravel().tolist() == kept
    assert episode.actions.ravel().tolist() == kept[:-1]
    assert episode.rewards is not None
    assert episode.rewards.tolist()[3:6] == [4, 5 + 6, 7]
    assert assembler.dropped_ticks == 2


def test_no_transition_reaches_over_ticks_dropped_for_too_long() -> None:
    events = [event for event in RUN if not 0.5 <= event[0] < 0.9 or event[1] == "command"]
    events += [(i / 10, "state", NAN) for i in range(5, 9)]
    first, second = assemble(contract(nonfinite="drop"), *events).episodes
    assert first.observations.ravel().tolist() == [0, 1, 2, 3, 4]
    assert second.observations.ravel().tolist() == list(range(9, 20))


@pytest.mark.parametrize("lacking", ["command", "reward", "state"])
def test_pauses_of_one_topic_cost_no_more_than_their_ticks(
    lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is looked at grows with the recording, not with its square."""
    looked = 0
    observation_at = Alignment.observation_at

    def counted(alignment: Alignment, ticks_ns: Times) -> AlignedRows:
        nonlocal looked
        looked += len(ticks_ns)
        return observation_at(alignment, ticks_ns)

    monkeypatch.setattr(Alignment, "observation_at", counted)
    ticks = 20_000
    events = [
        (tick / 10, topic, float(tick))
        for tick in range(ticks)
        for topic in ("state", "command", "reward")
        if topic != lacking or tick < 20 or tick > ticks - 20
    ]
    found = assemble(contract(reward=SIGNALS["reward"]), *events)
    # A transition is rewarded when it has ended.
    second = ticks - (20 if lacking == "reward" else 19)
    assert [each.observations[0, 0] for each in found.episodes] == [0, second]
    (pause,) = [span for span in found.skipped if span.end_ns - span.start_ns > 10 * PERIOD]
    assert lacking in pause.reason
    assert looked < 6 * ticks
