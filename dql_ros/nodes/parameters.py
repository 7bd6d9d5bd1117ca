"""Node parameters as data: each is declared with its default, description and range.

Parameter files are read for what they say to all nodes, and launch arguments, which are texts, are
made into values.
"""

from __future__ import annotations

import difflib
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node

from dql_core.documents import read_bounded
from dql_core.errors import ConfigError, did_you_mean, one_line
from dql_core.strict_yaml import MAX_YAML_BYTES, compose_yaml

# How alike two names are of which one is the other misspelt.
_SIMILAR = 0.8
_WIDTH = 79
Value = bool | int | float | str | tuple[str, ...]
_FILE_OPTION = "--params-file"
_ALL_NODES = "/**"
_PARAMETERS = "ros__parameters"


@dataclass(frozen=True)
class Parameter:
    """One parameter of a node.

    Attributes:
        name: Its name.
        default: Its default, which also fixes its type.
        description: What it does, with its unit.
        bounds: Smallest and largest value allowed, for numbers.
        choices: The only values allowed, for strings.
        required: Whether an empty default must be replaced.
        read_only: Whether it can be set only at start.
    """

    name: str
    default: Value
    description: str
    bounds: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    required: bool = False
    read_only: bool = True

    def descriptor(self) -> Any:
        """Return the ``rcl_interfaces/msg/ParameterDescriptor``."""
        descriptor = ParameterDescriptor(description=self.description, read_only=self.read_only)
        if self.choices:
            descriptor.additional_constraints = f"one of: {', '.join(self.choices)}"
        if self.bounds is not None and isinstance(self.default, float):
            low, high = map(float, self.bounds)
            found = FloatingPointRange(from_value=low, to_value=high)
            descriptor.floating_point_range = [found]
        elif self.bounds is not None:
            least, most = map(int, self.bounds)
            descriptor.integer_range = [IntegerRange(from_value=least, to_value=most, step=1)]
        return descriptor


def describe(parameters: Iterable[Parameter]) -> Iterator[str]:
    """Yield the lines of a node's help: each parameter with its default, and what it is."""
    for each in parameters:
        values = f"one of {', '.join(each.choices)}" if each.choices else ""
        if each.bounds is not None:
            values = "{:.10g} to {:.10g}".format(*each.bounds)
        default = str(each.default).lower()
        if isinstance(each.default, tuple):
            default = f"[{', '.join(filter(None, each.default))}]"
        elif isinstance(each.default, str):
            default = each.default or ("…, required" if each.required else "")
        yield f"  -p {each.name}:={default}"
        text = each.description + (f" ({values})" if values else "")
        yield textwrap.fill(text, _WIDTH, initial_indent="    ", subsequent_indent="    ")


def declare(node: Node, parameters: Sequence[Parameter]) -> None:
    """Declare all ``parameters`` of ``node`` and check what it was given.

    Raises:
        ConfigError: If a value has the wrong type, is out of range or is no allowed choice, or
            the node has no parameter of a name that was given.
    """
    for parameter in parameters:
        default = (
            list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        )
        try:
            value = node.declare_parameter(parameter.name, default, parameter.descriptor()).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise ConfigError(
                f"parameter '{parameter.name}' of {node.get_name()}: {error}"
                f"{_as_list(node, parameter) if isinstance(default, list) else ''}"
            ) from error
        if parameter.choices and value not in parameter.choices:
            hint = did_you_mean(str(value), parameter.choices)
            raise ConfigError(
                f"parameter '{parameter.name}' of {node.get_name()} is '{value}', which is not "
                f"allowed{hint}"
            )
    _refuse_unknown(node)


def _as_list(node: Node, parameter: Parameter) -> str:
    """Return a hint: how what ``node`` was given for a list is written as one."""
    value = node._parameter_overrides[parameter.name].value  # rclpy has no other way to ask
    entries = value if isinstance(value, str) and value else "A, B"
    return f'; it is a list of texts: give it with -p "{parameter.name}:=[{entries}]"'


def _refuse_unknown(node: Node) -> None:
    """Check that all parameters that ``node`` was given are its own.

    In a parameter file a section for all nodes, ``/**``, may also hold parameters of another node:
    they are logged, and refused only if they look like one of this node's misspelt.
    """
    given = node._parameter_overrides  # rclpy has no other way to ask
    unknown = sorted(name for name in given if not node.has_parameter(name))
    known = list(node.get_parameters_by_prefix(""))
    shared = shared_parameters(sys.argv)
    for name in unknown:
        if name not in shared or difflib.get_close_matches(name, known, n=1, cutoff=_SIMILAR):
            raise ConfigError(
                f"{node.get_name()} has no parameter '{name}'{did_you_mean(name, known)}"
            )
    if unknown:
        node.get_logger().info(f"ignored parameters of other nodes: {', '.join(unknown)}")


def require(node: Node, parameters: Sequence[Parameter]) -> None:
    """Check that the required parameters were given.

    Raises:
        ConfigError: Naming the first one that was not.
    """
    for parameter in parameters:
        if parameter.required and not node.get_parameter(parameter.name).value:
            raise ConfigError(
                f"parameter '{parameter.name}' of {node.get_name()} is not set ("
                f"{parameter.description}): give it with '-p {parameter.name}:=…'"
            )


def value_of(node: Node, name: str) -> Any:
    """Value of a declared parameter."""
    return node.get_parameter(name).value


def path_of(node: Node, name: str) -> Path:
    """Value of a declared parameter that is a path."""
    return Path(str(node.get_parameter(name).value)).expanduser()


CONTRACT = Parameter(
    "contract",
    "",
    "robot contract (yaml): its path, or the name of one of this package's",
    required=True,
)


def shared_parameters(arguments: Sequence[str]) -> set[str]:
    """Return the names under ``/**`` in the parameter files of a command line.

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
        raise ConfigError(f"{path}: not a parameter file: {one_line(cause)}") from cause
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


def is_true(arguments: Mapping[str, str], name: str) -> bool:
    """Return an argument that is ``true`` or ``false``.

    Raises:
        ValueError: If it is neither.
    """
    value = arguments[name].lower()
    if value not in {"true", "false"}:
        raise ValueError(f"launch argument '{name}' is '{arguments[name]}': give true or false")
    return value == "true"


def flag(arguments: Mapping[str, str], name: str) -> bool | str:
    """Return an argument that is ``true`` or ``false``, or nothing.

    Raises:
        ValueError: If it is something else.
    """
    return is_true(arguments, name) if arguments[name] else ""


def given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what was not given, so that it does not hide what a parameter file says."""
    return {name: value for name, value in parameters.items() if value != ""}


def number(arguments: Mapping[str, str], name: str) -> float | str:
    """Return an argument that is a number, or nothing.

    Raises:
        ValueError: If it is something else.
    """
    try:
        return float(arguments[name]) if arguments[name] else ""
    except ValueError:
        raise ValueError(
            f"launch argument '{name}' is '{arguments[name]}': give a number"
        ) from None


def names(arguments: Mapping[str, str], name: str) -> list[str] | str:
    """Return an argument that is a list of names with commas between them, or nothing."""
    return [part.strip() for part in arguments[name].split(",") if part.strip()] or ""
