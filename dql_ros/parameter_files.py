"""Which of a process's ROS parameters come from a section that is meant for all nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import yaml

from dql_core.documents import read_bounded
from dql_core.errors import ConfigError
from dql_core.plain_yaml import compose_yaml
from dql_core.strict_yaml import MAX_YAML_BYTES

_FILE_OPTION = "--params-file"
_ALL_NODES = "/**"
_PARAMETERS = "ros__parameters"


def shared_parameters(arguments: Sequence[str]) -> set[str]:
    """Return the names under ``/**`` in the parameter files of a command line.

    Args:
        arguments: The command line; its files were read by ROS before.

    Raises:
        ConfigError: If a file has a parameter twice, of which ROS takes the last without a word,
            or is no yaml.
    """
    files = [Path(path) for option, path in pairwise(arguments) if option == _FILE_OPTION]
    return {name for path in files for name in _names_for_all(path)}


def _names_for_all(path: Path) -> Iterator[str]:
    text = read_bounded(path, MAX_YAML_BYTES, ConfigError)
    try:
        # Composed, not loaded: launch files write lists with a tag of Python's, which ROS ignores.
        document = compose_yaml(text.decode())
    except (yaml.YAMLError, UnicodeDecodeError) as cause:
        reason = " ".join(str(cause).split())
        raise ConfigError(f"{path}: not a file of parameters: {reason}") from cause
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
