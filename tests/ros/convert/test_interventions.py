"""Whose each action is: paired with the commands, and written into the dataset's infos."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dql_core.data.dataset import load_dataset
from dql_core.data.relabel import relabel
from dql_core.errors import BagError
from dql_core.rewards.call import RewardFunction
from dql_core.streams import CLOCK_JUMP_NS
from dql_ros.contract import Contract
from dql_ros.convert.convert import ConvertOptions, Source, convert
from dql_ros.tools.contract_check import check_bag
from tests.ros.convert.fed_assembler import Arrival, Fed
from tests.ros.convert.test_convert import ARM, BOOL, PERIOD, Message, Robot
from tests.ros.convert.test_episodes_property import FLOAT, STEP_NS, contracts, recordings

TAKEOVER = {"topics": ["teleop"]}
START = 5 * CLOCK_JUMP_NS
RULES: dict[str, Any] = {
    "robot": "r",
    "rate_hz": 50.0,
    "observation": [{"topic": "state", "type": FLOAT, "fields": [{"path": "data"}]}],
    "action": [
        {"topic": "command", "type": FLOAT, "fields": [{"path": "data", "low": -9, "high": 9}]}
    ],
    "takeover": TAKEOVER,
}
DT = 20_000_000


def rules(**action: Any) -> Contract:
    document = {**RULES, "action": [RULES["action"][0] | action]}
    return Contract.model_validate(document)


def flag(arrived_ns: int, is_persons: bool) -> Arrival:
    return Arrival(arrived_ns, "info", "intervention", float(is_persons))


def recording(persons: list[bool], phase_ns: int, offset_ns: int, stamped: bool) -> list[Arrival]:
    """A state at each period, a command later within it, and whose it is beside the command."""
    arrivals = []
    for tick, is_persons in enumerate(persons):
        now = START + tick * DT
        command = now + phase_ns
        arrivals.append(Arrival(now, "observation", "state", float(tick)))
        stamp = command - 100_000 if stamped else None
        arrivals.append(Arrival(command, "action", "command", float(tick % 5), stamp))
        arrivals.append(flag(command + offset_ns, is_persons))
    arrivals.append(Arrival(START + len(persons) * DT, "observation", "state", 0.0))
    return sorted(arrivals, key=lambda each: each.arrived_ns)


@pytest.mark.parametrize("tick", ["grid", "action"])
@pytest.mark.parametrize("command", ["first", "held"])
@pytest.mark.parametrize("offset_ns", [-200_000, 0, 200_000, 5_000_000])
@pytest.mark.parametrize("stamped", [False, True])
def test_who_commanded_is_that_of_the_very_command(
    tick: str, command: str, offset_ns: int, stamped: bool
) -> None:
    """Also where the two messages come in the other order, or on either side of a tick."""
    action = {"command": command, "stamp": "header" if stamped else "receive"}
    contract = rules(**action).model_copy(update={"tick": tick})
    persons = [each in {4, 5, 6, 11} for each in range(20)]
    for phase_ns in (150_000, 7_000_000, DT - 150_000):
        fed = Fed(contract, recording(persons, phase_ns, offset_ns, stamped))
        (episode,) = fed.episodes
        # What each action is a command of, by its value.
        said = episode.interventions
        assert said is not None
        times = episode.ticks_ns[:-1]
        for action_value, time_ns, found in zip(episode.actions[:, 0], times, said, strict=True):
            around = (time_ns - START) // DT
            near = range(max(0, around - 1), min(len(persons), around + 2))
            (sent,) = (each for each in near if each % 5 == action_value)
            assert found == persons[sent], (phase_ns, sent)


def test_where_nobody_said_it_for_too_long_it_is_not_known() -> None:
    arrivals = recording([True] * 40, 5_000_000, 1000, stamped=False)
    silent = [each for each in arrivals if each.kind != "info" or each.arrived_ns < START + 5 * DT]
    (episode,) = Fed(rules(max_age_s=0.2), silent).episodes
    assert episode.interventions is not None
    assert episode.interventions.tolist() == [1] * 14 + [-1] * 26
    (never,) = Fed(rules(), [each for each in arrivals if each.kind != "info"]).episodes
    assert never.interventions is not None
    assert set(never.interventions.tolist()) == {-1}


def test_without_a_takeover_nothing_is_said() -> None:
    plain = Contract.model_validate({key: RULES[key] for key in RULES if key != "takeover"})
    arrivals = recording([True] * 5, 5_000_000, 1000, stamped=False)
    (episode,) = Fed(plain, [each for each in arrivals if each.kind != "info"]).episodes
    assert episode.interventions is None


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(st.data())
def test_who_commanded_changes_nothing_else_and_no_division_changes_it(
    data: st.DataObject,
) -> None:
    plain = data.draw(contracts())
    arrivals = data.draw(recordings(plain))
    topics = [f"teleop/{stream.topic}" for stream in plain.action]
    document = {**plain.model_dump(exclude_none=True), "takeover": {"topics": topics}}
    able = Contract.model_validate(document)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    flags = [
        flag(each.arrived_ns + int(rng.integers(-1, 2)) * STEP_NS // 8, bool(rng.random() < 0.5))
        for each in arrivals
        if each.name == "command" and rng.random() < 0.9
    ]
    both = sorted([*arrivals, *flags], key=lambda each: each.arrived_ns)
    cuts = data.draw(st.lists(st.integers(0, len(both)), max_size=6))
    expected, whole, pieces = Fed(plain, arrivals), Fed(able, both), Fed(able, both, cuts)
    for fed in (whole, pieces):
        assert fed.skipped == expected.skipped
        assert fed.ages_ns == expected.ages_ns
        for ours, theirs in zip(fed.episodes, expected.episodes, strict=True):
            np.testing.assert_array_equal(ours.ticks_ns, theirs.ticks_ns)
            np.testing.assert_array_equal(ours.observations, theirs.observations)
            np.testing.assert_array_equal(ours.actions, theirs.actions)
            assert ours.ending == theirs.ending
    for ours, theirs in zip(whole.episodes, pieces.episodes, strict=True):
        assert ours.interventions is not None
        assert len(ours.interventions) == len(ours)
        np.testing.assert_array_equal(ours.interventions, theirs.interventions)


@pytest.fixture(name="robot")
def _robot(blank: Callable[[str], Any]) -> Robot:
    return Robot(blank)


def arm(**episode: Any) -> Contract:
    document = yaml.safe_load(ARM.read_text()) | {"takeover": TAKEOVER}
    document["episode"] = document["episode"] | episode
    return Contract.model_validate(document)


def taken_over(robot: Robot, topic: str = "intervention") -> list[Message]:
    """Two episodes; a person commands at a third of their ticks."""
    messages = robot.run({"terminated": 12, "truncated": 9}, seed=1)
    commands = [each for each in messages if each[0].endswith("/commands")]
    messages += [
        robot.signal(topic, BOOL, each[2] + 1000, index % 3 == 0)
        for index, each in enumerate(commands)
    ]
    return sorted(messages, key=lambda each: each[2])


def test_the_dataset_has_it_in_minaris_infos(
    tmp_path: Path, record: Callable[..., Path], robot: Robot
) -> None:
    """As Minari's collector records infos: entry t + 1 is that of step t."""
    bag = record(tmp_path / "bag", taken_over(robot))
    report = convert(Source(arm(), [bag]), tmp_path / "out")
    dataset = minari.MinariDataset(tmp_path / "out" / "data")
    lengths, steps = [], 0
    for episode in dataset.iterate_episodes():
        said = episode.infos["intervention"]
        length = len(episode.actions)
        lengths.append(length)
        assert said.dtype == np.bool_
        assert said.shape == (length + 1,)
        assert not said[0]
        persons = said[1:].sum()
        assert persons in {length // 3, -(-length // 3)}
        steps += int(persons)
    assert lengths == [12, 9]
    assert f"{steps} of 21 actions are a person's (infos/intervention)." in report["remarks"]
    assert not any("nobody said" in remark for remark in report["remarks"])
    assert [len(each) for each in load_dataset(tmp_path / "out").episodes] == lengths
    cost = RewardFunction(function="dql_core.rewards:action_cost")
    relabel(tmp_path / "out", [cost], tmp_path / "new")
    again = minari.MinariDataset(tmp_path / "new" / "data")
    assert sum(each.infos["intervention"].sum() for each in again.iterate_episodes()) == steps


def test_a_bag_in_which_nobody_says_it_is_told(
    tmp_path: Path, record: Callable[..., Path], robot: Robot
) -> None:
    bag = record(tmp_path / "bag", taken_over(robot, "something_else"))
    report = convert(Source(arm(), [bag]), tmp_path / "out")
    assert (
        "Of 21 of 21 actions nobody said on 'intervention' whose they are: they count as not a "
        "person's."
    ) in report["remarks"]
    dataset = minari.MinariDataset(tmp_path / "out" / "data")
    assert not any(each.infos["intervention"].any() for each in dataset.iterate_episodes())


def test_without_a_takeover_the_dataset_has_no_infos(
    tmp_path: Path, record: Callable[..., Path], robot: Robot
) -> None:
    bag = record(tmp_path / "bag", taken_over(robot))
    plain = Contract.model_validate(yaml.safe_load(ARM.read_text()))
    convert(Source(plain, [bag]), tmp_path / "out")
    convert(Source(arm(), [bag]), tmp_path / "able")
    datasets = [minari.MinariDataset(tmp_path / name / "data") for name in ("out", "able")]
    for ours, theirs in zip(*(each.iterate_episodes() for each in datasets), strict=True):
        assert not ours.infos
        assert ours.observations.tobytes() == theirs.observations.tobytes()
        assert ours.actions.tobytes() == theirs.actions.tobytes()
        assert ours.rewards.tobytes() == theirs.rewards.tobytes()


def test_another_type_on_its_topic_is_refused(
    tmp_path: Path, record: Callable[..., Path], robot: Robot
) -> None:
    wrong = robot.signal("intervention", FLOAT, 40 * PERIOD, 1.0)
    messages = sorted([*robot.run({"open": 5}), wrong], key=lambda each: each[2])
    bag = record(tmp_path / "bag", messages)
    with pytest.raises(BagError, match=f"/intervention is of type {FLOAT}, in the contract of"):
        convert(Source(arm(), [bag]), tmp_path / "out")
    check = check_bag(bag, arm())
    assert any("/intervention is of type" in problem for problem in check.findings.problems)


def test_a_persons_own_topics_do_not_matter_to_a_conversion(
    tmp_path: Path, record: Callable[..., Path], robot: Robot
) -> None:
    messages = [*taken_over(robot), robot.signal("teleop", FLOAT, 5 * PERIOD, 1.0)]
    bag = record(tmp_path / "bag", sorted(messages, key=lambda each: each[2]))
    report = convert(Source(arm(), [bag]), tmp_path / "out")
    assert report["totals"]["episodes"] == 2


def test_a_resumed_conversion_minds_another_takeover(
    tmp_path: Path, record: Callable[..., Path], robot: Robot
) -> None:
    """Neither the dataset's numbers nor the contract's hash show it."""
    bags = [record(tmp_path / name, taken_over(robot)) for name in ("one", "two")]
    broken = tmp_path / "three"
    broken.mkdir()
    out = tmp_path / "out"
    with pytest.raises(BagError):
        convert(Source(arm(), [*bags, broken]), out)
    document = arm().model_dump(exclude_none=True)
    document["takeover"]["intervention"] = "nowhere"
    convert(Source(Contract.model_validate(document), bags), out, ConvertOptions(resume=True))
    dataset = minari.MinariDataset(out / "data")
    assert not any(each.infos["intervention"].any() for each in dataset.iterate_episodes())
