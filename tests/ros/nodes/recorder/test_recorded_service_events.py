"""Calls of services, introspected and recorded, are where the episodes start and stop."""

import time
from pathlib import Path
from typing import Any

import pytest
from rclpy.service_introspection import ServiceIntrospectionState
from std_srvs.srv import Trigger

from dql_core.data.dataset import load_dataset
from dql_ros.bag.reader import Bag
from dql_ros.contract import load_contract
from dql_ros.convert.convert import Source, convert
from dql_ros.nodes.topics import reliable
from tests.ros.bag.messages import messages_of
from tests.ros.nodes.recorder.lever import CONTRACT, Lever, finish
from tests.ros.nodes.robot import Robot

pytestmark = pytest.mark.ros
EPISODE = """episode:
  start: {topic: begin/_service_event, type: std_srvs/srv/Trigger_Event, path: info.event_type,
          equals: 1}
  stop: {topic: end/_service_event, type: std_srvs/srv/Trigger_Event, path: response.0.success}
"""


@pytest.fixture(name="lever")
def _lever(robot: Robot, tmp_path: Path) -> Lever:
    lever = Lever(robot, tmp_path)
    lever.contract.write_text(CONTRACT.partition("episode:")[0] + EPISODE)
    return lever


def serve(lever: Lever, name: str, called_at: list[int]) -> None:
    """Offer a service that publishes all of its events, and notes where the lever was."""

    def answer(_: Any, response: Any) -> Any:
        called_at.append(lever.sent)
        response.success = True
        return response

    node = lever.robot.probe.node
    service = node.create_service(Trigger, name, answer)
    service.configure_introspection(
        node.get_clock(), reliable(100), ServiceIntrospectionState.CONTENTS
    )


def drive_for(lever: Lever, seconds: float) -> None:
    end_s = time.monotonic() + seconds
    lever.move_until(lambda: time.monotonic() > end_s, "time to pass")


def test_introspected_calls_cut_a_recording_into_episodes(lever: Lever, tmp_path: Path) -> None:
    probe = lever.robot.probe
    called_at: list[int] = []
    for name in ("begin", "end"):
        serve(lever, name, called_at)
    process = lever.record()
    topics = ("/begin/_service_event", "/end/_service_event")
    probe.until(lambda: all(map(probe.node.count_subscribers, topics)), "the recorder")
    for _ in range(2):
        for name in ("begin", "end"):
            drive_for(lever, 0.3)
            probe.call(Trigger, name, Trigger.Request())
    drive_for(lever, 0.3)
    finish(lever.robot, process)
    with Bag(lever.bag) as bag:
        assert bag.unknown_types == ()
        kinds = [
            each.message.info.event_type
            for each in messages_of(bag, frozenset({"/begin/_service_event"}))
        ]
        store = bag.typestore("/begin/_service_event")
    assert kinds == [1, 2, 1, 2]
    for info in probe.node.get_publishers_info_by_topic("/begin/_service_event"):
        assert str(info.topic_type_hash) == store.hash_rihs01("std_srvs/srv/Trigger_Event")
    convert(Source(load_contract(lever.contract), [lever.bag]), tmp_path / "out")
    episodes = load_dataset(tmp_path / "out").episodes
    assert len(episodes) == 2
    for episode, began, ended in zip(episodes, called_at[::2], called_at[1::2], strict=True):
        states = episode.observations[:, 0]
        assert began - 1 <= states[0] <= states[-1] < ended
