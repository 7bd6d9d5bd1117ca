import importlib

import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dql_ros.nodes.recorder_topics import type_definition

STANDARD = get_typestore(Stores.ROS2_JAZZY)
PACKAGES = (
    "builtin_interfaces",
    "diagnostic_msgs",
    "geometry_msgs",
    "nav_msgs",
    "rcl_interfaces",
    "sensor_msgs",
    "std_msgs",
    "trajectory_msgs",
)
# rosbags hashes the file's 'char', ROS 2 the 'uint8' that is made of it.
NAMED_OTHERWISE = {"Char"}


def installed_types() -> list[str]:
    """Return the message types of the packages that are installed here."""
    return [
        f"{package}/msg/{name}"
        for package in PACKAGES
        for name, found in vars(importlib.import_module(f"{package}.msg")).items()
        if f"{package}/msg/{name}" in STANDARD.fielddefs and name not in NAMED_OTHERWISE
        if hasattr(found, "get_fields_and_field_types")
    ]


def store_of(text: str, msgtype: str) -> Typestore:
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg(text, msgtype))
    return store


@pytest.mark.parametrize("msgtype", installed_types())
def test_a_type_has_the_hash_that_its_files_give_it(msgtype: str) -> None:
    store = store_of(type_definition(msgtype), msgtype)
    assert store.hash_rihs01(msgtype) == STANDARD.hash_rihs01(msgtype)


def test_the_events_of_a_service_are_defined_too() -> None:
    first, *others = type_definition("std_srvs/srv/SetBool_Event").split("=" * 80 + "\n")
    assert first.splitlines() == [
        "service_msgs/msg/ServiceEventInfo info",
        "std_srvs/srv/SetBool_Request[<=1] request",
        "std_srvs/srv/SetBool_Response[<=1] response",
    ]
    assert "MSG: std_srvs/srv/SetBool_Request\nbool data\n" in others
    assert "MSG: std_srvs/srv/SetBool_Response\nbool success\nstring message\n" in others
