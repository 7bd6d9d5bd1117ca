"""What a recording keeps, and what it tells, when something goes wrong."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

from dql_core.data.dataset import load_dataset
from dql_ros.bag.reader import Bag
from dql_ros.bag.recorder import RECORDING_KEY
from tests.ros.bag.messages import messages_of
from tests.ros.nodes.recorder.lever import Lever, finish
from tests.ros.nodes.robot import Robot

pytestmark = pytest.mark.ros


@pytest.fixture(name="lever")
def _lever(robot: Robot, tmp_path: Path) -> Lever:
    return Lever(robot, tmp_path)


class Diagnostics:
    """The recorder's last words on /diagnostics."""

    def __init__(self, robot: Robot) -> None:
        self._messages = robot.probe.collect(DiagnosticArray, "/diagnostics")

    def last(self) -> Any:
        found = [status for message in self._messages for status in message.status]
        return found[-1] if found else None

    def value(self, key: str) -> str:
        status = self.last()
        values = {} if status is None else {entry.key: entry.value for entry in status.values}
        return str(values.get(key, ""))


def recorded_states(folder: Path, **options: Any) -> list[int]:
    with Bag(folder, **options) as bag:
        messages = messages_of(bag, frozenset({"/joint_states"}))
        return [int(message.message.position[0]) for message in messages]


def test_a_killed_recorder_leaves_what_dql_convert_salvages(lever: Lever, tmp_path: Path) -> None:
    lever.contract.write_text(lever.contract.read_text().partition("episode:")[0])
    process = lever.record(flush_s=0.05)
    file = lever.bag / "bag_0.mcap"
    before = lever.sent

    def is_on_disk() -> bool:
        return lever.sent > before + 50 and len(recorded_states(lever.bag, salvage=True)) > 40

    lever.move_until(is_on_disk, "something to be on the disk")
    process.send_signal(9)
    assert process.wait(30)
    assert [path.name for path in lever.bag.iterdir()] == [file.name]
    command = [sys.executable, "-m", "dql_ros.cli.main", "convert", str(lever.contract)]
    command += [str(lever.bag), "--out", str(tmp_path / "out")]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "the recorder was stopped before it had finished" in " ".join(refused.stderr.split())
    salvaged = subprocess.run([*command, "--salvage"], capture_output=True, text=True, check=False)
    assert salvaged.returncode == 0, salvaged.stderr
    (episode,) = load_dataset(tmp_path / "out").episodes
    states = recorded_states(lever.bag, salvage=True)
    assert set(episode.observations[:, 0]) <= set(states)
    assert states == sorted(set(states))


def test_lost_messages_are_counted_told_and_noted_in_the_recording(lever: Lever) -> None:
    """A recorder that does not get to run loses what was sent in between."""
    diagnostics = Diagnostics(lever.robot)
    process = lever.record(depth=1)
    lever.move_until(lambda: int(diagnostics.value("messages received") or 0) > 3, "messages")
    process.send_signal(19)  # SIGSTOP
    for _ in range(300):
        lever.move()
    process.send_signal(18)  # SIGCONT
    lever.move_until(lambda: int(diagnostics.value("messages lost") or 0) > 0, "losses")
    assert diagnostics.last().level == DiagnosticStatus.WARN
    finish(lever.robot, process)
    states = recorded_states(lever.bag)
    missing = states[-1] - states[0] + 1 - len(states)
    assert missing > 0
    with Bag(lever.bag) as bag:
        told = json.loads(bag.custom_data[RECORDING_KEY])
    assert told["lost"]["/joint_states"] == missing
    assert f"lost {sum(told['lost'].values())}" in process.last_words


def test_a_disk_that_takes_no_more_is_told_and_the_rest_is_kept(lever: Lever) -> None:
    diagnostics = Diagnostics(lever.robot)
    process = lever.record(flush_s=0.05, compression="none")
    file = lever.bag / "bag_0.mcap"
    start = file.stat().st_size
    lever.move_until(lambda: file.stat().st_size > start + 2_000, "something to be written")
    limit = file.stat().st_size + 4_000
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    lever.move_until(lambda: lever.has_told("failed"), "the recorder to notice")
    assert "bag: cannot be written (File too large); what was written before is" in lever.reason

    def is_told() -> bool:
        status = diagnostics.last()
        return status is not None and status.level == DiagnosticStatus.ERROR

    lever.robot.probe.until(is_told, "the diagnostics to say so")
    assert diagnostics.last().message == lever.reason
    states = recorded_states(lever.bag, salvage=True)
    assert len(states) > 5
    assert states == sorted(set(states))
    process.send_signal(2)
    assert process.wait(30)
    assert process.exit_code == 1


def test_a_nearly_full_disk_ends_the_recording_before_anything_is_damaged(lever: Lever) -> None:
    process = lever.record(min_free_mb=1e9)
    lever.robot.probe.until(lambda: lever.has_told("failed"), "the recorder to notice")
    assert "MB left, under the limit of 1000000000 MB; make room or record" in lever.reason
    with Bag(lever.bag) as bag:
        assert "under the limit" in json.loads(bag.custom_data[RECORDING_KEY])["error"]
    process.send_signal(2)
    assert process.wait(30)
    assert process.exit_code == 1
