"""Which checkpoint of a run is which, for people to read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dql_core.training.locate import CHECKPOINTS_FOLDER, Which, read_best


def best_lines(run: Path) -> Iterator[str]:
    """Tell the last checkpoint of a run, and its best ones with what they are best in."""
    for name, chosen in read_best(run).items():
        why = f" ({chosen['criterion']}: {chosen['value']:.4g})" if name != "last" else ""
        yield f"{name}: {run / chosen['checkpoint']}{why}"


def label(policy: Path, which: Which) -> str:
    """Name a policy together with the checkpoint that was taken."""
    return f"{policy} ({which})" if (policy / CHECKPOINTS_FOLDER).is_dir() else str(policy)
