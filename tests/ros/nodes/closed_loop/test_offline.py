"""Nothing reaches out of this machine: no name is looked up, and nobody is connected."""

import os
import sys
from pathlib import Path

import pytest

from tests.ros.offline import is_possible, run_offline

pytestmark = [
    pytest.mark.ros,
    pytest.mark.slow,
    pytest.mark.skipif(not is_possible(), reason="no network namespaces are permitted here"),
]
REACHING_OUT = {
    "looks up": "socket.getaddrinfo('telemetry.invalid', 443)",
    "connects": "socket.create_connection(('192.0.2.1', 443))",
    "sends": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('192.0.2.1', 53))",
    "sends by IPv6": "socket.socket(10, socket.SOCK_DGRAM).sendto(b'', ('2001:db8::1', 53))",
    "calls a robot": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('239.255.0.1', 7400))",
}


def is_heard(how: str, folder: Path) -> bool:
    command = [sys.executable, "-c", f"import socket; {REACHING_OUT[how]}"]
    return run_offline(command, folder, os.environ)[1] > 0


@pytest.mark.parametrize("how", REACHING_OUT)
def test_whoever_reaches_out_is_heard(tmp_path: Path, how: str) -> None:
    if how == "looks up" and not is_heard(how, tmp_path):
        pytest.skip("this machine looks names up by a service on its loopback interface")
    assert is_heard(how, tmp_path)


def test_from_recording_to_driving_nothing_reaches_out(tmp_path: Path) -> None:
    """The demo runs all nodes, converts, trains and exports."""
    command = [sys.executable, "-m", "dql_ros.cli.main", "demo", "--out", "demo"]
    command += ["--episodes", "2", "--demonstrations", "4", "--steps", "8"]
    home = tmp_path / "home"
    home.mkdir()
    own = {"HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[4])}
    own["__EGL_VENDOR_LIBRARY_FILENAMES"] = "/nonexistent"  # no film, which takes long
    dropped = {"XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "ORT_DISABLE_TELEMETRY"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    done, missed = run_offline(command, tmp_path, kept | own)
    assert done.returncode == 0, done.stdout
    assert missed == 0
    # What is written at home is ROS's log and matplotlib's list of fonts.
    left = [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]
    assert all(name.startswith((".ros/log/", ".cache/matplotlib/")) for name in left), left
