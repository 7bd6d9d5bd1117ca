"""Runs `dql convert` in processes of its own, and holds it where a test wants it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import yaml

from tests.cli_process import dql
from tests.ros.convert.test_convert import ARM, Robot

Found = TypeVar("Found")
# Length of the episode at which the reward function stops until the test lets it go on.
HELD, KILLED, BROKEN = 7, 8, 9
LIMIT_S = 60.0
MARK = "DQL_TEST_MARK"
# A reward function in the working directory. It tells which episodes it has seen.
MODULE = f"""
import os, signal, time
from pathlib import Path

def reward(episode, folder):
    folder, length = Path(folder), len(episode)
    with (folder / "seen").open("a") as seen:
        seen.write(f"{{length}}\\n")
    if length == {HELD} and not (folder / "go").exists():
        (folder / f"held-{{os.getpid()}}").touch()
        while not (folder / "go").exists():
            time.sleep(0.01)
    if length == {KILLED}:
        os.kill(os.getpid(), signal.SIGKILL)
    if length == {BROKEN}:
        raise MemoryError("no more")
    return episode.observations[1:, 0] - length
"""


class Workplace:
    """A folder with a contract, its reward function and bags.

    Attributes:
        folder: The working directory of the commands.
        surroundings: Environment variables of the commands, besides the test's own.
        seen: The reward function's notes: lengths of the episodes in the order of the calls.
    """

    def __init__(self, folder: Path, robot: Robot, record: Callable[..., Path]) -> None:
        self.folder = folder
        self.surroundings: dict[str, str] = {}
        self._robot, self._record = robot, record
        (folder / "held_reward.py").write_text(MODULE)
        document = yaml.safe_load(ARM.read_text())
        document["reward"] = {
            "function": "held_reward:reward",
            "arguments": {"folder": str(folder)},
        }
        (folder / "contract.yaml").write_text(yaml.safe_dump(document))

    def bag(self, length: int, name: str = "") -> str:
        """Record a bag of one episode; return its name."""
        name = name or f"bag_{length}"
        self._record(self.folder / name, self._robot.run({"terminated": length}, seed=length))
        return name

    def bags(self, *lengths: int) -> list[str]:
        return [self.bag(length) for length in lengths]

    @property
    def seen(self) -> list[int]:
        return sorted(int(line) for line in (self.folder / "seen").read_text().split())

    @property
    def left(self) -> set[str]:
        """What lies in the folder besides what was there before."""
        given = ("bag_", "held", "go", "seen", "contract.yaml", "__pycache__")
        return {name for name in os.listdir(self.folder) if not name.startswith(given)}

    def release(self) -> None:
        (self.folder / "go").touch()

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "dql_ros.cli.main", "convert", "contract.yaml", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return dql(
            "convert",
            "contract.yaml",
            *arguments,
            cwd=self.folder,
            environment=self.environment(),
        )

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start the command in a process group of its own, which does not outlive the block."""
        with subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                for pid in self.processes():
                    os.kill(pid, signal.SIGKILL)

    def environment(self) -> dict[str, str]:
        packages = str(Path(__file__).parents[3])
        marked = {"PYTHONPATH": packages, MARK: str(self.folder)}
        return {**os.environ, **marked, **self.surroundings}

    def processes(self) -> list[int]:
        """Processes that were started for this folder and still run."""
        return marked_processes(str(self.folder))

    def holder(self) -> int:
        """Wait until the reward function is held; return its process."""
        found = wait_for(lambda: list(self.folder.glob("held-*")), "an episode to be held")
        return int(found[0].name.partition("-")[2])

    def converted(self, count: int) -> None:
        """Wait until so many bags are done."""
        wait_for(
            lambda: len(list(self.folder.glob(".out.parts/*/identity.json"))) >= count,
            f"{count} finished bags",
        )


def marked_processes(value: str) -> list[int]:
    """Processes that run with this value of the environment variable ``MARK``."""
    mark = f"{MARK}={value}".encode()
    running = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if mark in (entry / "environ").read_bytes().split(b"\0") and state != "Z":
                running.append(int(entry.name))
        except OSError:  # it has ended meanwhile
            continue
    return running


def wait_for(condition: Callable[[], Found], what: str) -> Found:
    """Poll until the condition gives something true."""
    deadline = time.monotonic() + LIMIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of all files of a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
