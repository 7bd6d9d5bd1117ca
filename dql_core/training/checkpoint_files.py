"""A checkpoint as files: a document and tensors, with the hashes that prove both whole.

Where a run keeps its checkpoints, and which of them is meant.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from functools import cache
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
from pydantic import Field
from safetensors import SafetensorError
from torch import Tensor

from dql_core.documents import file_within, read_bounded, read_json
from dql_core.errors import CheckpointError, DamagedCheckpointError
from dql_core.files import whole_directory
from dql_core.strict_yaml import StrictModel, parse

FORMAT_VERSION = 2
STATE_FILE = "state.safetensors"
# Weights, averages, targets and Adam's moments of networks of 100 million weights.
MAX_STATE_BYTES = 1 << 32
MAX_STEPS = 1 << 53
_logger = logging.getLogger(__name__)
CHECKPOINTS_FOLDER = "checkpoints"
DOCUMENT_FILE = "checkpoint.json"
VALIDATION_FILE = "validation.jsonl"
BEST_FILE = "best.json"
# The latest, the best by the data alone, the best by rollouts in an environment.
Which = Literal["last", "best_offline", "best_online"]
_FOLDER = rf"{CHECKPOINTS_FOLDER}/step-\d{{8,}}"
_WHY_NONE = {
    "best_offline": "no checkpoint was judged yet (see validation.rule and bc_loss_rank)",
    "best_online": "it was trained without --eval-env",
}


class CheckpointDocument(StrictModel):
    """What a checkpoint says beside its tensors.

    Attributes:
        format_version: Layout of the checkpoint.
        step: Updates taken.
        device: Where its generator of noise was, ``cpu`` or ``cuda``.
        config_hash: Hash of the training configuration.
        config: The training configuration.
        spec: `PolicySpec.to_json`.
        normalizer: `Normalizer.to_json`.
        progress: `Progress.to_json`.
        statistics: `Normalizer.to_json` of the training data, where ``normalizer`` leaves
            observations as they are.
        files: SHA-256 of every other file by name; empty in checkpoints from before there were
            any, of which damage to the weights cannot be told.
    """

    format_version: int
    step: int = Field(ge=0, le=MAX_STEPS, strict=True)
    device: str
    config_hash: str
    config: dict[str, Any]
    spec: dict[str, Any]
    normalizer: dict[str, Any]
    progress: dict[str, Any]
    statistics: dict[str, Any] | None = None
    files: dict[str, str] = Field(default_factory=dict)


def write_checkpoint(target: Path, document: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write the folder ``target``; it appears whole or not at all.

    Args:
        target: The checkpoint's folder.
        document: What `CheckpointDocument` has, without the hashes.
        tensors: The state by name.

    Raises:
        OutputError: If it cannot be written.
    """
    state = safetensors.torch.save(tensors)
    whole = document | {"files": {STATE_FILE: hashlib.sha256(state).hexdigest()}}
    whole |= {"sha256": _sha256(whole)}
    with whole_directory(target) as folder:
        (folder / STATE_FILE).write_bytes(state)
        (folder / DOCUMENT_FILE).write_text(json.dumps(whole, indent=2) + "\n")


def read_document(folder: Path) -> CheckpointDocument:
    """Read what a checkpoint says.

    Raises:
        CheckpointError: If it is of an unknown format.
        DamagedCheckpointError: If it is damaged.
    """
    path = file_within(folder, DOCUMENT_FILE, DamagedCheckpointError)
    document = read_json(path, DamagedCheckpointError)
    stated = document.pop("sha256", None)
    if (stated is not None or "files" in document) and stated != _sha256(document):
        raise DamagedCheckpointError(
            f"{path}: its content does not have the SHA-256 it states: it is damaged or was edited"
        )
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format_version is {version!r:.80}; this version of dql reads "
            f"{FORMAT_VERSION}: train again"
        )
    return parse(document, CheckpointDocument, f"{path}: damaged", DamagedCheckpointError)


def read_state(folder: Path, document: CheckpointDocument) -> bytes:
    """Read the file of tensors, and prove that no bit of it has changed since it was written.

    Raises:
        DamagedCheckpointError: If it is missing, changed or too large.
    """
    path = file_within(folder, STATE_FILE, DamagedCheckpointError)
    state = read_bounded(path, MAX_STATE_BYTES, DamagedCheckpointError)
    if not document.files:
        _tell_of_age(folder.absolute().parent)
    elif hashlib.sha256(state).hexdigest() != document.files.get(STATE_FILE):
        raise DamagedCheckpointError(
            f"{path}: its SHA-256 is not the one in {DOCUMENT_FILE}: damaged or exchanged"
        )
    return state


def tensors_of(state: bytes, folder: Path) -> dict[str, Tensor]:
    """Return the tensors in the content of `STATE_FILE`.

    Raises:
        DamagedCheckpointError: If it is no safetensors.
    """
    try:
        return safetensors.torch.load(state)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as cause:
        reason = " ".join(str(cause).split())
        raise DamagedCheckpointError(f"{folder / STATE_FILE}: damaged: {reason}") from cause


def whole_before(folder: Path) -> Path | None:
    """Return the newest undamaged checkpoint of the same run that is older than ``folder``."""
    run, name = folder.absolute().parent.parent, folder.name
    if folder.absolute().parent.name != CHECKPOINTS_FOLDER:
        return None
    for step in reversed(checkpoint_steps(run)):
        other = folder.with_name(f"step-{step:08d}")
        if (len(other.name), other.name) < (len(name), name) and _is_whole(other):
            return other
    return None


def _is_whole(folder: Path) -> bool:
    try:
        tensors_of(read_state(folder, read_document(folder)), folder)
    except CheckpointError:
        return False
    return True


@cache
def _tell_of_age(place: Path) -> None:
    """Say it once of a run."""
    _logger.warning(
        "%s: from before checkpoints had hashes: damage to the weights would go unnoticed", place
    )


def _sha256(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


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


def _find_best(run: Path, which: Which) -> Path:
    best = read_best(run)
    if not best.get(which, {}).get("checkpoint"):
        raise CheckpointError(f"{run}: has no '{which}' checkpoint: {_WHY_NONE[which]}")
    checkpoint_steps(run)  # none of them is a link
    folder = run / str(best[which]["checkpoint"])
    if not (folder / DOCUMENT_FILE).is_file():
        raise CheckpointError(f"{folder}: the '{which}' checkpoint of {run} is gone")
    return folder
