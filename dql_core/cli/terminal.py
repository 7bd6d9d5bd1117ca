"""What the command line prints: the texts of files are shown as texts, whatever is in them.

A topic's name may hold what a terminal obeys: escape sequences that clear the screen or set its
title, a carriage return that overwrites a line, marks that turn the direction of what follows, or
rich's own markup. So everything is printed by `Terminal`, `print_line` or `print_json`.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.containers import Lines
from rich.progress import Task, TextColumn
from rich.segment import Segment
from rich.text import Text

from dql_core.errors import MAX_LINE, visible, visible_lines

# Columns that no table of ours needs.
UNBROKEN = 10_000
_STYLES = {logging.WARNING: "yellow", logging.ERROR: "bold red"}


def print_line(text: str, *, err: bool = False) -> None:
    """Print one line; of a very long one, the beginning."""
    shown = visible(text)
    typer.echo(shown if len(shown) <= MAX_LINE else f"{shown[:MAX_LINE]}…", err=err)


def print_json(document: Any) -> None:
    """Print JSON, in which everything but ASCII is escaped."""
    typer.echo(json.dumps(document, indent=2))


class NameText(Text):
    """A text of names: one that is wider than its column is broken after a part of it."""

    def wrap(self, console: Console, width: int, *arguments: Any, **options: Any) -> Lines:
        """Return its lines; see `Text.wrap`."""
        places = [
            place
            for word in re.finditer(r"\S+", self.plain)
            for place in _breaks(word.group(), width, word.start())
        ]
        if not places:
            return super().wrap(console, width, *arguments, **options)
        return Text("\n").join(self.divide(places)).wrap(console, width, *arguments, **options)


def _breaks(name: str, width: int, start: int) -> Iterator[int]:
    """Yield where a name that begins at ``start`` is broken, so that no piece is wider."""
    while len(name) > width > 1:
        ends = [
            max((name.rfind(each, 0, width) + 1 for each in marks), default=0)
            for marks in ("/", "._-:")
        ]
        # A piece of a few letters helps nobody.
        end = next((end for end in ends if end > width / 3), width)
        start += end
        yield start
        name = name[end:]


class Terminal(Console):
    """A console to which a string is a line of plain text, also in tables and titles.

    Markup, emoji codes and line ends in it mean nothing. Where they are to mean something, a
    `rich.text.Text` is printed. Into a file or pipe, no line is broken, unless ``COLUMNS`` says
    how wide it is.
    """

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, markup=False, emoji=False)
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = UNBROKEN

    def render_str(self, text: str, **options: Any) -> Text:
        """Take a string literally, and break it as names are."""
        shown = super().render_str(visible(text), **options)
        return NameText.assemble(shown, justify=shown.justify, overflow=shown.overflow)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the segments of anything, in which only the console's own codes are left."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else _visible_segment(segment)


class TaskText(TextColumn):
    """A progress bar's description, without markup."""

    def __init__(self, style: str = "none") -> None:
        super().__init__("{task.description}", style=style, markup=False)

    def render(self, task: Task) -> Text:
        """Return one line of visible text."""
        return Text(visible(task.description), style=self.style)


class ConsoleLines(logging.Handler):
    """Prints what is logged as lines on a console, above whatever bar is shown there."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message as a line."""
        print_message(self._console, record.levelno, record.getMessage())


def print_message(console: Console, level: int, text: str) -> None:
    """Print a message of one of `logging`'s levels: warnings in yellow, errors in red."""
    console.print(Text(visible(text), _STYLES.get(level, "")), soft_wrap=True)


class PlainFormatter(logging.Formatter):
    """Formats what is logged as lines of visible text."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """Return one line."""
        return visible(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802  # logging's name
        """Return a traceback."""
        return visible_lines(super().formatException(ei))


def _visible_segment(segment: Segment) -> Segment:
    text = segment.text
    if text.isprintable() or text == "\n":
        return segment
    return Segment(visible_lines(text), segment.style)
