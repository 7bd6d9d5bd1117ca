"""What a dataset was made of and how, kept in its metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dql_core
from dql_core.data.metadata import INPUTS_KEY, INPUTS_NAME, LINEAGE_KEY, earlier_entries
from dql_core.documents import file_sha256, file_within, parse_json
from dql_core.errors import DatasetError, listed


@dataclass(frozen=True)
class Ingredient:
    """A dataset that another one is made of.

    Attributes:
        source: Its name, as it was given.
        sha256: Of its files, as `dataset_sha256` has it.
        episodes: Numbers of those that were taken, as ``0-4,7``.
        document: Its metadata.
    """

    source: str
    sha256: str
    episodes: str
    document: Mapping[str, Any]


@dataclass(frozen=True)
class Contents:
    """What tells whether two datasets hold the same.

    Attributes:
        source: The dataset's name, as it was given.
        sha256: Of its files.
        document: Its metadata.
        episodes: `episode_digest` of each of its episodes.
    """

    source: str
    sha256: str
    document: Mapping[str, Any]
    episodes: Sequence[bytes]


def counted_twice(datasets: Sequence[Contents]) -> list[str]:
    """Say what two datasets both hold: all, bags that conversions read, or else episodes.

    Bags may be copies, or of shards of different divisions, and a dataset may have been merged
    into another one.
    """
    bags = [_bags(each) for each in datasets]
    return [
        note
        for place, other in enumerate(datasets)
        for before, one in enumerate(datasets[:place])
        for note in _in_both(one, other, bags[before], bags[place])
    ]


def _in_both(
    one: Contents, other: Contents, bags: Mapping[str, str], others: Mapping[str, str]
) -> list[str]:
    if one.sha256 == other.sha256:
        return [f"{one.source} and {other.source} are equal: its episodes count twice"]
    if shared := [key for key in others if key in bags]:
        return [
            f"{others[key]} is in {one.source} and in {other.source}"
            f"{'' if bags[key] == others[key] else f', there from {bags[key]}'}: its episodes "
            f"count twice"
            for key in shared
        ]
    known = set(one.episodes)
    if count := sum(each in known for each in other.episodes):
        return [
            f"{count:,} of the {len(other.episodes):,} episodes of {other.source} are in "
            f"{one.source}, too: they count twice"
        ]
    return []


def _bags(dataset: Contents) -> dict[str, str]:
    """Return the bags that a dataset has whole, by what does not change with their place."""
    documents = [dataset.document]
    for entry in earlier_entries(dataset.document, LINEAGE_KEY, dataset.source):
        inputs = _mapping(entry).get("inputs")
        if not isinstance(inputs, list) or entry.get("operation") != "merge":
            return {}  # it may have a part of a bag
        documents += [_mapping(_mapping(each).get("metadata")) for each in inputs]
    found: dict[str, str] = {}
    for document in documents:
        if not isinstance(text := document.get(INPUTS_KEY), str):
            continue
        inputs = parse_json(text, INPUTS_NAME, DatasetError)
        if not all(isinstance(files, dict) for files in inputs.values()):
            inputs = {listed(list(inputs)): inputs}  # files that were imported together
        for bag, files in inputs.items():
            if files:
                found[json.dumps(sorted(map(str, files.values())))] = bag
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def dataset_sha256(data_path: Path) -> str:
    """Return a hash of all files of a dataset, their names included.

    It is what this prints in its data folder, with ``LC_ALL=C``::

        find . -type f | sort | xargs sha256sum | sha256sum

    Args:
        data_path: Its data folder, absolute.

    Raises:
        DatasetError: If something in it is neither a file nor a folder of its own.
    """
    lines = []
    for name in _names(data_path):
        path = file_within(data_path, name, DatasetError)
        lines.append(f"{file_sha256(path)}  ./{name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _names(data_path: Path) -> list[str]:
    entries = (path for path in data_path.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted((str(path.relative_to(data_path)) for path in entries), key=str.encode)


def lineage(
    operation: str,
    arguments: Mapping[str, Any],
    made_of: Sequence[Ingredient],
    kept: Mapping[str, Any],
) -> str:
    """Return what is stored under `LINEAGE_KEY`: all that led to a dataset, each entry once.

    Args:
        operation: What was done last: ``merge``, ``keep``, ``drop``, ``trim`` or ``split``.
        arguments: Its options.
        made_of: What it was done to.
        kept: The metadata of the new dataset. What an input says otherwise goes into the entry.

    Raises:
        DatasetError: If the lineage of an input is damaged.
    """
    earlier = [earlier_entries(each.document, LINEAGE_KEY, each.source) for each in made_of]
    entry = {
        "operation": operation,
        "version": dql_core.__version__,
        "arguments": dict(arguments),
        "inputs": [
            {
                "dataset": each.source,
                "sha256": each.sha256,
                "episodes": each.episodes,
                # Which of the entries above made it.
                "made_by": _sha256(entries[-1]) if entries else None,
                "metadata": differing(each.document, kept),
            }
            for each, entries in zip(made_of, earlier, strict=True)
        ],
    }
    return json.dumps([*_each_once(one for entries in earlier for one in entries), entry])


def differing(document: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return what metadata say that is not kept."""
    missing = object()
    return {
        key: value
        for key, value in document.items()
        if key not in COUNTED and kept.get(key, missing) != value
    }


# Of each dataset its own; or kept elsewhere, as the lineage.
COUNTED = (
    "total_episodes",
    "total_steps",
    "data_format",
    "dataset_size",
    "minari_version",
    LINEAGE_KEY,
)


def _each_once(entries: Iterable[Any]) -> list[Any]:
    return list({_sha256(each): each for each in entries}.values())


def _sha256(entry: Any) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
