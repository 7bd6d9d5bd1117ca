"""Message classes of names that may have come from anywhere in the network."""

import subprocess
import sys

import pytest
from std_msgs.msg import String
from std_srvs.srv import Trigger

from dql_core.errors import ContractError
from dql_ros.codecs.installed import message_class


def test_what_is_installed_is_found() -> None:
    assert message_class("std_msgs/msg/String") is String
    assert message_class("std_srvs/srv/Trigger_Event") is Trigger.Event


@pytest.mark.parametrize(
    "name",
    ["", "String", "std_msgs/String", "a/b/c/d", "os/path/join", "../msg/X", "std_msgs/srv/Empty"],
)
def test_what_is_no_name_of_a_type_is_one_line(name: str) -> None:
    with pytest.raises(ContractError, match=f"'{name}' is no message type; write it as"):
        message_class(name)


@pytest.mark.parametrize(
    "name",
    ["std_msgs/msg/NoSuch", "no_such_msgs/msg/X", "json/msg/X", "std_srvs/srv/Empty2_Event"],
)
def test_what_is_not_installed_is_one_line(name: str) -> None:
    with pytest.raises(ContractError, match=f"'{name}' is not installed here .*: install the ROS"):
        message_class(name)


def test_no_module_is_imported_for_a_name_from_the_network() -> None:
    code = """
import sys
from dql_core.errors import ContractError
from dql_ros.codecs.installed import message_class
try:
    message_class("this/msg/X")  # a module that prints when it is imported
except ContractError:
    assert "this" not in sys.modules
else:
    raise AssertionError
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
