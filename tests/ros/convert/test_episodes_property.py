"""Random recordings: the converter's arrays against the plain assembler, whole and in pieces."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from dql_core.streams import CLOCK_JUMP_NS
from dql_ros.contract import Contract
from tests.ros.convert.fed_assembler import Arrival, Fed, naive

pytestmark = pytest.mark.slow

STEP_NS = 10_000_000
FLOAT, FLAG = "std_msgs/msg/Float64", "std_msgs/msg/Bool"
FIELD = {"fields": [{"path": "data"}], "type": FLOAT}
COMMAND = {"fields": [{"path": "data", "low": -1e9, "high": 1e9}], "type": FLOAT}
KINDS = {
    "fast": "observation",
    "slow": "observation",
    "goal": "observation",
    "command": "action",
    "gripper": "action",
    "reward": "signal",
    "terminated": "signal",
    "truncated": "signal",
    "start": "event",
    "stop": "event",
    "during": "event",
}


@st.composite
def contracts(draw: DrawFn, *, has_past: bool = False) -> Contract:
    """Rules in which all that can be said about alignment and episodes occurs."""
    observation: list[dict[str, Any]] = [
        {"topic": "fast", "max_age_s": draw(st.sampled_from([0.03, 0.05])), **FIELD}
    ]
    if draw(st.booleans()):
        observation.append({"topic": "slow", "max_age_s": 0.1, **FIELD})
    if draw(st.booleans()):
        observation.append({"topic": "goal", "latched": True, **FIELD})
    action = [
        {"topic": topic, "max_age_s": age, "command": draw(st.sampled_from(["first", "held"]))}
        for topic, age in [("command", 0.04), ("gripper", 0.2)][: draw(st.integers(1, 2))]
    ]
    gate = draw(st.sampled_from([(), ("start",), ("stop",), ("start", "stop"), ("during",)]))
    episode: dict[str, Any] = {
        name: {"topic": name, "type": FLAG, "path": "data"} for name in gate
    }
    for name in ("terminated", "truncated"):
        if draw(st.booleans()):
            episode[name] = {"topic": name, "type": FLAG}
    document: dict[str, Any] = {
        "robot": "r",
        "rate_hz": 50.0,
        "observation": observation,
        "action": [{**each, **COMMAND} for each in action],
        "episode": {**episode, "min_length": draw(st.integers(1, 2))},
    }
    if has_past:
        document["previous_action"] = draw(st.integers(0, 2))
        for stream in observation[: len(observation) - ("latched" in observation[-1])]:
            stream["history"] = draw(st.integers(1, 3))
            if stream["history"] > 1 and draw(st.booleans()):
                stream["every_s"] = draw(st.sampled_from([0.005, 0.03, 0.05]))
    if draw(st.booleans()):
        tick, combine = (
            draw(st.sampled_from(["ended", "begun"])),
            draw(st.sampled_from(["sum", "last"])),
        )
        document["reward"] = {"topic": "reward", "type": FLOAT, "tick": tick, "combine": combine}
    return Contract.model_validate(document)


@st.composite
def recordings(draw: DrawFn, rules: Contract) -> list[Arrival]:
    """Messages at small and equal distances, with pauses, odd stamps, and flags that are rare."""
    names = [stream.topic for stream in (*rules.observation, *rules.action)]
    names += [*rules.signals, *rules.events]
    weights = [n for n in names for _ in range(1 if KINDS[n] in {"event", "signal"} else 4)]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count, now = draw(st.integers(0, 120)), 5 * CLOCK_JUMP_NS
    arrivals = []
    for index in range(count):
        now += (
            STEP_NS // 4 * int(rng.choice([0, 1, 2, 3, 4, 40], p=[0.4, 0.2, 0.15, 0.1, 0.1, 0.05]))
        )
        name = str(rng.choice(weights))
        kind = KINDS[name]
        flag = name not in {"reward", *(n for n in names if kind in {"observation", "action"})}
        value = float(rng.random() < 0.4) if flag else float(index)
        stamp = None
        if kind == "observation" and rng.random() < 0.3:
            stamp = now + int(rng.integers(-3, 4)) * STEP_NS // 2
            stamp -= 2 * CLOCK_JUMP_NS * int(rng.random() < 0.05)
        arrivals.append(Arrival(now, kind, name, value, stamp))
    return arrivals


@pytest.mark.parametrize("has_past", [False, True])
@settings(deadline=None, max_examples=300)
@given(st.data())
def test_arrays_and_messages_give_the_same_episodes(has_past: bool, data: st.DataObject) -> None:
    rules = data.draw(contracts(has_past=has_past))
    arrivals = data.draw(recordings(rules))
    if has_past:  # live, what was received is at least as old as that
        arrivals = [
            each._replace(stamp_ns=min(each.time_ns, each.arrived_ns)) for each in arrivals
        ]
    cuts = data.draw(st.lists(st.integers(0, len(arrivals)), max_size=6))
    expected = naive(rules, arrivals)
    for fed in (Fed(rules, arrivals), Fed(rules, arrivals, cuts)):
        assert [e.ending for e in fed.episodes] == [e.ending for e in expected.episodes]
        for ours, theirs in zip(fed.episodes, expected.episodes, strict=True):
            np.testing.assert_array_equal(ours.ticks_ns, theirs.ticks_ns)
            assert (ours.terminated, ours.truncated) == (theirs.terminated, theirs.truncated)
            np.testing.assert_array_equal(ours.observations, theirs.observations)
            np.testing.assert_array_equal(ours.actions, theirs.actions)
            np.testing.assert_array_equal(
                np.asarray(ours.rewards, float), np.asarray(theirs.rewards, float)
            )
        assert fed.ages_ns == expected.ages_ns
        assert fed.skipped == expected.skipped


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_how_a_recording_is_divided_for_reading_changes_nothing(data: st.DataObject) -> None:
    rules = data.draw(contracts(has_past=data.draw(st.booleans())))
    arrivals = data.draw(recordings(rules))
    changes = {
        "tick": data.draw(st.sampled_from(["grid", "action"])),
        "nonfinite": data.draw(st.sampled_from(["drop", "split"])),
    }
    document = {**rules.model_dump(exclude_none=True), **changes}
    if data.draw(st.booleans()):
        document["action"][0].update(stamp="header", max_skew_s=0.02)
        arrivals = [
            each._replace(stamp_ns=each.arrived_ns - STEP_NS // 2 * (index % 3))
            if each.name == "command"
            else each
            for index, each in enumerate(arrivals)
        ]
    for stream in document["action"]:
        stream["delay_s"] = data.draw(st.sampled_from([0.0, 0.015, 0.06]))
        stream["recorded_delay_s"] = stream["delay_s"] / data.draw(st.sampled_from([1, 2]))
    bad = data.draw(st.sets(st.integers(0, 120), max_size=15))
    arrivals = [
        each._replace(value=np.nan)
        if index in bad and each.kind in {"observation", "action"}
        else each
        for index, each in enumerate(arrivals)
    ]
    cuts = data.draw(st.lists(st.integers(0, len(arrivals)), max_size=6))
    rules = Contract.model_validate(document)
    whole, pieces = Fed(rules, arrivals), Fed(rules, arrivals, cuts)
    assert len(whole.episodes) == len(pieces.episodes)
    for ours, theirs in zip(whole.episodes, pieces.episodes, strict=True):
        assert ours.ending == theirs.ending
        np.testing.assert_array_equal(ours.ticks_ns, theirs.ticks_ns)
        assert np.isfinite(ours.observations).all()
        assert np.isfinite(ours.actions).all()
        np.testing.assert_array_equal(ours.observations, theirs.observations)
        np.testing.assert_array_equal(ours.actions, theirs.actions)
    assert whole.ages_ns == pieces.ages_ns
    assert whole.skipped == pieces.skipped
    assert whole.dropped_ticks == pieces.dropped_ticks
    assert whole.split_nonfinite == pieces.split_nonfinite
