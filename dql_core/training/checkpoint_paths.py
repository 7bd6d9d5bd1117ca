"""Where a run keeps its checkpoints, and which of them is meant."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

from dql_core.documents import file_within, read_json
from dql_core.errors import CheckpointError

CHECKPOINTS_FOLDER = "checkpoints"
DOCUMENT_FILE = "checkpoint.json"
VALIDATION_FILE = "validation.jsonl"
BEST_FILE = "best.json"

# The latest, the best by the data alone, the best by rollouts in an environment.
CheckpointName = Literal["last", "best_offline", "best_online"]

_FOLDER = rf"{CHECKPOINTS_FOLDER}/step-\d{{8,}}"
_WHY_NONE = {
    "best_offline": "no checkpoint was judged yet (see validation.rule and bc_loss_rank)",
    "best_online": "it was trained without --eval-env",
}


def checkpoint_folder(run: Path, step: int) -> Path:
    """Return where the checkpoint of ``step`` belongs."""
    return run / CHECKPOINTS_FOLDER / f"step-{step:08d}"


def find_checkpoint(path: Path, which: CheckpointName = "last") -> Path:
    """Return a checkpoint folder.

    Args:
        path: A run folder, or a checkpoint folder, which then is the answer.
        which: Which one of a run.

    Raises:
        CheckpointError: If there is none.
    """
    if (path / DOCUMENT_FILE).is_file():
        if which != "last":
            raise CheckpointError(f"{path}: is a single checkpoint; give its run for '{which}'")
        return path
    if which != "last":
        return _find_best(path, which)
    steps = checkpoint_steps(path)
    if not steps:
        reason = "holds no checkpoint" if path.is_dir() else "no such run folder or checkpoint"
        raise CheckpointError(f"{path}: {reason}; make one with 'dql train'")
    return checkpoint_folder(path, steps[-1])


def checkpoint_steps(run: Path) -> list[int]:
    """Return the steps of a run's checkpoints in their order.

    Raises:
        CheckpointError: If one is a link, by which it could lie anywhere.
    """
    folders = [run / CHECKPOINTS_FOLDER, *(run / CHECKPOINTS_FOLDER).glob("step-*")]
    for folder in folders:
        if folder.is_symlink():
            raise CheckpointError(f"{folder}: is a link; put what it leads to in its place")
    names = (folder.name for folder in folders if re.fullmatch(r"step-\d{8,}", folder.name))
    return sorted(int(name[5:]) for name in names)


def read_best(run: Path) -> dict[str, dict[str, Any]]:
    """Return what ``best.json`` says of each checkpoint that is the best or the last.

    Returns:
        By name, only for those that there are: ``checkpoint``, relative to ``run``, ``step``, and
        why. Empty if there is no such file.

    Raises:
        CheckpointError: If it is damaged, or names anything but a checkpoint of the run.
    """
    if not os.path.lexists(run / BEST_FILE):
        return {}
    path = file_within(run, BEST_FILE, CheckpointError)
    best = {name: chosen for name, chosen in read_json(path, CheckpointError).items() if chosen}
    for name, chosen in best.items():
        folder = chosen.get("checkpoint", "") if isinstance(chosen, dict) else None
        if not isinstance(folder, str) or not re.fullmatch(rf"|{_FOLDER}", folder):
            raise CheckpointError(f"{path}: damaged: '{name:.80}' is no checkpoint of this run")
    return best


def _find_best(run: Path, which: CheckpointName) -> Path:
    best = read_best(run)
    if not best.get(which, {}).get("checkpoint"):
        raise CheckpointError(f"{run}: has no '{which}' checkpoint: {_WHY_NONE[which]}")
    checkpoint_steps(run)  # none of them is a link
    folder = run / str(best[which]["checkpoint"])
    if not (folder / DOCUMENT_FILE).is_file():
        raise CheckpointError(f"{folder}: the '{which}' checkpoint of {run} is gone")
    return folder
