"""Messages and bags made without ROS."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from dql_ros.codecs.blank import blank_message
from tests.ros.bag.sample_writer import SampleWriter


@pytest.fixture(scope="session")
def typestore() -> Typestore:
    return get_typestore(Stores.ROS2_JAZZY)


@pytest.fixture(scope="session")
def blank(typestore: Typestore) -> Callable[[str], Any]:
    """Make a rosbags message of a type as rclpy's constructors do: zeros and empty lists."""
    return lambda msgtype: blank_message(typestore, msgtype)


@pytest.fixture(scope="session")
def record(typestore: Typestore) -> Callable[..., Path]:
    """Write a bag of (topic, type, log time in ns, message), and silent topics of given types."""

    def write(
        folder: Path,
        messages: Iterable[tuple[str, str, int, Any]],
        silent: dict[str, str] | None = None,
    ) -> Path:
        with SampleWriter(folder, typestore=typestore) as writer:
            known: set[str] = set()
            for topic, msgtype in (silent or {}).items():
                writer.add_topic(topic, msgtype)
            for topic, msgtype, log_time_ns, message in messages:
                if topic not in known:
                    writer.add_topic(topic, msgtype)
                    known.add(topic)
                writer.write(topic, typestore.serialize_cdr(message, msgtype), log_time_ns)
        return folder

    return write
