import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from dql_core.data.dataset import LoadedDataset, load_dataset
from dql_core.errors import BagError, ContractError, DatasetError
from dql_ros.cli.main import main
from dql_ros.contract import Contract, load_contract
from dql_ros.convert.convert import Source, convert
from dql_ros.tools.contract_check import check_bag

ARM = Path(__file__).parents[1] / "arm.yaml"
PERIOD = 50_000_000
JOINTS = "sensor_msgs/msg/JointState"
POINT = "geometry_msgs/msg/PointStamped"
COMMANDS = "std_msgs/msg/Float64MultiArray"
FLOAT, BOOL = "std_msgs/msg/Float64", "std_msgs/msg/Bool"
Message = tuple[str, str, int, Any]


class Robot:
    """Makes the messages of the arm's topics."""

    def __init__(self, blank: Callable[[str], Any], namespace: str = "") -> None:
        self._blank = blank
        self._namespace = namespace

    def state(
        self,
        time_ns: int,
        values: NDArray[np.float64],
        names: tuple[str, ...] = ("elbow", "shoulder"),
    ) -> Message:
        """Joint states; ``values`` are two positions, then two velocities, shoulder first."""
        message = self._blank(JOINTS)
        by_name = {"shoulder": (values[0], values[2]), "elbow": (values[1], values[3])}
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(time_ns, 10**9)
        message.name = list(names)
        message.position = np.array([by_name.get(name, (9.0, 9.0))[0] for name in names])
        message.velocity = np.array([by_name.get(name, (9.0, 9.0))[1] for name in names])
        return (f"{self._namespace}/joint_states", JOINTS, time_ns, message)

    def target(self, time_ns: int, x: float, y: float) -> Message:
        message = self._blank(POINT)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(time_ns, 10**9)
        message.point.x, message.point.y = x, y
        return (f"{self._namespace}/target", POINT, time_ns, message)

    def command(self, time_ns: int, values: NDArray[np.float64]) -> Message:
        message = self._blank(COMMANDS)
        message.data = np.array(values)
        return (f"{self._namespace}/velocity_controller/commands", COMMANDS, time_ns, message)

    def signal(self, topic: str, msgtype: str, time_ns: int, value: float | bool) -> Message:
        message = self._blank(msgtype)
        message.data = value
        return (f"{self._namespace}/{topic}", msgtype, time_ns, message)

    def episode(
        self, rng: np.random.Generator, first_tick: int, length: int, ending: str
    ) -> list[Message]:
        """A lockstep episode of random states in which the command repeats part of the state."""
        start = first_tick * PERIOD
        messages = [self.target(start, *rng.uniform(-1, 1, 2))]
        for tick in range(length + 1):
            now = start + tick * PERIOD
            if tick > 0:
                last = tick == length
                messages += [
                    self.signal("reward", FLOAT, now, -float(tick)),
                    self.signal("terminated", BOOL, now, last and ending == "terminated"),
                    self.signal("truncated", BOOL, now, last and ending == "truncated"),
                ]
            state = rng.uniform(-1.5, 1.5, 4)
            names = ("elbow", "shoulder") if tick % 2 else ("gripper", "shoulder", "elbow")
            messages += [self.state(now, state, names), self.command(now, state[[0, 3]])]
        return messages

    def run(self, lengths: dict[str, int], seed: int = 0) -> list[Message]:
        """Episodes one after the other; keys begin with how each ends."""
        rng, first, messages = np.random.default_rng(seed), 0, []
        for ending, length in lengths.items():
            messages += self.episode(rng, first, length, ending.split()[0])
            first += length + 1
        return messages


@pytest.fixture
def robot(blank: Callable[[str], Any]) -> Robot:
    return Robot(blank)


@pytest.fixture
def contract() -> Contract:
    return load_contract(ARM)


def changed(contract: Contract, **changes: Any) -> Contract:
    return Contract.model_validate({**contract.model_dump(exclude_none=True), **changes})


def converted(contract: Contract, out: Path, *bags: Path, namespace: str = "/") -> LoadedDataset:
    convert(Source(contract, bags, namespace), out)
    return load_dataset(out)


def test_lockstep_recordings_give_their_episodes_exactly(
    robot: Robot, record: Callable[..., Path], contract: Contract, tmp_path: Path
) -> None:
    lengths = {"terminated 1": 7, "truncated 1": 3, "terminated 2": 1, "truncated 2": 12}
    bag = record(tmp_path / "bag", robot.run(lengths))
    dataset = converted(contract, tmp_path / "out", bag)
    assert dataset.spec == contract.policy_spec()
    assert [len(episode) for episode in dataset.episodes] == [7, 3, 1, 12]
    assert [episode.terminated for episode in dataset.episodes] == [True, False, True, False]
    assert [episode.truncated for episode in dataset.episodes] == [False, True, False, True]
    for episode in dataset.episodes:
        # The law of the recording, whatever the order of the joints in each message.
        np.testing.assert_array_equal(episode.actions, episode.observations[:-1][:, [0, 3]])
        assert episode.rewards.tolist() == [-float(tick + 1) for tick in range(len(episode))]
        assert len(np.unique(episode.observations[:, 4:], axis=0)) == 1


@pytest.mark.parametrize("shift_ms", [-20, 0, 20])
def test_twenty_milliseconds_of_look_ahead_or_lag_would_show(
    robot: Robot, record: Callable[..., Path], contract: Contract, tmp_path: Path, shift_ms: int
) -> None:
    """States come at 50 Hz, commands at 20 Hz after a latency; shifted states break the law."""
    rng = np.random.default_rng(1)
    free = changed(contract, reward=None, episode={})
    start, step = 10**9, 20_000_000
    states = [rng.uniform(-1, 1, 4) for _ in range(153)]
    messages = [robot.target(start + 100_000_000, 0.1, 0.2)]
    for index, state in enumerate(states):
        messages.append(robot.state(start + index * step + shift_ms * 1_000_000, state))
    for tick in range(60):
        now = start + 100_000_000 + tick * PERIOD
        known = states[(now - start) // step]
        messages.append(robot.command(now + 7_000_000, known[[0, 3]]))
    messages.sort(key=lambda message: message[2])
    bag = record(tmp_path / "bag", messages)
    (episode,) = converted(free, tmp_path / "out", bag).episodes
    law_holds = np.array_equal(episode.actions, episode.observations[:-1][:, [0, 3]])
    assert law_holds == (shift_ms == 0)
    assert len(episode) > 40


def test_conversion_is_deterministic_and_the_order_of_bags_counts(
    robot: Robot, record: Callable[..., Path], contract: Contract, tmp_path: Path
) -> None:
    bags = [
        record(tmp_path / f"bag{seed}", robot.run({"terminated": 4 + seed}, seed))
        for seed in range(2)
    ]
    first = converted(contract, tmp_path / "first", *bags)
    again = converted(contract, tmp_path / "again", *bags)
    for left, right in zip(first.episodes, again.episodes, strict=True):
        np.testing.assert_array_equal(left.observations, right.observations)
        np.testing.assert_array_equal(left.actions, right.actions)
        np.testing.assert_array_equal(left.rewards, right.rewards)
    for name in ("report.json", "report.html"):
        assert (tmp_path / "first" / name).read_text() == (tmp_path / "again" / name).read_text()
    swapped = converted(contract, tmp_path / "swapped", *reversed(bags))
    assert [len(episode) for episode in swapped.episodes] == [5, 4]


def test_a_single_file_gives_what_its_folder_gives(
    robot: Robot, record: Callable[..., Path], contract: Contract, tmp_path: Path
) -> None:
    bag = record(tmp_path / "bag", robot.run({"terminated": 5}))
    folder = converted(contract, tmp_path / "a", bag).episodes[0]
    single = converted(contract, tmp_path / "b", bag / "bag_0.mcap").episodes[0]
    np.testing.assert_array_equal(folder.observations, single.observations)
    np.testing.assert_array_equal(folder.actions, single.actions)


@pytest.mark.parametrize("namespace", ["/left", "left", "left/"])
def test_relative_topics_are_sought_in_the_namespace(
    blank: Callable[[str], Any],
    record: Callable[..., Path],
    contract: Contract,
    tmp_path: Path,
    namespace: str,
) -> None:
    bag = record(tmp_path / "bag", Robot(blank, "/left").run({"truncated": 5}))
    report = convert(Source(contract, [bag], namespace), tmp_path / "out")
    assert report["namespace"] == "/left"
    assert report["totals"]["transitions"] == 5
    assert check_bag(bag, contract, namespace).transitions == 5
    with pytest.raises(BagError, match=r"no topic /joint_states, .*mean '/left/joint_states'"):
        convert(Source(contract, [bag]), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_actions_beyond_the_bounds_are_clipped_and_counted(
    robot: Robot, record: Callable[..., Path], contract: Contract, tmp_path: Path
) -> None:
    messages = robot.run({"truncated": 5})
    commands = [message for message in messages if message[1] == COMMANDS]
    commands[2][3].data = np.array([5.0, -7.0])
    commands[3][3].data = np.array([2.0, -2.5])
    report = convert(Source(contract, [record(tmp_path / "bag", messages)]), tmp_path / "out")
    actions = load_dataset(tmp_path / "out").episodes[0].actions
    assert actions[2].tolist() == [2.0, -2.0]
    assert actions[3].tolist() == [2.0, -2.0]
    assert [field["clipped"] for field in report["action"]] == [1, 2]
    assert [field["recorded_max"] for field in report["action"]] == [
        5.0,
        pytest.approx(1.5, abs=0.5),
    ]
    assert (
        "3 action values lay beyond the contract's bounds and were clipped." in report["remarks"]
    )


def test_reward_may_be_a_function_of_the_episode(
    robot: Robot, record: Callable[..., Path], contract: Contract, tmp_path: Path
) -> None:
    fields = [field.name for field in contract.policy_spec().observation]
    valued = changed(
        contract,
        reward={
            "function": "dql_core.rewards:distance_to_goal",
            "arguments": {"position": fields[:2], "goal": fields[4:]},
        },
    )
    bag = record(tmp_path / "bag", robot.run({"terminated": 6}))
    (episode,) = converted(valued, tmp_path / "out", bag).episodes
    after = episode.observations[1:].astype(np.float64)
    expected = -np.hypot(after[:, 0] - after[:, 4], after[:, 1] - after[:, 5])
    np.testing.assert_allclose(episode.rewards, expected, rtol=1e-12)


def test_contract_without_a_reward_says_what_its_dataset_is_good_for(
    robot: Robot, record: Callable[..., Path], contract: Contract, tmp_path: Path
) -> None:
    bag = record(tmp_path / "bag", robot.run({"terminated": 6}))
    report = convert(Source(changed(contract, reward=None), [bag]), tmp_path / "out")
    assert any("names no reward" in remark for remark in report["remarks"])


def test_report_accounts_for_what_was_read_and_left_out(
    robot: Robot, record: Callable[..., Path], contract: Contract, tmp_path: Path
) -> None:
    messages = robot.run({"terminated 1": 8, "truncated": 20, "terminated 2": 4})
    cut = [m for m in messages if not (m[1] == JOINTS and 15 * PERIOD < m[2] <= 22 * PERIOD)]
    bag = record(tmp_path / "bag", cut)
    report = convert(Source(contract, [bag], contract_name="arm.yaml"), tmp_path / "out")
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())
    assert [row["ending"] for row in report["episodes"]] == [
        "terminated",
        "no joint_states for too long",
        "truncated",
        "terminated",
    ]
    assert report["totals"]["episodes"] == 4
    (told,) = report["bags"]
    assert [span["reason"] for span in told["left_out"]] == ["no joint_states for too long"]
    topics = {topic["topic"]: topic for topic in told["topics"]}
    assert topics["/joint_states"]["count"] == sum(m[1] == JOINTS for m in cut)
    assert topics["/joint_states"]["gaps"] == 1
    assert topics["/joint_states"]["age_at_tick_ms"]["p50"] == 0
    assert topics["/joint_states"]["age_at_tick_ms"]["max"] == 200
    assert topics["/velocity_controller/commands"]["rate_hz"] == 20
    assert report["contract_hash"] == contract.hash()
    (digests,) = report["bags_sha256"].values()
    assert list(digests) == ["bag_0.mcap"]


def test_html_report_needs_no_network_and_escapes_names(
    robot: Robot, record: Callable[..., Path], contract: Contract, tmp_path: Path
) -> None:
    bag = record(tmp_path / "bag", robot.run({"terminated": 6}))
    convert(Source(changed(contract, robot="<b>&"), [bag]), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<h1>Conversion of &lt;b&gt;&amp;</h1>" in page
    assert page.count("<svg") >= 8
    assert not any(word in page for word in ("http:", "https:", "<script", "src="))


def test_dataset_carries_the_contract_and_the_hashes_of_its_inputs(
    robot: Robot, record: Callable[..., Path], contract: Contract, tmp_path: Path
) -> None:
    bag = record(tmp_path / "bag", robot.run({"terminated": 6}))
    text = ARM.read_text()
    report = convert(Source(contract, [bag], contract_text=text), tmp_path / "out")
    metadata = load_dataset(tmp_path / "out").metadata
    assert metadata["dql_contract"] == text
    assert json.loads(metadata["dql_inputs"]) == report["bags_sha256"]


def test_progress_goes_by_bytes_to_the_end(
    robot: Robot, record: Callable[..., Path], contract: Contract, tmp_path: Path
) -> None:
    bags = [record(tmp_path / f"bag{i}", robot.run({"terminated": 6}, i)) for i in range(3)]
    told: list[tuple[int, int]] = []
    convert(Source(contract, bags), tmp_path / "out", progress=lambda *step: told.append(step))
    total = sum(file.stat().st_size for bag in bags for file in bag.glob("*.mcap"))
    assert told == sorted(told)
    assert told[-1] == (total, total)


def without(messages: list[Message], topic: str) -> list[Message]:
    return [message for message in messages if message[0] != topic]


def spoil(messages: list[Message], topic: str, **fields: Any) -> list[Message]:
    """Change the tenth message of a topic."""
    message = [message for message in messages if message[0] == topic][9][3]
    for name, value in fields.items():
        setattr(message, name, value)
    return messages


@pytest.mark.parametrize(
    ("mistake", "error"),
    [
        (
            lambda messages: without(messages, "/reward"),
            r"bag: no topic /reward, which the contract needs as reward",
        ),
        (
            lambda messages: without(messages, "/terminated"),
            r"bag: no topic /terminated, .* \(did you mean '/truncated'\?\)",
        ),
        (
            lambda messages: [
                (topic, FLOAT, time, message)
                if topic == "/terminated"
                else (topic, kind, time, message)
                for topic, kind, time, message in messages
            ],
            r"bag: /terminated is of type std_msgs/msg/Float64, in the contract of type std_msgs",
        ),
        (
            lambda messages: spoil(messages, "/joint_states", name=["shoulder", "shoulder"]),
            r"bag, 0.450 s from its start: /joint_states: joint 'shoulder' is twice",
        ),
        (
            lambda messages: spoil(messages, "/joint_states", velocity=np.array([0.0, np.nan])),
            r"0.450 s from its start: /joint_states: 'joint_states.velocity.shoulder' is nan",
        ),
        (
            lambda messages: spoil(messages, "/reward", data=np.inf),
            r"0.500 s from its start: /reward: 'data' is inf",
        ),
        (
            lambda messages: (
                [
                    (topic, kind, time + 3600 * 10**9, message)
                    for topic, kind, time, message in without(messages, "/target")[1:]
                ]
                + messages[:1]
            ),
            r"joint_states: header stamp and log time are 3600.0 s apart .*different clocks",
        ),
        (lambda messages: messages[:1], r"no topic /joint_states, .* \(known: /target\)"),
    ],
)
def test_wrong_recordings_are_one_clear_error_and_leave_nothing(
    robot: Robot,
    record: Callable[..., Path],
    contract: Contract,
    tmp_path: Path,
    mistake: Callable[[list[Message]], list[Message]],
    error: str,
) -> None:
    bag = record(tmp_path / "bag", mistake(robot.run({"terminated": 20})))
    with pytest.raises((BagError, ContractError), match=error) as raised:
        convert(Source(contract, [bag]), tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert os.listdir(tmp_path) == ["bag"]


def test_recording_from_which_no_episode_can_be_made_says_why(
    robot: Robot, record: Callable[..., Path], contract: Contract, tmp_path: Path
) -> None:
    messages = robot.run({"terminated": 20})
    late = [m for m in messages if m[1] != COMMANDS] + [robot.command(30 * PERIOD, np.zeros(2))]
    with pytest.raises(BagError, match=r"no episode .*\(no command on velocity_controller/comm"):
        convert(Source(contract, [record(tmp_path / "bag", late)]), tmp_path / "out")


def test_recording_in_which_no_episode_begins_says_so(
    robot: Robot, record: Callable[..., Path], contract: Contract, tmp_path: Path
) -> None:
    topic = contract.action[0].topic
    never = {"topic": topic, "type": COMMANDS, "path": "data.0", "equals": [998, 999]}
    waiting = changed(contract, episode={"during": never})
    bag = record(tmp_path / "bag", robot.run({"terminated": 20}))
    with pytest.raises(BagError) as raised:
        convert(Source(waiting, [bag]), tmp_path / "out")
    assert "no episode could be made (all of it is between episodes); during: " in str(
        raised.value
    )


def test_a_bag_named_twice_is_refused(
    robot: Robot, record: Callable[..., Path], contract: Contract, tmp_path: Path
) -> None:
    bag = record(tmp_path / "bag", robot.run({"terminated": 2}))
    with pytest.raises(BagError, match="bag: is named twice"):
        convert(Source(contract, [bag, tmp_path / "x" / ".." / "bag"]), tmp_path / "out")


def test_a_folder_that_holds_something_is_not_touched(
    robot: Robot, record: Callable[..., Path], contract: Contract, tmp_path: Path
) -> None:
    bag = record(tmp_path / "bag", robot.run({"terminated": 2}))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(DatasetError, match="out: already exists; name another --out folder"):
        convert(Source(contract, [bag]), tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["mine"]


def run_dql(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["dql", *map(str, arguments)])
    with pytest.raises(SystemExit) as raised:
        main()
    return int(raised.value.code or 0)


def test_command_line_writes_the_dataset_and_one_line(
    robot: Robot,
    record: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bag = record(tmp_path / "bag", robot.run({"terminated": 9}))
    assert run_dql(monkeypatch, "convert", ARM, bag, "--out", tmp_path / "out") == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{tmp_path / 'out'}: 1 episode (1 terminated), 9 transitions at 20 Hz")
    assert out.count("\n") == 1
    assert err == ""
    assert sorted(os.listdir(tmp_path / "out")) == ["data", "report.html", "report.json"]
    assert run_dql(monkeypatch, "convert", ARM, bag, "--out", tmp_path / "b", "--json") == 0
    assert json.loads(capsys.readouterr().out)["totals"]["transitions"] == 9


@pytest.mark.parametrize(
    ("contract_change", "bag_name", "error"),
    [
        ({}, "bog", r"bog: no such bag \(did you mean '.*bag'\?\)"),
        (
            {"rate_hertz": 3},
            "bag",
            r"c.yaml: unknown key 'rate_hertz' \(did you mean 'rate_hz'\?\)",
        ),
        (
            {"reward": {"function": "dql_core.rewards:distance_to_gaol"}},
            "bag",
            r"no function 'distance_to_gaol' \(did you mean 'distance_to_goal'\?\)",
        ),
    ],
)
def test_command_line_tells_a_mistake_in_one_line(
    robot: Robot,
    record: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    contract_change: dict[str, Any],
    bag_name: str,
    error: str,
) -> None:
    record(tmp_path / "bag", robot.run({"terminated": 9}))
    document = {**yaml.safe_load(ARM.read_text()), **contract_change}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(document))
    arguments = ("convert", tmp_path / "c.yaml", tmp_path / bag_name, "--out", tmp_path / "out")
    assert run_dql(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert re.search(error, line)
    assert not (tmp_path / "out").exists()
