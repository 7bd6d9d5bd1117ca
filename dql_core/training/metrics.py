"""Metrics of a run, written as lines and as TensorBoard curves."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter

from dql_core.files import drop_after, open_to_append

METRICS_FILE = "metrics.jsonl"


class MetricsLog:
    """Writes ``metrics.jsonl``, one line a reading, and the same values as TensorBoard curves."""

    def __init__(self, run: Path, step: int = 0) -> None:
        """Begin, or go on.

        Args:
            run: The run's folder.
            step: Updates taken so far; what the files tell of later ones is dropped.
        """
        drop_after(run / METRICS_FILE, step)
        self._lines = os.fdopen(open_to_append(run / METRICS_FILE), "a")
        # TensorBoard hides what older files tell of this step and later ones.
        self._curves = SummaryWriter(str(run), purge_step=step + 1 if step else None)
        self._last: tuple[int, float] | None = None

    def __enter__(self) -> MetricsLog:
        """Return the log itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close both files."""
        self._lines.close()
        self._curves.close()

    def write(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        """Write one reading.

        Args:
            step: Updates taken so far.
            values: Means of the losses since the last reading.

        Returns:
            The values and the speed, ``updates_per_s``, since the last reading.
        """
        reading = dict(values) | self._speed(step)
        self._lines.write(json.dumps({"step": step, **reading}) + "\n")
        self._lines.flush()
        self.curves(step, reading)
        return reading

    def curves(self, step: int, values: Mapping[str, float]) -> None:
        """Add points to TensorBoard's curves only."""
        for name, value in values.items():
            self._curves.add_scalar(name, value, step)

    def start_clock(self, step: int) -> None:
        """Measure the speed from now on, where ``step`` updates were taken."""
        self._last = step, time.perf_counter()

    @contextmanager
    def clock_stopped(self) -> Iterator[None]:
        """Do something that the speed of the updates does not count."""
        started = time.perf_counter()
        yield
        if self._last is not None:
            step, since = self._last
            self._last = step, since + time.perf_counter() - started

    def _speed(self, step: int) -> dict[str, float]:
        last = self._last
        self.start_clock(step)
        if last is None or step == last[0]:
            return {}
        return {"updates_per_s": (step - last[0]) / (time.perf_counter() - last[1])}
