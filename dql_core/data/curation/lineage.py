"""What a dataset was made of and how, kept in its metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dql_core
from dql_core.data.metadata import LINEAGE_KEY, earlier_entries
from dql_core.documents import file_sha256, file_within
from dql_core.errors import DatasetError


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
