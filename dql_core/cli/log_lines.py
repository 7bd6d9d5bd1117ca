"""What the core logs, as lines on the console, above whatever bar is shown there."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

CORE = "dql_core"
_STYLES = {logging.WARNING: "yellow", logging.ERROR: "bold red"}


class _ConsoleLines(logging.Handler):
    """Prints messages; warnings in yellow and errors in red."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message as a line."""
        text = Text(record.getMessage(), _STYLES.get(record.levelno, ""))
        self._console.print(text, soft_wrap=True)


@contextmanager
def log_lines(handler: logging.Handler) -> Iterator[None]:
    """Let ``handler``, and no other, have what the core logs."""
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


def shown_on(console: Console) -> logging.Handler:
    """Return a handler that prints on ``console``."""
    return _ConsoleLines(console)
