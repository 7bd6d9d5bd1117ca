"""A Ray cluster of two nodes of one processor each: on the loopback interface, or apart."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import IO

import pytest

from tests.ray_machines import ADDRESS, APART, is_permitted
from tests.ros.convert.held_conversion import MARK, marked_processes

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra 'ray' is not installed")
# It runs until standard input ends, and does what it says.
SCRIPT = """
import sys
from ray.cluster_utils import Cluster

node = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 80_000_000}
cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
second = cluster.add_node(**node)
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(second, allow_graceful=False)
    print("killed", flush=True)
cluster.shutdown()
"""


@dataclass(frozen=True)
class Cluster:
    address: str
    surroundings: dict[str, str]
    commands: IO[str]
    answers: Iterator[str]

    def kill_second(self) -> None:
        """Let the second node die, as where its power fails."""
        self.commands.write("kill\n")
        self.commands.flush()
        assert next(line for line in self.answers if line.startswith("killed"))


def surroundings_in(folder: str) -> dict[str, str]:
    """Return what Ray is told; a socket's path must be short, so that the folder's must be."""
    return {
        "HOME": folder,  # where Ray keeps a token of its own
        "RAY_TMPDIR": folder,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's way to stay on the loopback interface
        "RAY_worker_niceness": "0",  # else whatever else runs goes before
    }


@contextmanager
def with_a_cluster(*command: str) -> Iterator[tuple["subprocess.Popen[str]", Callable[[], None]]]:
    """Run a command that is given ``--ray ADDRESS``; yield it, and what kills the second node.

    The nodes are in network namespaces of their own where that is permitted.
    """
    if is_permitted():
        folder = tempfile.mkdtemp(prefix="dql_ray_")
        command = (*APART, *command, "--ray", ADDRESS)
        environment = {**os.environ, **surroundings_in(folder)}
        environment.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
        try:
            with _running(command, environment) as process:
                assert process.stdin is not None
                yield process, partial(print, "kill", file=process.stdin, flush=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    with started() as one:
        environment = {**os.environ, **one.surroundings}
        with _running((*command, "--ray", one.address), environment) as process:
            yield process, one.kill_second


@contextmanager
def _running(
    command: Sequence[str], environment: Mapping[str, str]
) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        ["nice", "-n", "5", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def started() -> Iterator[Cluster]:
    """Start a cluster; nothing of it is left behind."""
    folder = tempfile.mkdtemp(prefix="dql_ray_")
    surroundings = surroundings_in(folder)
    process = subprocess.Popen(
        # What computes yields to the tests of nodes beside it, which wait for the clock.
        ["nice", "-n", "5", sys.executable, "-c", SCRIPT],
        cwd=folder,
        env={**os.environ, **surroundings, MARK: folder},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        # Ray writes lines of its own.
        lines = iter(process.stdout.readline, "")
        address = next(line.strip() for line in lines if line.startswith("127.0.0.1:"))
        yield Cluster(address, surroundings, process.stdin, lines)
        process.stdin.close()
        process.wait(timeout=30)
    finally:
        for pid in marked_processes(folder):
            os.kill(pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with started() as one:
        yield one
