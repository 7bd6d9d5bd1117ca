"""Metrics of a run: averaged on the device, read rarely, written as lines and as curves."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from dql_core.algo.agent import Losses
from dql_core.errors import DqlError

METRICS_FILE = "metrics.jsonl"


class LossAverage:
    """Mean of each loss since it was last read; nothing waits for the device in between."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._sums: Tensor | None = None
        self._count = 0

    def add(self, losses: Losses) -> None:
        """Add one update's losses."""
        self._names = tuple(vars(losses))
        values = torch.stack(list(vars(losses).values()))
        self._sums = values if self._sums is None else self._sums.add_(values)
        self._count += 1

    def read(self) -> dict[str, float]:
        """Return the means by name and start again; the one place that waits for the device."""
        if self._sums is None:
            return {}
        means = (self._sums / self._count).tolist()
        self._sums, self._count = None, 0
        return dict(zip(self._names, means, strict=True))


class MetricsLog:
    """Writes ``metrics.jsonl``, one line a reading, and the same values as TensorBoard curves."""

    def __init__(self, run: Path) -> None:
        """Append to the files in the folder ``run``."""
        self._lines = (run / METRICS_FILE).open("a")
        self._curves = SummaryWriter(str(run))
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

    def write(self, step: int, values: dict[str, float]) -> dict[str, float]:
        """Write one reading.

        Args:
            step: Updates taken so far.
            values: Means of the losses since the last reading.

        Returns:
            The values and the speed, ``updates_per_s``, since the last reading.
        """
        values = values | self._speed(step)
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        self._lines.flush()
        for name, value in values.items():
            self._curves.add_scalar(name, value, step)
        return values

    def _speed(self, step: int) -> dict[str, float]:
        now, last = time.perf_counter(), self._last
        self._last = step, now
        return {} if last is None else {"updates_per_s": (step - last[0]) / (now - last[1])}


def require_finite_losses(step: int, values: dict[str, float]) -> None:
    """Stop a run that has diverged.

    Raises:
        DqlError: Naming the step and the losses that are no number any more.
    """
    broken = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
    if broken:
        raise DqlError(
            f"training diverged before step {step}: {', '.join(broken)}; lower the learning rates "
            f"or policy.eta, or set critic.layer_norm=true"
        )
