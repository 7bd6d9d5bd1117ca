"""A bundle over bags without ROS: ticks, observations, recorded commands, spans and files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.typesys.store import Typestore

from dql_core.data.dataset import load_dataset
from dql_core.errors import BagError
from dql_ros.bag.reader import Bag
from dql_ros.contract import Contract, load_contract
from dql_ros.control.loaded_policy import LoadedPolicy, load_bundle
from dql_ros.control.settings import LoopSettings
from dql_ros.convert.bag_episodes import read_bag_episodes
from dql_ros.convert.convert import Source, convert
from dql_ros.tools.replay.decisions import LONGEST_PAUSE_NS
from dql_ros.tools.replay.outputs import write_outputs
from dql_ros.tools.replay.replayed_bag import ReplayedBag, replay_bag
from tests.ros.convert.test_convert import ARM, PERIOD, Robot, without
from tests.ros.untrained import untrained_bundle

RULES = load_contract(ARM)
COMMANDS = "/velocity_controller/commands"
Record = Callable[..., Path]


@pytest.fixture(scope="module", name="loaded")
def _loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedPolicy:
    bundle = untrained_bundle(tmp_path_factory.mktemp("arm"), ARM)
    return load_bundle(bundle, RULES.policy_spec())


@pytest.fixture(name="robot")
def _robot(blank: Callable[[str], Any]) -> Robot:
    return Robot(blank)


def replayed(bag: Path, loaded: LoadedPolicy, seed: int = 0) -> ReplayedBag:
    with Bag(bag) as opened:
        return replay_bag(opened, RULES, loaded, LoopSettings(lockstep=True, seed=seed))


def test_observations_and_recorded_commands_are_those_of_a_conversion(
    tmp_path: Path, record: Record, robot: Robot, loaded: LoadedPolicy
) -> None:
    bag = record(tmp_path / "bag", robot.run({"terminated": 40, "truncated": 25}, seed=1))
    convert(Source(RULES, [bag]), tmp_path / "out")
    ticks: list[list[int]] = []
    with Bag(bag) as opened:
        read_bag_episodes(opened, RULES, "/", lambda each: ticks.append(each.ticks_ns.tolist()))
    ours = replayed(bag, loaded)
    found = {tick.time_ns: index for index, tick in enumerate(ours.ticks)}
    episodes = load_dataset(tmp_path / "out").episodes
    assert [len(each) for each in ticks] == [41, 26]
    for times_ns, episode in zip(ticks, episodes, strict=True):
        for row, time_ns in enumerate(times_ns):
            seen = ours.ticks[found[time_ns]].observation.values
            assert seen is not None
            assert seen.tobytes() == episode.observations[row].tobytes()
            if row < len(episode):
                recorded = ours.recorded[found[time_ns]].astype(np.float32)
                assert recorded.tobytes() == episode.actions[row].tobytes()


def test_the_past_is_that_of_a_conversion_too(
    tmp_path: Path, record: Record, robot: Robot
) -> None:
    """Older values, and the commands that the recording has, a person's or anybody's."""
    path = tmp_path / "past.yaml"
    text = ARM.read_text().replace("max_age_s: 0.2", "max_age_s: 0.2\n    history: 3")
    path.write_text(f"{text}\nprevious_action: 2\n")
    rules = load_contract(path)
    assert rules.observation[0].history == 3
    loaded = load_bundle(untrained_bundle(tmp_path, path), rules.policy_spec())
    messages = robot.run({"terminated": 40, "truncated": 25}, seed=1)
    bag = record(tmp_path / "bag", messages)
    convert(Source(rules, [bag]), tmp_path / "out")
    ticks: list[list[int]] = []
    with Bag(bag) as opened:
        read_bag_episodes(opened, rules, "/", lambda each: ticks.append(each.ticks_ns.tolist()))
    with Bag(bag) as opened:
        ours = replay_bag(opened, rules, loaded, LoopSettings(lockstep=True, seed=0))
    episodes = load_dataset(tmp_path / "out").episodes
    assert [len(each) for each in ticks] == [39, 24], "each begins two ticks later"
    found = {tick.time_ns: tick.observation.values for tick in ours.ticks}
    for times_ns, episode in zip(ticks, episodes, strict=True):
        for row, time_ns in enumerate(times_ns):
            seen = found[time_ns]
            assert seen is not None
            assert seen.tobytes() == episode.observations[row].tobytes()
        past = np.split(episode.observations, [4, 8, 12, 14, 16], axis=1)
        assert (past[1][1:] == past[0][:-1]).all()
        assert (past[2][2:] == past[0][:-2]).all()
        assert (past[4][1:] == episode.actions).all()
        assert (past[5][2:] == episode.actions[:-1]).all()


def test_a_long_pause_begins_anew_and_decides_the_same_again(
    tmp_path: Path, record: Record, robot: Robot, loaded: LoadedPolicy
) -> None:
    first = robot.episode(np.random.default_rng(4), 10, 20, "")
    later = 10 + 2 * LONGEST_PAUSE_NS // PERIOD
    second = robot.episode(np.random.default_rng(4), later, 20, "")
    ours = replayed(record(tmp_path / "bag", first + second), loaded)
    assert [tick.span for tick in ours.ticks].count(1) == 21
    again = [index for index, tick in enumerate(ours.ticks) if tick.span == 1]
    assert ours.sent[:21].tobytes() == ours.sent[again].tobytes()
    assert ours.ticks[again[0]].time_ns == later * PERIOD
    # Meanwhile the robot is sent what it is sent when no state comes.
    assert ours.states["stale"] == LONGEST_PAUSE_NS // PERIOD - 5
    assert not ours.sent[again[0] - 1].any()


def test_the_agreement_is_the_mean_distance_over_ticks_with_both(
    tmp_path: Path, record: Record, robot: Robot, loaded: LoadedPolicy
) -> None:
    messages = robot.run({"open": 30}, seed=2)
    silent = [each for each in messages if each[0] != COMMANDS or each[2] > 20 * PERIOD]
    ours = replayed(record(tmp_path / "bag", silent), loaded)
    assert len(ours.ticks) == 31
    assert ours.agreement.count == 10
    recorded = [each[3].data for each in silent if each[0] == COMMANDS]
    distances = np.abs(ours.sent[21:] - np.array(recorded))
    assert np.allclose(ours.agreement.by_field, distances.mean(axis=0), rtol=1e-6)


def test_without_recorded_commands_there_is_a_replay_and_it_is_said(
    tmp_path: Path, record: Record, robot: Robot, loaded: LoadedPolicy
) -> None:
    bag = record(tmp_path / "bag", without(robot.run({"open": 5}), COMMANDS))
    ours = replayed(bag, loaded)
    assert ours.agreement.count == 0
    assert ours.remarks == (f"{COMMANDS}: no recorded command to compare with",)
    write_outputs(tmp_path, RULES, ARM.read_text(), [ours], {})
    with Bag(tmp_path / "replay_0") as made:
        assert set(made.topics) == {f"/policy/replay{COMMANDS}"}


def test_refused_messages_are_told(
    tmp_path: Path, record: Record, robot: Robot, loaded: LoadedPolicy
) -> None:
    topic, msgtype, _, ahead = robot.state(5 * PERIOD + 3 * 10**9, np.zeros(4))
    messages = [*robot.run({"open": 10}), (topic, msgtype, 5 * PERIOD + 1, ahead)]
    messages.sort(key=lambda each: each[2])
    (remark,) = replayed(record(tmp_path / "bag", messages), loaded).remarks
    assert remark == "joint_states: 1 message refused"


def test_nothing_fresh_is_refused_with_what_is_missing(
    tmp_path: Path, record: Record, robot: Robot, loaded: LoadedPolicy
) -> None:
    late = robot.target(10**12, 0.0, 0.0)
    messages = [*without(robot.run({"open": 5}), "/target"), (late[0], late[1], PERIOD, late[3])]
    bag = record(tmp_path / "bag", sorted(messages, key=lambda each: each[2]))
    with pytest.raises(BagError, match=r"nothing to replay.*'target' 1 message refused") as told:
        replayed(bag, loaded)
    assert "\n" not in str(told.value)


def test_the_files_say_what_was_decided(
    tmp_path: Path,
    record: Record,
    robot: Robot,
    loaded: LoadedPolicy,
    typestore: Typestore,
) -> None:
    bag = record(tmp_path / "bag", robot.run({"terminated": 20}, seed=3))
    ours = replayed(bag, loaded)
    out = tmp_path / "out"
    out.mkdir()
    write_outputs(out, RULES, ARM.read_text(), [ours, ours], {"seed": 0})
    with (out / "replay.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(ours.ticks) == 42
    names = ("shoulder_velocity", "elbow_velocity")
    sent = [[np.float32(row[f"sent.{name}"]) for name in names] for row in rows[:21]]
    assert np.array(sent).tobytes() == ours.sent.tobytes()
    assert {row["state"] for row in rows} == {"running"}
    document = json.loads((out / "replay.json").read_text())
    assert document["seed"] == 0
    assert document["bags"][0]["agreement"]["ticks"] == 21
    with Bag(out / "replay_1") as made:
        messages: dict[str, list[Any]] = {topic: [] for topic in made.topics}
        for batch in made.batches(frozenset(made.topics)):
            for block in batch.blocks:
                for index in range(len(block)):
                    data = typestore.deserialize_cdr(block.payload(index), block.msgtype)
                    messages[block.topic].append(data.data)  # type: ignore[attr-defined]
    assert np.array_equal(messages[COMMANDS], ours.recorded)
    assert np.array_equal(messages[f"/policy/replay{COMMANDS}"], ours.sent)
    assert (out / "replay_1.png").read_bytes().startswith(b"\x89PNG")


FLAG = "std_msgs/msg/Bool"
TAKEOVER = {"takeover": {"topics": ["teleop"], "switch": {"topic": "take", "type": FLAG}}}
ABLE = Contract.model_validate({**RULES.model_dump(exclude_none=True), **TAKEOVER})


def replayed_by(rules: Contract, bag: Path, loaded: LoadedPolicy) -> ReplayedBag:
    with Bag(bag) as opened:
        return replay_bag(opened, rules, loaded, LoopSettings(lockstep=True, seed=0))


def test_without_a_persons_topics_a_takeover_changes_no_bit_and_that_is_said(
    tmp_path: Path, record: Record, robot: Robot, loaded: LoadedPolicy
) -> None:
    bag = record(tmp_path / "bag", robot.run({"open": 30}, seed=2))
    plain, able = replayed(bag, loaded), replayed_by(ABLE, bag, loaded)
    assert plain.sent.tobytes() == able.sent.tobytes()
    assert plain.remarks == ()
    assert able.remarks == (
        "/teleop: not in the bag: nobody spoke there",
        "/take: not in the bag: nobody spoke there",
        "takeover: a person commands at 0 ticks, and by the recording sent 0 commands",
    )


def test_a_person_whose_commands_are_not_in_the_bag_cannot_be_followed(
    tmp_path: Path, record: Record, robot: Robot, loaded: LoadedPolicy
) -> None:
    messages = robot.run({"open": 10})
    messages += [robot.signal("intervention", FLAG, 5 * PERIOD, True)]
    messages += [robot.signal("take", FLAG, 4 * PERIOD, True)]
    bag = record(tmp_path / "bag", sorted(messages, key=lambda each: each[2]))
    with pytest.raises(BagError) as refusal:
        replayed_by(ABLE, bag, loaded)
    assert str(refusal.value) == (
        f"{bag}: a person commanded, but /teleop by which they did is not in the bag: record it "
        f"too, or replay a bag without takeovers"
    )


def test_a_persons_topic_of_another_type_is_refused(
    tmp_path: Path, record: Record, robot: Robot, loaded: LoadedPolicy
) -> None:
    messages = [*robot.run({"open": 10}), robot.signal("teleop", FLAG, 5 * PERIOD, True)]
    bag = record(tmp_path / "bag", sorted(messages, key=lambda each: each[2]))
    with pytest.raises(BagError, match=f"/teleop is of type {FLAG}, in the contract of type"):
        replayed_by(ABLE, bag, loaded)
