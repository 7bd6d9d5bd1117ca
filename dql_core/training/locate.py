"""Where a run keeps its checkpoints, and which of them is meant."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal

from dql_core.errors import CheckpointError

CHECKPOINTS_FOLDER = "checkpoints"
DOCUMENT_FILE = "checkpoint.json"
VALIDATION_FILE = "validation.jsonl"
BEST_FILE = "best.json"

# The latest, the best by the data alone, the best by rollouts in an environment.
Which = Literal["last", "best_offline", "best_online"]

_WHY_NONE = {
    "best_offline": "no checkpoint was judged yet (see validation.rule and bc_loss_rank)",
    "best_online": "it was trained without --eval-env",
}


def checkpoint_folder(run: Path, step: int) -> Path:
    """Return where the checkpoint of ``step`` belongs."""
    return run / CHECKPOINTS_FOLDER / f"step-{step:08d}"


def find_checkpoint(path: Path, which: Which = "last") -> Path:
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
    """Return the steps of a run's checkpoints in their order."""
    names = (folder.name for folder in (run / CHECKPOINTS_FOLDER).glob("step-*"))
    return sorted(int(name[5:]) for name in names if re.fullmatch(r"step-\d{8,}", name))


def _find_best(run: Path, which: Which) -> Path:
    folder: Path | None = None
    try:
        best = json.loads((run / BEST_FILE).read_text())
        if best.get(which):
            folder = run / best[which]["checkpoint"]
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as cause:
        reason = " ".join(str(cause).split())
        raise CheckpointError(f"{run / BEST_FILE}: damaged: {reason}") from cause
    if folder is None:
        raise CheckpointError(f"{run}: has no '{which}' checkpoint: {_WHY_NONE[which]}")
    if not (folder / DOCUMENT_FILE).is_file():
        raise CheckpointError(f"{folder}: the '{which}' checkpoint of {run} is gone")
    return folder
