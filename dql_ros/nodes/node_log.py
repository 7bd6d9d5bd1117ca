"""Logging that keeps nobody waiting: the robot's stop must not hang on a terminal or a disk.

A write to a terminal on which Ctrl-S was pressed, to a pipe that nobody reads or to a disk that
hangs does not return, and ``rclpy`` logs with the interpreter's lock held, so that no other thread
of the process goes on either. Two things are therefore done for the whole process:

* Whoever logs through ``rclpy`` leaves the line in a queue, and a thread takes it from there to
  rcl's console and ``/rosout``. A full queue drops lines and counts them.
* stdout and stderr are pipes that never block, whoever writes to them: Python, rcl, the middleware
  or a library. Another process (`log_writer`) reads them and writes to the terminal and into the
  log file, which takes the place of rcl's own.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ClassVar

from rclpy.impl.implementation_singleton import rclpy_implementation

from dql_core.errors import MAX_LINE, visible_lines
from dql_ros.nodes import log_writer

# For ``rclpy.init``: rcl's own log file is written with the interpreter's lock held.
ROS_ARGUMENTS = ("--ros-args", "--disable-external-lib-logs")

_QUEUE_LINES = 1000
_PIPE_BYTES = 1 << 20
# What the pipe must have left for a line from the queue; others write to it as well. It is made
# of pages, of which one that was begun may be half empty.
_ROOM_BYTES = 1 << 15
_RETRY_S = 0.02
_CLOSE_S = 1.0
_DROPPED = "log lines were dropped: too many were waiting"


class NodeLog:
    """Takes over the logging of this process.

    Attributes:
        dropped: How many lines were dropped because too many were waiting.
    """

    dropped: ClassVar[int] = 0

    def __init__(self) -> None:
        """Begin; before ``rclpy`` is initialised."""
        self._lines: SimpleQueue[tuple[Any, ...] | None] = SimpleQueue()
        self._reported = 0
        self._is_closed = False
        self._writer = _start_writer(_log_file())
        # Python has none where it was started without; rclpy's executor asks for one.
        sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
        sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
        self._capacity = fcntl.fcntl(2, fcntl.F_GETPIPE_SZ)
        # rclpy has no other place in which all its loggers meet.
        self._log_now = rclpy_implementation.rclpy_logging_rcutils_log
        rclpy_implementation.rclpy_logging_rcutils_log = self._put
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is waiting, for some seconds at most; what is logged later is dropped."""
        self._lines.put(None)
        self._thread.join(_CLOSE_S)
        self._is_closed = True
        if missing := self.dropped - self._reported + self._lines.qsize():
            with contextlib.suppress(OSError):
                os.write(2, f"{missing} {_DROPPED}\n".encode())
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        os.close(nowhere)
        try:
            self._writer.wait(_CLOSE_S + log_writer.LAST_WRITE_S)
        except subprocess.TimeoutExpired:
            self._writer.kill()

    def _put(self, *line: Any) -> None:
        """In the place of rclpy's function, with its arguments: severity, name, message, …."""
        if self._lines.qsize() < _QUEUE_LINES:
            severity, name, text, *place = line
            # What a message of the network is quoted with must not reach a terminal as it is.
            self._lines.put((severity, name, visible_lines(_shortened(text)), *place))
        else:
            NodeLog.dropped += 1

    def _has_room(self) -> bool:
        return self._capacity - 2 * _waiting_bytes() >= _ROOM_BYTES

    def _work(self) -> None:
        while (line := self._lines.get()) is not None:
            while not (self._is_closed or self._has_room()):
                time.sleep(_RETRY_S)
            if self._writer.poll() is not None:
                NodeLog.dropped += 1  # it was killed: only /rosout has the line
            self._log_now(*line)
            if self.dropped > self._reported and self._lines.empty():
                severity, name, _, *place = line
                missing, self._reported = self.dropped - self._reported, self.dropped
                self._log_now(severity, name, f"{missing} {_DROPPED}", *place)


def _shortened(text: str) -> str:
    """Beginning and end of a very long text; a traceback says at its end what it is about."""
    if len(text) <= MAX_LINE:
        return text
    half = MAX_LINE // 2
    return f"{text[:half]} … {text[-half:]}"


def _log_file() -> Path:
    """Where rcl would have its log file: docs.ros.org, "Logging"."""
    home = os.environ.get("ROS_HOME") or "~/.ros"
    folder = Path(os.environ.get("ROS_LOG_DIR") or f"{home}/log").expanduser()
    program = Path(sys.argv[0]).stem
    return folder / f"{program}_{os.getpid()}_{time.time_ns() // 1_000_000}.log"


def _start_writer(log_file: Path) -> subprocess.Popen[bytes]:
    """Put pipes in the place of stderr and stdout, to a process that writes what comes out."""
    for stream in (1, 2):
        _ensure_open(stream)
    pipes = {2: _pipe(), 1: _pipe()}
    writer = subprocess.Popen(
        [sys.executable, "-I", "-S", log_writer.__file__, str(pipes[1][0])],
        env={**os.environ, log_writer.FILE_VARIABLE: str(log_file)},
        stdin=pipes[2][0],
        pass_fds=[pipes[1][0]],
        # What is sent to the node's process group, such as Ctrl-C, is not for it.
        start_new_session=True,
    )
    for stream, (reader, end) in pipes.items():
        os.dup2(end, stream)
        os.close(reader)
        os.close(end)
    return writer


def _ensure_open(stream: int) -> None:
    try:
        os.fstat(stream)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if nowhere != stream:
            os.dup2(nowhere, stream)
            os.close(nowhere)
        os.set_inheritable(stream, True)


def _pipe() -> tuple[int, int]:
    """Make a pipe whose end to write to never blocks; return the end to read from, and that."""
    reader, end = os.pipe()
    with contextlib.suppress(PermissionError):  # beyond what the user may have
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    os.set_blocking(end, False)
    return reader, end


def _waiting_bytes() -> int:
    """Bytes that stderr's pipe holds."""
    count = array.array("i", [0])
    fcntl.ioctl(2, termios.FIONREAD, count)
    return count[0]
