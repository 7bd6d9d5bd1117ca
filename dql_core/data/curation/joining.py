"""The metadata of a dataset that several are joined to: what they agree on, or a refusal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml
from gymnasium.spaces import Box, Dict, Space, Tuple
from minari.serialization import serialize_space

from dql_core.data.curation.lineage import COUNTED
from dql_core.data.metadata import (
    NO_REWARDS_KEY,
    RELABEL_KEY,
    SPEC_KEY,
    DatasetMetadata,
    earlier_entries,
    has_rewards,
)
from dql_core.errors import DatasetError, SpecMismatchError, listed
from dql_core.spec import CONTRACT_KEY
from dql_core.strict_yaml import load_yaml

# Of the first dataset where they differ, since they belong together with its spec or are needed.
_OF_THE_FIRST = ("dataset_id", CONTRACT_KEY, RELABEL_KEY, NO_REWARDS_KEY)
_SPACES = ("observation_space", "action_space")
_REMEDY = "convert both with one contract"
Named = tuple[str, DatasetMetadata]


def joined_metadata(datasets: Sequence[Named]) -> tuple[dict[str, Any], list[str]]:
    """Return the metadata of the joined dataset, and what a user must know of them.

    The looser limits hold. Other keys stay where all datasets agree.

    Args:
        datasets: At least two, by name.

    Raises:
        DatasetError: If one has rewards and another has none.
        SpecMismatchError: If their numbers mean different things.
    """
    (name, first), *others = datasets
    spec = first.spec
    spaces = first.observation_space, first.action_space
    for other_name, other in others:
        here, there = f"dataset {name}", f"dataset {other_name}"
        first.spec.require_same_meaning(other.spec, here, there, _REMEDY)
        spec = spec.joined(other.spec)
        theirs = other.observation_space, other.action_space
        spaces = tuple(  # type: ignore[assignment]  # two of them
            _joined(mine, its, f"{here} and {there}: {kind.replace('_', ' ')}s")
            for mine, its, kind in zip(spaces, theirs, _SPACES, strict=True)
        )
        _require_rewards_alike(name, first, other_name, other)
    documents = [each.document for _, each in datasets]
    document, differing = _agreed(documents)
    for key, joined, old in zip(
        _SPACES, spaces, (first.observation_space, first.action_space), strict=True
    ):
        document[key] = first.document[key] if joined == old else serialize_space(joined)
    if spec != first.spec:
        document[SPEC_KEY] = json.dumps(spec.to_json())
    notes = [*_origins(datasets), *differing]
    if any(each.spec.joined(spec) != each.spec for _, each in datasets):
        notes.append("limits of fields differ: the looser ones hold")
    return document, notes


def _agreed(documents: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """Return the keys on which all agree, and a line on the others."""
    first, *others = documents
    missing = object()
    apart = sorted(
        key
        for key in {key for each in documents for key in each}
        if key not in (*COUNTED, *_SPACES, SPEC_KEY)
        and any(each.get(key, missing) != first.get(key, missing) for each in others)
    )
    document = {
        key: value for key, value in first.items() if key not in apart or key in _OF_THE_FIRST
    }
    kept = [key for key in apart if key in document]
    notes = []
    if apart:
        of_first = f" (those of the first stay: {listed(kept)})" if kept else ""
        notes.append(f"metadata that differ are in the lineage: {listed(apart, 8)}{of_first}")
    return document, notes


def _require_rewards_alike(
    name: str, first: DatasetMetadata, other_name: str, other: DatasetMetadata
) -> None:
    if has_rewards(first.document) == has_rewards(other.document):
        return
    without, rewarded = (other_name, name) if has_rewards(first.document) else (name, other_name)
    raise DatasetError(
        f"dataset {without} has no rewards and {rewarded} has: its zeros would be taken for "
        f"rewards; give both the same by 'dql relabel'"
    )


def _origins(datasets: Sequence[Named]) -> list[str]:
    """Say where rewards do not come from the same function or topic."""
    (name, first), *others = datasets
    mine = _reward(name, first.document)
    for other_name, other in others:
        its = _reward(other_name, other.document)
        if mine != its:
            return [
                f"the rewards of {name} and {other_name} are not of the same origin; if they mean "
                f"different things, give both the same by 'dql relabel'"
            ]
    return []


def _reward(name: str, document: Mapping[str, Any]) -> Any:
    """Return what gave a dataset its rewards, as far as it says so."""
    if relabelled := earlier_entries(document, RELABEL_KEY, name):
        last = relabelled[-1]
        return last.get("reward") if isinstance(last, dict) else last
    try:
        contract = load_yaml(str(document.get(CONTRACT_KEY, "")))
    except yaml.YAMLError:
        return None
    return contract.get("reward") if isinstance(contract, dict) else None


def _joined(mine: Space[Any], its: Space[Any], where: str) -> Space[Any]:
    """Return a space with the looser bounds of two that are built alike."""
    if isinstance(mine, Box) and isinstance(its, Box):
        if (mine.shape, mine.dtype) == (its.shape, its.dtype):
            low, high = np.minimum(mine.low, its.low), np.maximum(mine.high, its.high)
            return Box(low, high, mine.shape, mine.dtype.type)
        raise SpecMismatchError(
            f"{where} are of {mine.dtype} {mine.shape} in the former and {its.dtype} {its.shape} "
            f"in the latter; write both in one form"
        )
    if isinstance(mine, Dict) and isinstance(its, Dict) and list(mine) == list(its):
        return Dict({key: _joined(mine[key], its[key], where) for key in mine})
    if isinstance(mine, Tuple) and isinstance(its, Tuple) and len(mine) == len(its):
        return Tuple([_joined(*pair, where) for pair in zip(mine, its, strict=True)])
    raise SpecMismatchError(f"{where} have other parts; write both in one form")
