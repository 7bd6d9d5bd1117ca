"""Watches over the updates of a run: reads their losses rarely, stops what is broken."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import torch
from torch import Tensor

from dql_core.algo.agent import Losses
from dql_core.data.batches import Batch, BatchSampler
from dql_core.errors import DqlError
from dql_core.training.checkpoint import Checkpoint, save_checkpoint
from dql_core.training.divergence import ValueLimit
from dql_core.training.locate import checkpoint_folder, checkpoint_steps
from dql_core.training.metrics import MetricsLog
from dql_core.training.nonfinite import broken_losses, broken_weights
from dql_core.training.run_folder import note_alarm, note_facts

MEND = "lower the learning rates or policy.eta, or set critic.layer_norm=true"

_logger = logging.getLogger(__name__)


class Monitor:
    """Collects losses on the device; nothing waits for it between two readings."""

    def __init__(
        self,
        out: Path,
        run: Checkpoint,
        batches: BatchSampler,
        log: MetricsLog,
        limit: ValueLimit | None,
    ) -> None:
        """Begin to watch.

        Args:
            out: The run's folder.
            run: The run; its `progress` is what this adds to.
            batches: Where its batches come from.
            log: Where readings go.
            limit: How large values may be; None where there are none.
        """
        self._out, self._run, self._batches, self._log = out, run, batches, log
        self._limit = limit
        self._names: tuple[str, ...] = ()
        self._pending: list[Tensor] = []
        self._drawn_from = batches.generator.get_state()
        self._started: float | None = time.perf_counter()
        if run.agent.acceleration.compiles:
            _logger.info("compiling the update, about a minute; later runs take it from a cache")

    def add(self, losses: Losses) -> None:
        """Add one update's losses."""
        self._names = tuple(vars(losses))
        self._pending.append(torch.stack(list(vars(losses).values())))
        if self._started is not None:
            self._note_first_update(self._started)
            self._started = None

    def read(self) -> dict[str, float]:
        """Write a line of metrics, the means since the last one, and return it.

        Raises:
            DqlError: If a loss is no number any more.
        """
        self.settle()
        sums = self._run.progress.since_reading
        values = sums.means()
        sums.reset()
        if self._limit is not None:
            values["q_alarm"] = float(self._watch(values["q_magnitude"], self._limit))
        return self._log.write(self._run.step, values)

    def save(self) -> Path:
        """Save a checkpoint of a run that is sound, and return its folder.

        Raises:
            DqlError: If a loss or a weight is no number any more.
        """
        self.settle()
        if broken := broken_weights(self._run.step, self._run.agent.modules):
            self._stop(broken)
        return save_checkpoint(self._out, self._run)

    def settle(self) -> None:
        """Bring the losses of the latest updates from the device into the sums.

        Raises:
            DqlError: If one is no number any more.
        """
        if not self._pending:
            return
        rows = torch.stack(self._pending).cpu().double().numpy()
        first_step = self._run.step - len(rows) + 1
        if broken := broken_losses(self._names, rows, first_step, self._redraw):
            self._stop(broken)
        self._run.progress.since_reading.add(self._names, rows)
        self._run.progress.since_checkpoint.add(self._names, rows)
        self._pending.clear()
        self._drawn_from = self._batches.generator.get_state()

    def _redraw(self, index: int) -> Batch:
        """Draw a batch since the last reading again, counted from 0; the run does not go on."""
        self._batches.generator.set_state(self._drawn_from)
        for _ in range(index):
            self._batches.draw()
        return self._batches.draw()

    def _stop(self, broken: str) -> None:
        steps = checkpoint_steps(self._out)
        good = checkpoint_folder(self._out, steps[-1]) if steps else "none"
        note_facts(self._out, failure=broken)
        raise DqlError(f"{broken}; last good checkpoint: {good}; {MEND}")

    def _watch(self, q_magnitude: float, limit: ValueLimit) -> bool:
        """Tell when values leave their limit, and when they are back."""
        progress, step = self._run.progress, self._run.step
        alarming = q_magnitude > limit.limit
        if alarming and not progress.alarming:
            _logger.error("step %d: %s", step, limit.alarm(q_magnitude))
            note_alarm(self._out, step, q_magnitude, limit.limit)
        elif progress.alarming and not alarming:
            _logger.info("step %d: mean |Q| is back within its limit: %.3g", step, q_magnitude)
        progress.alarming = alarming
        return alarming

    def _note_first_update(self, started: float) -> None:
        self._pending[0].tolist()  # waits for the device
        took = time.perf_counter() - started
        note_facts(self._out, first_update_s=round(took, 3))
        if self._run.agent.acceleration.compiles:
            _logger.info("compiled; the first update took %.1f s", took)
        self._log.start_clock(self._run.step)
