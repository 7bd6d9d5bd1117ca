"""The JSON files that a run writes of itself; read as what somebody else may have written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dql_core.atomic import write_text
from dql_core.documents import file_within, parse_json, read_bounded, read_json
from dql_core.errors import CheckpointError, OutputError, explained

RUN_FILE = "run.json"
MAX_RECORDS_BYTES = 1 << 28
_APPENDING = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_facts(run: Path) -> dict[str, Any]:
    """Return what ``run.json`` says.

    Raises:
        CheckpointError: If it is missing or damaged.
    """
    path = file_within(run, RUN_FILE, CheckpointError)
    facts = read_json(path, CheckpointError)
    kinds = {"dataset": dict, "versions": dict, "q_alarms": list, "config_hash": str}
    for key, kind in kinds.items():
        if not isinstance(facts.get(key), kind):
            raise CheckpointError(f"{path}: damaged: '{key}' is {facts.get(key)!r:.80}")
    if not all(_is_record(alarm) for alarm in facts["q_alarms"]):
        raise CheckpointError(f"{path}: damaged: 'q_alarms' has something without a step")
    return facts


def write_facts(run: Path, facts: dict[str, Any]) -> None:
    """Write ``run.json``."""
    write_text(run / RUN_FILE, json.dumps(facts, indent=2) + "\n")


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines, each of which belongs to a step of a run.

    A line that a killed process left unfinished is left out.

    Raises:
        CheckpointError: If the file is damaged, naming the line.
    """
    if not os.path.lexists(path):
        return []
    content = read_bounded(
        file_within(path.parent, path.name, CheckpointError), MAX_RECORDS_BYTES, CheckpointError
    )
    records = []
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        if line.endswith(b"\n"):
            record = parse_json(line, f"{path}: line {number}", CheckpointError)
            if not _is_record(record):
                raise CheckpointError(f"{path}: line {number}: damaged: has no step")
            records.append(record)
    return records


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Add a line.

    Raises:
        OutputError: If it cannot be written.
    """
    try:
        with os.fdopen(open_to_append(path), "a") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as cause:
        raise OutputError(f"{path}: cannot be written: {explained(cause)}") from cause


def open_to_append(path: Path) -> int:
    """Open a run's file to add to it; a link, by which it would lie elsewhere, is not followed.

    Raises:
        OSError: If it cannot be written, or is a link.
    """
    return os.open(path, _APPENDING, 0o666)


def drop_after(path: Path, step: int) -> None:
    """Drop the records of later steps than ``step``, and an unfinished line, in one step."""
    if os.path.lexists(path):
        kept = (record for record in read_records(path) if record["step"] <= step)
        write_text(path, "".join(json.dumps(record) + "\n" for record in kept))


def _is_record(record: object) -> bool:
    return isinstance(record, dict) and type(record.get("step")) is int
