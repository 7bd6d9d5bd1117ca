"""Layouts lead to the numbers of the contract, in the words of each viewer."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from dql_core.errors import ConfigError
from dql_ros.cli.layout import layout
from dql_ros.codecs import StreamEncoder
from dql_ros.codecs.blank import blank_element, blank_message
from dql_ros.contract import Contract, Stream, load_contract
from dql_ros.tools.layouts import (
    Plot,
    command_plots,
    foxglove_layout,
    message_path,
    plotjuggler_layout,
    series,
    state_plots,
)
from tests.ros.tools.viewers import at_message_path, plotted

CONFIG = Path(__file__).parents[3] / "config"
CONTRACTS = sorted((CONFIG / "contracts").glob("*.yaml"))
TYPES = get_typestore(Stores.ROS2_JAZZY)
ROBOT = """
robot: rover
rate_hz: 10.0
observation:
  - topic: joint_states
    type: sensor_msgs/msg/JointState
    fields:
      - {path: position, joints: [wheel, arm], unit: deg, message_unit: rad}
      - {path: velocity, joints: [arm], unit: rad/s}
  - topic: /odom
    type: nav_msgs/msg/Odometry
    fields:
      - {path: pose.pose.position.x, names: [x], unit: m}
      - {path: pose.pose.orientation, rotation: yaw}
action:
  - topic: cmd_vel
    type: geometry_msgs/msg/Twist
    fields:
      - {path: linear.x, low: -1.0, high: 1.0, unit: m/s}
      - {path: angular.z, low: -1.0, high: 1.0, unit: rad/s}
  - topic: arm/joint_trajectory
    type: trajectory_msgs/msg/JointTrajectory
    fields: [{path: points.0.positions, joints: [wheel, arm], low: [-3, -1], high: [3, 1]}]
reward: {topic: reward, type: std_msgs/msg/Float64}
episode: {terminated: {topic: done, type: std_msgs/msg/Bool}}
"""


@pytest.fixture(name="rover")
def _rover(tmp_path: Path) -> Contract:
    path = tmp_path / "rover.yaml"
    path.write_text(ROBOT)
    return load_contract(path)


def encoded(stream: Stream, values: Any, joint_order: Any = ()) -> Any:
    encoder = StreamEncoder(stream, joint_order, np.nan)
    message = blank_message(TYPES, stream.type)
    return encoder.encode(values, message, 0, partial(blank_element, TYPES))


def streams_with_plots(contract: Contract) -> Iterator[tuple[Stream, Any, list[Plot]]]:
    plots = [*state_plots(contract), *command_plots(contract)]
    for stream in contract.observation:
        yield stream, sorted(stream.joints), plots
    for action in contract.action:
        yield action, (), plots


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.stem)
def test_curves_lead_to_the_numbers_that_the_codecs_fill(path: Path) -> None:
    contract = load_contract(path)
    for stream, joint_order, plots in streams_with_plots(contract):
        values = np.arange(1.0, stream.width + 1)
        if any(field.rotation or field.message_unit for field in stream.fields):
            continue
        message = encoded(stream, values, joint_order)
        topic = stream.resolved_topic()
        curves = [curve for plot in plots for curve in plot.curves if curve.topic == topic]
        paths = [message_path(curve).removeprefix(topic) for curve in curves]
        found = [at_message_path(message, path)[0] for path in paths]
        assert sorted(found) == values.tolist()
        named = dict(plotted(message, topic))
        assert sorted(named[series(curve)] for curve in curves) == values.tolist()
        if not any(field.constant is not None for field in stream.fields):
            assert found == [named[series(curve)] for curve in curves]


def test_plots_are_of_topics_and_arrays(rover: Contract) -> None:
    plots = {plot.title: plot for plot in (*state_plots(rover, "a"), *command_plots(rover, "/a/"))}
    assert list(plots) == [
        "state: joint_states position",
        "state: joint_states velocity",
        "state: /odom",
        "command: cmd_vel",
        "command: arm/joint_trajectory points.0.positions",
        "reward and ends",
    ]
    labels = {title: [curve.label for curve in plot.curves] for title, plot in plots.items()}
    # The unit is the message's, since it is the message that is shown.
    assert labels["state: joint_states position"] == ["wheel (rad)", "arm (rad)"]
    assert labels["state: /odom"][0] == "x (m)"
    assert len(labels["state: /odom"]) == 5
    assert plots["command: cmd_vel"].limits == (-1.0, 1.0)
    assert plots["command: arm/joint_trajectory points.0.positions"].limits == ()
    topics = {curve.topic for plot in plots.values() for curve in plot.curves}
    assert "/odom" in topics
    assert topics - {"/odom"} == {
        f"/a/{topic}"
        for topic in ("joint_states", "cmd_vel", "arm/joint_trajectory", "reward", "done")
    }


def test_a_foxglove_layout_shows_every_panel_once(rover: Contract) -> None:
    document = json.loads(foxglove_layout(rover, "left", "driver"))
    shown: list[str] = []

    def collect(node: Any) -> None:
        if isinstance(node, str):
            shown.append(node)
        else:
            assert node["direction"] in {"row", "column"}
            assert 0 < node["splitPercentage"] < 100
            collect(node["first"])
            collect(node["second"])

    collect(document["layout"])
    assert sorted(shown) == sorted(document["configById"])
    panels = document["configById"]
    assert panels["Publish!stop"]["topicName"] == "/left/driver/stop"
    assert json.loads(panels["Publish!stop"]["value"]) == {"data": True}
    assert panels["CallService!reset"]["serviceName"] == "/left/driver/reset_stop"
    assert panels["DiagnosticStatusPanel!policy"]["selectedHardwareId"] == "/left/driver"
    (state,) = panels["StateTransitions!state"]["paths"]
    assert state["value"] == (
        '/diagnostics.status[:]{name=="driver: control loop"}.values[:]{key=="state"}.value'
    )
    lines = [p["value"] for p in panels["Plot!robot3"]["paths"] if p["label"] == "bound"]
    assert lines == ["-1", "1"]


def test_a_plotjuggler_layout_splits_each_tab_among_its_plots(rover: Contract) -> None:
    root = ElementTree.fromstring(plotjuggler_layout(rover))
    (window,) = root.findall("tabbed_widget")
    tabs = window.findall("Tab")
    assert [tab.get("tab_name") for tab in tabs] == ["states", "commands", "policy node"]
    for tab in tabs:
        (splitter,) = tab.findall("Container/DockSplitter")
        areas = splitter.findall("DockArea")
        assert int(splitter.attrib["count"]) == len(areas)
        assert sum(map(float, splitter.attrib["sizes"].split(";"))) == pytest.approx(1, abs=1e-4)
        assert all(area.findall("plot/curve") for area in areas)
    names = [curve.attrib["name"] for curve in root.iter("curve")]
    assert "/joint_states/arm/velocity" in names
    assert "/arm/joint_trajectory/points[0]/positions[1]" in names
    assert "/diagnostics//policy/policy: control loop/rate (Hz)" in names
    assert {limit.get("min") for limit in root.iter("limitY")} == {None, "-1.1"}


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.stem)
def test_the_shipped_layouts_are_those_of_the_shipped_contracts(path: Path) -> None:
    contract = load_contract(path)
    for folder, suffix, make in (
        ("foxglove", ".json", foxglove_layout),
        ("plotjuggler", ".xml", plotjuggler_layout),
    ):
        shipped = CONFIG / folder / f"{path.stem}{suffix}"
        hint = f"run: dql layout {path.relative_to(CONFIG.parent)} config/{folder}/{shipped.name}"
        assert shipped.is_file(), hint
        assert shipped.read_text() == make(contract), hint


def test_the_verb_writes_what_the_name_asks_for(tmp_path: Path) -> None:
    for name in ("one.json", "new/one.xml"):
        layout(CONFIG / "contracts/scara.yaml", tmp_path / name)
    assert json.loads((tmp_path / "one.json").read_text())["configById"]
    assert ElementTree.parse(tmp_path / "new/one.xml").getroot().tag == "root"
    with pytest.raises(ConfigError, match=r"end the name with \.json for Foxglove"):
        layout(CONFIG / "contracts/scara.yaml", tmp_path / "one.txt")
