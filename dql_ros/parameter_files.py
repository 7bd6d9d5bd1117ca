"""Which of a process's ROS parameters come from a section that is meant for all nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

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
    return {name for path in files for name in _names_for_all(path.read_text())}


def _names_for_all(text: str) -> Iterator[str]:
    # Composed, not loaded: launch files write lists with a tag of Python's, which ROS ignores.
    document = yaml.compose(text, Loader=yaml.SafeLoader)
    for all_nodes, section in _entries(document):
        for key, parameters in _entries(section):
            if (all_nodes, key) == (_ALL_NODES, _PARAMETERS):
                yield from _flat_names(parameters, "")


def _flat_names(parameters: yaml.Node, prefix: str) -> Iterator[str]:
    for name, value in _entries(parameters):
        if isinstance(value, yaml.MappingNode):
            yield from _flat_names(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _entries(node: yaml.Node | None) -> Iterator[tuple[str, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key.value, value
