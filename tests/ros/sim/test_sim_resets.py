"""A simulation's reset ends an episode, also where the contract names no topic for that."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dql_core.data.dataset import load_dataset
from dql_ros.contract import SIM_RESET, Contract, load_contract
from dql_ros.convert.convert import Source, convert
from tests.ros.convert.test_convert import ARM, BOOL, Message, Robot, changed

LENGTHS = (6, 4)


@pytest.fixture(name="contract")
def _contract() -> Contract:
    """The arm's, without any word of where episodes end."""
    return changed(load_contract(ARM), episode={}, reward=None)


def recording(blank: Callable[[str], Any], ends: str, namespace: str = "") -> list[Message]:
    """Two episodes one after the other, whose ends are reported on the topic ``ends``."""
    robot = Robot(blank, namespace)
    messages = robot.run({f"truncated {length}": length for length in LENGTHS})
    kept = []
    for topic, msgtype, time_ns, message in messages:
        if topic.endswith("/truncated"):
            kept.append((f"{namespace}/{ends}", msgtype, time_ns, message))
        elif not topic.endswith("/terminated"):
            kept.append((topic, msgtype, time_ns, message))
    return kept


@pytest.mark.parametrize("namespace", ["", "/left"])
def test_resets_are_ends_of_episodes(
    blank: Callable[[str], Any],
    record: Callable[..., Path],
    contract: Contract,
    tmp_path: Path,
    namespace: str,
) -> None:
    bag = record(tmp_path / "bag", recording(blank, SIM_RESET.topic, namespace))
    convert(Source(contract, [bag], namespace or "/"), tmp_path / "out")
    episodes = load_dataset(tmp_path / "out").episodes
    assert [len(episode) for episode in episodes] == list(LENGTHS)
    assert all(episode.truncated and not episode.terminated for episode in episodes)


def test_without_that_topic_nothing_is_different(
    blank: Callable[[str], Any], record: Callable[..., Path], contract: Contract, tmp_path: Path
) -> None:
    """What would then be a transition is the jump from one episode to the next."""
    bag = record(tmp_path / "bag", recording(blank, "another"))
    convert(Source(contract, [bag]), tmp_path / "out")
    (episode,) = load_dataset(tmp_path / "out").episodes
    assert len(episode) == sum(LENGTHS) + 1


def test_a_topic_of_that_name_and_another_type_is_somebody_elses(
    blank: Callable[[str], Any], record: Callable[..., Path], contract: Contract, tmp_path: Path
) -> None:
    strange = blank("std_msgs/msg/String")
    messages = [(f"/{SIM_RESET.topic}", "std_msgs/msg/String", 0, strange)]
    bag = record(tmp_path / "bag", messages + recording(blank, "another"))
    convert(Source(contract, [bag]), tmp_path / "out")
    assert len(load_dataset(tmp_path / "out").episodes) == 1


def test_the_contracts_own_topic_goes_first(
    blank: Callable[[str], Any], record: Callable[..., Path], contract: Contract, tmp_path: Path
) -> None:
    own = changed(contract, episode={"truncated": {"topic": "another", "type": BOOL}})
    messages = recording(blank, "another")
    raised = blank(BOOL)
    raised.data = True
    messages.insert(20, (f"/{SIM_RESET.topic}", BOOL, messages[20][2], raised))
    convert(Source(own, [record(tmp_path / "bag", messages)]), tmp_path / "out")
    assert [len(e) for e in load_dataset(tmp_path / "out").episodes] == list(LENGTHS)
