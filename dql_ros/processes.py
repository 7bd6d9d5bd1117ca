"""Node processes: started on a domain of their own, watched, and always ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from dql_core.errors import SimulationError
from dql_core.training.interruption import Interruption
from dql_ros.domain import environment_of
from dql_ros.private_folders import temporary_folder

# A node started with this variable ends when the process of that id is no longer its parent.
PARENT_VARIABLE = "DQL_ROS_PARENT_PID"

# How long a process may take to end after SIGINT, and after SIGTERM, in seconds.
_GRACE_S = (10.0, 3.0)
_LOG_PREFIX = re.compile(r"^\[\w+\] \[[\d.]+\] \[[^]]*\]: ")


@dataclass(frozen=True)
class NodeCommand:
    """How to start one node.

    Attributes:
        module: Python module whose ``main`` runs it.
        node: Name that the node is given.
        parameters: Its parameters.
        namespace: Its namespace.
    """

    module: str
    node: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    namespace: str = "/"

    def arguments(self, folder: Path) -> list[str]:
        """Return the command line; its parameters lie in a file in ``folder``."""
        path = folder / f"{self.node}.yaml"
        path.write_text(yaml.safe_dump({"/**": {"ros__parameters": dict(self.parameters)}}))
        names = ["-r", f"__node:={self.node}", "-r", f"__ns:={self.namespace}"]
        ros_arguments = ["--ros-args", *names, "--params-file", str(path)]
        return [sys.executable, "-m", self.module, *ros_arguments]


class NodeProcess:
    """A running node."""

    def __init__(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches only the parent."""
        self.name = name
        self._lines: deque[str] = deque(maxlen=50)
        self._process = subprocess.Popen(
            arguments,
            env={**environment, PARENT_VARIABLE: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code; ``None`` while it runs."""
        return self._process.poll()

    @property
    def last_words(self) -> str:
        """The last line it wrote to stderr, without the logger's prefix."""
        if self.exit_code is not None:
            self._reader.join(timeout=1.0)
        written = [line for line in list(self._lines) if line.strip()]
        return _LOG_PREFIX.sub("", written[-1]).strip() if written else "it said nothing"

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def stop(self) -> None:
        """End it: SIGINT, then SIGTERM, then SIGKILL."""
        for number, grace_s in zip((signal.SIGINT, signal.SIGTERM), _GRACE_S, strict=True):
            self.send_signal(number)
            if self.wait(grace_s):
                break
        else:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=1.0)

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; say whether it came in time."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _read(self) -> None:
        if self._process.stderr is not None:
            with self._process.stderr as stream:
                self._lines.extend(stream)


def start_process(
    running: list[NodeProcess], name: str, arguments: Sequence[str], environment: Mapping[str, str]
) -> NodeProcess:
    """Start a process and note it in ``running``; no signal can come between the two."""
    with Interruption() as interruption:
        process = NodeProcess(name, arguments, environment)
        running.append(process)
    if interruption.requested:
        raise KeyboardInterrupt
    return process


class NodeProcesses:
    """The processes of one run; leaving the block ends them all."""

    def __init__(self, domain: int) -> None:
        """Start processes on ``domain``."""
        self._domain = domain
        self._running: list[NodeProcess] = []
        self._folder = temporary_folder()

    @property
    def folder(self) -> Path:
        """Where their parameters and logs lie; it goes with them."""
        return self._folder.path

    def start(self, command: NodeCommand) -> NodeProcess:
        """Start a node."""
        environment = environment_of(self._domain) | {"ROS_LOG_DIR": str(self.folder)}
        arguments = command.arguments(self.folder)
        return start_process(self._running, command.node, arguments, environment)

    def check(self) -> None:
        """See that no process has failed.

        Raises:
            SimulationError: Naming the first that has, with the last line it wrote.
        """
        for process in self._running:
            if process.exit_code not in {None, 0}:
                raise SimulationError(
                    f"{process.name} ended with code {process.exit_code}: {process.last_words}"
                )

    def stop(self) -> None:
        """End all processes, the last started first."""
        for process in reversed(self._running):
            process.stop()

    def __enter__(self) -> NodeProcesses:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._folder.remove()
