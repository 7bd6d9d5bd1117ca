"""Recordings whose times cannot be right, from files to dataset: refused, or split there.

Message k carries k, the command likewise: whatever is paired can be read off the dataset.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import Stores, get_typestore

from dql_core.data.dataset import load_dataset
from dql_core.errors import BagError, ContractError
from dql_ros.codecs import stamp_ns
from dql_ros.contract import Contract
from dql_ros.control.observer import Observer
from dql_ros.convert.clock import ClockError, StreamClock
from dql_ros.convert.convert import Source, convert
from dql_ros.tools.contract_check import check_bag
from tests.ros.bag.written_bags import STORE, Recorded, Way, write_bag

MS, SECOND = 10**6, 10**9
START_NS = 1_700_000_000 * SECOND
JOINTS, FLOAT = "sensor_msgs/msg/JointState", "std_msgs/msg/Float64"
COUNT = 40


class Said:
    """A recording of states and commands at 10 Hz, and what is wrong with its clocks."""

    def __init__(self) -> None:
        self.arrived_ns = START_NS + np.arange(COUNT) * 100 * MS
        self.stamps_ns = self.arrived_ns - 2 * MS
        self.nanosec_excess = np.zeros(COUNT, np.int64)
        self.commands_ns = self.arrived_ns + 10 * MS
        # Their header stamps, if they have any.
        self.command_stamps_ns: NDArray[np.int64] | None = None

    def recorder_set_back(self, at: int, back_ms: int, *, stamps: bool) -> None:
        self.arrived_ns[at:] -= back_ms * MS
        self.commands_ns[at:] -= back_ms * MS
        if stamps:
            self.stamps_ns[at:] -= back_ms * MS


def state(number: int, stamp_ns: int, excess: int, store: Any = STORE) -> Any:
    sec, nanosec = divmod(stamp_ns, SECOND)
    types = store.types
    sequence = {"seq": number} if "seq" in types["std_msgs/msg/Header"].__annotations__ else {}
    stamp = types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec + excess)
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="", **sequence)
    none = np.empty(0)
    return types[JOINTS](
        header=header, name=["a"], position=np.array([float(number)]), velocity=none, effort=none
    )


def recorded(said: Said) -> list[Recorded]:
    """In the order of receipt, whatever the recorder's clock said."""
    messages = []
    for number in range(COUNT):
        joint = state(number, int(said.stamps_ns[number]), int(said.nanosec_excess[number]))
        now = int(said.arrived_ns[number])
        messages.append(Recorded("/js", JOINTS, now, bytes(STORE.serialize_cdr(joint, JOINTS))))
        sent_ns = int(said.commands_ns[number])
        if said.command_stamps_ns is None:
            command, msgtype = STORE.types[FLOAT](data=float(number)), FLOAT
        else:
            command, msgtype = state(number, int(said.command_stamps_ns[number]), 0), JOINTS
        content = bytes(STORE.serialize_cdr(command, msgtype))
        messages.append(Recorded("/cmd", msgtype, sent_ns, content))
    return messages


def written_ros1(folder: Path, said: Said) -> Path:
    store = get_typestore(Stores.ROS1_NOETIC)
    folder.mkdir()
    with Ros1Writer(folder / "x.bag") as writer:
        joints = writer.add_connection("/js", JOINTS, typestore=store)
        commands = writer.add_connection("/cmd", FLOAT, typestore=store)
        for number in range(COUNT):
            excess = int(said.nanosec_excess[number])
            joint = state(number, int(said.stamps_ns[number]), excess, store)
            now = int(said.arrived_ns[number])
            writer.write(joints, now, store.serialize_ros1(joint, JOINTS))
            command = store.types[FLOAT](data=float(number))
            writer.write(
                commands, int(said.commands_ns[number]), store.serialize_ros1(command, FLOAT)
            )
    return folder / "x.bag"


WRITERS: dict[str, Callable[[Path, Said], Path]] = {
    "mcap": lambda folder, said: write_bag(folder, recorded(said)),
    "mcap in chunks": lambda folder, said: write_bag(
        folder, recorded(said), Way(chunk_size=600, compression="zstd")
    ),
    "sqlite": lambda folder, said: write_bag(folder, recorded(said), Way("db3")),
    "sqlite compressed": lambda folder, said: write_bag(
        folder, recorded(said), Way("db3", compression="message")
    ),
    "ros1": written_ros1,
}


def rules(*, stamp: str = "header", clock: str = "refuse", **more: Any) -> Contract:
    return Contract.model_validate(
        {
            "robot": "r",
            "rate_hz": 10.0,
            "observation": [
                {
                    "topic": "/js",
                    "type": JOINTS,
                    "stamp": stamp,
                    "fields": [{"path": "position", "joints": ["a"]}],
                }
            ],
            "action": [
                {
                    "topic": "/cmd",
                    "type": FLOAT,
                    "fields": [{"path": "data", "names": ["u"], "low": -10, "high": 1000}],
                }
            ],
            "clock": clock,
            **more,
        }
    )


def stamped(**more: Any) -> Contract:
    """With commands that have header stamps."""
    document = rules(**more).model_dump(mode="json", exclude_defaults=True)
    (command,) = document["action"]
    fields = [{"path": "position", "joints": ["a"], "low": -10, "high": 1000}]
    document["action"] = [{**command, "type": JOINTS, "stamp": "header", "fields": fields}]
    return Contract.model_validate(document)


def refusal(contract: Contract, bag: Path, out: Path) -> str:
    with pytest.raises(BagError) as caught:
        convert(Source(contract, [bag]), out)
    assert not out.exists()
    return str(caught.value)


def pairs(contract: Contract, bag: Path, out: Path) -> list[list[tuple[int, int]]]:
    """Of each episode, the numbers of the observations and of the commands beside them."""
    convert(Source(contract, [bag]), out)
    return [
        [
            (int(observed[0]), int(action[0]))
            for observed, action in zip(each.observations[:-1], each.actions, strict=True)
        ]
        for each in load_dataset(out).episodes
    ]


def is_sound(episode: list[tuple[int, int]]) -> bool:
    """Whether each observation is paired with the command of its time or the one before."""
    numbers = [observed for observed, _ in episode]
    return numbers == sorted(numbers) and all(abs(a - b) <= 1 for a, b in episode)


@pytest.mark.parametrize("tick", ["grid", "action"])
@pytest.mark.parametrize(("stamp", "stamps"), [("header", True), ("receive", False)])
@pytest.mark.parametrize("back_ms", [350, 3000])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_recorder_whose_clock_was_set_back(
    tmp_path: Path, writer: str, back_ms: int, stamp: str, stamps: bool, tick: str
) -> None:
    said = Said()
    said.recorder_set_back(30, back_ms, stamps=stamps)
    bag = WRITERS[writer](tmp_path / "bag", said)
    text = refusal(rules(stamp=stamp, tick=tick), bag, tmp_path / "out")
    assert f"/js: message 31: it was received {(back_ms - 100) / 1000:.3f} s before" in text
    assert "recorder's clock was set back" in text
    assert "clock: split" in text
    split = rules(stamp=stamp, tick=tick, clock="split")
    episodes = pairs(split, bag, tmp_path / "out")
    assert len(episodes) == 2
    assert all(map(is_sound, episodes))
    assert episodes[0][0][0] == 0
    assert max(max(pair) for pair in episodes[0]) <= 29
    assert min(min(pair) for pair in episodes[1]) >= 30
    assert len(episodes[0]) >= 28
    assert len(episodes[1]) >= 8


@pytest.mark.parametrize("writer", WRITERS)
def test_stamps_that_are_ahead_of_their_receipt(tmp_path: Path, writer: str) -> None:
    said = Said()
    said.stamps_ns[15:25] += SECOND
    bag = WRITERS[writer](tmp_path / "bag", said)
    text = refusal(rules(), bag, tmp_path / "out")
    assert "1.500 s from its start: /js: message 16: the header stamp is 0.998 s ahead" in text
    assert "(limit 0.1 s)" in text
    assert "stamp: receive" in text
    first, second = pairs(rules(clock="split"), bag, tmp_path / "out")
    assert max(max(pair) for pair in first) <= 14
    assert min(min(pair) for pair in second) >= 25
    assert is_sound(first)
    assert is_sound(second)
    (by_receipt,) = pairs(rules(stamp="receive"), bag, tmp_path / "received")
    assert by_receipt == [(number, number) for number in range(39)]
    patient = rules().observation[0].model_copy(update={"max_ahead_s": 2.0})
    accepted = rules().model_copy(update={"observation": (patient,)})
    assert not check_bag(bag, accepted).findings.problems


@pytest.mark.parametrize("writer", WRITERS)
def test_a_nanosec_that_is_no_part_of_a_second(tmp_path: Path, writer: str) -> None:
    """Added up, 1.2 s of nanoseconds would make stamps that look like a later second's."""
    said = Said()
    said.nanosec_excess[20] = 10**9
    bag = WRITERS[writer](tmp_path / "bag", said)
    nanosec = said.stamps_ns[20] % SECOND + 10**9
    text = refusal(rules(), bag, tmp_path / "out")
    assert f"/js: message 21: header.stamp.nanosec is {nanosec}" in text
    first, second = pairs(rules(clock="split"), bag, tmp_path / "out")
    assert [len(first), len(second)] == [19, 18]
    assert is_sound(first)
    assert is_sound(second)


@pytest.mark.parametrize("move_ms", [-350, -3000])
def test_a_publishers_clock_that_is_set_back(tmp_path: Path, move_ms: int) -> None:
    said = Said()
    said.stamps_ns[30:] += move_ms * MS
    bag = write_bag(tmp_path / "bag", recorded(said))
    text = refusal(rules(), bag, tmp_path / "out")
    after_s = 0.002 - move_ms / 1000
    assert "3.000 s from its start: /js: message 31: " in text
    assert f"stamp is {after_s - 0.102:.3f} s before that of an earlier message" in text
    episodes = pairs(rules(clock="split"), bag, tmp_path / "out")
    assert all(map(is_sound, episodes))
    assert not any(min(o for o, _ in each) < 30 <= max(o for o, _ in each) for each in episodes)


@pytest.mark.parametrize("tick", ["grid", "action"])
@pytest.mark.parametrize("stamp", ["header", "receive"])
@pytest.mark.parametrize("back_ms", [350, 3000])
@pytest.mark.parametrize("moved", ["/js", "/cmd"])
@pytest.mark.parametrize("writer", WRITERS)
def test_log_times_that_go_back_on_one_topic_alone_are_refused(
    tmp_path: Path, writer: str, moved: str, back_ms: int, stamp: str, tick: str
) -> None:
    said = Said()
    times_ns = said.arrived_ns if moved == "/js" else said.commands_ns
    times_ns[30:] -= back_ms * MS
    bag = WRITERS[writer](tmp_path / "bag", said)
    other = "/cmd" if moved == "/js" else "/js"
    for clock in ("refuse", "split"):
        contract = rules(stamp=stamp, tick=tick, clock=clock)
        text = refusal(contract, bag, tmp_path / "out")
        assert (
            f"{moved}: message 31: it was received {(back_ms - 100) / 1000:.3f} s before" in text
        )
        assert f"{other} did not go back with it" in text
        assert "split" not in text
        assert text in check_bag(bag, contract).findings.problems


@pytest.mark.parametrize("tick", ["grid", "action"])
@pytest.mark.parametrize("back_ms", [350, 3000])
@pytest.mark.parametrize("way", [Way(), Way(chunk_size=600), Way("db3")], ids=str)
def test_commands_whose_stamps_go_back_with_the_recorders_clock_are_split(
    tmp_path: Path, way: Way, back_ms: int, tick: str
) -> None:
    """In the order of their log times, stamps go back; as they were written, the clock did."""
    said = Said()
    said.recorder_set_back(30, back_ms, stamps=True)
    said.command_stamps_ns = said.commands_ns - 2 * MS
    bag = write_bag(tmp_path / "bag", recorded(said), way)
    assert "recorder's clock was set back" in refusal(stamped(tick=tick), bag, tmp_path / "out")
    split = stamped(tick=tick, clock="split")
    assert check_bag(bag, split).findings.problems == []
    episodes = pairs(split, bag, tmp_path / "out")
    assert len(episodes) == 2
    assert all(map(is_sound, episodes))
    assert min(min(pair) for pair in episodes[1]) >= 30


EARLY = {
    "for good": slice(30, None),
    "first 3": slice(3),
    "first 8": slice(8),
    "some": slice(20, 24),
    "last 4": slice(-4, None),
    "every other": slice(1, None, 2),
}


@pytest.mark.parametrize("are_observations_too", [False, True])
@pytest.mark.parametrize("which", EARLY)
def test_commands_whose_stamps_move_are_refused_in_any_case(
    tmp_path: Path, which: str, *, are_observations_too: bool
) -> None:
    said = Said()
    said.command_stamps_ns = said.commands_ns - 2 * MS
    said.command_stamps_ns[EARLY[which]] -= 350 * MS
    if are_observations_too:
        said.stamps_ns[EARLY[which]] -= 350 * MS
    bag = write_bag(tmp_path / "bag", recorded(said))
    text = refusal(stamped(clock="split"), bag, tmp_path / "out")
    assert "/cmd: message " in text
    assert text.endswith("set 'stamp: receive' for it in the contract")
    _, _, reason = text.partition("/cmd: ")
    for clock in ("refuse", "split"):
        problems = check_bag(bag, stamped(clock=clock)).findings.problems
        assert any(reason in problem for problem in problems)
    document = stamped(stamp="receive").model_dump(mode="json", exclude_defaults=True)
    del document["action"][0]["stamp"]
    by_receipt = Contract.model_validate(document)
    assert pairs(by_receipt, bag, tmp_path / "out") == [[(i, i) for i in range(39)]]


@pytest.mark.parametrize("which", EARLY)
def test_observations_whose_stamps_move_are_refused_or_split(tmp_path: Path, which: str) -> None:
    said = Said()
    said.stamps_ns[EARLY[which]] -= 350 * MS
    bag = write_bag(tmp_path / "bag", recorded(said))
    assert "/js: message " in refusal(rules(), bag, tmp_path / "refused")
    if which != "every other":
        assert all(map(is_sound, pairs(rules(clock="split"), bag, tmp_path / "split")))


def test_commands_that_are_stamped_long_before_they_came_are_reported_in_ticks(
    tmp_path: Path,
) -> None:
    said = Said()
    said.command_stamps_ns = said.commands_ns - 250 * MS
    said.stamps_ns = said.arrived_ns + 90 * MS
    bag = write_bag(tmp_path / "bag", recorded(said))
    found = check_bag(bag, stamped()).findings
    assert found.problems == []
    early = "/cmd: commands count from their header stamps on, usually 0.25 s (2.5 ticks) before"
    ahead = "/js: values are known from their header stamps on, usually 0.09 s (0.9 ticks) after"
    remarks = convert(Source(stamped(), [bag]), tmp_path / "out")["remarks"]
    for texts in (found.warnings, remarks):
        assert sum(early in text for text in texts) == 1
        assert sum(ahead in text for text in texts) == 1
    near = Said()
    near.command_stamps_ns = near.commands_ns - 49 * MS
    near.stamps_ns = near.arrived_ns + 49 * MS
    bag = write_bag(tmp_path / "near", recorded(near))
    assert not any("ticks" in text for text in check_bag(bag, stamped()).findings.warnings)


def test_a_check_says_what_a_conversion_does(tmp_path: Path) -> None:
    said = Said()
    said.stamps_ns[15:] += 4 * SECOND
    ahead = write_bag(tmp_path / "ahead", recorded(said))
    said = Said()
    said.recorder_set_back(30, 3000, stamps=False)
    back = write_bag(tmp_path / "back", recorded(said))
    for bag, words in ((ahead, "/js: message 16: the header stamp"), (back, "/js: message 31: ")):
        refused = check_bag(bag, rules()).findings
        (problem,) = refused.problems
        assert words in problem
        assert not refused.warnings
        split = check_bag(bag, rules(clock="split"))
        assert not split.findings.problems
        assert any("episodes end there" in text for text in split.findings.warnings)
        assert split.episodes > 0


def test_the_report_counts_what_was_split(tmp_path: Path) -> None:
    said = Said()
    said.recorder_set_back(20, 350, stamps=True)
    said.stamps_ns[30:33] += SECOND
    bag = write_bag(tmp_path / "bag", recorded(said))
    report = convert(Source(rules(clock="split"), [bag]), tmp_path / "out")
    assert report["totals"]["clock_splits"] == 2
    rows = report["bags"][0]["clock_faults"]
    assert [(row["topic"], row["count"]) for row in rows] == [("/js", 1), ("/js", 3)]
    assert sum("episodes end there" in remark for remark in report["remarks"]) == 2


def test_a_recording_without_faults_is_the_same_by_either_choice(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", recorded(Said()))
    refusing = pairs(rules(), bag, tmp_path / "refuse")
    assert refusing == pairs(rules(clock="split"), bag, tmp_path / "split")
    assert refusing == [[(number, number) for number in range(39)]]
    assert rules().hash() == Contract.model_validate(rules().model_dump(exclude={"clock"})).hash()


def test_a_latched_value_and_a_started_episode_outlast_a_step(tmp_path: Path) -> None:
    said = Said()
    said.recorder_set_back(20, 3000, stamps=True)
    goal = STORE.types[FLOAT](data=7.0)
    content = bytes(STORE.serialize_cdr(goal, FLOAT))
    first = [Recorded(topic, FLOAT, START_NS, content) for topic in ("/goal", "/go")]
    bag = write_bag(tmp_path / "bag", [*first, *recorded(said)])
    latched = {
        "topic": "/goal",
        "type": FLOAT,
        "stamp": "receive",
        "latched": True,
        "fields": [{"path": "data", "names": ["goal"]}],
    }
    document = rules(clock="split").model_dump(mode="json", exclude_defaults=True)
    document["observation"] += [latched]
    document["episode"] = {"start": {"topic": "/go", "type": FLOAT}}
    contract = Contract.model_validate(document)
    convert(Source(contract, [bag]), tmp_path / "out")
    episodes = load_dataset(tmp_path / "out").episodes
    assert [each.observations[0].tolist() for each in episodes] == [[0, 7], [20, 7]]


@pytest.mark.parametrize("excess", [0, SECOND])
@pytest.mark.parametrize("ahead_ns", [-SECOND, 0, 100 * MS, 100 * MS + 1, SECOND])
def test_a_node_judges_a_stamp_as_a_conversion_does(ahead_ns: int, excess: int) -> None:
    contract = rules()
    message = state(7, START_NS + ahead_ns, excess)
    live = offline = ""
    try:
        Observer(contract).receive("/js", message, received_ns=START_NS, steady_ns=0)
    except ContractError as error:
        live = str(error)
    clock = StreamClock("/js", contract.observation[0], contract.period_ns, refuses=True)
    try:
        clock.judge(np.array([START_NS]), np.array([stamp_ns(message)]), np.array([True]))
    except ClockError as error:
        offline = str(error)
    words, _, _ = live.removeprefix("/js: ").rpartition("; synchronise")
    words = (words or live.removeprefix("/js: ")).replace("this node's clock", "its receipt")
    assert offline.startswith(f"/js: message 1: {words}" if live else "")
    assert bool(offline) == bool(live) == (ahead_ns > 100 * MS or excess > 0)


def test_two_streams_of_a_topic_are_split_once_where_its_stamps_are_ahead(tmp_path: Path) -> None:
    said = Said()
    said.stamps_ns[15:25] += SECOND
    bag = write_bag(tmp_path / "bag", recorded(said))
    document = rules(clock="split").model_dump(mode="json", exclude_defaults=True)
    (first,) = document["observation"]
    fields = [{"path": "header.stamp.sec", "names": ["second"]}]
    document["observation"] = [first, {**first, "name": "again", "fields": fields}]
    report = convert(Source(Contract.model_validate(document), [bag]), tmp_path / "out")
    assert report["totals"]["clock_splits"] == 1
    numbers = [
        each.observations[:, 0].tolist() for each in load_dataset(tmp_path / "out").episodes
    ]
    assert [(each[0], each[-1]) for each in numbers] == [(0, 14), (25, 39)]


@pytest.mark.parametrize("clock", ["refuse", "split"])
@pytest.mark.parametrize("late_ms", [-500, 0, 100_000, None])
def test_the_clock_of_a_publisher_that_is_not_used_does_not_matter(
    tmp_path: Path, clock: str, late_ms: int | None
) -> None:
    """A gripper's joints on the arm's topic: stamped ahead, in time, long ago, or never."""
    messages = []
    for number, arm in enumerate(recorded(Said())):
        now = arm.log_time_ns - MS
        stamp = 0 if late_ms is None else now - late_ms * MS
        gripper = state(1000, stamp, 0)
        gripper.name = ["g"]
        content = bytes(STORE.serialize_cdr(gripper, JOINTS))
        messages += [Recorded("/js", JOINTS, now, content), arm] if number % 2 == 0 else [arm]
    bag = write_bag(tmp_path / "bag", messages)
    check = check_bag(bag, rules(clock=clock))
    assert check.findings.problems == []
    assert not any("stamp" in text for text in check.findings.warnings)
    found = pairs(rules(clock=clock), bag, tmp_path / "out")
    assert found == [[(number, number) for number in range(39)]]


@pytest.mark.parametrize("first", [0, 15])
def test_stamps_far_from_their_receipt_are_judged_alike_by_check_and_conversion(
    tmp_path: Path, first: int
) -> None:
    said = Said()
    said.stamps_ns[first:25] -= 100 * SECOND
    bag = write_bag(tmp_path / "bag", recorded(said))
    problems = check_bag(bag, rules(clock="split")).findings.problems
    if first:
        assert problems == []
        numbers = [
            {a for a, _ in each} for each in pairs(rules(clock="split"), bag, tmp_path / "o")
        ]
        assert numbers == [set(range(14)), set(range(25, 39))]
    else:
        assert "set 'stamp: receive'" in problems[0]
        with pytest.raises(BagError, match="of different clocks; set 'stamp: receive'"):
            pairs(rules(clock="split"), bag, tmp_path / "o")
    assert check_bag(bag, rules()).findings.problems


def test_a_recording_that_is_ahead_throughout_is_told_the_remedy_that_works(
    tmp_path: Path,
) -> None:
    said = Said()
    said.stamps_ns += SECOND
    bag = write_bag(tmp_path / "bag", recorded(said))
    remedy = "set 'stamp: receive' for /js in the contract"
    assert remedy in check_bag(bag, rules(clock="split")).findings.problems[-1]
    with pytest.raises(BagError, match=f"no episode could be made .*; {remedy}"):
        pairs(rules(clock="split"), bag, tmp_path / "out")
    assert pairs(rules(clock="split", stamp="receive"), bag, tmp_path / "received")
