"""Which of a process's ROS parameters come from a section that is meant for all nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

_FILE_OPTION = "--params-file"
_ALL_NODES = "/**"
_PARAMETERS = "ros__parameters"


def shared_parameters(arguments: Sequence[str]) -> set[str]:
    """Return the names under ``/**`` in the parameter files of a command line.

    Args:
        arguments: The command line; its files were read by ROS before and are sound.
    """
    files = [Path(path) for option, path in pairwise(arguments) if option == _FILE_OPTION]
    return {name for path in files for name in _names_for_all(yaml.safe_load(path.read_text()))}


def _names_for_all(document: Any) -> Iterator[str]:
    section = document.get(_ALL_NODES) if isinstance(document, Mapping) else None
    values = section.get(_PARAMETERS) if isinstance(section, Mapping) else None
    if isinstance(values, Mapping):
        yield from _flat_names(values, "")


def _flat_names(values: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat_names(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
