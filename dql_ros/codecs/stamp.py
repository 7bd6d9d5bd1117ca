"""Times in messages, as nanoseconds."""

from __future__ import annotations

from typing import Any

from dql_core.errors import ContractError
from dql_ros.message_path import field_names

SECOND_NS = 1_000_000_000


def stamp_ns(message: Any, topic: str = "message") -> int:
    """Return a message's header stamp in nanoseconds; ``topic`` is named in the error.

    Raises:
        ContractError: If the message has no header.
    """
    try:
        stamp = message.header.stamp
    except AttributeError as cause:
        raise ContractError(
            f"{topic}: no header to take the time from (the message has: "
            f"{', '.join(field_names(message))}); set 'stamp: receive' for it in the contract"
        ) from cause
    return int(stamp.sec) * SECOND_NS + int(stamp.nanosec)


def set_time(time: Any, nanoseconds: int) -> None:
    """Write a time or duration in nanoseconds into a message's ``sec`` and ``nanosec``."""
    time.sec, time.nanosec = divmod(nanoseconds, SECOND_NS)
