"""From the contract's words to rclpy's: message classes, QoS profiles, stamps."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from dql_core.errors import ContractError
from dql_ros.contract import QualityOfService

_TYPE_NAME = re.compile(r"[a-zA-Z]\w*/(?:msg/\w+|srv/\w+_Event)", re.ASCII)
_RELIABILITY = {
    "best_effort": ReliabilityPolicy.BEST_EFFORT,
    "reliable": ReliabilityPolicy.RELIABLE,
}
_DURABILITY = {
    "volatile": DurabilityPolicy.VOLATILE,
    "transient_local": DurabilityPolicy.TRANSIENT_LOCAL,
}


def message_class(type_name: str) -> Any:
    """Return the class of ``package/msg/Name``, or of a service's ``package/srv/Name_Event``.

    Only what looks like a package of messages is imported: any other program may have told the
    name of a type that it publishes.

    Raises:
        ContractError: If the package is not installed or has no such message.
    """
    if not _TYPE_NAME.fullmatch(type_name):
        raise ContractError(
            f"'{type_name}' is no message type; those are called as in 'std_msgs/msg/String'"
        )
    package, kind, name = type_name.split("/")
    try:
        _require_interfaces(package, kind)
        found = getattr(importlib.import_module(f"{package}.{kind}"), name.removesuffix("_Event"))
        return found.Event if kind == "srv" else found
    except (ModuleNotFoundError, AttributeError) as error:
        raise ContractError(
            f"message type '{type_name}' is not installed here ({error}): install the ROS package "
            f"'{package}' or correct the contract's 'type'"
        ) from error


def _require_interfaces(package: str, kind: str) -> None:
    """See, without importing it, that ``package`` is one that rosidl has made."""
    found = importlib.util.find_spec(package)
    folders = (found and found.submodule_search_locations) or ()
    if not any((Path(folder) / kind / "__init__.py").is_file() for folder in folders):
        raise ModuleNotFoundError(f"No module named '{package}.{kind}'")


def qos_profile(quality: QualityOfService, *, min_depth: int = 1) -> QoSProfile:
    """Return the profile that a contract asks for, with at least ``min_depth`` messages kept."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=max(quality.depth, min_depth),
        reliability=_RELIABILITY[quality.reliability],
        durability=_DURABILITY[quality.durability],
    )


def reliable(depth: int, *, latched: bool = False) -> QoSProfile:
    """Return a reliable profile; a latched one also serves who subscribes later."""
    durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE, durability=durability)


def time_message(stamp_ns: int) -> Any:
    """Return a ``builtin_interfaces/msg/Time``."""
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    return Time(sec=seconds, nanosec=nanoseconds)
