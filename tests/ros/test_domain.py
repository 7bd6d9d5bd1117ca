import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from dql_core.errors import SimulationError
from dql_ros import processes
from dql_ros.processes import SAFE_DOMAINS, environment_of, own_domain


def test_domains_held_at_the_same_time_differ() -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(own_domain()) for _ in range(10)]
        assert len(set(held)) == 10
        assert set(held) <= set(SAFE_DOMAINS)


HOLDER = """
import sys
from dql_ros.processes import own_domain
with own_domain() as domain:
    print(domain, flush=True)
    sys.stdin.read()
"""


def test_a_domain_is_held_from_other_processes_until_its_own_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    held = int(holder.stdout.readline())
    monkeypatch.setattr(processes, "SAFE_DOMAINS", (held,))
    with pytest.raises(SimulationError, match="domains of this machine are in use"):
        own_domain().__enter__()
    holder.kill()
    holder.communicate(timeout=30)
    with own_domain() as domain:
        assert domain == held


def test_a_domain_on_which_somebody_listens_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with own_domain() as free:
        pass
    monkeypatch.setattr(processes, "SAFE_DOMAINS", (free,))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as participant:
        participant.bind(("", 7400 + 250 * free + 10))
        with pytest.raises(SimulationError, match="domains of this machine are in use"):
            own_domain().__enter__()


def test_the_environment_names_the_domain_and_this_machine_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROS_LOCALHOST_ONLY", "0")
    environment = environment_of(7)
    assert environment["ROS_DOMAIN_ID"] == "7"
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert "ROS_LOCALHOST_ONLY" not in environment
