"""What a policy node that drives opens: ROS 2's sockets and its log, and nothing else.

ONNX Runtime's telemetry would call its maker 9 s after it was loaded.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition

from dql_ros.processes import NodeCommand
from tests.ros.convert.held_conversion import wait_for
from tests.ros.nodes.arm import NODE, Arm
from tests.ros.nodes.robot import Robot

pytestmark = [pytest.mark.ros, pytest.mark.slow]
LONG_ENOUGH_S = 12.0
_CALLS = (
    "%network,openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,"
    "symlinkat,mknod,mknodat,truncate,unlink,unlinkat,execve"
)
_REMOTE = re.compile(
    r"^\d+ +(?:connect|sendto|sendmsg|sendmmsg)\(.*?sa_family=(?P<family>AF_INET6?), "
    r".*?(?:inet_addr\(|AF_INET6, )\"(?P<address>[^\"]+)\""
)
_UNIX = re.compile(r"^\d+ +connect\(.*sa_family=AF_UNIX, sun_path=@?\"(?P<path>[^\"]+)\"")
_FAMILY = re.compile(r"^\d+ +socket\((?P<family>\w+)")
_OPEN = re.compile(r"^\d+ +open(?:at)?\((?:AT_FDCWD\S*, )?\"(?P<path>[^\"]+)\", (?P<flags>[\w|]+)")
_CHANGE = re.compile(
    r"^\d+ +(?:creat|mkdir|rename|link|symlink|mknod|truncate|unlink)\w*\(.*?\"(?P<path>[^\"]+)\""
)
_PROGRAM = re.compile(r"^\d+ +execve\(\"(?P<path>[^\"]+)\"")


@dataclass(frozen=True)
class Trace:
    """What `strace` saw of a process and its threads and children."""

    lines: Sequence[str]

    def found(self, pattern: re.Pattern[str], group: str) -> set[str]:
        matches = (pattern.match(line) for line in self.lines if " = -1 ENOENT" not in line)
        return {match[group] for match in matches if match}

    @property
    def reached(self) -> set[str]:
        """Addresses of other machines to which something was sent."""
        return {a for a in self.found(_REMOTE, "address") if not ip_address(a).is_loopback}

    @property
    def read(self) -> set[str]:
        return self.found(_OPEN, "path")

    @property
    def changed(self) -> set[str]:
        """Files that were opened for writing, made, renamed or removed."""
        matches = (_OPEN.match(line) for line in self.lines if " = -1 " not in line)
        opened = {m["path"] for m in matches if m and re.search("O_WRONLY|O_RDWR|O_CREAT", m[2])}
        return opened | self.found(_CHANGE, "path")


def strace(output: Path) -> list[str]:
    """Return what goes before a command; it stays the child of whoever starts it (-D)."""
    return ["strace", "-D", "-f", "-q", "-e", f"trace={_CALLS}", "-s", "200", "-o", str(output)]


def is_traceable() -> bool:
    return shutil.which("strace") is not None and not subprocess.call(
        ["strace", "-D", "-o", os.devnull, "true"], stderr=subprocess.DEVNULL
    )


needs_strace = pytest.mark.skipif(not is_traceable(), reason="strace is missing or not permitted")


@dataclass(frozen=True)
class TracedCommand(NodeCommand):
    """Starts a node under `strace`."""

    output: Path = Path(os.devnull)

    def arguments(self, folder: Path) -> list[str]:
        """Return the command line."""
        return [*strace(self.output), *super().arguments(folder)]


@needs_strace
def test_whatever_a_process_does_is_seen(tmp_path: Path) -> None:
    code = (
        "import os, socket\n"
        "datagrams = socket.socket(type=socket.SOCK_DGRAM)\n"
        "datagrams.sendto(b'', ('127.0.0.1', 9))\n"
        "datagrams.connect(('192.0.2.1', 53))\n"
        "open('made', 'w').close(); os.mkdir('folder'); open('/etc/hosts').close()"
    )
    output = tmp_path / "trace"
    subprocess.run([*strace(output), sys.executable, "-c", code], cwd=tmp_path, check=True)
    trace = finished(output)
    assert trace.reached == {"192.0.2.1"}
    assert {"made", "folder"} <= trace.changed
    assert "/etc/hosts" in trace.read


@needs_strace
def test_a_policy_node_opens_ros_sockets_and_its_log_only(
    robot: Robot, tmp_path: Path, scara: Path, scara_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = an_empty_home(tmp_path, monkeypatch)
    output = tmp_path / "trace"
    parameters = {"contract": str(scara), "policy": str(scara_bundle)}
    command = TracedCommand("dql_ros.nodes.policy_node", NODE, parameters, output=output)
    process = robot.start_anew(command)
    drive(robot)
    log_folder = variables_of(process.pid)["ROS_LOG_DIR"]
    process.stop()
    trace = finished(output)
    assert trace.reached == set()
    assert trace.found(_FAMILY, "family") <= {"AF_INET", "AF_NETLINK", "AF_UNIX"}
    # Services of this machine: LTTng's, with which ROS 2 traces if asked, and glibc's cache.
    local = re.compile(r".*/(lttng-ust-sock-\d+|nscd/socket)$")
    assert {path for path in trace.found(_UNIX, "path") if not local.match(path)} == set()
    assert trace.found(_PROGRAM, "path") == {sys.executable}
    assert not {"/etc/resolv.conf", "/etc/hosts"} & trace.read
    expected = re.compile(rf"/dev/(null$|shm/)|{log_folder}(/|$)")
    assert {path for path in trace.changed if not expected.match(path)} == set()
    assert list(home.iterdir()) == []


def test_a_policy_node_leaves_no_file_at_home(
    robot: Robot, tmp_path: Path, scara: Path, scara_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the test above, on machines without strace."""
    home = an_empty_home(tmp_path, monkeypatch)
    parameters = {"contract": str(scara), "policy": str(scara_bundle)}
    process = robot.start_anew(NodeCommand("dql_ros.nodes.policy_node", NODE, parameters))
    drive(robot, 1.0)
    opened = [path.readlink() for path in Path(f"/proc/{process.pid}/fd").iterdir()]
    assert not [path for path in opened if home in path.parents]
    assert list(home.iterdir()) == []


def an_empty_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the home, and the place of temporary files, of processes that are started now."""
    home = folder / "home"
    home.mkdir()
    for variable in ("HOME", "TMPDIR"):
        monkeypatch.setenv(variable, str(home))
    for variable in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "ORT_DISABLE_TELEMETRY"):
        monkeypatch.delenv(variable, raising=False)
    return home


def drive(robot: Robot, duration_s: float = LONG_ENOUGH_S) -> None:
    """Activate the node and let it act."""
    arm = Arm(robot)
    assert robot.probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    arm.aim(arm.now_ns)
    activating = robot.probe.begin_transition(NODE, Transition.TRANSITION_ACTIVATE)
    arm.live(activating.done, "the activation")
    ends = time.monotonic() + duration_s
    arm.live(lambda: arm.commands and time.monotonic() > ends, "the policy to act for a while")


def variables_of(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def finished(output: Path) -> Trace:
    """Read a trace once it is whole."""

    def lines() -> list[str]:
        return output.read_text(errors="replace").splitlines()

    def is_whole() -> bool:
        # Process ids of few digits are followed by more spaces.
        whole = [line.split(maxsplit=2)[:2] for line in lines()]
        return bool(whole) and whole[-1] == [whole[0][0], "+++"]

    wait_for(is_whole, "the trace")
    return Trace(lines())
