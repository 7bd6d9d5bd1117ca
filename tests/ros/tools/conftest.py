"""Makes messages, also of types that robots define, and records them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dql_ros.codecs.blank import blank_message
from tests.ros.bag.sample_writer import SampleWriter
from tests.ros.tools.draft_samples import DEFINITIONS, SECOND, Messages, filled


@pytest.fixture(scope="module")
def robot_types() -> Typestore:
    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for name, text in DEFINITIONS.items():
        types |= get_types_from_msg(text, name)
    store.register({name: each for name, each in types.items() if name not in store.fielddefs})
    return store


@pytest.fixture
def fill(robot_types: Typestore) -> Callable[..., Any]:
    def made(msgtype: str, **values: Any) -> Any:
        return filled(blank_message(robot_types, msgtype), values)

    return made


@pytest.fixture
def recorded(tmp_path: Path, robot_types: Typestore) -> Callable[..., Path]:
    def write(
        messages: Messages,
        name: str = "bag",
        clock: Callable[[float], float] = lambda at_s: at_s,
        stamp: Callable[[float], float] = lambda at_s: at_s - 0.001,
        *,
        is_sorted: bool = False,
    ) -> Path:
        with SampleWriter(tmp_path / name, typestore=robot_types) as writer:
            known: set[str] = set()
            in_order = messages if is_sorted else sorted(messages, key=lambda each: each[2])
            for topic, msgtype, at_s, message in in_order:
                if topic not in known:
                    writer.add_topic(topic, msgtype)
                    known.add(topic)
                if hasattr(message, "header"):
                    now = round((100 + stamp(at_s)) * SECOND)
                    message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, SECOND)
                content = robot_types.serialize_cdr(message, msgtype)
                writer.write(topic, content, round((100 + clock(at_s)) * SECOND))
        return tmp_path / name

    return write
