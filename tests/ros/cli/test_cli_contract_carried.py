"""`dql contract init` of recordings of anybody: no code of theirs, no yaml by names of theirs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dql_core.spec import CONTRACT_KEY
from dql_ros.contract import load_contract
from tests.ros.bag.sample_writer import SampleWriter
from tests.ros.cli.cart import COMMAND, FITTING, SECOND, record_cart, run


@pytest.fixture
def bag(tmp_path: Path, record: Callable[..., Path], blank: Callable[[str], Any]) -> Path:
    return record_cart(tmp_path / "cart", record, blank)


CODE = """\
reward:  # weighed by hand
  - function: {module}:reward
    weight: 2
  - function: {module}:other

episode:
  # of a person
  terminated: {{function: {module}:done, arguments: {{limit: 1}}}}
  min_length: 3
"""

HARMLESS = FITTING + "episode:\n  # of a person\n  min_length: 3\n"


def carrying(folder: Path, text: str) -> Path:
    with SampleWriter(folder, contract_text=text) as writer:
        writer.add_topic("/reward", "std_msgs/msg/Float64")
    return folder


def test_a_recording_names_no_code_to_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    own = carrying(tmp_path / "own", FITTING + CODE.format(module="evil"))
    out = tmp_path / "robot.yaml"
    made = run("init", own, "--out", out)
    told_line, _ = made.stdout.splitlines()
    assert told_line == (
        "left out of the carried contract: reward (evil:reward), reward (evil:other), "
        "episode.terminated (evil:done): a recording names no code; the file has them in "
        "comments, to be put back where you trust them"
    )
    assert run("check", out).exit_code == 0
    assert not (tmp_path / "mark").exists()
    assert yaml.safe_load(out.read_text()) == yaml.safe_load(HARMLESS)
    kept = [line.removeprefix("# ") for line in out.read_text().splitlines()]
    assert all(line in kept for line in CODE.format(module="evil").splitlines())


@pytest.mark.parametrize(
    "text",
    [
        "{robot: cart, reward: {function: evil:x}}",
        "robot: cart\n<<: {reward: {function: evil:x}}",
        "robot: cart\nepisode: {terminated: {function: evil:x}}\n",
        "robot: cart\nepisode:\n  terminated:\n    function: evil:x",
        "robot: cart\nreward: &r [{function: evil:x}]\n",
        "? reward\n: function: evil:x\nrobot: cart\n",
        "robot: cart\nreward: {topic: a, arguments: {function: evil:x}}",
        "robot: cart\r\nreward: {function: evil:x}\r\n",
        'robot: cart\n"rew\\x61rd": {"\\x66unction": "evil:x"}\n',
    ],
)
def test_however_it_is_written(tmp_path: Path, text: str) -> None:
    made = run("init", carrying(tmp_path / "own", text), "--out", tmp_path / "robot.yaml")
    assert "(evil:x): a recording names no code" in made.stdout
    assert yaml.safe_load((tmp_path / "robot.yaml").read_text()) == {"robot": "cart"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("robot: {function: evil:x}", "names code where a contract has none"),
        ("a: &a {function: evil:x}\nreward: *a", "names code where a contract has none"),
        ("- 1", "is no mapping of keys"),
        ("a: [", "is no valid yaml"),
        ("a: &a [*a]", "contains itself"),
        ("x" * (1 << 20) + "y", "is longer than 1,048,576 bytes"),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_no_contract_is_told_and_the_messages_count(
    bag: Path, tmp_path: Path, text: str, words: str
) -> None:
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())
    metadata["rosbag2_bagfile_information"]["custom_data"] = {CONTRACT_KEY: text}
    (bag / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    made = run("init", bag, "--out", tmp_path / "robot.yaml")
    assert words in made.stdout.splitlines()[0]
    assert "it is not taken" in made.stdout.splitlines()[0]
    assert load_contract(tmp_path / "robot.yaml").robot == "cart"


def test_what_an_editor_would_not_show_is_written_as_escapes(tmp_path: Path) -> None:
    text = "robot: cart  # \u202eevil\n# \u2028reward: {function: evil:x}\n"
    run("init", carrying(tmp_path / "own", text), "--out", tmp_path / "robot.yaml")
    assert (tmp_path / "robot.yaml").read_text() == (
        "robot: cart  # \\u202eevil\n# \\u2028reward: {function: evil:x}\n"
    )


NASTY = "x: {function: evil:x}\n\u2028]}\"'# \x1b[31m\u202e"


def test_names_in_a_recording_do_not_write_yaml(
    tmp_path: Path, record: Callable[..., Path], blank: Callable[[str], Any]
) -> None:
    messages = []
    for tick in range(20):
        state = blank("sensor_msgs/msg/JointState")
        state.name, state.position = [NASTY, "b"], np.array([tick / 10, 1.0 - tick])
        command = blank(COMMAND)
        command.data = np.array([np.cos(tick)])
        now = 50 * SECOND + tick * SECOND // 10
        messages += [(f"/{NASTY}", "sensor_msgs/msg/JointState", now, state)]
        messages += [("/commands", COMMAND, now + 7, command)]
    messages += [(f"/unused{NASTY}", "std_msgs/msg/String", now + 9, blank("std_msgs/msg/String"))]
    out = tmp_path / "robot.yaml"
    run("init", record(tmp_path / "own", messages), "--out", out)
    contract_ = load_contract(out)
    assert contract_.observation[0].topic == f"/{NASTY}"
    assert contract_.reward is None
    assert contract_.episode.terminated is None
    assert all(each.isprintable() or each == "\n" for each in out.read_text())
