"""Recordings in which some messages have not got what the contract selects, and offsets."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dql_core.data.dataset import LoadedDataset, load_dataset
from dql_core.errors import BagError
from dql_ros.contract import Contract, load_contract
from dql_ros.convert.convert import Source, convert
from dql_ros.tools.contract_check import check_bag

FAULTS = Path(__file__).parents[4] / "shared" / "data" / "faults"
JOINTS, COMMAND = "sensor_msgs/msg/JointState", "std_msgs/msg/Float64MultiArray"
TRAJECTORY, POINT = "trajectory_msgs/msg/JointTrajectory", "geometry_msgs/msg/Point"
MODE, STATUS = "std_msgs/msg/Int32", "diagnostic_msgs/msg/DiagnosticArray"
SECOND, PERIOD, TICKS = 1_000_000_000, 100_000_000, 40
STATE = {
    "topic": "js",
    "type": JOINTS,
    "stamp": "receive",
    "fields": [{"path": "position", "joints": ["a", "b"]}],
}
DATA = {
    "topic": "cmd",
    "type": COMMAND,
    "max_age_s": 1.0,
    "fields": [{"path": "data", "indices": [0], "low": -1e6, "high": 1e6}],
}
POINTS = {
    "topic": "cmd",
    "type": TRAJECTORY,
    "max_age_s": 1.0,
    "fields": [{"path": "points.0.positions", "joints": ["a"], "low": -1e6, "high": 1e6}],
}
Message = tuple[str, str, int, Any]


def rules(
    observation: dict[str, Any] = STATE, action: dict[str, Any] = DATA, **keys: Any
) -> Contract:
    document = {"robot": "r", "rate_hz": 10, "observation": [observation], "action": [action]}
    return Contract.model_validate({**document, **keys})


class Recording:
    """Messages at 10 Hz: the state k at the tick k, the command 1 ms after it."""

    def __init__(self, blank: Callable[[str], Any]) -> None:
        self._blank = blank
        self.messages: list[Message] = []

    def add(self, topic: str, msgtype: str, tick: int, late_ns: int = 0, **fields: Any) -> None:
        message = self._blank(msgtype)
        for name, value in fields.items():
            setattr(message, name, value)
        time_ns = 50 * SECOND + tick * PERIOD + late_ns
        self.messages.append((f"/{topic}", msgtype, time_ns, message))

    def state(self, tick: int, names: Sequence[str] = ("a", "b")) -> None:
        position = np.array([tick] * len(names), np.float64)
        self.add("js", JOINTS, tick, name=list(names), position=position)

    def command(self, tick: int, *values: float) -> None:
        self.add("cmd", COMMAND, tick, 1_000_000, data=np.array(values, np.float64))

    def trajectory(self, tick: int, *values: float, joints: Sequence[str] = ("a",)) -> None:
        points = []
        for value in values:
            point = self._blank("trajectory_msgs/msg/JointTrajectoryPoint")
            point.positions = np.array([value] * len(joints), np.float64)
            points.append(point)
        self.add("cmd", TRAJECTORY, tick, 1_000_000, joint_names=list(joints), points=points)

    def turn(self, tick: int, msgtype: str, *, is_stop: bool) -> None:
        point = self._blank("trajectory_msgs/msg/MultiDOFJointTrajectoryPoint")
        pose = self._blank("geometry_msgs/msg/Transform")
        pose.translation.x, pose.rotation.w = float(tick), 1.0
        point.transforms = [self._blank("geometry_msgs/msg/Transform"), pose]
        points = [] if is_stop else [point]
        names = ["tool", "base"]
        self.add("cmd", msgtype, tick, 1_000_000, joint_names=names, points=points)

    def status(self, tick: int, **levels: int) -> None:
        found = []
        for name, level in levels.items():
            status = self._blank("diagnostic_msgs/msg/DiagnosticStatus")
            status.name, status.level = name, level
            found.append(status)
        self.add("status", STATUS, tick, 500_000, status=found)


@pytest.fixture(name="recording")
def _recording(blank: Callable[[str], Any]) -> Recording:
    return Recording(blank)


@pytest.fixture(name="made")
def _made(tmp_path: Path, record: Callable[..., Path], recording: Recording) -> Any:
    def make(contract: Contract) -> tuple[LoadedDataset, dict[str, Any]]:
        messages = sorted(recording.messages, key=lambda message: message[2])
        number = len(list(tmp_path.iterdir()))
        bag, out = record(tmp_path / f"bag{number}", messages), tmp_path / f"out{number}"
        report = convert(Source(contract, [bag]), out)
        return load_dataset(out), json.loads(json.dumps(report))

    return make


def pairs(dataset: LoadedDataset) -> list[list[tuple[float, float]]]:
    """The first number of each observation, with the action that follows it."""
    return [
        list(zip(e.observations[:-1, 0].tolist(), e.actions[:, 0].tolist(), strict=True))
        for e in dataset.episodes
    ]


def test_arm_and_gripper_share_a_topic(recording: Recording, made: Any) -> None:
    for tick in range(TICKS):
        recording.state(tick)
        recording.add("js", JOINTS, tick, 40_000_000, name=["g"], position=np.array([-9.0]))
        recording.command(tick, tick)
    dataset, report = made(rules())
    assert pairs(dataset) == [[(k, k) for k in range(TICKS - 1)]]
    (topic,) = [row for row in report["bags"][0]["topics"] if row["role"] == "observation"]
    assert (topic["count"], topic["absent"], topic["rate_hz"]) == (TICKS, TICKS, 10.0)
    assert report["totals"]["absent_messages"] == TICKS
    assert any("40 of 80 messages were skipped" in remark for remark in report["remarks"])


def test_check_counts_them_too(
    tmp_path: Path, record: Callable[..., Path], recording: Recording
) -> None:
    for tick in range(TICKS):
        recording.state(tick, ("a", "b") if tick % 2 else ("g",))
        recording.command(tick, tick)
    checked = check_bag(record(tmp_path / "bag", recording.messages), rules())
    assert checked.findings.problems == []
    assert [text.split(": ", 1)[1] for text in checked.findings.warnings] == [
        "/js: 20 of 40 messages are skipped: they have not got what the contract selects"
    ]


def test_if_no_message_has_it_that_is_an_error(
    tmp_path: Path, record: Callable[..., Path], recording: Recording, made: Any
) -> None:
    for tick in range(TICKS):
        recording.state(tick, ("a", "c"))
        recording.command(tick, tick)
    problem = r"0\.000 s from its start: /js: no message has 'b'; the messages name: a, c;"
    with pytest.raises(BagError, match=problem):
        made(rules())
    checked = check_bag(record(tmp_path / "again", recording.messages), rules())
    (found,) = checked.findings.problems
    assert "/js: no message has 'b'; the messages name: a, c; correct the names" in found


def test_a_value_that_is_no_number_is_found_behind_messages_that_are_skipped(
    recording: Recording, made: Any
) -> None:
    for tick in range(TICKS):
        recording.state(tick, ("g",) if tick < 7 else ("a", "b"))
        recording.command(tick, tick)
    recording.messages[2 * 30][3].position[1] = np.inf
    with pytest.raises(BagError, match=r"bag0?, 3\.000 s .*/js: 'js\.position\.b' is inf"):
        made(rules())


def test_a_stop_may_be_of_rotations_and_offsets(recording: Recording, made: Any) -> None:
    """Of which zeros are no numbers, or other numbers."""
    kind = "trajectory_msgs/msg/MultiDOFJointTrajectory"
    for tick in range(TICKS):
        recording.state(tick)
        recording.turn(tick, kind, is_stop=tick == 20)
    path = "points.0.transforms[joint_names=base]"
    fields = [
        {"path": f"{path}.translation.x", "offset": 100.0, "low": -200.0, "high": 200.0},
        {"path": f"{path}.rotation", "rotation": "yaw"},
    ]
    dataset, _ = made(rules(action={**POINTS, "type": kind, "fields": fields}))
    assert pairs(dataset) == [[(k, k - 100) for k in part] for part in (range(20), range(21, 39))]


def test_an_empty_command_is_refused_or_skipped(recording: Recording, made: Any) -> None:
    for tick in range(TICKS):
        recording.state(tick)
        recording.command(tick, *([] if tick == 20 else [tick]))
    with pytest.raises(BagError, match=r"2\.001 s .*/cmd: 'data' has 0 .*'when_absent: skip'"):
        made(rules())
    dataset, _ = made(rules(action={**DATA, "when_absent": "skip"}))
    assert pairs(dataset) == [[(k, 19 if k == 20 else k) for k in range(TICKS - 1)]]


@pytest.mark.parametrize("keys", [{}, {"when_absent": "refuse"}])
@pytest.mark.parametrize(
    ("rule", "parts"),
    [
        ({}, [range(20), range(21, 39)]),
        # The command that is held is that of the tick before, which was sent 1 ms after it.
        ({"command": "held"}, [range(1, 21), range(22, 39)]),
    ],
)
def test_a_trajectory_without_points_ends_the_command(
    recording: Recording, made: Any, keys: dict[str, str], rule: dict[str, str], parts: list[range]
) -> None:
    for tick in range(TICKS):
        recording.state(tick)
        recording.trajectory(tick, *([] if tick == 20 else [tick]))
    dataset, report = made(rules(action={**POINTS, **keys, **rule}))
    late = 1 if rule else 0
    assert pairs(dataset) == [[(k, k - late) for k in part] for part in parts]
    assert report["episodes"][0]["ending"] == "no command on cmd"
    (topic,) = [row for row in report["bags"][0]["topics"] if row["role"] == "action"]
    assert (topic["count"], topic["absent"], topic["ended"]) == (TICKS, 0, 1)
    assert any("1 trajectory without points ended" in remark for remark in report["remarks"])


def test_at_the_ticks_of_commands_the_stop_is_the_last_tick(
    recording: Recording, made: Any
) -> None:
    for tick in range(TICKS):
        recording.state(tick)
        recording.trajectory(tick, *([] if tick == 20 else [tick]))
    dataset, _ = made(rules(action=POINTS, tick="action"))
    assert pairs(dataset) == [[(k, k) for k in part] for part in (range(20), range(21, 39))]
    assert dataset.episodes[0].observations[-1, 0] == 20


def test_no_command_is_in_force_between_a_stop_and_the_next_trajectory(
    recording: Recording, made: Any
) -> None:
    """Though the one before the stop is younger than max_age_s."""
    for tick in range(TICKS):
        recording.state(tick)
        if not 20 < tick < 25:
            recording.trajectory(tick, *([] if tick == 20 else [tick]))
    dataset, _ = made(rules(action=POINTS))
    assert [[k for k, _ in part] for part in pairs(dataset)] == [
        list(range(20)),
        list(range(25, TICKS - 1)),
    ]


def test_a_trajectory_of_other_joints_leaves_the_command_in_force(
    recording: Recording, made: Any
) -> None:
    for tick in range(TICKS):
        recording.state(tick)
        recording.trajectory(tick, tick, joints=("g",) if tick % 10 == 9 else ("g", "a"))
    dataset, report = made(rules(action=POINTS))
    assert pairs(dataset) == [[(k, k - (k % 10 == 9)) for k in range(TICKS - 1)]]
    assert report["totals"]["absent_messages"] == 4


def test_a_trajectory_without_points_ends_the_command_of_the_joints_that_it_names(
    recording: Recording, made: Any
) -> None:
    stops = {9: ("g",), 20: ("g", "a"), 30: ()}
    for tick in range(TICKS):
        recording.state(tick)
        recording.trajectory(tick, *([] if tick in stops else [tick]), joints=stops.get(tick, "a"))
    dataset, report = made(rules(action=POINTS))
    first, *rest = pairs(dataset)
    assert first == [(k, k - (k == 9)) for k in range(20)]
    assert rest == [[(k, k) for k in part] for part in (range(21, 30), range(31, TICKS - 1))]
    (topic,) = [row for row in report["bags"][0]["topics"] if row["role"] == "action"]
    assert (topic["absent"], topic["ended"]) == (1, 2)


def test_flags_events_and_rewards_in_lists_that_lack_the_name_say_nothing(
    recording: Recording, made: Any
) -> None:
    for tick in range(TICKS):
        recording.state(tick)
        recording.command(tick, tick)
        recording.status(tick, **({"cam": 0, "arm": int(tick == 25)} if tick % 5 == 0 else {}))
    place = {"topic": "status", "type": STATUS, "path": "status[name=arm].level"}
    dataset, report = made(rules(episode={"terminated": {**place, "equals": 1}}))
    assert [len(episode) for episode in dataset.episodes] == [26, 12]
    assert dataset.episodes[0].terminated
    (topic,) = [row for row in report["bags"][0]["topics"] if row["role"] == "terminated"]
    assert topic["absent"] == TICKS - TICKS // 5
    refused = {**place, "when_absent": "refuse"}
    with pytest.raises(BagError, match=r"0\.1\d* s .*no element is called 'arm'"):
        made(rules(episode={"terminated": refused}))


def test_a_reward_that_is_absent_is_none(recording: Recording, made: Any) -> None:
    for tick in range(TICKS):
        recording.state(tick)
        recording.command(tick, tick)
        recording.status(tick, arm=2)
        recording.status(tick, cam=7)
    reward = {"topic": "status", "type": STATUS, "path": "status[name=arm].level"}
    dataset, _ = made(rules(reward={**reward, "tick": "begun"}))
    assert dataset.episodes[0].rewards.tolist() == [2.0] * (TICKS - 1)


def test_an_episode_lasts_during_several_states(recording: Recording, made: Any) -> None:
    for tick in range(TICKS):
        recording.state(tick)
        recording.command(tick, tick)
        if tick % 10 == 0:
            recording.add("mode", MODE, tick, data=tick // 10)
    mode = {"topic": "mode", "type": MODE, "path": "data", "equals": [1, 2]}
    dataset, _ = made(rules(episode={"during": mode}))
    (found,) = pairs(dataset)
    assert [k for k, _ in found] == list(range(10, 30))


NORTH = 5_400_000.0


@pytest.fixture(name="surveyor")
def _surveyor(recording: Recording) -> Recording:
    """A robot that moves by 2 cm a tick, and by 1 m between its two episodes."""
    for tick in range(TICKS):
        recording.add("at", POINT, tick, x=NORTH + tick / 50 + (tick >= 20), y=47.0 + tick * 2e-7)
        recording.command(tick, NORTH + tick / 50)
        recording.add("mode", MODE, tick, 2_000_000, data=int(tick != 19))
    return recording


def surveyed(first: dict[str, Any], second: dict[str, Any]) -> Contract:
    fields = [{"path": "x", **first}, {"path": "y", **second}]
    place = {"topic": "at", "type": POINT, "stamp": "receive", "fields": fields}
    bounded = {"path": "data", "indices": [0], "low": -1e7, "high": 1e7}
    episode = {"during": {"topic": "mode", "type": MODE, "path": "data"}}
    return rules(place, {**DATA, "fields": [bounded]}, episode=episode)


def test_what_float32_blurs_is_said_with_the_remedy(surveyor: Recording, made: Any) -> None:
    dataset, report = made(surveyed({}, {}))
    assert len(np.unique(np.concatenate([e.observations[:, 0] for e in dataset.episodes]))) < 6
    blurred = [text for text in report["remarks"] if "float32 blurs it" in text]
    assert [text.split(":")[0] for text in blurred] == ["at.x", "at.y", "cmd.data.0"]
    assert "its resolution is 0.5, the field changes by 0.02 at a time" in blurred[0]
    assert "set 'offset: first' or 'offset: 540000" in blurred[0]
    assert "set 'offset: 5400000" in blurred[2]
    assert not any("never changes" in text for text in report["remarks"])
    assert report["observation"][0]["rounding"]["blurred"]


def test_an_offset_keeps_every_step(surveyor: Recording, made: Any) -> None:
    dataset, report = made(surveyed({"offset": NORTH}, {"offset": "first", "scale": 1e6}))
    first, second = dataset.episodes
    assert (first.observations[0, 1], second.observations[0, 1]) == (0.0, 0.0)
    np.testing.assert_allclose(np.diff(first.observations[:, 0]), 0.02, atol=1e-6)
    np.testing.assert_allclose(np.diff(second.observations[:, 1]), 0.2, atol=1e-5)
    assert second.observations[0, 0] == pytest.approx(1.4, abs=0.021)
    told = [text for text in report["remarks"] if "float32" in text]
    assert [text.split(":")[0] for text in told] == ["cmd.data.0"]


def test_the_first_value_is_that_of_each_episode(surveyor: Recording, made: Any) -> None:
    dataset, _ = made(surveyed({"offset": "first"}, {"offset": 47.0}))
    for episode in dataset.episodes:
        steps = np.arange(len(episode) + 1) * 0.02
        np.testing.assert_allclose(episode.observations[:, 0], steps, atol=1e-6)


def test_a_field_that_changes_less_than_float32_is_not_said_never_to_change(
    recording: Recording, made: Any
) -> None:
    for tick in range(TICKS):
        recording.add("at", POINT, tick, x=1.7e9 + tick / 10, y=3.25)
        recording.command(tick, tick)
    fields = [{"path": "x"}, {"path": "y"}]
    place = {"topic": "at", "type": POINT, "stamp": "receive", "fields": fields}
    _, report = made(rules(place))
    assert [text for text in report["remarks"] if "never changes" in text] == [
        "at.y never changes: it is 3.25 throughout."
    ]
    assert any(text.startswith("at.x: float32 blurs it") for text in report["remarks"])


def test_values_that_are_float32_already_are_not_blurred(recording: Recording, made: Any) -> None:
    """Nor those whose steps are far above the resolution, with noise or at rest."""
    rng = np.random.default_rng(0)
    for tick in range(TICKS):
        x = float(np.float32(1e7 + tick))
        recording.add("at", POINT, tick, x=x, y=1.5 + 4e-5 * rng.integers(3), z=tick / 7)
        recording.command(tick, tick)
    fields = [{"path": axis} for axis in "xyz"]
    place = {"topic": "at", "type": POINT, "stamp": "receive", "fields": fields}
    _, report = made(rules(place))
    assert not any("float32" in text for text in report["remarks"])


@pytest.mark.realdata
@pytest.mark.skipif(not FAULTS.is_dir(), reason="the faulty recordings are not here")
@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("arm_and_gripper_on_one_joint_states", 1.0),
        ("velocity_empty_in_every_second_joint_state", 1.0),
        ("trajectory_stop_without_points", 0.9),
        ("trajectory_part_of_joints", 1.0),
    ],
)
def test_recordings_with_such_messages_convert(tmp_path: Path, name: str, kept: float) -> None:
    own = FAULTS / f"{name}.yaml"
    contract = load_contract(own if own.is_file() else FAULTS / "trajectory_any.yaml")
    report = convert(Source(contract, [FAULTS / f"{name}.mcap"]), tmp_path / "out")
    seconds = report["totals"]["recorded_s"]
    assert report["totals"]["transitions"] >= kept * int(seconds * 10)
    for episode in load_dataset(tmp_path / "out").episodes:
        held = np.diff(episode.actions[:, 0]) == 0
        same = episode.observations[:-1, 0] == episode.actions[:, 0]
        assert same[1:][~held].all()


def test_what_never_comes_in_one_message_is_told_with_the_remedy_that_works(
    tmp_path: Path, record: Callable[..., Path], recording: Recording, made: Any
) -> None:
    for tick in range(TICKS):
        recording.state(tick)
        recording.state(tick, ["g"])
        recording.command(tick, tick)
    together = {**STATE, "fields": [{"path": "position", "joints": ["a", "b", "g"]}]}
    told = (
        r"/js: no message has all of a, b, g; they come apart: a, b; g; make a stream of each "
        r"part, with a 'name': \{topic: /js, name: g, \.\.\.\}"
    )
    with pytest.raises(BagError, match=told):
        made(rules(together))
    bag = record(tmp_path / "again", recording.messages)
    (problem,) = check_bag(bag, rules(together)).findings.problems
    assert re.search(told, problem)
    parts = [STATE, {**STATE, "name": "g", "fields": [{"path": "position", "joints": ["g"]}]}]
    mended = {**rules().model_dump(exclude_defaults=True), "observation": parts}
    assert check_bag(bag, Contract.model_validate(mended)).findings.problems == []
    (episode,) = made(Contract.model_validate(mended))[0].episodes
    np.testing.assert_array_equal(episode.observations, np.arange(TICKS)[:, None] * np.ones(3))


def test_an_arm_and_a_gripper_on_one_topic_are_streams_of_their_own(
    recording: Recording, made: Any
) -> None:
    for tick in range(TICKS):
        recording.state(tick)
        recording.state(2 * tick, ["g"]) if tick < TICKS // 2 else None
        recording.command(tick, tick)
    gripper = {
        "topic": "js",
        "name": "gripper",
        "type": JOINTS,
        "stamp": "receive",
        "max_age_s": 0.35,
        "fields": [{"path": "position", "joints": ["g"]}],
    }
    contract = rules()
    both = contract.model_validate(
        {**contract.model_dump(exclude_defaults=True), "observation": [STATE, gripper]}
    )
    dataset, report = made(both)
    assert [spec.name for spec in dataset.spec.observation] == [
        "js.position.a",
        "js.position.b",
        "js.position.g",
    ]
    rows = dataset.episodes[0].observations
    np.testing.assert_array_equal(rows[:, 0], rows[:, 1])
    known = rows[:, 0] // 2 * 2
    np.testing.assert_array_equal(rows[:, 2], known)
    assert report["totals"]["absent_messages"] == TICKS + TICKS // 2
