"""What is measured of every checkpoint, and written beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from dql_core.evaluation.batched_policy import BatchedPolicy
from dql_core.evaluation.parallel_episodes import ParallelEpisodes
from dql_core.runtime.choice import Choice, resolve_choice
from dql_core.training.checkpoint import Checkpoint
from dql_core.training.held_out import HeldOut
from dql_core.training.interruption import Interruption
from dql_core.training.locate import VALIDATION_FILE
from dql_core.training.metrics import MetricsLog
from dql_core.training.preparation import TrainingData, learned_rewards
from dql_core.training.records import append_record, read_records
from dql_core.training.selection import write_best

_logger = logging.getLogger(__name__)


class Appraiser:
    """Measures checkpoints on held-out episodes and in an environment, where there are any."""

    def __init__(self, out: Path, run: Checkpoint, data: TrainingData, log: MetricsLog) -> None:
        """Prepare; the environments stay open until the end.

        Args:
            out: The run's folder.
            run: The run.
            data: What it learns from and what is held out.
            log: Whose clock stops meanwhile, and whose curves show the measures.
        """
        config = run.config
        self._out, self._log = out, log
        self._held_out = _held_out(run, data) if data.held_out else None
        self._episodes: ParallelEpisodes | None = None
        if config.evaluation.env:
            wanted = config.evaluation
            self._episodes = ParallelEpisodes(wanted.env, run.spec, wanted.episodes, wanted.seed)

    def __enter__(self) -> Appraiser:
        """Return the appraiser itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the environments."""
        if self._episodes:
            self._episodes.close()

    def appraise(self, run: Checkpoint, interruption: Interruption) -> None:
        """Measure a checkpoint that was just saved, unless it was measured before.

        Args:
            run: The run at that checkpoint.
            interruption: If it is requested, the checkpoint is measured when the run goes on.
        """
        records = self._out / VALIDATION_FILE
        if any(record["step"] == run.step for record in read_records(records)):
            return
        with self._log.clock_stopped():
            record = self._measure(run, lambda: interruption.requested)
        if record is None:
            return
        append_record(records, record)
        write_best(self._out, run.config)
        self._log.curves(run.step, _curves(record))
        if line := _line(record):
            _logger.info("step %d: %s", run.step, line)

    def _measure(self, run: Checkpoint, stop: Callable[[], bool]) -> dict[str, Any] | None:
        sums = run.progress.since_checkpoint
        record: dict[str, Any] = {"step": run.step, "imitation": sums.means()["imitation"]}
        if self._held_out:
            record |= self._held_out.measure(run.agent)
        if self._episodes:
            result = self._episodes.run(acting_policy(run), stop)
            if result is None:
                return None
            record["online"] = result.to_json()
        return record


def acting_policy(run: Checkpoint) -> BatchedPolicy:
    """Return what acts for many environments at once as the run is configured to."""
    selection, critic = run.config.selection, run.agent.ranking_critic
    return BatchedPolicy(
        run.agent.acting_sampler,
        critic,
        run.normalizer,
        resolve_choice(Choice(selection.num_candidates, selection.rule), critic is not None),
        temperature=selection.temperature,
        raw_temperature=selection.temperature_scale == "raw",
        device=str(run.agent.noise.generator.device),
    )


def _held_out(run: Checkpoint, data: TrainingData) -> HeldOut:
    assert data.held_out is not None
    rewards = learned_rewards(run.config, data.learned)
    device = str(run.agent.noise.generator.device)
    return HeldOut(run.config, data.held_out, run.normalizer, rewards, device)


def _curves(record: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a record that are worth a curve, by name."""
    curves = {name: record[name] for name in record if name.startswith("held_out")}
    online = record.get("online", {})
    for name in ("mean_return", "success_rate"):
        if name in online:
            curves[f"online_{name}"] = online[name]
    return curves


def _line(record: dict[str, Any]) -> str:
    parts = [
        f"{name.replace('_', ' ').replace('held out', 'held-out')} {value:.4g}"
        for name, value in _curves(record).items()
    ]
    return ", ".join(parts)
