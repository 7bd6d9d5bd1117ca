"""Flat files in D4RL's layout: one row a step, and the flags that end episodes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dql_core.errors import DatasetError


@dataclass(frozen=True)
class Rows:
    """N steps of whole episodes, one after the other.

    Attributes:
        observations: What each action was taken in, shape (N, O), float32.
        actions: Shape (N, A), float32.
        rewards: What each action earned, shape (N,), float32.
        next_observations: What followed, also where an episode ends, shape (N, O), float32.
        terminals: Where the task itself ended, shape (N,).
        timeouts: Where an episode was cut off, by its time limit or by the end of the recording,
            shape (N,).
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    next_observations: NDArray[np.float32]
    terminals: NDArray[np.bool_]
    timeouts: NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of steps, N."""
        return len(self.rewards)

    def episodes(self) -> Iterator[slice]:
        """Yield the rows of each episode."""
        ends = np.flatnonzero(self.terminals | self.timeouts) + 1
        for first, stop in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
            yield slice(first, stop)

    def take(self, chosen: Sequence[slice]) -> Rows:
        """Return some episodes."""
        columns = {
            name: np.concatenate([column[rows] for rows in chosen])
            for name, column in vars(self).items()
        }
        return Rows(**columns)


def joined(parts: Sequence[Rows]) -> Rows:
    """Return all parts as one."""
    names = [field.name for field in dataclasses.fields(Rows)]
    return Rows(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in names})


def write_rows(path: Path, rows: Rows, facts: dict[str, Any]) -> None:
    """Write a file, whole or not at all; equal rows and facts make equal bytes.

    Args:
        path: The file.
        rows: What is in it.
        facts: How it was made; the attribute ``facts``, as JSON.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        with h5py.File(partial, "w") as file:
            for name, column in vars(rows).items():
                file.create_dataset(name, data=column, track_times=False)
            file.attrs["facts"] = json.dumps(facts, sort_keys=True)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_rows(path: Path) -> Rows:
    """Read what `write_rows` wrote.

    Raises:
        DatasetError: If there is no such file.
    """
    try:
        with h5py.File(path, "r") as file:
            columns = {field.name: file[field.name][:] for field in dataclasses.fields(Rows)}
            return Rows(**columns)
    except (OSError, KeyError) as cause:
        raise DatasetError(f"{path}: is no file of the suite: {cause}") from cause


def file_facts(path: Path) -> dict[str, Any]:
    """Return how a file was made, and its SHA-256.

    Raises:
        DatasetError: If there is no such file.
    """
    try:
        with h5py.File(path, "r") as file:
            facts: dict[str, Any] = json.loads(file.attrs["facts"])
    except (OSError, KeyError) as cause:
        raise DatasetError(f"{path}: make it first, by benchmarks.suite.data: {cause}") from cause
    return facts | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
