"""What the core logs, as lines on the console, above whatever bar is shown there."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.text import Text

_STYLES = {logging.WARNING: "yellow", logging.ERROR: "bold red"}


class ConsoleLines(logging.Handler):
    """Prints messages; warnings in yellow and errors in red."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message as a line."""
        print_message(self._console, record.levelno, record.getMessage())


def print_message(console: Console, level: int, text: str) -> None:
    """Print a message of one of `logging`'s levels."""
    console.print(Text(text, _STYLES.get(level, "")), soft_wrap=True)
