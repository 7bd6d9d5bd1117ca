"""A Ray cluster of two nodes of one processor each, on the loopback interface."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import IO

import pytest

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


@contextmanager
def started() -> Iterator[Cluster]:
    """Start a cluster; nothing of it is left behind."""
    # A socket's path must be short, and Ray keeps a token of its own in the home folder.
    folder = tempfile.mkdtemp(prefix="dql_ray_")
    surroundings = {
        "HOME": folder,
        "RAY_TMPDIR": folder,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's way to stay on the loopback interface
        "RAY_worker_niceness": "0",  # else whatever else runs goes before
    }
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
