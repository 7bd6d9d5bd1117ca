"""Node processes: started on a domain of their own, watched, and always ended.

A ROS domain of one's own, on this machine's loopback interface only.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from dql_core.errors import SimulationError
from dql_core.process import Interruption
from dql_ros.private_folders import open_lock, runtime_folder, temporary_folder

# A node started with this variable ends when the process of that id is no longer its parent.
PARENT_VARIABLE = "DQL_ROS_PARENT_PID"
# How long a process may take to end after SIGINT, and after SIGTERM, in seconds.
_GRACE_S = (10.0, 3.0)
_LOG_PREFIX = re.compile(r"^\[\w+\] \[[\d.]+\] \[[^]]*\]: ")
# Domains whose ports are clear of Linux's ephemeral ports: docs.ros.org, "The ROS_DOMAIN_ID".
SAFE_DOMAINS = (*range(1, 102), *range(215, 233))
# They would override the discovery range, or lead the nodes elsewhere.
_OVERRIDING = {"ROS_LOCALHOST_ONLY", "ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER"}
_PROFILES = Path(__file__).with_name("fastdds.xml")
_PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


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
        return _LOG_PREFIX.sub("", written[-1]).strip() if written else "no message"

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


@contextmanager
def own_domain() -> Iterator[int]:
    """Yield a domain id that no other caller on this machine holds, until the block ends.

    Raises:
        SimulationError: If all are taken, or others may tamper with the locks.
    """
    with runtime_folder() as folder:
        for domain in random.sample(SAFE_DOMAINS, len(SAFE_DOMAINS)):
            lock = open_lock(folder, f"domain-{domain}")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_quiet(domain):
                    yield domain
                    return
            except BlockingIOError:
                continue
            finally:
                os.close(lock)
    raise SimulationError(
        f"all {len(SAFE_DOMAINS)} ROS domains of this machine are in use: end other ROS programs"
    )


def environment_of(domain: int) -> dict[str, str]:
    """This process's environment, changed to keep ROS 2 on ``domain`` and on this machine.

    Fast DDS profiles that the user has chosen are kept; else those of this package are used.
    """
    kept = {key: value for key, value in os.environ.items() if key not in _OVERRIDING}
    chosen = dict.fromkeys(_PROFILE_VARIABLES, str(_PROFILES))
    own = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    return chosen | kept | own


@contextmanager
def inside(domain: int) -> Iterator[None]:
    """Make this process's environment `environment_of` ``domain`` until the block ends.

    ``rclpy`` reads it when a context is initialised and its first node is made, and not again.
    """
    before = os.environ.copy()
    changed = environment_of(domain)
    try:
        _replace_environment(changed)
        yield
    finally:
        _replace_environment(before)


def _is_quiet(domain: int) -> bool:
    """Whether no participant of the domain listens here, by the port of DDS's first one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", 7400 + 250 * domain + 10))
        except OSError:
            return False
    return True


def _replace_environment(wanted: dict[str, str]) -> None:
    for key in set(os.environ) - set(wanted):
        del os.environ[key]
    os.environ.update(wanted)
