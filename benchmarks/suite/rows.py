"""Rows of results: one method on one set with one seed, a JSON line each."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from dql_core.errors import ConfigError
from dql_core.training.run_files import append_record

ROWS_FILE = "rows.jsonl"


class AnyRow(Protocol):
    """A dataclass with a key."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def key(self) -> str:
        """What a row is known by."""


Keyed = TypeVar("Keyed", bound=AnyRow)


@dataclass(frozen=True)
class Point:
    """A policy that was rolled out on the way.

    Attributes:
        step: Updates taken.
        seconds: Time they took by the clock on the wall; without rollouts.
        cpu_seconds: Time of computing, which other work on the machine does not add to.
        scores: Of each episode.
        success_rate: Share of successes, where the environment says.
        critic_loss: Mean since the point before (of ours, since the last reading), where there
            are critics.
    """

    step: int
    seconds: float
    cpu_seconds: float
    scores: tuple[float, ...]
    success_rate: float | None = None
    critic_loss: float | None = None

    @property
    def score(self) -> float:
        """Mean score."""
        return sum(self.scores) / len(self.scores)


@dataclass(frozen=True)
class Row:
    """One training and its rollouts.

    Attributes:
        set_name: What it learned from.
        method: Name of the method, or the label that replaces it.
        seed: Of the training.
        updates: How many were to be taken.
        curve: The policies rolled out on the way, the last one last.
        data_score: Mean score of the data.
        data_sha256: Of the flat file.
        failure: Why the training stopped early; empty if it did not.
        alarms: How often values left their limit; ``None`` where nothing watches them.
        settings: What differs from the method's settings.
        precision: Of its matrix products.
        machine: Where and with what it was measured.
    """

    set_name: str
    method: str
    seed: int
    updates: int
    curve: tuple[Point, ...]
    data_score: float
    data_sha256: str
    failure: str = ""
    alarms: int | None = None
    settings: tuple[str, ...] = ()
    precision: str = "float32"
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What a row is known by; rows with equal keys are the same training."""
        return row_key(self.set_name, self.method, self.seed, self.updates)


def row_key(set_name: str, method: str, seed: int, updates: int) -> str:
    """Return the name of a row, fit for a folder."""
    return f"{set_name}_{method}_{updates}_seed-{seed}"


def read_rows(path: Path) -> dict[str, Row]:
    """Read rows of trainings, see `read_rows_of`."""
    return read_rows_of(Row, path)


def read_rows_of(kind: type[Keyed], path: Path) -> dict[str, Keyed]:
    """Read rows by their keys; of equal keys the last; none if there is no file.

    A line that was cut short by the end of its process is left out.

    Args:
        kind: What a row is.
        path: The file.

    Raises:
        ConfigError: If a line is something else.
    """
    if not path.is_file():
        return {}
    rows: dict[str, Keyed] = {}
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if line.endswith(b"\n"):
            try:
                row = TypeAdapter(kind).validate_json(line)
            except ValidationError as cause:
                raise ConfigError(f"{path}: line {number} is no row: {cause}") from cause
            rows[row.key] = row
    return rows


def add_row(folder: Path, row: AnyRow) -> None:
    """Append a row to the file of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ROWS_FILE
    if path.is_file() and not path.read_bytes().endswith(b"\n"):
        kept = path.read_bytes().rpartition(b"\n")
        path.write_bytes(kept[0] + kept[1])
    append_record(path, asdict(row))


@contextmanager
def claim(folder: Path, key: str) -> Iterator[bool]:
    """Yield whether this process may work on a row, which no other does then."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{key}.lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
        path.unlink(missing_ok=True)


def to_json(row: Row) -> str:
    """Return a row as one line without its episodes."""
    last = row.curve[-1] if row.curve else None
    return json.dumps(
        {
            "row": row.key,
            "score": last and round(last.score, 2),
            "minutes": last and round(last.seconds / 60, 2),
            "cpu_minutes": last and round(last.cpu_seconds / 60, 2),
            "alarms": row.alarms,
            "failure": row.failure,
        }
    )
