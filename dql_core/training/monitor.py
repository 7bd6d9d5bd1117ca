"""Watches over the updates of a run: writes its metrics, and stops it when it is broken.

Losses are read from the device rarely, so that nothing waits for them in between.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from dql_core.algo.agent import Losses, measured
from dql_core.data.transitions import Batch, BatchSampler
from dql_core.errors import DqlError
from dql_core.training.checkpoint import Checkpoint, Snapshot, save_checkpoint
from dql_core.training.divergence import ValueLimits, divergence_remedy, root_mean_square
from dql_core.training.run_files import (
    METRICS_FILE,
    append_record,
    checkpoint_folder,
    drop_after,
    last_healthy_step,
    record_alarm,
    record_alarm_end,
    update_run_info,
)

REMEDY = "lower the learning rates or policy.eta, or set critic.layer_norm=true"
# Updates between two states that are kept in memory, in case that the critics diverge next.
SNAPSHOT_EVERY = 100
# Transitions by which untrained critics are known well enough.
UNTRAINED_ROWS = 1024
_REMEDY_WITHOUT_CRITICS = "lower the learning rate"
_logger = logging.getLogger(__name__)


class MetricsLog:
    """Writes ``metrics.jsonl``, one line a reading, and the same values as TensorBoard curves.

    Args:
        run: The run's folder.
        step: Updates taken so far; what the files have of later ones is dropped.
    """

    def __init__(self, run: Path, step: int = 0) -> None:
        self._file = run / METRICS_FILE
        drop_after(self._file, step)
        # TensorBoard hides what older files have of this step and later ones.
        self._curves = SummaryWriter(str(run), purge_step=step + 1 if step else None)
        self._last: tuple[int, float] | None = None

    def close(self) -> None:
        """Close the curves' file."""
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
        append_record(self._file, {"step": step, **reading})
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


class Monitor:
    """Collects losses on the device and looks after them from time to time.

    Args:
        out: The run's folder.
        run: The run; its `progress` is what this adds to.
        batches: Where its batches come from.
        log: Where readings go.
        limits: What values may be; None where there are none.
    """

    def __init__(
        self,
        out: Path,
        run: Checkpoint,
        batches: BatchSampler,
        log: MetricsLog,
        limits: ValueLimits | None,
    ) -> None:
        self._out, self._run, self._batches, self._log = out, run, batches, log
        self._limits = limits
        self._reason = ""
        self._sound: Snapshot | None = None
        self._names: tuple[str, ...] = ()
        self._pending: list[Tensor] = []
        self._drawn_from = batches.generator.get_state()
        self._started: float | None = time.perf_counter()
        if limits is not None and run.step == 0:
            self._measure_untrained(limits)
        if run.agent.execution.compiles:
            _logger.info("compiling the update, about a minute; later runs take it from a cache")

    def add(self, losses: Losses) -> None:
        """Add one update's losses."""
        metrics = measured(losses)
        self._names = tuple(metrics)
        self._pending.append(torch.stack(list(metrics.values())))
        if self._started is not None:
            self._note_first_update(self._started)
            self._started = None

    def read(self) -> dict[str, float]:
        """Write a line of metrics, the means since the last one, and return it.

        Raises:
            DqlError: If a loss is no number any more.
        """
        self.flush()
        sums = self._run.progress.since_reading
        values, since = sums.means(), self._run.step - sums.count
        sums.reset()
        if self._limits is not None:
            values["q_alarm"] = float(self._watch(values, since, self._limits))
            self._keep_if_sound()
        return self._log.write(self._run.step, values)

    def save(self) -> Path:
        """Save a checkpoint of a run that is sound, and return its folder.

        Raises:
            DqlError: If a loss or a weight is no number any more.
        """
        self.flush()
        if broken := _broken_weights(self._run.step, self._run.agent.modules):
            self._stop(broken)
        return save_checkpoint(self._out, self._run)

    def stop_diverged(self) -> None:
        """End a run whose critics diverge.

        Raises:
            DqlError: Always.
        """
        remedy = divergence_remedy(self._run.config)
        self._stop(f"the critics diverge at step {self._run.step}: {self._reason}", remedy)

    def flush(self) -> None:
        """Bring the losses of the latest updates from the device into the sums.

        Raises:
            DqlError: If one is no number any more.
        """
        if not self._pending:
            return
        rows = torch.stack(self._pending).cpu().double().numpy()
        first_step = self._run.step - len(rows) + 1
        if broken := _broken_losses(self._names, rows, first_step, self._redraw):
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

    def _stop(self, broken: str, remedy: str = REMEDY) -> None:
        step = last_healthy_step(self._out)
        good = "none" if step is None else checkpoint_folder(self._out, step)
        update_run_info(self._out, failure=broken)
        if self._run.agent.critics is None:
            remedy = _REMEDY_WITHOUT_CRITICS
        raise DqlError(f"{broken}; last good checkpoint: {good}; {remedy}")

    @torch.no_grad()
    def _measure_untrained(self, limits: ValueLimits) -> None:
        critics, batch = self._run.agent.critics, self._batches.spread(UNTRAINED_ROWS)
        if critics:
            values = critics.online(batch.observation, batch.action)
            means = values.mean().item(), values.abs().mean().item()
            limits.allow_untrained(self._run.progress, *means)

    def _watch(self, values: Mapping[str, float], since: int, limits: ValueLimits) -> bool:
        """Report when the critics diverge, by means since a step, and when they no longer do."""
        progress, step = self._run.progress, self._run.step
        critics = self._run.agent.critics
        error = root_mean_square(values["critic"], critics.num_critics if critics else 1)
        self._reason = limits.reason(progress, {**values, "critic_rms": error})
        if self._reason and not progress.alarming:
            self._alarm(values, since)
        elif progress.alarming and not self._reason:
            _logger.info("step %d: the critics are back within their limits", step)
            record_alarm_end(self._out, step)
        progress.alarming = bool(self._reason)
        return progress.alarming

    def _keep_if_sound(self) -> None:
        kept = self._sound.step if self._sound else -SNAPSHOT_EVERY
        if not self._run.progress.alarming and self._run.step - kept >= SNAPSHOT_EVERY:
            self._sound = Snapshot(self._run)

    def _alarm(self, values: Mapping[str, float], since: int) -> None:
        if self._sound:
            self._sound.save(self._out)
        numbers = {name: values[name] for name in ("q_data", "q_magnitude", "critic")}
        step = self._run.step
        record_alarm(self._out, step, {"since": since, "reason": self._reason, **numbers})
        healthy = last_healthy_step(self._out)
        kept = "no checkpoint is from before"
        if healthy is not None:
            kept = f"the checkpoint last_healthy is that of step {healthy}"
        remedy = divergence_remedy(self._run.config)
        _logger.error("step %d: the critics diverge: %s; %s; %s", step, self._reason, kept, remedy)

    def _note_first_update(self, started: float) -> None:
        self._pending[0].tolist()  # waits for the device
        took = time.perf_counter() - started
        update_run_info(self._out, first_update_s=round(took, 3))
        if self._run.agent.execution.compiles:
            _logger.info("compiled; the first update took %.1f s", took)
        self._log.start_clock(self._run.step)


def _broken_losses(
    names: Sequence[str],
    rows: NDArray[np.float64],
    first_step: int,
    redraw: Callable[[int], Batch],
) -> str | None:
    """Describe the first of n updates with a loss that is NaN or infinite, if there is one.

    The losses have shape (n, L), and ``redraw`` returns the batch of one of the updates.
    """
    finite = np.isfinite(rows)
    if finite.all():
        return None
    index = int(np.flatnonzero(~finite.all(axis=1))[0])
    row = dict(zip(names, rows[index].tolist(), strict=True))
    broken = {name: value for name, value in row.items() if not np.isfinite(value)}
    sound = {name: value for name, value in row.items() if name not in broken}
    parts = [f"training diverged at step {first_step + index}: {_text(broken)}"]
    parts += [f", while {_text(sound)}"] if sound else []
    if index:
        before = dict(zip(names, rows[index - 1].tolist(), strict=True))
        parts.append(f"; one step before, {_text(before)}")
    return "".join([*parts, f"; its batch has {_statistics(redraw(index))}"])


def _broken_weights(step: int, modules: Mapping[str, nn.Module]) -> str | None:
    """Name the first weights that are NaN or infinite, which losses show one update later."""
    for name, module in modules.items():
        for key, tensor in module.state_dict().items():
            if not bool(torch.isfinite(tensor).all()):
                return f"training diverged at step {step}: the weights '{name}.{key}' are broken"
    return None


def _text(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} = {value:.3g}" for name, value in values.items())


def _statistics(batch: Batch) -> str:
    """Describe a batch as the networks see it: normalised."""
    reward = batch.reward
    return (
        f"rewards {reward.min().item():.3g} to {reward.max().item():.3g} (mean "
        f"{reward.mean().item():.3g}), |action| up to {_largest(batch.action):.3g}, normalised "
        f"|observation| up to {_largest(batch.observation):.3g} (next: "
        f"{_largest(batch.next_observation):.3g})"
    )


def _largest(values: Tensor) -> float:
    return float(values.abs().max())
