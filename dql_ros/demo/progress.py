"""Shows what the demo does: bars while a stage runs, one line when it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from dql_core.cli.terminal import TaskText
from dql_core.errors import visible


@dataclass(frozen=True)
class FinishedStage:
    """What a stage did.

    Attributes:
        name: The stage, one word.
        text: What came of it, one line.
        seconds: How long it took.
    """

    name: str
    text: str
    seconds: float


class Stage:
    """A running stage.

    Attributes:
        text: What came of it; to be set before it ends.
    """

    def __init__(self, progress: Progress) -> None:
        self.text = ""
        self._progress = progress

    def bar(self, label: str, total: int) -> Callable[..., None]:
        """Add a bar; return what updates it: by ``advance``, or to ``completed`` of ``total``."""
        return partial(self._progress.update, self._progress.add_task(label, total=total))


class DemoProgress:
    """Numbers the stages and keeps their results.

    Attributes:
        stages: The finished stages in order.
    """

    def __init__(self, console: Console, total: int) -> None:
        self.stages: list[FinishedStage] = []
        self._console = console
        self._total = total

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Run a stage: its bars while the block runs, then its one line."""
        number, started = f"{len(self.stages) + 1}/{self._total}", time.monotonic()
        progress = Progress(
            TextColumn(f"{number} {name}", style="bold", markup=False),
            TaskText(),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        with progress:
            stage = Stage(progress)
            yield stage
        done = FinishedStage(name, stage.text, time.monotonic() - started)
        self.stages.append(done)
        line = Text.assemble(
            (f"{number} {name:<8}", "bold"),
            visible(f" {done.text} "),
            (f"({done.seconds:.0f} s)", "dim"),
        )
        self._console.print(line, highlight=False, soft_wrap=True)
