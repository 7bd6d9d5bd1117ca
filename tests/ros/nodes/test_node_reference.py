"""The reference page names every topic, service, parameter and diagnostic that the nodes have."""

import ast
import re
from collections.abc import Iterable
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from dql_core.runtime.controller import State
from dql_core.runtime.guard import Guard
from dql_ros.contract import load_contract
from dql_ros.control.health import INACTIVE
from dql_ros.nodes import (
    policy_node,
    recorder_node,
    sim_bridge_node,
)
from dql_ros.nodes.parameters import Parameter
from dql_ros.sim.faults import FAULTS
from tests.ros.nodes.robot import Robot

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "nodes.md").read_text()
# Of the names on the page, what stands for any.
PLACEHOLDERS = {"TOPIC": r"\S+", "ACTION": r"\S+", "NAME": r"\w+", "FIELD": r"\S+", "UNIT": r".+"}
IN_SHADOW_MODE = {
    "heard commands of TOPIC",
    "refused commands of TOPIC",
    r"ticks compared with TOPIC (%)",
    "mean difference of FIELD (UNIT)",
}
WITH_TAKEOVER = {
    "commands of a person",
    "delayed commands of a person",
    "person's switch",
}
WITH_GOALS = {
    "goals of ACTION",
    *(
        f"goals {what} of ACTION"
        for what in ("refused", "unanswered", "aborted", "canceled by others", "not canceled")
    ),
}
WITH_CHUNKS = {
    "execute",
    "action of the chunk",
    "decisions (Hz)",
    "ticks to a decision",
    "chunks ended early",
}
LAUNCH_FILES = ("policy.launch.py", "sim.launch.py", "record.launch.py")
PARAMETERS = {
    "policy_node": policy_node.DECLARED,
    "sim_bridge_node": sim_bridge_node.DECLARED,
    "recorder_node": recorder_node.PARAMETERS,
}
# What rclpy gives every node, and every lifecycle node.
COMMON_TOPICS = {"/rosout", "/parameter_events", "/clock", "~/transition_event"}
COMMON_SERVICES = re.compile(
    r"~/(\w*_parameters?(_types|_atomically)?|get_type_description|change_state|get_state|"
    r"get_available_\w+|get_transition_graph)"
)


def section(title: str) -> str:
    found = re.search(rf"^##+ {title}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"no section '{title}'"
    return found[1]


def keys(title: str) -> list[str]:
    """The first column of a section's table, as far as it is code."""
    return re.findall(r"^\| `(.+?)` \|", section(title), re.MULTILINE)


def table(parameters: Iterable[Parameter]) -> str:
    lines = ["| parameter | default | values | what it is |", "|---|---|---|---|"]
    return "\n".join([*lines, *map(line, parameters)])


def line(parameter: Parameter) -> str:
    default, values = f"`{str(parameter.default).lower()}`", ""
    if parameter.default in ("", ("",)):
        default = "required" if parameter.required else "empty"
    elif isinstance(parameter.default, str):
        default = f"`{parameter.default}`"
    if parameter.choices:
        values = ", ".join(f"`{choice}`" for choice in parameter.choices)
    elif parameter.bounds is not None:
        values = "{:.10g} to {:.10g}".format(*parameter.bounds)
    return f"| `{parameter.name}` | {default} | {values} | {parameter.description} |"


@pytest.mark.parametrize("node", PARAMETERS)
def test_parameters_are_those_of_the_code(node: str) -> None:
    text = section(f"Parameters of {node}")
    assert table(PARAMETERS[node]) in text, f"the table must be:\n{table(PARAMETERS[node])}"


@pytest.mark.parametrize("node", PARAMETERS)
def test_parameter_files_list_what_the_node_declares(node: str) -> None:
    file = ROOT / "config" / "nodes" / f"{node.removesuffix('_node')}.yaml"
    listed = yaml.safe_load(file.read_text())["/**"]["ros__parameters"]
    declared = {each.name: each for each in PARAMETERS[node]}
    required = {name for name, each in declared.items() if each.required}
    assert set(listed) == set(declared) - required
    for name, value in listed.items():
        default = declared[name].default
        wanted = list(default) if isinstance(default, tuple) else default
        assert type(value) is type(wanted), name
        if name != "mode":  # which has two good ones
            assert value == wanted, name


def arguments_of(file: str) -> dict[str, tuple[str, str]]:
    """Defaults and descriptions of a launch file's arguments, also where launch is not there."""
    for statement in ast.parse((ROOT / "launch" / file).read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "ARGUMENTS":
            found: dict[str, tuple[str, str]] = ast.literal_eval(statement.value)
            return found
    raise AssertionError(f"{file} has no ARGUMENTS")


def argument_table(file: str) -> str:
    rows = [
        f"| `{name}` | {f'`{default}`' if default else 'empty'} | {description} |"
        for name, (default, description) in arguments_of(file).items()
    ]
    return "\n".join(["| argument | default | what it is |", "|---|---|---|", *rows])


@pytest.mark.parametrize("file", LAUNCH_FILES)
def test_launch_arguments_are_those_of_the_code(file: str) -> None:
    text = section(f"Arguments of {re.escape(file)}")
    assert argument_table(file) in text, f"the table must be:\n{argument_table(file)}"


def test_states_and_guards_are_those_of_the_code() -> None:
    assert set(keys("States of policy_node")) == {INACTIVE, *(state.value for state in State)}
    assert keys("Guards of policy_node") == [guard.value for guard in Guard]


def test_every_fault_of_the_command_line_is_a_parameter_of_the_bridge() -> None:
    parameters = {each.name: each for each in sim_bridge_node.PARAMETERS}
    reached = set()
    for fault in FAULTS.values():
        for name in fault.parameters:
            reached.add(name)
            assert parameters[name].bounds == (0, fault.high)
            assert isinstance(parameters[name].default, int if fault.whole else float)
    links = ("state_", "command_")
    assert reached - {"fault_seed"} == {
        name for name in parameters if name.startswith(links) and name != "command_timeout_s"
    }


def own_topics(node: Node, name: str) -> dict[str, str]:
    """Topics of a node by their private names, with their types."""
    found = {
        **dict(node.get_publisher_names_and_types_by_node(name, "/")),
        **dict(node.get_subscriber_names_and_types_by_node(name, "/")),
    }
    return {private(topic, name): types[0] for topic, types in found.items()}


def private(name: str, node: str) -> str:
    return "~/" + name.removeprefix(f"/{node}/") if name.startswith(f"/{node}/") else name


def contract_topics(path: Path) -> set[str]:
    contract = load_contract(path)
    streams = (*contract.observation, *contract.action, *contract.signals.values())
    resets = [contract.reset_signal] if contract.reset_signal else []
    return {f"/{stream.topic}" for stream in (*streams, *resets)}


def require_documented_graph(robot: Robot, node: str, name: str, contract: Path) -> None:
    """Compare topics and services of a running node with the page."""
    documented = dict(
        re.findall(r"^\| `([~/]\S+)` \| `(\S+)` \|", section(f"Topics of {node}"), re.MULTILINE)
    )
    graph = robot.probe.node

    def topics_are_there() -> bool:
        return set(documented) <= set(own_topics(graph, name))

    robot.probe.until(topics_are_there, f"the topics {set(documented)} of {name}")
    topics = own_topics(graph, name)
    assert {topic: topics[topic] for topic in documented} == documented
    undocumented = set(topics) - set(documented) - COMMON_TOPICS - contract_topics(contract)
    assert not undocumented - {"/diagnostics"}
    services = {
        private(service, name): types[0]
        for service, types in graph.get_service_names_and_types_by_node(name, "/")
    }
    own = {key: kind for key, kind in services.items() if not COMMON_SERVICES.fullmatch(key)}
    told = re.findall(r"^\| `(~/\S+)` \| `(\S+)` \|", section(f"Services of {node}"), re.MULTILINE)
    assert own == dict(told)


def require_documented_values(values: dict[str, str], node: str, *, left_out: set[str]) -> None:
    """Compare the values of a diagnostic with the page."""
    patterns = {
        key: reduce(lambda text, part: text.replace(*part), PLACEHOLDERS.items(), re.escape(key))
        for key in keys(f"Diagnostics of {node}")
    }
    for key in values:
        assert any(re.fullmatch(pattern, key) for pattern in patterns.values()), key
    for documented, pattern in patterns.items():
        found = any(re.fullmatch(pattern, key) for key in values)
        assert found or documented in left_out, documented


def last_values(messages: list[Any], status: str) -> dict[str, str]:
    values = [s.values for m in messages for s in m.status if s.name == status]
    return {pair.key: pair.value for pair in values[-1]} if values else {}


@pytest.mark.ros
def test_policy_and_simulation_are_as_documented(
    robot: Robot, scara: Path, scara_bundle: Path
) -> None:
    told = robot.probe.collect(DiagnosticArray, "/diagnostics")
    robot.start("sim_bridge", contract=str(scara), mode="real_time")
    robot.start(
        "policy",
        contract=str(scara),
        policy=str(scara_bundle),
        use_sim_time=True,
        candidates_hz=10.0,
        when_too_slow="warn",
    )
    robot.probe.activate("policy")

    def both_act() -> bool:
        policy = last_values(told, "policy: control loop")
        bridge = last_values(told, "sim_bridge: simulation")
        return policy.get("state") == "running" and bridge.get("state") == "running"

    robot.probe.until(both_act, "reports of policy and simulation")
    require_documented_graph(robot, "policy_node", "policy", scara)
    require_documented_graph(robot, "sim_bridge_node", "sim_bridge", scara)
    policy = last_values(told, "policy: control loop")
    left_out = {"last NAME", *IN_SHADOW_MODE, *WITH_TAKEOVER, *WITH_GOALS, *WITH_CHUNKS}
    require_documented_values(policy, "policy_node", left_out=left_out)
    assert policy["contract"].startswith("scara ")
    bridge = last_values(told, "sim_bridge: simulation")
    require_documented_values(bridge, "sim_bridge_node", left_out={"video", "last failure"})


@pytest.mark.ros
def test_shadow_mode_is_as_documented(robot: Robot, scara: Path, scara_bundle: Path) -> None:
    told = robot.probe.collect(DiagnosticArray, "/diagnostics")
    robot.start("sim_bridge", contract=str(scara), mode="real_time")
    robot.start("demonstrator", contract=str(scara), use_sim_time=True, when_too_slow="warn")
    robot.start(
        "policy",
        contract=str(scara),
        policy=str(scara_bundle),
        use_sim_time=True,
        shadow=True,
        when_too_slow="warn",
    )
    for node in ("demonstrator", "policy"):
        robot.probe.activate(node)

    def compares() -> bool:
        values = last_values(told, "policy: control loop")
        return float(values.get("ticks compared with velocity_controller/commands (%)", 0)) > 0

    robot.probe.until(compares, "a comparison with the demonstrator")
    policy = last_values(told, "policy: control loop")
    assert policy["state"] == "running"
    left_out = {"last NAME", *WITH_TAKEOVER, *WITH_GOALS, *WITH_CHUNKS}
    require_documented_values(policy, "policy_node", left_out=left_out)


@pytest.mark.ros
def test_takeover_is_as_documented(
    robot: Robot, scara: Path, scara_bundle: Path, tmp_path: Path
) -> None:
    switch = {"topic": "joy", "type": "sensor_msgs/msg/Joy", "path": "buttons.0"}
    document = yaml.safe_load(scara.read_text())
    document["takeover"] = {"topics": ["teleop"], "switch": switch}
    contract = tmp_path / "takeover.yaml"
    contract.write_text(yaml.safe_dump(document))
    told = robot.probe.collect(DiagnosticArray, "/diagnostics")
    robot.start("sim_bridge", contract=str(contract), mode="real_time")
    robot.start(
        "policy",
        contract=str(contract),
        policy=str(scara_bundle),
        use_sim_time=True,
        when_too_slow="warn",
    )
    robot.probe.activate("policy")

    def acts() -> bool:
        return last_values(told, "policy: control loop").get("state") == "running"

    robot.probe.until(acts, "reports of the policy")
    topics = own_topics(robot.probe.node, "policy")
    assert topics["/intervention"] == "std_msgs/msg/Bool"
    assert topics["/joy"] == switch["type"]
    assert topics["/teleop"] == "std_msgs/msg/Float64MultiArray"
    policy = last_values(told, "policy: control loop")
    shadows = IN_SHADOW_MODE - {"heard commands of TOPIC", "refused commands of TOPIC"}
    left_out = {"last NAME", *shadows, *WITH_GOALS, *WITH_CHUNKS}
    require_documented_values(policy, "policy_node", left_out=left_out)


@pytest.mark.ros
def test_the_recorder_is_as_documented(robot: Robot, scara: Path, tmp_path: Path) -> None:
    told = robot.probe.collect(DiagnosticArray, "/diagnostics")
    robot.start("sim_bridge", contract=str(scara), mode="real_time", wait_for_policy=False)
    robot.start("recorder", contract=str(scara), out=str(tmp_path / "bag"))

    def records() -> bool:
        return "received of /joint_states" in last_values(told, "recorder: recording")

    robot.probe.until(records, "reports of the recorder")
    require_documented_graph(robot, "recorder_node", "recorder", scara)
    values = last_values(told, "recorder: recording")
    require_documented_values(
        values, "recorder_node", left_out={"not recorded: TOPIC", "remark on TOPIC"}
    )


def test_links_lead_to_sections_of_pages_that_exist() -> None:
    folder = ROOT / "docs" / "reference"
    for page, anchor in re.findall(r"\]\(([\w./-]*\.md)(?:#([\w-]+))?\)", PAGE):
        text = (folder / page).read_text()
        titles = {t.lower().replace(" ", "-") for t in re.findall(r"^##+ (.*)$", text, re.M)}
        assert not anchor or anchor in titles, (page, anchor)
