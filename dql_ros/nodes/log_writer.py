"""Writes down what a node logs, in a process of its own: on the terminal and in a log file.

``python log_writer.py OUT`` reads the node's stderr from its standard input and the node's stdout
from the file descriptor ``OUT``. It never keeps the node waiting: a terminal that
takes nothing (Ctrl-S, a pipe that nobody reads) misses lines, which are counted, while the log
file still gets them. It outlives the node by a second or two, so that the last words of one that
crashed are seen. It imports the standard library only, to start at once.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading

# Names the log file. It is no argument: whoever looks for the node by name must not find this.
FILE_VARIABLE = "DQL_ROS_LOG_FILE"

_CHUNK_BYTES = 65536
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
# Bytes that may wait for a terminal.
_WAITING_BYTES = 1 << 20
LAST_WRITE_S = 1.0
# The node ends by these; what it says then must still be written.
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP)


class LogFile:
    """The log file, for as long as it can be written."""

    def __init__(self, path: str, complain: int) -> None:
        """Append to ``path``, or say on the file descriptor ``complain`` why that cannot be."""
        self._complain = complain
        self._complaint: threading.Thread | None = None
        self._path = path
        self._lock = threading.Lock()
        self._file = -1
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self._file = os.open(path, _APPEND, 0o644)
        except OSError as error:
            self._give_up(error)

    def write(self, chunk: bytes) -> None:
        """Append ``chunk``; the first failure ends the file and is reported."""
        with self._lock:
            if self._file < 0:
                return
            try:
                os.write(self._file, chunk)
            except OSError as error:
                self._file = -1
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        text = f"the log file {self._path} cannot be written: {error.strerror}\n"
        self._complaint = threading.Thread(target=_write_all, args=(self._complain, text.encode()))
        self._complaint.start()

    def wait(self, timeout_s: float) -> None:
        """Give a complaint so long to be written."""
        if self._complaint is not None:
            self._complaint.join(timeout_s)


class Drain:
    """Carries what comes out of a pipe to a terminal and to the log file."""

    def __init__(self, source: int, target: int, log: LogFile) -> None:
        """Begin to carry from the file descriptor ``source`` to ``target``."""
        self._source, self._target, self._log = source, target, log
        self._waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._dropped_lines = 0
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.writer = threading.Thread(target=self._write, daemon=True)
        self.reader.start()
        self.writer.start()

    def _read(self) -> None:
        while chunk := os.read(self._source, _CHUNK_BYTES):
            self._log.write(chunk)
            if self._waiting_bytes > _WAITING_BYTES:
                self._dropped_lines += chunk.count(b"\n")
            else:
                self._waiting_bytes += len(chunk)
                self._waiting.put(chunk)
        self._waiting.put(None)

    def _write(self) -> None:
        while (chunk := self._waiting.get()) is not None:
            _write_all(self._target, chunk)
            self._waiting_bytes -= len(chunk)
            if self._waiting.empty():
                self._own_up()
        self._own_up()

    def _own_up(self) -> None:
        """Say what is missing, if anything is."""
        lines, self._dropped_lines = self._dropped_lines, 0
        if lines:
            text = f"\n{lines} log lines are missing here: the output was blocked for too long\n"
            _write_all(self._target, text.encode())


def main() -> None:
    """Carry until the node has closed its ends, and for a second more."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    log = LogFile(os.environ[FILE_VARIABLE], complain=2)
    drains = [Drain(0, 2, log), Drain(int(sys.argv[1]), 1, log)]
    for drain in drains:
        drain.reader.join()
    for drain in drains:
        drain.writer.join(LAST_WRITE_S)
    log.wait(LAST_WRITE_S)
    os._exit(0)


def _write_all(target: int, chunk: bytes) -> None:
    try:
        while chunk:
            chunk = chunk[os.write(target, chunk) :]
    except OSError:  # nobody listens any more
        return


if __name__ == "__main__":
    main()
