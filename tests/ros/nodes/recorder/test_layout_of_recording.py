"""The shipped layouts find all their curves in a recording of the closed loop."""

import json
import math
from typing import Any
from xml.etree import ElementTree

import pytest

from dql_ros.bag.reader import Bag
from dql_ros.nodes.closed_loop import policy_driver, run_closed_loop
from tests.ros.bag.messages import messages_of
from tests.ros.nodes.node_server import forked_closed_loops
from tests.ros.nodes.robot import SCARA
from tests.ros.tools.viewers import at_message_path, plotted
from tests.ros.untrained import untrained_bundle

pytestmark = pytest.mark.ros
CONFIG = SCARA.parents[1]


@pytest.fixture(scope="module", name="messages")
def _messages(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Any]]:
    """All messages of a recorded run, with their topics."""
    folder = tmp_path_factory.mktemp("run")
    bundle = untrained_bundle(folder, SCARA)
    with forked_closed_loops():
        run_closed_loop(SCARA, policy_driver(bundle, seed=0), episodes=2, record=folder / "bag")
    with Bag(folder / "bag") as bag:
        return [(each.topic, each.message) for each in messages_of(bag, frozenset(bag.topics))]


def test_plotjuggler_has_every_curve(messages: list[tuple[str, Any]]) -> None:
    curves = ElementTree.parse(CONFIG / "plotjuggler" / "scara.xml").getroot().iter("curve")
    series = {name for topic, message in messages for name, _ in plotted(message, topic)}
    assert {curve.attrib["name"] for curve in curves} <= series


def test_foxglove_has_every_path(messages: list[tuple[str, Any]]) -> None:
    layout = json.loads((CONFIG / "foxglove" / "scara.json").read_text())
    values = [
        (panel.partition("!")[0], path["value"])
        for panel, config in layout["configById"].items()
        for path in config.get("paths", ())
        if path["value"].startswith("/")
    ]
    for kind, path in values:
        topic = next(topic for topic, _ in messages if path.startswith(f"{topic}."))
        found = [
            value
            for of, message in messages
            if of == topic
            for value in at_message_path(message, path.removeprefix(topic))
        ]
        assert found, path
        if kind == "Plot":
            assert all(math.isfinite(float(value)) for value in found), path


def test_foxglove_shows_the_status_of_the_policy_node(messages: list[tuple[str, Any]]) -> None:
    layout = json.loads((CONFIG / "foxglove" / "scara.json").read_text())
    panel = layout["configById"]["DiagnosticStatusPanel!policy"]
    statuses = [s for topic, m in messages if topic == "/diagnostics" for s in m.status]
    assert any(
        (status.name, status.hardware_id) == (panel["selectedName"], panel["selectedHardwareId"])
        for status in statuses
    )
