"""The metadata of a Minari dataset, read as data: nothing that it says is imported or run.

Minari itself makes the environment that ``env_spec`` names where a space is missing, and with it
calls any function of any module. So its reader is not used: both spaces must be there, and
``env_spec``, ``eval_env_spec``, ``requirements`` and ``code_permalink`` are never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from gymnasium.spaces import Box, Dict, Space, Tuple
from minari import supported_dataset_versions

from dql_core.data.spaces import spec_from_spaces
from dql_core.documents import file_within, parse_json, read_json
from dql_core.errors import DatasetError, one_line
from dql_core.spec import CONTRACT_KEY, PolicySpec
from dql_core.strict_yaml import load_yaml

METADATA_FILE = "metadata.json"
SPEC_KEY = "dql_policy_spec"
# What relabelling did, as JSON: one entry each time, the last one at the end.
RELABEL_KEY = "dql_relabelled"
# What curating did, as JSON: one entry each time, the last one at the end.
LINEAGE_KEY = "dql_lineage"
# What was read, as JSON: SHA-256 of each file.
INPUTS_KEY = "dql_inputs"
INPUTS_NAME = f"'{INPUTS_KEY}' in {METADATA_FILE}"
# Which part of a conversion this is, as JSON.
SHARD_KEY = "dql_shard"
# True where a file without rewards was imported.
NO_REWARDS_KEY = "dql_no_rewards"
FORMATS = ("hdf5", "arrow", "parquet")
_SPACES = ("observation_space", "action_space")
# More fields than this no policy has; they would only fill the memory.
MAX_FIELDS = 100_000
# What NumPy and Gymnasium raise for descriptions that are none.
_NO_SPACE = (ValueError, TypeError, LookupError, AttributeError, AssertionError, OverflowError)
_TYPES: dict[str, type] = {
    "data_format": str,
    "total_episodes": int,
    "total_steps": int,
    "dataset_id": str,
    "minari_version": str,
    "observation_space": str,
    "action_space": str,
}


@dataclass(frozen=True)
class DatasetMetadata:
    """What is known of a dataset before its episodes are read.

    Attributes:
        spec: What the vectors mean; made from the spaces where the dataset brings none.
        observation_space: Boxes of floats, alone or in Dicts and Tuples.
        action_space: A Box of floats.
        data_format: One of `FORMATS`.
        total_episodes: Number of episodes, at least one.
        total_steps: Number of transitions.
        document: All of it, as it is stored.
    """

    spec: PolicySpec
    observation_space: Space[Any]
    action_space: Space[Any]
    data_format: str
    total_episodes: int
    total_steps: int
    document: dict[str, Any]


def metadata_of(data_path: Path) -> dict[str, Any]:
    """Return a dataset's ``metadata.json`` as it is, nothing of it checked.

    Args:
        data_path: Its data folder.

    Raises:
        DatasetError: If it is missing, a link, or no JSON mapping.
    """
    return read_json(file_within(data_path, METADATA_FILE, DatasetError), DatasetError)


def read_metadata(data_path: Path, where: str, *, bounds_matter: bool = True) -> DatasetMetadata:
    """Read and check a dataset's ``metadata.json``.

    Args:
        data_path: Its data folder.
        where: The dataset's name, for messages.
        bounds_matter: Refuse an action space without finite bounds; else they become -1 and 1.

    Raises:
        DatasetError: If it is damaged, has no episode, or its spaces do not fit (see
            `spec_from_spaces`).
    """
    document = metadata_of(data_path)
    for key, kind in _TYPES.items():
        if key not in document:
            raise _unreadable(where, f"'{key}' is missing in {METADATA_FILE}{_advice(key)}")
        if type(document[key]) is not kind:
            raise _unreadable(where, f"'{key}' is {document[key]!r:.60}, not {kind.__name__}")
    if document["minari_version"] not in supported_dataset_versions:
        raise _unreadable(
            where, f"it is of Minari {document['minari_version']:.60}, not known here"
        )
    if document["data_format"] not in FORMATS:
        raise _unreadable(
            where, f"it is stored as '{document['data_format']:.60}', none of {', '.join(FORMATS)}"
        )
    observation, action = (_space(document, key, where) for key in _SPACES)
    if not bounds_matter and isinstance(action, Box):
        action = Box(-1.0, 1.0, action.shape, action.dtype.type)
    remedy = f"give it bounds: dql import {where} --format minari --low X --high X --out DIR"
    spec = spec_from_spaces(observation, action, document["dataset_id"], where, remedy)
    if SPEC_KEY in document:
        spec = _own_spec(document[SPEC_KEY], spec, where)
    if document["total_episodes"] < 1:
        raise DatasetError(f"{where}: holds no episode; record or convert some first")
    return DatasetMetadata(
        spec=spec,
        observation_space=observation,
        action_space=action,
        data_format=document["data_format"],
        total_episodes=document["total_episodes"],
        total_steps=document["total_steps"],
        document=document,
    )


def has_rewards(document: Mapping[str, Any]) -> bool:
    """Say whether anything gave a dataset its rewards; where nothing did, all are 0.

    Args:
        document: Its metadata. Of a dataset that says nothing of it, the rewards count.
    """
    if RELABEL_KEY in document:
        return True
    if document.get(NO_REWARDS_KEY) is True:
        return False
    try:
        contract = load_yaml(str(document.get(CONTRACT_KEY, "")))
    except yaml.YAMLError:
        return True
    return not isinstance(contract, dict) or contract.get("reward") is not None


def earlier_entries(document: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """Return the entries that earlier operations left under a key, which are only copied.

    Args:
        document: The dataset's metadata.
        key: `RELABEL_KEY` or `LINEAGE_KEY`.
        where: The dataset's name, for messages.

    Raises:
        DatasetError: If there is something else than a list.
    """
    text = document.get(key, "[]")
    name = f"{where}: '{key}' in {METADATA_FILE}"
    if not isinstance(text, str):
        raise DatasetError(f"{name} is not a text")
    entries = parse_json(f'{{"entries": {text}}}', name, DatasetError)["entries"]
    if not isinstance(entries, list):
        raise DatasetError(f"{name} is not a list")
    return entries


def _own_spec(text: object, of_spaces: PolicySpec, where: str) -> PolicySpec:
    """Return the spec that a dataset of ours carries."""
    name = f"{where}: '{SPEC_KEY}' in {METADATA_FILE}"
    if not isinstance(text, str):
        raise DatasetError(f"{name} is not a text")
    try:
        spec = PolicySpec.from_json(parse_json(text, name, DatasetError))
    except ValueError as cause:
        raise DatasetError(f"{name}: damaged: {cause}") from cause
    for kind in ("observation", "action"):
        stated, stored = len(getattr(spec, kind)), len(getattr(of_spaces, kind))
        if stated != stored:
            raise DatasetError(
                f"{name} has {stated} {kind} fields, and the {kind} space has {stored} numbers"
            )
    return spec


def _space(document: dict[str, Any], key: str, where: str) -> Space[Any]:
    name = f"{where}: '{key}' in {METADATA_FILE}"
    try:
        return _made(parse_json(document[key], name, DatasetError), key, where)
    except _NO_SPACE as cause:
        raise DatasetError(f"{name} is not a space: {one_line(cause)}") from cause


def _made(document: dict[str, Any], key: str, where: str) -> Space[Any]:
    """Make a space of Minari's description of it, of the kinds that can be learned from."""
    kind = document["type"]
    if kind == "Box":
        return _box(document)
    if kind == "Dict":
        parts = document["subspaces"]
        for name in parts:
            if "/" in name or name in {"", "."}:
                raise ValueError(f"a part of it is called '{name}'")
        return Dict({name: _made(part, key, where) for name, part in parts.items()})
    if kind == "Tuple":
        return Tuple([_made(part, key, where) for part in document["subspaces"]])
    number = document["n"] if type(document.get("n")) is int else ""
    raise DatasetError(
        f"{where}: the {key.replace('_', ' ')} is {kind:.60}({number}); Boxes of floats are "
        f"needed, since a policy's vectors are numbers"
    )


def _box(document: dict[str, Any]) -> Box:
    dtype = np.dtype(str(document["dtype"]))
    if dtype.kind not in "biuf":
        raise ValueError(f"a Box is of {dtype}")
    low, high = (np.array(document[side], dtype=dtype) for side in ("low", "high"))
    if not low.shape == high.shape == tuple(document["shape"]):
        raise ValueError(f"a Box of shape {document['shape']!r:.60} has other bounds")
    if not 0 < low.size <= MAX_FIELDS:
        raise ValueError(f"a Box has {low.size} numbers")
    return Box(low=low, high=high, shape=low.shape, dtype=dtype.type)


def _advice(key: str) -> str:
    if key not in _SPACES:
        return ""
    return (
        ": a data set without it is refused, since only running its 'env_spec' would show it; "
        "write it again with both spaces"
    )


def _unreadable(where: str, reason: str) -> DatasetError:
    return DatasetError(f"{where}: not a readable Minari dataset: {reason}")
