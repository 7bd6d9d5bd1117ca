"""A checkpoint's two files: a document and tensors, with the hashes that prove both whole."""

from __future__ import annotations

import hashlib
import json
import logging
from functools import cache
from pathlib import Path
from typing import Any

import safetensors.torch
from pydantic import Field
from safetensors import SafetensorError
from torch import Tensor

from dql_core.documents import CHECKPOINT_FILE, file_within, read_bounded, read_json
from dql_core.errors import CheckpointError, DamagedCheckpointError, one_line
from dql_core.files import atomic_directory
from dql_core.strict_yaml import StrictModel, parse
from dql_core.training.run_files import CHECKPOINTS_FOLDER, checkpoint_steps

FORMAT_VERSION = 2
STATE_FILE = "state.safetensors"
# Weights, averages, targets and Adam's moments of networks of 100 million weights.
MAX_STATE_BYTES = 1 << 32
MAX_STEPS = 1 << 53

_logger = logging.getLogger(__name__)


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
        progress: `Progress` as a mapping.
        statistics: `Normalizer.to_json` of the training data, where ``normalizer`` leaves
            observations as they are.
        files: SHA-256 of every other file by name; empty in checkpoints from before there were
            any, in which damage to the weights goes unnoticed.
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
    state = safetensors.torch.save({name: each.contiguous() for name, each in tensors.items()})
    whole = document | {"files": {STATE_FILE: hashlib.sha256(state).hexdigest()}}
    whole |= {"sha256": _sha256(whole)}
    with atomic_directory(target) as folder:
        (folder / STATE_FILE).write_bytes(state)
        (folder / CHECKPOINT_FILE).write_text(json.dumps(whole, indent=2) + "\n")


def read_document(folder: Path) -> CheckpointDocument:
    """Read what a checkpoint says.

    Raises:
        CheckpointError: If it is of an unknown format.
        DamagedCheckpointError: If it is damaged.
    """
    path = file_within(folder, CHECKPOINT_FILE, DamagedCheckpointError)
    document = read_json(path, DamagedCheckpointError)
    stated = document.pop("sha256", None)
    if (stated is not None or "files" in document) and stated != _sha256(document):
        raise DamagedCheckpointError(
            f"{path}: does not match its own SHA-256: it is damaged or was edited"
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
        _warn_without_hashes(folder.absolute().parent)
    elif hashlib.sha256(state).hexdigest() != document.files.get(STATE_FILE):
        raise DamagedCheckpointError(
            f"{path}: its SHA-256 is not the one in {CHECKPOINT_FILE}: damaged or replaced"
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
        raise DamagedCheckpointError(
            f"{folder / STATE_FILE}: damaged: {one_line(cause)}"
        ) from cause


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
def _warn_without_hashes(place: Path) -> None:
    """Warn once of a run."""
    _logger.warning(
        "%s: saved by an older version without hashes: damage to the weights cannot be detected",
        place,
    )


def _sha256(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
