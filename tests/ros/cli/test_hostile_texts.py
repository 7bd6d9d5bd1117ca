"""Names in bags, datasets and folders that a terminal would obey, as the verbs print them."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dql_core.data.dataset import Episode, write_dataset
from dql_core.spec import FieldSpec, PolicySpec
from tests import cli_process

pytestmark = pytest.mark.slow

NASTY = "a\x1b[2J\x1b]0;t\x07\r\n\u202eb [red]c[/]"
SHOWN = r"a\x1b[2J\x1b]0;t\x07\r\n\u202eb [red]c[/]"
FLOAT = "std_msgs/msg/Float64"
SECOND = 10**9


def dql(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return cli_process.dql(*arguments, cwd=folder, environment={**os.environ, "COLUMNS": "300"})


def seen(done: subprocess.CompletedProcess[str]) -> str:
    """What was printed, which a terminal obeys nothing of."""
    text = done.stdout + done.stderr
    assert all(each.isprintable() or each == "\n" for each in text), repr(text)
    return text


@pytest.fixture
def bag(tmp_path: Path, record: Callable[..., Path], blank: Callable[[str], Any]) -> Path:
    messages = [(f"/{NASTY}", FLOAT, SECOND * tick, blank(FLOAT)) for tick in range(1, 5)]
    return record(tmp_path / "bag", messages)


def test_topics_of_a_bag(bag: Path, tmp_path: Path) -> None:
    told = dql("inspect", bag, folder=tmp_path)
    assert told.returncode == 0, told.stderr
    assert f"/{SHOWN}" in seen(told)
    document = json.loads(dql("inspect", bag, "--json", folder=tmp_path).stdout)
    assert document["topics"][0]["topic"] == f"/{NASTY}"
    contract = tmp_path / "c.yaml"
    contract.write_text(
        "robot: r\nrate_hz: 1\nobservation: [{topic: /x, type: std_msgs/msg/Float64, stamp: "
        "receive, fields: [{path: data}]}]\naction: [{topic: /y, type: std_msgs/msg/Float64, "
        "fields: [{path: data, low: 0, high: 1}]}]\n"
    )
    for verb in (["contract", "check", contract, bag], ["convert", contract, bag, "--out", "o"]):
        told = dql(*verb, folder=tmp_path)
        assert told.returncode == 2
        assert r"a\x1b[2J\x1b]0;t\x07" in seen(told)


def test_a_terminal_obeys_nothing_of_a_bag_either(bag: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "dql_ros.cli.main", "inspect", str(bag)]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "300"}
    with subprocess.Popen(command, env=environment, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        text = b""
        try:
            while piece := os.read(ours, 1 << 16):
                text += piece
        except OSError:  # the other end is closed
            pass
        process.wait(30)
    os.close(ours)
    assert SHOWN.encode() in text
    assert b"\x1b[2J" not in text
    assert b"\x1b]0" not in text
    assert "\u202e".encode() not in text


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    spec = PolicySpec(NASTY, 1.0, (FieldSpec(NASTY, NASTY),), (FieldSpec(NASTY, "", -1.0, 1.0),))
    rows = np.linspace(0, 1, 5, dtype=np.float32)[:, None]
    episode = Episode(rows, rows[1:], np.zeros(4), False, True)
    write_dataset(tmp_path / "set", [episode], spec, description=NASTY)
    return tmp_path / "set"


def test_fields_robot_and_description_of_a_dataset(dataset: Path, tmp_path: Path) -> None:
    told = dql("inspect", dataset, folder=tmp_path)
    assert told.returncode == 0, told.stderr
    assert seen(told).count(SHOWN) == 5


def test_complaints_of_a_dataset(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("agent: diffusion_ql\n")
    told = dql("train", "train.yaml", "--dataset", dataset, "--out", "out", folder=tmp_path)
    assert told.returncode == 2
    assert "every reward is 0" in seen(told)
    path = dataset / "data/metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data_format": NASTY}))
    told = dql("inspect", dataset, folder=tmp_path)
    assert told.returncode == 2
    assert r"it is stored as 'a\x1b[2J\x1b]0;t" in seen(told)


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect"],
        ["convert", "--out", "o", "x.yaml"],
        ["contract", "init"],
        ["import", "--format", "npz", "--out", "o"],
        ["export", "--out", "o"],
        ["bench"],
        ["evaluate", "--env", "Pendulum-v1"],
        ["relabel", "--out", "o", "--reward", "dql_core.rewards:action_cost"],
        ["--debug", "inspect"],
        ["inspect", "one"],
        ["nothing"],
    ],
)
def test_names_of_files_in_complaints(tmp_path: Path, arguments: list[str]) -> None:
    told = dql(*arguments, NASTY.replace("\n", ""), folder=tmp_path)
    assert told.returncode != 0
    assert "internal error" not in seen(told)
    if "--debug" not in arguments:
        assert len(told.stderr.splitlines()) == (2 if "one" in arguments else 1)


def test_a_mistake_in_the_command_line_is_one_line(tmp_path: Path) -> None:
    told = dql("convert", "--nope", folder=tmp_path)
    assert told.returncode == 2
    assert told.stderr == "dql: No such option: --nope; see 'dql convert --help'\n"
    told = dql(folder=tmp_path)
    assert "Usage" in told.stdout + told.stderr
