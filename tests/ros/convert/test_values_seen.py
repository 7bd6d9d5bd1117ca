"""Where no message is what the contract waits for, it is said what the messages were."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dql_core.errors import BagError
from dql_ros.bag.reader import Loss
from dql_ros.contract import Equals, load_contract
from dql_ros.convert.bag_result import no_episode
from dql_ros.convert.convert import REPORT_HTML, ConvertOptions, Source, convert
from dql_ros.convert.values_seen import MOST_KINDS, ValuesSeen, merged
from dql_ros.tools.contract_check import check_bag

SECOND = 1_000_000_000
TEXT, NUMBER, FLAG = "std_msgs/msg/String", "std_msgs/msg/Int32", "std_msgs/msg/Bool"
FLOAT = "std_msgs/msg/Float32"
STATE, COMMAND = "std_msgs/msg/Float64", "std_msgs/msg/Float64"
NEVER = "during: /mode data is never 'auto' (seen: 'idle' 12 x, 'manual' 8 x)"
REMEDY = f"no episode could be made (all of it is between episodes); {NEVER}; correct 'path'"
Values = list[Any]


@pytest.fixture
def recording(
    tmp_path: Path, record: Callable[..., Path], blank: Callable[[str], Any]
) -> Callable[..., Path]:
    """Return what records two seconds in which a topic has certain values."""

    def write(name: str, values: Values, msgtype: str = TEXT) -> Path:
        messages = []
        for tick, value in enumerate(values):
            for topic, kind, data in (
                ("/mode", msgtype, value),
                ("/state", STATE, float(tick)),
                ("/command", COMMAND, 0.5),
            ):
                message = blank(kind)
                message.data = data
                messages.append((topic, kind, SECOND + tick * SECOND // 10, message))
        return record(tmp_path / name, messages)

    return write


@pytest.fixture
def contract(tmp_path: Path) -> Callable[..., Path]:
    """Return what writes a contract with rules for episodes."""

    def write(equals: Equals | None, role: str = "during", msgtype: str = TEXT) -> Path:
        rule = {"topic": "/mode", "type": msgtype, "path": "data", "equals": equals}
        field = {"path": "data", "low": -1, "high": 1}
        document = {
            "robot": "mover",
            "rate_hz": 10,
            "observation": [
                {
                    "topic": "/state",
                    "stamp": "receive",
                    "max_age_s": 1,
                    "type": STATE,
                    "fields": [{"path": "data"}],
                }
            ],
            "action": [
                {"topic": "/command", "stamp": "receive", "type": COMMAND, "fields": [field]}
            ],
            "episode": {role: {key: value for key, value in rule.items() if value is not None}},
            "on_fault": {"hold_s": 0.1, "command": [0]},
        }
        path = tmp_path / "mover.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    return write


MODES = ["idle"] * 12 + ["manual"] * 8


def test_convert_says_what_the_mode_was(
    recording: Callable[..., Path], contract: Callable[..., Path], tmp_path: Path
) -> None:
    source = Source(load_contract(contract("auto")), [recording("bag", MODES)])
    for options in (ConvertOptions(), ConvertOptions(keep_going=True), ConvertOptions(workers=2)):
        with pytest.raises(BagError) as raised:
            convert(source, tmp_path / "out", options)
        assert str(raised.value).startswith(f"{tmp_path}/bag: {REMEDY}")


def test_check_says_what_the_mode_was(
    recording: Callable[..., Path], contract: Callable[..., Path]
) -> None:
    file, bag = contract("auto"), recording("bag", MODES)
    (problem,) = check_bag(bag, load_contract(file)).findings.problems
    assert problem.startswith(f"{bag}: no episode could be made (0 of ")
    assert problem.endswith(f"; {NEVER}; correct 'path' or 'equals' in the contract")


def test_a_bag_without_an_episode_is_explained_beside_others(
    recording: Callable[..., Path], contract: Callable[..., Path], tmp_path: Path
) -> None:
    bags = [
        recording("good", ["auto"] * 20),
        recording("bad", MODES),
        recording("worse", [*["manual"] * 19, "x" * 300]),
    ]
    report = convert(Source(load_contract(contract("auto")), bags), tmp_path / "out")
    seen = f"'manual' 27 x, 'idle' 12 x, '{'x' * 40}…' 1 x"
    assert (
        f"{bags[1]}, {bags[2]} gave no episode: during: /mode data is never 'auto' (seen: {seen})."
        in report["remarks"]
    )
    assert "is never &#39;auto&#39;" in (tmp_path / "out" / REPORT_HTML).read_text()


def test_bags_that_fail_do_not_hide_the_mode_of_others(
    recording: Callable[..., Path], contract: Callable[..., Path], tmp_path: Path
) -> None:
    bags = [tmp_path / "missing", recording("bag", MODES)]
    with pytest.raises(BagError) as raised:
        convert(
            Source(load_contract(contract("auto")), bags),
            tmp_path / "out",
            ConvertOptions(keep_going=True),
        )
    assert "no bag could be converted; the first: " in str(raised.value)
    assert f"; and {bags[1]}: {REMEDY}" in str(raised.value)


@pytest.mark.parametrize("role", ["start", "during"])
@pytest.mark.parametrize(
    ("msgtype", "values", "equals", "words"),
    [
        (NUMBER, [3] * 15 + [4] * 5, 7, "7 (seen: 3 15 x, 4 5 x)"),
        (NUMBER, [0] * 20, [7, 8], "7 or 8 (seen: 0 20 x)"),
        (NUMBER, [0] * 20, None, "other than 0 (seen: 0 20 x)"),
        (NUMBER, list(range(20)), 50, "50 (seen: 0 1 x, 1 1 x, 2 1 x, 3 1 x, others 16 x)"),
        (FLAG, [False] * 20, None, "true (seen: false 20 x)"),
        (FLAG, [True] * 20, False, "false (seen: true 20 x)"),
        (TEXT, [""] * 20, None, "other than '' (seen: '' 20 x)"),
        (FLOAT, [0.1] * 20, 0.1, f"0.1 (seen: {float(np.float32(0.1))} 20 x)"),
    ],
)
def test_any_kind_of_value_is_named(
    recording: Callable[..., Path],
    contract: Callable[..., Path],
    tmp_path: Path,
    role: str,
    msgtype: str,
    values: Values,
    equals: Equals | None,
    words: str,
) -> None:
    bag = recording("bag", values, msgtype)
    source = Source(load_contract(contract(equals, role, msgtype)), [bag])
    with pytest.raises(BagError) as raised:
        convert(source, tmp_path / "out", ConvertOptions(dry_run=True))
    assert f"; {role}: /mode data is never {words}; correct" in str(raised.value)


@pytest.mark.parametrize(
    ("msgtype", "values", "equals", "words"),
    [
        (TEXT, MODES, "done", "'done' (seen: 'idle' 12 x, 'manual' 8 x)"),
        (NUMBER, [3] * 20, 4, "4 (seen: 3 20 x)"),
        (FLAG, [False] * 20, True, "true (seen: false 20 x)"),
    ],
)
def test_a_task_that_never_ends_is_no_mistake_and_reported(
    recording: Callable[..., Path],
    contract: Callable[..., Path],
    tmp_path: Path,
    msgtype: str,
    values: Values,
    equals: Equals,
    words: str,
) -> None:
    rules = load_contract(contract(equals, "terminated", msgtype))
    bags = [recording("bag", values, msgtype)]
    convert(Source(rules, bags), tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    remark = "it never happened: no episode is terminated; terminated: /mode data is never "
    assert [each for each in report["remarks"] if f"{remark}{words}." in each]
    bags.append(recording("other", [*values[:-1], equals], msgtype))
    report = convert(Source(rules, bags), tmp_path / "both")
    assert report["totals"]["terminated"] == 1
    assert "is never" not in " ".join(report["remarks"])


def test_nothing_is_counted_once_it_was_raised() -> None:
    seen = ValuesSeen("during", "/mode", "data", "auto")
    assert seen.unmatched is None  # no message: that is said elsewhere
    seen.add(["idle", "idle", None], np.array([0, 0, np.nan]))
    assert str(seen.unmatched) == "during: /mode data is never 'auto' (seen: 'idle' 2 x)"
    seen.add(["auto"], np.array([1.0]))
    seen.add(["idle"], np.array([0.0]))
    assert seen.unmatched is None


def test_messages_without_the_path_are_no_values() -> None:
    seen = ValuesSeen("during", "/mode", "goals.0.status", 2)
    seen.add([None, None], np.full(2, np.nan))
    assert str(seen.unmatched) == "during: no message of /mode has goals.0.status"


def test_a_million_different_values_are_not_kept() -> None:
    seen = ValuesSeen("terminated", "/x", "data", -1.0)
    for block in np.arange(20_000.0).reshape(20, -1):
        seen.add(np.append(block, [0.5] * 100), np.zeros(1100))
    row = seen.unmatched
    assert row is not None
    assert (row.seen[0].value, row.seen[0].count) == ("0.5", 2000)
    assert sum(each.count for each in row.seen) + row.others == 22_000
    assert len(seen._counts) <= MOST_KINDS
    both = merged([row, row])
    assert (both.seen[0].count, sum(each.count for each in both.seen) + both.others) == (
        4000,
        44_000,
    )


def test_what_is_lost_is_named_with_what_is_left() -> None:
    seen = ValuesSeen("start", "/mode", "data", tuple("abcdef"))
    seen.add(["g"], np.zeros(1))
    row = seen.unmatched
    assert row is not None
    text = no_episode("all", [Loss("bag.mcap", "its end is missing", None, 5)], (), (row,))
    never = "start: /mode data is never 'a' or 'b' or 'c' or 'd' or one of 2 more (seen: 'g' 1 x)"
    assert text.startswith(f"no episode could be made of what is left of it ({never}); lost: ")
