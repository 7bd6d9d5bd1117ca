"""The launch files, read without ROS's launch packages."""

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dql_ros.nodes import control_node, sim_bridge_node
from dql_ros.nodes.parameters import flag, given, is_true, names, number

ROOT = Path(__file__).parents[3]
LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.py"))
# Declared by rclpy on every node.
BUILT_IN = {"use_sim_time"}


def passed_parameters(path: Path) -> dict[str, set[str]]:
    """Return the names of the parameters that a file passes, by executable."""
    passed = {}
    for call in ast.walk(ast.parse(path.read_text())):
        if isinstance(call, ast.Call):
            keywords = {keyword.arg: keyword.value for keyword in call.keywords}
            if {"executable", "parameters"} <= keywords.keys():
                keys = [
                    ast.literal_eval(key)
                    for found in ast.walk(keywords["parameters"])
                    if isinstance(found, ast.Dict)
                    for key in found.keys
                    if key is not None
                ]
                passed[ast.literal_eval(keywords["executable"])] = set(keys)
    return passed


def declared_parameters(executable: str) -> set[str]:
    """Return the names of the parameters that a node declares."""
    module = importlib.import_module(f"dql_ros.nodes.{executable}")
    names = {parameter.name for parameter in module.PARAMETERS}
    if executable == "sim_bridge_node":
        names |= {parameter.name for parameter in sim_bridge_node.SETTABLE}
    if hasattr(module, "ControlNode"):
        names |= {parameter.name for parameter in control_node.PARAMETERS}
    return names | BUILT_IN


def launch_arguments(path: Path) -> dict[str, tuple[str, str]]:
    """Return default and description of each argument of a file."""
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "ARGUMENTS":
            arguments: dict[str, tuple[str, str]] = ast.literal_eval(statement.value)
            return arguments
    raise AssertionError("no ARGUMENTS")


def test_each_node_has_its_launch_file() -> None:
    started = {path.name: set(passed_parameters(path)) for path in LAUNCH_FILES}
    assert started == {
        "policy.launch.py": {"policy_node"},
        "record.launch.py": {"recorder_node"},
        "sim.launch.py": {"sim_bridge_node"},
    }


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_every_parameter_that_a_file_passes_is_declared_by_the_node(path: Path) -> None:
    for executable, passed in passed_parameters(path).items():
        assert passed
        assert passed <= declared_parameters(executable)


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_every_argument_is_described(path: Path) -> None:
    for name, (_, description) in launch_arguments(path).items():
        assert re.fullmatch(r"[A-Z'/d].{15,}\.", description), f"{name}: {description}"


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_the_arguments_are_those_that_users_know(path: Path) -> None:
    common = {"contract", "namespace", "params_file", "respawn", "log_level"}
    own = {
        "policy.launch.py": {
            *("policy", "shadow", "sim", "record", "autostart", "use_sim_time", "device"),
        },
        "record.launch.py": {"out", "autostart", "use_sim_time"},
        "sim.launch.py": {"env", "mode", "real_time_factor"},
    }
    assert common | own[path.name] <= set(launch_arguments(path))


def test_what_the_policy_file_passes_on_are_arguments_of_the_others() -> None:
    passed = {
        ast.literal_eval(key)
        for found in ast.walk(ast.parse((ROOT / "launch" / "policy.launch.py").read_text()))
        if isinstance(found, ast.Assign)
        and ast.unparse(found.targets[0]) in {"bridge", "recorder"}
        and isinstance(found.value, ast.Dict)
        for key in found.value.keys
        if key is not None
    }
    others = [launch_arguments(path) for path in LAUNCH_FILES if path.name != "policy.launch.py"]
    bridge = {"env", "mode", "real_time_factor", "recorders"}
    assert passed == bridge | {"out", "topics", "use_sim_time", "autostart"}
    assert passed <= {name for arguments in others for name in arguments}


def test_a_parameter_file_may_ask_for_shadow_mode() -> None:
    """An argument that is not given is not passed, so that it hides no ``shadow: true``."""
    default, _ = launch_arguments(ROOT / "launch" / "policy.launch.py")["shadow"]
    assert given({"shadow": flag({"shadow": default}, "shadow")}) == {}
    assert given({"shadow": flag({"shadow": "false"}, "shadow")}) == {"shadow": False}


def test_arguments_become_values() -> None:
    arguments = {"sim": "True", "respawn": "yes", "factor": "0.5", "size": "", "rate": "fast"}
    assert is_true(arguments, "sim")
    with pytest.raises(ValueError, match="'respawn' is 'yes': give true or false"):
        is_true(arguments, "respawn")
    assert flag(arguments, "sim") is True
    assert flag(arguments, "size") == ""
    with pytest.raises(ValueError, match="'respawn' is 'yes': give true or false"):
        flag(arguments, "respawn")
    assert number(arguments, "factor") == 0.5
    assert number(arguments, "size") == ""
    with pytest.raises(ValueError, match="'rate' is 'fast': give a number"):
        number(arguments, "rate")
    assert names({"topics": "/diagnostics, odom,"}, "topics") == ["/diagnostics", "odom"]
    assert names({"topics": ""}, "topics") == ""
    assert given({"a": "", "b": 0, "c": False}) == {"b": 0, "c": False}


@pytest.mark.parametrize("path", sorted((ROOT / "config" / "nodes").glob("*.yaml")), ids=str)
def test_the_node_configurations_name_declared_parameters(path: Path) -> None:
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    # Keyed '/**', since a file keyed by name does not reach a node in a namespace.
    assert list(document) == ["/**"]
    parameters = set(document["/**"]["ros__parameters"])
    assert parameters <= declared_parameters(f"{path.stem}_node")
