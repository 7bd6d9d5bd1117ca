"""Whatever becomes of the log, the robot is stopped at once, and the safe command is the last."""

import errno
import os
import pty
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from std_msgs.msg import Bool, Float64MultiArray

from dql_core.process import PARENT_VARIABLE
from dql_ros.nodes.topics import reliable
from dql_ros.processes import NodeCommand, environment_of
from tests.ros.nodes import scripted_policy_node as scripted
from tests.ros.nodes.arm import NODE, Arm, trigger
from tests.ros.nodes.robot import SAFE, Robot

pytestmark = [pytest.mark.ros, pytest.mark.slow]
ACTION = [scripted.ACTION] * 2
STOPS = 5
# What waits for a log waits for a second at least, or for ever. Milliseconds are measured by
# benchmarks/stop/latency.py: here other tests take the processors.
MEDIAN_S, MAX_S, END_S = 0.1, 0.9, 10.0
FLOOD_S = 0.002
CTRL_S = b"\x13"
DEAF = """
import rclpy
from rclpy.qos import QoSProfile
from {package}.msg import {kind}
rclpy.init()
node = rclpy.create_node("deaf", enable_rosout=False)
node.create_subscription({kind}, "{topic}", lambda _: None, QoSProfile(depth=10))
print("ready", flush=True)
rclpy.spin(node)
"""
Misdeed = Callable[[], None]


class Output:
    """Where a node's stdout and stderr go, and what becomes of that."""

    def __init__(self) -> None:
        self._opened = ExitStack()
        self.end = -1

    def pipe(self) -> int:
        """Make it a pipe; return the end to read from."""
        source, self.end = os.pipe()
        self._keep(source, self.end)
        return source

    def read_pipe(self) -> subprocess.Popen[bytes]:
        """Make it a pipe that a process reads; return that."""
        return self.beside(subprocess.Popen(["cat"], stdin=self.pipe(), stdout=subprocess.DEVNULL))

    def beside(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Have a process ended in the end, too."""
        self._opened.enter_context(process)
        self._opened.callback(process.kill)
        return process

    def terminal(self) -> int:
        """Make it a terminal; return its other side."""
        master, self.end = pty.openpty()
        self._keep(master, self.end)
        return master

    def fill(self) -> None:
        """Fill the pipe; by a description of its own, so that the node's is not changed."""
        with closing(os.fdopen(self._again(), "wb", buffering=0)) as end:
            while end.write(4096 * b"."):
                pass  # None says that it is full
        assert self.takes_nothing()

    def takes_nothing(self) -> bool:
        """Whether it blocks: else nothing is tried."""
        end = self._again()
        try:
            os.write(end, b".")
        except BlockingIOError:
            return True
        finally:
            os.close(end)
        return False

    def close(self) -> None:
        self._opened.close()

    def _again(self) -> int:
        return os.open(f"/proc/self/fd/{self.end}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)

    def _keep(self, *files: int) -> None:
        for file in files:
            self._opened.callback(_close, file)


class StoppedNode:
    """A node with such an output, moving an arm, and stopped again and again."""

    def __init__(self, robot: Robot, contract: Path, folder: Path) -> None:
        self.robot, self.output = robot, Output()
        self._contract, self._folder = contract, folder
        self.process: subprocess.Popen[bytes] | None = None
        self._misdeed: Misdeed = lambda: None
        self._heard: list[tuple[float, list[float]]] = []

    def start(self, prefix: Sequence[str] = (), **environment: str) -> None:
        """Start it, by a command put before its own, and wait until the arm moves."""
        parameters = {"contract": str(self._contract), "autostart": True}
        command = NodeCommand("tests.ros.nodes.scripted_policy_node", NODE, parameters)
        own = {"ROS_LOG_DIR": str(self._folder / "log"), PARENT_VARIABLE: str(os.getpid())}
        self.process = subprocess.Popen(
            [*prefix, *command.arguments(self._folder)],
            env=environment_of(self.robot.domain) | own | environment,
            stdin=subprocess.DEVNULL,
            stdout=self.output.end,
            stderr=self.output.end,
            start_new_session=True,
        )
        node = self.robot.probe.node
        node.create_subscription(
            Float64MultiArray, "velocity_controller/commands", self._note, reliable(1000)
        )
        self.arm = Arm(self.robot)
        self.button = node.create_publisher(Bool, f"{NODE}/stop", reliable(1, latched=True))
        self.robot.probe.until(lambda: self.button.get_subscription_count() == 2, "the node")
        self.arm.aim(self.arm.now_ns)
        self.live(lambda: self.arm.last == ACTION, "the arm to move")

    def keep_doing(self, misdeed: Misdeed) -> None:
        """Do that whenever a state is published."""
        self._misdeed = misdeed

    def assert_it_stops_at_once(self) -> None:
        """Stop it some times, each time until it moves again."""
        delays_s = [self._stop() for _ in range(STOPS)]
        assert statistics.median(delays_s) <= MEDIAN_S, delays_s
        assert max(delays_s) <= MAX_S, delays_s

    def assert_it_ends_safe(self, number: int) -> None:
        """End it in mid-motion."""
        assert self.process is not None
        self.live(lambda: self.arm.last == ACTION, "the arm to move")
        self.process.send_signal(number)
        begun_s = time.monotonic()
        self.live(lambda: self._has_ended() or time.monotonic() > begun_s + END_S, "the end")
        assert self._has_ended(), "it has not ended"
        assert self.process.returncode == 0
        for _ in range(20):
            self.robot.probe.spin()
        assert self.arm.last == SAFE

    def helpers(self) -> list[int]:
        """Return the ids of the processes that it has started."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(child) for path in children for child in path.read_text().split()]

    def live(self, condition: Callable[[], Any], what: str) -> None:
        def step() -> Any:
            self._misdeed()
            if self._has_ended():
                assert condition(), f"{self.process} has ended, waiting for {what}"
            return condition()

        self.arm.live(step, what)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            helpers = self.helpers()
            self.process.kill()
            self.process.wait()
            for helper in helpers:  # which a test may have stopped
                with suppress(ProcessLookupError):
                    os.kill(helper, signal.SIGKILL)
        self.output.close()

    def _stop(self) -> float:
        """Stop it; return how long after that the safe command was there, in seconds."""
        self._heard.clear()
        begun_s = time.monotonic()
        self.button.publish(Bool(data=True))
        self.live(lambda: any(values == SAFE for _, values in self._heard), "the safe command")
        delay_s = next(at_s for at_s, values in self._heard if values == SAFE) - begun_s
        self.button.publish(Bool(data=False))
        self.robot.probe.until(lambda: trigger(self.robot, "reset_stop")[0], "the reset")
        self.live(lambda: self.arm.last == ACTION, "the arm to move again")
        return delay_s

    def _note(self, command: Any) -> None:
        self._heard.append((time.monotonic(), list(command.data)))

    def _has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None


@pytest.fixture(name="stopped")
def _stopped(robot: Robot, scara: Path, tmp_path: Path) -> Iterator[StoppedNode]:
    with closing(StoppedNode(robot, scara, tmp_path)) as stopped:
        yield stopped


def flood(stopped: StoppedNode) -> Misdeed:
    """Make the node complain 500 times a second, of messages and of requests."""
    client = stopped.robot.probe.node.create_client(ChangeState, f"{NODE}/change_state")
    invalid = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CLEANUP))
    due_s = time.monotonic()

    def complain() -> None:
        nonlocal due_s
        if time.monotonic() >= due_s:
            due_s = time.monotonic() + FLOOD_S
            stopped.arm.show(stopped.arm.now_ns, joint="wrist")
            client.call_async(invalid)

    return complain


def is_alive(process: int) -> bool:
    """Whether it runs or is stopped; a dead one whom nobody has asked after is neither."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def deaf_listener(robot: Robot, package: str, kind: str, topic: str) -> subprocess.Popen[bytes]:
    """Start a process that subscribes to a topic, reliably."""
    listener = subprocess.Popen(
        [sys.executable, "-c", DEAF.format(package=package, kind=kind, topic=topic)],
        env=environment_of(robot.domain),
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert listener.stdout is not None
    assert listener.stdout.readline() == b"ready\n"
    return listener


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_pipe_that_nobody_reads_and_that_is_full(stopped: StoppedNode, end: int) -> None:
    stopped.output.pipe()
    stopped.start()
    stopped.output.fill()
    stopped.assert_it_stops_at_once()
    stopped.assert_it_ends_safe(end)


def test_a_pipe_that_was_full_before_the_start(stopped: StoppedNode) -> None:
    stopped.output.pipe()
    stopped.output.fill()
    stopped.start()
    stopped.assert_it_stops_at_once()
    stopped.assert_it_ends_safe(signal.SIGINT)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_terminal_in_which_somebody_pressed_ctrl_s(stopped: StoppedNode, end: int) -> None:
    master = stopped.output.terminal()
    stopped.start()
    os.write(master, CTRL_S)
    stopped.robot.probe.until(stopped.output.takes_nothing, "the terminal to stop")
    stopped.assert_it_stops_at_once()
    stopped.assert_it_ends_safe(end)


def test_a_pipe_whose_reader_is_gone(stopped: StoppedNode) -> None:
    source = stopped.output.pipe()
    stopped.start()
    os.close(source)
    stopped.assert_it_stops_at_once()
    stopped.keep_doing(flood(stopped))
    stopped.assert_it_ends_safe(signal.SIGTERM)


@pytest.mark.parametrize("is_read", [True, False])
def test_a_flood_of_complaints(stopped: StoppedNode, is_read: bool) -> None:
    reader = stopped.output.read_pipe()
    stopped.start()
    if not is_read:
        reader.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, reader.pid, os.WSTOPPED)
        stopped.output.fill()
    stopped.keep_doing(flood(stopped))
    stopped.assert_it_stops_at_once()
    stopped.assert_it_ends_safe(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_process_that_writes_the_log_and_is_stopped_or_killed(
    stopped: StoppedNode, number: signal.Signals
) -> None:
    stopped.output.read_pipe()
    stopped.start()
    helpers = stopped.helpers()
    assert helpers, "the node writes its log itself"
    for helper in helpers:
        os.kill(helper, number)
    stopped.keep_doing(flood(stopped))
    stopped.assert_it_stops_at_once()
    stopped.assert_it_ends_safe(signal.SIGINT)
    assert not any(map(is_alive, helpers))


def test_a_node_that_was_given_neither_stdout_nor_stderr(stopped: StoppedNode) -> None:
    stopped.output.pipe()
    stopped.start(["sh", "-c", 'exec "$@" >&- 2>&-', "sh"])
    stopped.keep_doing(flood(stopped))
    stopped.assert_it_stops_at_once()
    stopped.assert_it_ends_safe(signal.SIGTERM)


def test_a_folder_of_logs_that_is_a_pipe(stopped: StoppedNode, tmp_path: Path) -> None:
    stopped.output.pipe()
    os.mkfifo(tmp_path / "fifo")
    stopped.start(ROS_LOG_DIR=str(tmp_path / "fifo"))
    stopped.assert_it_stops_at_once()
    stopped.assert_it_ends_safe(signal.SIGINT)


@pytest.fixture(name="full_disk")
def _full_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "full"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system may not be mounted here")
    try:
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            (folder / "filler").write_bytes(bytes(1 << 20))
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full(stopped: StoppedNode, full_disk: Path) -> None:
    stopped.output.pipe()
    stopped.start(ROS_LOG_DIR=str(full_disk))
    stopped.keep_doing(flood(stopped))
    stopped.assert_it_stops_at_once()
    stopped.assert_it_ends_safe(signal.SIGINT)


@pytest.mark.parametrize(
    ("package", "kind", "topic"),
    [
        ("rcl_interfaces", "Log", "/rosout"),
        ("diagnostic_msgs", "DiagnosticArray", "/diagnostics"),
        ("std_msgs", "Float64MultiArray", "velocity_controller/commands"),
    ],
    ids=["log", "diagnostics", "commands"],
)
def test_a_reliable_listener_that_never_takes_anything(
    stopped: StoppedNode, package: str, kind: str, topic: str
) -> None:
    stopped.output.read_pipe()
    listener = stopped.output.beside(deaf_listener(stopped.robot, package, kind, topic))
    stopped.start()
    listener.send_signal(signal.SIGSTOP)
    stopped.keep_doing(flood(stopped))
    stopped.assert_it_stops_at_once()
    stopped.assert_it_ends_safe(signal.SIGINT)


def _close(file: int) -> None:
    try:
        os.close(file)
    except OSError as error:
        if error.errno != errno.EBADF:  # the test closed it
            raise
