"""Messages made without ROS: of rosbags' classes, with every field at its default."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore


@pytest.fixture(scope="session")
def typestore() -> Typestore:
    return get_typestore(Stores.ROS2_JAZZY)


@pytest.fixture(scope="session")
def blank(typestore: Typestore) -> Callable[[str], Any]:
    """Make a rosbags message of a type as rclpy's constructors do: zeros and empty lists."""
    return lambda msgtype: _blank(typestore, msgtype)


def _blank(typestore: Typestore, msgtype: str) -> Any:
    fields = typestore.fielddefs[msgtype][1]
    return typestore.types[msgtype](*(_default(typestore, kind) for _, kind in fields))


def _default(typestore: Typestore, kind: Any) -> Any:
    node, detail = kind
    if node == Nodetype.NAME:
        return _blank(typestore, detail)
    if node == Nodetype.BASE:
        return {"string": "", "bool": False}.get(detail[0], 0.0 if "float" in detail[0] else 0)
    (element, inner), length = detail
    if element == Nodetype.BASE and inner[0] != "string":
        return np.zeros(length, dtype=inner[0])
    return [_default(typestore, detail[0]) for _ in range(length)]
