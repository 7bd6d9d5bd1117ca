"""Logging that keeps nobody waiting, and loses as little as it can."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

import pytest

from dql_ros.nodes import log_writer

# More than pipes and the writer's memory hold.
LINES = 60_000
FLOOD = """
import os, signal, time
from rclpy.impl.implementation_singleton import rclpy_implementation
from dql_ros.nodes.node_log import NodeLog

log = NodeLog()
if {stopped}:
    os.kill(log._writer.pid, signal.SIGSTOP)
begun = time.monotonic()
for number in range({lines}):
    # What rclpy's loggers end in.
    text = f"line {{number:06}} " + 300 * "x"
    rclpy_implementation.rclpy_logging_rcutils_log(20, "flood", text, "function", "file", 1)
took_s = time.monotonic() - begun
if {stopped}:
    os.kill(log._writer.pid, signal.SIGCONT)
open({told!r}, "w").write(f"{{took_s}} {{NodeLog.dropped}}")
log.close()
"""


@pytest.fixture(name="unread")
def _unread() -> Iterator[tuple[int, IO[bytes]]]:
    """A pipe that is full: the end to write to, and the other."""
    reader, end = os.pipe()
    os.set_blocking(end, False)
    try:
        while True:
            os.write(end, 4096 * b".")
    except BlockingIOError:
        os.set_blocking(end, True)
    with closing(os.fdopen(reader, "rb")) as source:
        yield end, source


def start_writer(log: Path, target: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", log_writer.__file__, "1"],
        env={log_writer.FILE_VARIABLE: str(log)},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=target,
    )


def test_the_file_gets_what_a_terminal_does_not_take(
    tmp_path: Path, unread: tuple[int, IO[bytes]]
) -> None:
    target, source = unread
    writer = start_writer(tmp_path / "log" / "node.log", target)
    assert writer.stdin is not None
    written = b"".join(b"line %06d\n" % number + 90 * b"x" + b"\n" for number in range(LINES))
    writer.stdin.write(written)  # returns, although nobody reads
    until(lambda: (tmp_path / "log" / "node.log").stat().st_size == len(written))
    assert (tmp_path / "log" / "node.log").read_bytes() == written
    os.close(target)
    writer.stdin.close()
    shown = source.read()
    assert b"log lines are missing here" in shown
    assert writer.wait(10) == 0


def test_a_terminal_that_takes_nothing_does_not_keep_it_alive(
    tmp_path: Path, unread: tuple[int, IO[bytes]]
) -> None:
    writer = start_writer(tmp_path / "node.log", unread[0])
    assert writer.stdin is not None
    writer.stdin.write(b"the last words\n")
    writer.stdin.close()
    assert writer.wait(10) == 0
    assert (tmp_path / "node.log").read_bytes() == b"the last words\n"


def test_the_signals_that_end_a_node_leave_it_to_write(tmp_path: Path) -> None:
    with (tmp_path / "shown").open("wb") as target:
        writer = start_writer(tmp_path / "node.log", target.fileno())
    assert writer.stdin is not None
    writer.stdin.write(b"first\n")
    writer.stdin.flush()
    until((tmp_path / "node.log").exists)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        writer.send_signal(number)
    writer.stdin.write(b"last\n")
    writer.stdin.close()
    assert writer.wait(10) == 0
    assert (tmp_path / "shown").read_bytes() == b"first\nlast\n"


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a link"])
def test_a_log_file_that_cannot_be_written_is_reported_once(tmp_path: Path, kind: str) -> None:
    log = tmp_path / "node.log"
    if kind == "a folder":
        log.mkdir()
    elif kind == "a pipe":
        os.mkfifo(log)
    else:
        log.symlink_to(tmp_path / "elsewhere")
    with (tmp_path / "shown").open("wb") as target:
        writer = start_writer(log, target.fileno())
    assert writer.stdin is not None
    writer.stdin.write(b"line\n")
    writer.stdin.close()
    assert writer.wait(10) == 0
    shown = (tmp_path / "shown").read_text().splitlines()
    assert sorted(line.startswith(f"the log file {log} cannot be") for line in shown) == [
        False,
        True,
    ]
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("stopped", [False, True], ids=["a flood", "and a writer that is stopped"])
def test_who_logs_never_waits_and_what_is_dropped_is_counted(
    tmp_path: Path, stopped: bool
) -> None:
    told, lines = tmp_path / "told", 20_000
    script = FLOOD.format(told=str(told), lines=lines, stopped=stopped)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "ROS_LOG_DIR": str(tmp_path / "log")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    took_s, dropped = told.read_text().split()
    assert float(took_s) < 10.0  # a pipe that nobody reads would take for ever
    assert int(dropped) > 0
    assert "log lines were dropped: too many were waiting" in done.stderr
    assert "line 000000" in done.stderr
    (log,) = (tmp_path / "log").iterdir()
    assert log.read_text() == done.stderr


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
