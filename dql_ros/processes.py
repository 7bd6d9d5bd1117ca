"""Node processes on a ROS domain of their own, on this machine's loopback interface only."""

from __future__ import annotations

import os
import random
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dql_core.errors import SimulationError
from dql_core.leftovers import temporary_folder
from dql_core.process import ChildProcess, ChildProcesses

_LOG_PREFIX = re.compile(r"^\[\w+\] \[[\d.]+\] \[[^]]*\]: ")
_WARNING = "[WARN] "
# Domains whose ports are clear of Linux's ephemeral ports: docs.ros.org, "The ROS_DOMAIN_ID".
SAFE_DOMAINS = (*range(1, 102), *range(215, 233))
# They would override the discovery range, or lead the nodes elsewhere.
_OVERRIDING = {"ROS_LOCALHOST_ONLY", "ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER"}


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


class NodeProcess(ChildProcess):
    """A running node; its last words come without the logger's prefix."""

    @property
    def warnings(self) -> list[str]:
        """What it has warned of so far, as far as it is kept."""
        lines = [line.strip() for line in list(self._errors)]
        return [_LOG_PREFIX.sub("", line) for line in lines if line.startswith(_WARNING)]

    def _last_line(self) -> str:
        return _LOG_PREFIX.sub("", super()._last_line())


class NodeProcesses(ChildProcesses):
    """The nodes of one run; leaving the block ends them all."""

    def __init__(self, domain: int) -> None:
        """Start processes on ``domain``."""
        super().__init__()
        self._domain = domain
        self._folder = temporary_folder()

    @property
    def folder(self) -> Path:
        """Where their parameters and logs lie; it goes with them."""
        return self._folder.path

    def start(self, command: NodeCommand) -> NodeProcess:
        """Start a node."""
        environment = environment_of(self._domain) | {"ROS_LOG_DIR": str(self.folder)}
        arguments = command.arguments(self.folder)
        return self.add(lambda: NodeProcess(command.node, arguments, environment))

    def check(self, error: type[Exception] = SimulationError) -> None:
        """Raise ``error`` with the last line of the first node that has failed."""
        super().check(error)

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._folder.remove()


@contextmanager
def own_domain() -> Iterator[int]:
    """Yield a domain id that no other caller on this machine holds, until the block ends.

    It is held by an abstract socket, which leaves no file, is seen by all that share the network,
    whoever they are, and is gone with its process.

    Raises:
        SimulationError: If all are taken.
    """
    for domain in random.sample(SAFE_DOMAINS, len(SAFE_DOMAINS)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
            try:
                lock.bind(f"\0dql_ros/domain-{domain}")
            except OSError:
                continue  # somebody holds it
            if _is_quiet(domain):
                yield domain
                return
    raise SimulationError(
        f"all {len(SAFE_DOMAINS)} ROS domains of this machine are in use: end other ROS programs"
    )


def environment_of(domain: int) -> dict[str, str]:
    """This process's environment, changed to keep ROS 2 on ``domain`` and on this machine."""
    kept = {key: value for key, value in os.environ.items() if key not in _OVERRIDING}
    own = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    return kept | own


def _is_quiet(domain: int) -> bool:
    """Whether no participant of the domain listens here, by the port of DDS's first one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", 7400 + 250 * domain + 10))
        except OSError:
            return False
    return True
