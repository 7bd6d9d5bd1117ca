"""What several runs with different seeds came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dql_core.errors import CheckpointError
from dql_core.evaluation.statistics import Estimate, estimate_mean
from dql_core.files import read_records
from dql_core.training.checkpoint_paths import VALIDATION_FILE, read_best
from dql_core.training.metrics import METRICS_FILE

# Of the last line of metrics; the others describe the run rather than its end.
LOSSES = ("imitation", "critic", "q_data")
_OFFLINE = "held_out_"


@dataclass(frozen=True)
class Figure:
    """One number of every run.

    Attributes:
        values: The number by seed; a run that lacks it is left out.
    """

    values: Mapping[int, float]

    @property
    def estimate(self) -> Estimate:
        """Mean and 95 % interval over the seeds."""
        return estimate_mean(list(self.values.values()))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document."""
        values = {str(seed): value for seed, value in self.values.items()}
        return self.estimate.to_json() | {"by_seed": values}


def summarize(runs: Mapping[int, Path]) -> dict[str, Figure]:
    """Return the final figures of finished runs.

    Where they were rolled out: returns and success rates at ``last``, ``best_offline`` and
    ``best_online``. Elsewhere: losses of the last reading, and errors on held-out episodes at
    ``last`` and ``best_offline``.

    Args:
        runs: Run folders by seed.

    Raises:
        CheckpointError: If what a run has measured is damaged.
    """
    by_seed = {seed: _whole_figures(run) for seed, run in runs.items()}
    names = dict.fromkeys(name for figures in by_seed.values() for name in figures)
    return {
        name: Figure({seed: figures[name] for seed, figures in by_seed.items() if name in figures})
        for name in names
    }


def _whole_figures(run: Path) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in _figures(run).items()}
    except (LookupError, TypeError, ValueError) as cause:
        raise CheckpointError(f"{run}: damaged: {type(cause).__name__}: {cause}") from cause


def _figures(run: Path) -> dict[str, float]:
    records = {record["step"]: record for record in read_records(run / VALIDATION_FILE)}
    chosen = {
        which: records[best["step"]]
        for which, best in read_best(run).items()
        if best.get("step") in records
    }
    online = {
        f"{name} ({which})": record["online"][key]
        for key, name in (("mean_return", "return"), ("success_rate", "success rate"))
        for which, record in chosen.items()
        if key in record.get("online", {})
    }
    return online or _losses(run) | {
        f"{name.replace('held_out_', 'held-out ').replace('_', ' ')} ({which})": value
        for which, record in chosen.items()
        for name, value in record.items()
        if name.startswith(_OFFLINE)
    }


def _losses(run: Path) -> dict[str, float]:
    *_, last = read_records(run / METRICS_FILE)
    return {f"{name} (last)": last[name] for name in LOSSES if name in last}
