"""The bar that shows, on a terminal, how much of a bag is read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

from dql_core.cli.terminal import TaskText, Terminal


@contextmanager
def reading_bar(label: str, size_bytes: int) -> Iterator[Callable[[int], None]]:
    """Yield what is told how many bytes are done; the bar is gone when the block ends."""
    with Progress(
        TaskText(),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Terminal(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        task = bar.add_task(label, total=size_bytes)
        yield lambda done: bar.update(task, completed=done)
