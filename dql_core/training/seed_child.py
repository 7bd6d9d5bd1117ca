"""One of several runs that differ by their seeds, as a process of its own."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dql_core.config import TrainConfig
from dql_core.training.locate import VALIDATION_FILE, checkpoint_steps
from dql_core.training.records import read_records

CHILD = "dql_core.training.seed_process"
_LAST_LINES = 20

# A seed and a line that its process wrote, or None when it has no more to say.
Messages = queue.Queue[tuple[int, str | None]]


@dataclass(frozen=True)
class SeedRun:
    """One of the runs.

    Attributes:
        config: Its configuration.
        out: Its folder.
        resume: Whether it goes on.
    """

    config: TrainConfig
    out: Path
    resume: bool = False

    @property
    def seed(self) -> int:
        """What makes it differ from the others."""
        return self.config.run.seed

    @property
    def finished(self) -> bool:
        """Whether its last checkpoint is there and was measured."""
        steps = self.config.run.steps
        measured = read_records(self.out / VALIDATION_FILE)
        return checkpoint_steps(self.out)[-1:] == [steps] and any(
            record["step"] == steps for record in measured
        )


@dataclass(frozen=True)
class SeedOutcome:
    """How one of the runs ended.

    Attributes:
        run: The run.
        failure: What it said last if it failed, else empty.
    """

    run: SeedRun
    failure: str = ""


class Show(Protocol):
    """Shows how the runs go."""

    def report(self, seed: int, step: int, metrics: dict[str, float]) -> None:
        """Show a reading."""

    def tell(self, seed: int, level: int, text: str) -> None:
        """Show a message of one of `logging`'s levels."""


class SeedChild:
    """One running child; a thread of its own hands its lines over."""

    def __init__(self, run: SeedRun, messages: Messages) -> None:
        """Start it.

        Args:
            run: What it is to do.
            messages: Where what it writes goes.
        """
        self._run = run
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._interrupted = False
        self._child = subprocess.Popen(
            [sys.executable, "-m", CHILD, str(run.out), str(int(run.resume))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # a Ctrl-C of the terminal comes through `interrupt` only
        )
        assert self._child.stdin is not None
        self._child.stdin.write(run.config.model_dump_json())
        self._child.stdin.close()
        threading.Thread(target=self._hand_over, args=(messages,), daemon=True).start()

    def take(self, line: str, show: Show) -> None:
        """Show one line of the child, or keep it if it is none of ours."""
        message = _parse(line)
        if message is None:
            self._last_lines.append(line.strip())
        elif "step" in message:
            show.report(self._run.seed, message["step"], message["metrics"])
        else:
            show.tell(self._run.seed, message["level"], message["text"])

    def interrupt(self) -> None:
        """Ask the child once to save a checkpoint and stop."""
        if not self._interrupted:
            self._child.send_signal(signal.SIGINT)
            self._interrupted = True

    def kill(self) -> None:
        """End the child at once; its last checkpoint stays."""
        self._child.kill()
        self._child.wait()

    def outcome(self) -> SeedOutcome | None:
        """Tell how the child, whose output has ended, ended; None if it was interrupted."""
        if self._child.wait() == 0:
            return SeedOutcome(self._run)
        if self._interrupted:
            return None
        said = [line for line in self._last_lines if line]
        return SeedOutcome(self._run, said[-1] if said else f"ended by {self._child.returncode}")

    def _hand_over(self, messages: Messages) -> None:
        assert self._child.stdout is not None
        with self._child.stdout as lines:
            for line in lines:
                messages.put((self._run.seed, line))
        messages.put((self._run.seed, None))


def _parse(line: str) -> dict[str, Any] | None:
    """Return a message of `seed_process`; None for anything else that a child prints."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
