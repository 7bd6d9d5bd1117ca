"""Files of JSON lines, each of which belongs to a step of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dql_core.atomic import write_text


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read the whole lines of a file; one that a killed process left unfinished is left out."""
    if not path.is_file():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Add a line."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def drop_after(path: Path, step: int) -> None:
    """Drop the records of later steps than ``step``, and an unfinished line, in one step."""
    if path.is_file():
        kept = (record for record in read_records(path) if record["step"] <= step)
        write_text(path, "".join(json.dumps(record) + "\n" for record in kept))
