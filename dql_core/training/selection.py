"""Which checkpoint of a run is the best, by the data alone and by rollouts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dql_core.config import TrainConfig, ValidationConfig
from dql_core.errors import CheckpointError
from dql_core.files import write_text
from dql_core.training.run_files import (
    BEST_FILE,
    VALIDATION_FILE,
    checkpoint_folder,
    checkpoint_steps,
    read_records,
)

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Best:
    """A checkpoint and why it is the best.

    Attributes:
        step: Its step.
        rule: What decides: ``bc_loss``, ``td_error``, ``value_error`` or ``mean_return``.
        criterion: The same in words.
        value: The criterion's value at the checkpoint.
    """

    step: int
    rule: str
    criterion: str
    value: float


def write_best(run: Path, config: TrainConfig) -> None:
    """Write ``best.json``: which checkpoint is the last, the best offline and the best online.

    Args:
        run: A run folder with at least one checkpoint.
        config: Its configuration.

    Raises:
        CheckpointError: If what was measured of its checkpoints is damaged.
    """
    records = read_records(run / VALIDATION_FILE)
    last = checkpoint_steps(run)[-1]
    try:
        chosen = {
            "best_offline": best_offline(records, config.validation),
            "best_online": best_online(records, config.evaluation.env),
        }
    except (LookupError, TypeError, ValueError) as cause:
        raise CheckpointError(
            f"{run / VALIDATION_FILE}: damaged: {type(cause).__name__}: {cause}"
        ) from cause
    document: dict[str, Any] = {"last": {"checkpoint": _relative(run, last), "step": last}}
    for name, best in chosen.items():
        document[name] = best and {"checkpoint": _relative(run, best.step), **vars(best)}
    write_text(run / BEST_FILE, json.dumps(document, indent=2) + "\n")


def best_offline(records: Sequence[Record], config: ValidationConfig) -> Best | None:
    """Choose without an environment.

    Args:
        records: What was measured of each checkpoint, in their order.
        config: Names the rule.

    Returns:
        None if there is no record, or ``bc_loss_rank`` asks for more than there are.
    """
    if config.rule == "bc_loss":
        return _by_imitation(records, config)
    key, criterion = {
        "td_error": ("held_out_td_error", "error of the critics on held-out episodes"),
        "value_error": ("held_out_value_error", "distance of values from held-out returns"),
    }[config.rule]
    if not records:
        return None
    best = min(records, key=lambda record: float(record[key]))
    return Best(best["step"], config.rule, f"smallest {criterion}", best[key])


def best_online(records: Sequence[Record], env: str) -> Best | None:
    """Choose by the mean return in an environment; None if there were no rollouts."""
    rolled_out = [record for record in records if record.get("online")]
    if not rolled_out:
        return None
    best = max(rolled_out, key=lambda record: float(record["online"]["mean_return"]))
    online = best["online"]
    criterion = f"largest mean return of {online['episodes']} episodes in {env}"
    return Best(best["step"], "mean_return", criterion, online["mean_return"])


def _by_imitation(records: Sequence[Record], config: ValidationConfig) -> Best | None:
    """Choose as the paper does, or as its code does (`main.py`, --ms offline)."""
    rank = config.bc_loss_rank
    if rank >= len(records):
        return None
    order = np.argsort([record["imitation"] for record in records], kind="stable")
    index = int(order[rank])
    criterion = f"imitation loss since the checkpoint before, rank {rank} from the smallest"
    if config.bc_loss_ranking == "paper_code":
        index = int(np.flatnonzero(order == rank)[0])
        criterion += ", mistaken as in the paper's code"
    return Best(records[index]["step"], "bc_loss", criterion, records[index]["imitation"])


def _relative(run: Path, step: int) -> str:
    return str(checkpoint_folder(run, step).relative_to(run))
