"""What a whole process shares: the signals that end it, and who receives what the core logs."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

CORE = "dql_core"
INTERRUPTED = 130  # exit status after a Ctrl-C, as of a shell


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
