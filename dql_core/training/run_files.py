"""The files of a run: their names, which checkpoint is meant, and its records in JSON.

Whatever is read may have been written by somebody else.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from pathlib import Path
from typing import Any, Literal

from dql_core.config import TrainConfig
from dql_core.documents import (
    CHECKPOINT_FILE,
    RUN_FILE,
    file_within,
    parse_json,
    read_bounded,
    read_json,
)
from dql_core.errors import CheckpointError, ConfigError, OutputError, listed, system_error_text
from dql_core.files import write_text
from dql_core.presets import as_saved
from dql_core.strict_yaml import MAX_YAML_BYTES, parse, read_yaml

CONFIG_FILE = "config.yaml"
CHECKPOINTS_FOLDER = "checkpoints"
VALIDATION_FILE = "validation.jsonl"
BEST_FILE = "best.json"
METRICS_FILE = "metrics.jsonl"
MAX_RECORDS_BYTES = 1 << 28
RESTORE = "restore the file from a copy, or train again"

# Each checkpoint of a run, where one could be named.
ALL = "all"
# The latest, the best by the data alone, the best by rollouts in an environment.
# The latest before the critics diverged.
CheckpointName = Literal["last", "best_offline", "best_online", "last_healthy"]

_APPENDING = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = rf"{CHECKPOINTS_FOLDER}/step-\d{{8,}}"
_WHY_NONE = {
    "best_offline": (
        "too few checkpoints were evaluated; use 'last', resume an interrupted run, or train a "
        "new one, longer or with a lower validation.bc_loss_rank"
    ),
    "best_online": (
        "no checkpoint was evaluated in an environment; use 'last' or 'best_offline', or train "
        "with --eval-env"
    ),
    "last_healthy": (
        "the critics diverged before the first one; use 'last', or train a new run with other "
        "settings"
    ),
}


def checkpoint_folder(run: Path, step: int) -> Path:
    """Return where the checkpoint of ``step`` belongs."""
    return run / checkpoint_name(step)


def checkpoint_name(step: int) -> str:
    """Return the name of a checkpoint's folder, relative to its run."""
    return f"{CHECKPOINTS_FOLDER}/step-{step:08d}"


def find_checkpoint(path: Path, which: CheckpointName = "last") -> Path:
    """Return a checkpoint folder.

    Args:
        path: A run folder, or a checkpoint folder, which then is the answer.
        which: Which one of a run.

    Raises:
        CheckpointError: If there is none.
    """
    if (path / CHECKPOINT_FILE).is_file():
        if which != "last":
            raise CheckpointError(f"{path}: is a single checkpoint; give its run for '{which}'")
        return path
    steps = checkpoint_steps(path)  # none of them is a link
    if which == "last_healthy" and steps:
        return _find_healthy(path)
    if which != "last":
        return _find_best(path, which)
    if not steps:
        runs = sorted(each.parent for each in path.glob(f"*/{CHECKPOINTS_FOLDER}"))
        if runs:
            names = listed([*map(str, runs)])
            raise CheckpointError(f"{path}: is no run, but holds runs: name one: {names}")
        reason = "holds no checkpoint" if path.is_dir() else "no such run folder or checkpoint"
        raise CheckpointError(f"{path}: {reason}; make one with 'dql train'")
    return checkpoint_folder(path, steps[-1])


def exported_by_default(path: Path) -> CheckpointName:
    """Return which checkpoint is exported unless another one is named.

    ``best_offline`` where the checkpoints of a run were judged as `dql judge` does, else ``last``.

    Args:
        path: A run folder or a checkpoint folder.

    Raises:
        CheckpointError: If ``best.json`` is damaged.
    """
    is_judged = read_best(path).get("best_offline", {}).get("rule") == "judge"
    return "best_offline" if is_judged else "last"


def checkpoint_steps(run: Path) -> list[int]:
    """Return the steps of a run's checkpoints in their order.

    Raises:
        CheckpointError: If one is a link, by which it could lie anywhere.
    """
    folders = [run / CHECKPOINTS_FOLDER, *(run / CHECKPOINTS_FOLDER).glob("step-*")]
    for folder in folders:
        if folder.is_symlink():
            raise CheckpointError(f"{folder}: is a symbolic link: replace it by the real folder")
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
            raise CheckpointError(
                f"{path}: damaged: '{name:.80}' is not a checkpoint of this run; {RESTORE}"
            )
    return best


def _find_healthy(run: Path) -> Path:
    step = last_healthy_step(run)
    if step is None:
        raise CheckpointError(
            f"{run}: has no 'last_healthy' checkpoint: {_WHY_NONE['last_healthy']}"
        )
    return checkpoint_folder(run, step)


def _find_best(run: Path, which: CheckpointName) -> Path:
    best = read_best(run)
    if not best.get(which, {}).get("checkpoint"):
        raise CheckpointError(f"{run}: has no '{which}' checkpoint: {_WHY_NONE[which]}")
    folder = run / str(best[which]["checkpoint"])
    if not (folder / CHECKPOINT_FILE).is_file():
        raise CheckpointError(
            f"{folder}: the '{which}' checkpoint of {run} is missing; use 'last', or restore the "
            f"folder"
        )
    return folder


def read_run_info(run: Path) -> dict[str, Any]:
    """Return what ``run.json`` says.

    Raises:
        CheckpointError: If it is missing or damaged.
    """
    path = file_within(run, RUN_FILE, CheckpointError)
    info = read_json(path, CheckpointError)
    kinds = {"dataset": dict, "versions": dict, "q_alarms": list, "config_hash": str}
    for key, kind in kinds.items():
        if not isinstance(info.get(key), kind):
            raise CheckpointError(f"{path}: damaged: '{key}' is {info.get(key)!r:.80}; {RESTORE}")
    if not all(_is_record(alarm) for alarm in info["q_alarms"]):
        raise CheckpointError(
            f"{path}: damaged: 'q_alarms' has something without a step; {RESTORE}"
        )
    return info


def write_run_info(run: Path, info: dict[str, Any]) -> None:
    """Write ``run.json``."""
    write_text(run / RUN_FILE, json.dumps(info, indent=2) + "\n")


def update_run_info(run: Path, **info: Any) -> None:
    """Add to ``run.json``, or replace what it says of the same names."""
    write_run_info(run, read_run_info(run) | info)


def read_config(path: Path) -> TrainConfig:
    """Read the configuration that a run has kept, as it was meant then.

    Raises:
        ConfigError: If it is damaged.
    """
    return parse(as_saved(read_yaml(path, ConfigError)), TrainConfig, str(path), ConfigError)


def config_hashes(file: Path, config: TrainConfig) -> dict[str, str]:
    """Return what ``run.json`` knows of its configuration: what it means, and its file's bytes.

    The bytes alone would take comments for a change, and the meaning alone a key that a later
    version has.
    """
    content = read_bounded(file, MAX_YAML_BYTES, ConfigError)
    return {
        "config_hash": config.hash(),
        "config_file_sha256": hashlib.sha256(content).hexdigest(),
    }


def record_alarm(run: Path, step: int, alarm: dict[str, Any]) -> None:
    """Add to ``run.json`` that the critics diverge from ``step`` on, with what says so."""
    alarms = [*read_run_info(run)["q_alarms"], {"step": step, **alarm, "until": None}]
    update_run_info(run, q_alarms=alarms)


def record_alarm_end(run: Path, step: int) -> None:
    """Add to ``run.json`` that the critics are sound again from ``step`` on."""
    alarms = read_run_info(run)["q_alarms"]
    ended = [{**alarm, "until": step} for alarm in alarms[-1:]]
    update_run_info(run, q_alarms=[*alarms[:-1], *ended])


def forget_alarms_after(run: Path, step: int) -> None:
    """Drop from ``run.json`` what happened after ``step``, and the run's failure."""
    alarms = [
        {**alarm, "until": None} if _end_of(alarm) > step else alarm
        for alarm in read_run_info(run)["q_alarms"]
        if alarm["step"] <= step
    ]
    update_run_info(run, q_alarms=alarms, failure=None)


def last_healthy_step(run: Path) -> int | None:
    """Return the step of the latest checkpoint at which the critics did not diverge, if any."""
    alarms = read_run_info(run)["q_alarms"]
    healthy = (step for step in checkpoint_steps(run) if not _is_alarming(alarms, step))
    return max(healthy, default=None)


def is_known_to_diverge(checkpoint: Path, step: int) -> bool:
    """Return whether an alarm of its run covers a checkpoint's step; away from its run, no."""
    run = checkpoint.absolute().parents[1]
    return (run / RUN_FILE).is_file() and _is_alarming(read_run_info(run)["q_alarms"], step)


def _is_alarming(alarms: list[dict[str, Any]], step: int) -> bool:
    return any(_start_of(alarm) < step < _end_of(alarm) for alarm in alarms)


def _start_of(alarm: dict[str, Any]) -> int:
    """Return the step of the reading before, up to which all was sound."""
    since = alarm.get("since")
    return since if isinstance(since, int) else int(alarm["step"]) - 1


def _end_of(alarm: dict[str, Any]) -> float:
    until = alarm.get("until")
    return until if isinstance(until, int) else math.inf


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines, each of which belongs to a step of a run.

    A line that a killed process left unfinished is skipped.

    Raises:
        CheckpointError: If the file is damaged, naming the line.
    """
    return read_records_from(path, 0)[0] if os.path.lexists(path) else []


def read_records_from(path: Path, begin: int) -> tuple[list[dict[str, Any]], int]:
    """Read as `read_records` from a line on; return the byte at which the last one begins, too.

    Args:
        path: The file.
        begin: The byte at which the line begins.

    Raises:
        CheckpointError: If the file is missing or damaged, naming the line.
    """
    file = file_within(path.parent, path.name, CheckpointError)
    content = read_bounded(file, MAX_RECORDS_BYTES, CheckpointError)
    end = content.rfind(b"\n") + 1  # of the last whole line
    last = content.rfind(b"\n", 0, max(end - 1, 0)) + 1
    records = []
    first = content.count(b"\n", 0, begin) + 1
    for number, line in enumerate(content[begin:end].splitlines(), start=first):
        record = parse_json(line, f"{path}: line {number}", CheckpointError)
        if not _is_record(record):
            raise CheckpointError(f"{path}: line {number}: damaged: has no step; {RESTORE}")
        records.append(record)
    return records, last


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Add a line; a link, by which the file would lie elsewhere, is not followed.

    Raises:
        OutputError: If it cannot be written.
    """
    try:
        with os.fdopen(os.open(path, _APPENDING, 0o666), "a") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as cause:
        raise OutputError(f"{path}: cannot be written: {system_error_text(cause)}") from cause


def drop_after(path: Path, step: int) -> None:
    """Drop the records of later steps than ``step``, and an unfinished line, in one step."""
    if os.path.lexists(path):
        kept = (record for record in read_records(path) if record["step"] <= step)
        write_text(path, "".join(json.dumps(record) + "\n" for record in kept))


def _is_record(record: object) -> bool:
    return isinstance(record, dict) and type(record.get("step")) is int
