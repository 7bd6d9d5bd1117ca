"""Processes: signals obeyed between two steps, children that always end, and who gets the log."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

from dql_core.errors import DqlError, one_line

CORE = "dql_core"
CHECK_FAILED = 1  # exit status where something is found not to be as was asked for
INTERRUPTED = 130  # exit status after a Ctrl-C, as of a shell
INCOMPLETE = 3  # where a part of what was asked for failed, and the rest is there
# Gives a child the id of the process that started it, see `is_orphan`.
PARENT_VARIABLE = "DQL_ROS_PARENT_PID"
# How long a child may take to end after SIGINT, and after SIGTERM, in seconds.
_GRACE_S = (10.0, 3.0)
_KEPT_LINES = 50


class Interruption:
    """Notes a signal to end instead of breaking an update in two; a second one breaks it.

    SIGINT, SIGTERM, and SIGHUP unless it is ignored, as it is under nohup.

    Attributes:
        requested: Whether the run is to stop.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        """Take the signals over; only the main thread may, elsewhere nothing changes."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Obey a signal to end after the block, as where a child is started and then noted."""
    with Interruption() as interruption:
        yield
    if interruption.requested:
        raise KeyboardInterrupt


class ChildProcess:
    """A process in a session of its own, so that Ctrl-C in a terminal reaches only this one.

    Attributes:
        name: What it is called in messages.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str] = os.environ,
        *,
        on_output: Callable[[str | None], None] | None = None,
        has_input: bool = False,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start it.

        Args:
            name: See the attribute.
            arguments: The command line.
            environment: Its environment, to which `PARENT_VARIABLE` is added.
            on_output: Called on a thread with each line of its stdout, and with None after the
                last; by default nobody reads them.
            has_input: Its standard input is open until `end_input`; by default it is empty.
            pass_fds: File descriptors of this process that it inherits.
        """
        self.name = name
        self._errors: deque[str] = deque(maxlen=_KEPT_LINES)
        self._process = subprocess.Popen(
            arguments,
            env={**environment, PARENT_VARIABLE: str(os.getpid())},
            stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE if on_output else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            pass_fds=pass_fds,
        )
        self._on_output = on_output
        reads = (self._read_errors, self._read_output) if on_output else (self._read_errors,)
        self._readers = [threading.Thread(target=read, daemon=True) for read in reads]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code, a signal's number below 0 if that ended it; ``None`` while it runs."""
        return self._process.poll()

    @property
    def last_words(self) -> str:
        """The last line that it wrote to stderr; if there is none, how it ended."""
        code = self.exit_code
        return self._last_line() or (f"ended with code {code}" if code else "no message")

    @property
    def failure(self) -> str:
        """Why it failed, with its exit code; empty while it runs and if it ended well."""
        code = self.exit_code
        return f"{self._last_line() or 'no message'} (code {code})" if code else ""

    def check(self, error: type[Exception]) -> None:
        """Raise ``error`` with the last line that it wrote, if it has failed."""
        if code := self.exit_code:
            words = self._last_line() or "no message"
            raise error(f"{self.name} ended with code {code}: {words}")

    def end_input(self, text: str = "") -> None:
        """Write ``text`` to its standard input, and end that."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError), self._process.stdin as stream:  # it may have ended
                stream.write(text)

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for its end; say whether it came in time."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        self._await_readers()
        return True

    def stop(self) -> None:
        """End it: SIGINT, then SIGTERM, then SIGKILL."""
        for number, grace_s in zip((signal.SIGINT, signal.SIGTERM), _GRACE_S, strict=True):
            self.send_signal(number)
            if self.wait(grace_s):
                break
        else:
            self.kill()
        self.end_input()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self.wait()

    def _last_line(self) -> str:
        if self.exit_code is not None:
            self._await_readers()
        return next((line.strip() for line in reversed(list(self._errors)) if line.strip()), "")

    def _await_readers(self) -> None:
        """Wait for what it wrote; not long, since a child of its own may hold the pipe open."""
        for reader in self._readers:
            reader.join(timeout=1.0)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            self._errors.extend(stream)

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        assert self._on_output is not None
        with self._process.stdout as stream:
            for line in stream:
                self._on_output(line)
        self._on_output(None)


Child = TypeVar("Child", bound=ChildProcess)
Children = TypeVar("Children", bound="ChildProcesses")


class ChildProcesses:
    """Several child processes; leaving the block ends them all."""

    def __init__(self) -> None:
        self._running: list[ChildProcess] = []

    def add(self, start: Callable[[], Child]) -> Child:
        """Start one and note it; no signal can come between the two."""
        with uninterrupted():
            child = start()
            self._running.append(child)
        return child

    def check(self, error: type[Exception]) -> None:
        """Raise ``error`` with the last line of the first that has failed."""
        for child in self._running:
            child.check(error)

    def stop(self) -> None:
        """End all, the last started first."""
        for child in reversed(self._running):
            child.stop()

    def __enter__(self: Children) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def is_orphan() -> bool:
    """Whether the process that started this one by `ChildProcess` has ended."""
    parent = os.environ.get(PARENT_VARIABLE)
    return parent is not None and os.getppid() != int(parent)


def run_child(work: Callable[[], bool]) -> None:
    """Run a child's work, then exit: 0, 2 after a user's mistake, or 130 if interrupted.

    Args:
        work: Says whether it was finished, rather than interrupted.
    """
    try:
        sys.exit(0 if work() else INTERRUPTED)
    except DqlError as error:
        sys.stderr.write(one_line(error) + "\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Nobody listens any more: the process that started this one is gone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


@contextmanager
def log_lines(handler: logging.Handler) -> Iterator[None]:
    """Let ``handler``, and no other, have what the core logs, from INFO on."""
    logger = logging.getLogger(CORE)
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
