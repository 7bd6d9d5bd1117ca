"""Header stamps: read, written, and whether they can be true, in recordings and live alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ContractError
from dql_core.streams import SECOND_NS
from dql_ros.codecs.message_path import field_names

# Before every time that a message can have: 32 bits of seconds reach back to -2^31 s.
_NONE_NS = -(1 << 62)
_LONGEST = 1 << 32
RECEIVE = "set 'stamp: receive' for it in the contract"
OF_NANOSEC = f"correct the driver, or {RECEIVE}"


def stamps_of(seconds: NDArray[np.int64], nanoseconds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return header stamps in nanoseconds; where nanosec is no part of a second, no time.

    Args:
        seconds: Shape (n,).
        nanoseconds: Shape (n,), as unsigned as in the message.
    """
    stamps_ns: NDArray[np.int64] = seconds * SECOND_NS + nanoseconds
    invalid = nanoseconds >= SECOND_NS
    if invalid.any():
        stamps_ns[invalid] = _NONE_NS + nanoseconds[invalid]
    return stamps_ns


def stamp_of(time: Any) -> int:
    """Return the time of a message's ``sec`` and ``nanosec``, as `stamps_of` does."""
    nanosec = int(time.nanosec)
    return nanosec + (int(time.sec) * SECOND_NS if nanosec < SECOND_NS else _NONE_NS)


def are_times(stamps_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the stamps that `stamps_of` returned are times."""
    times: NDArray[np.bool_] = stamps_ns >= _NONE_NS + _LONGEST
    return times


def shifted(stamps_ns: NDArray[np.int64], shift_ns: int) -> NDArray[np.int64]:
    """Return stamps so much later; those that are no times as they are."""
    return (
        np.where(are_times(stamps_ns), stamps_ns + shift_ns, stamps_ns) if shift_ns else stamps_ns
    )


def invalid_nanosec(stamp_ns: int) -> int | None:
    """What ``nanosec`` was in a stamp that is no time; ``None`` for one that is."""
    return stamp_ns - _NONE_NS if stamp_ns < _NONE_NS + _LONGEST else None


def nanosec_problem(nanosec: int) -> str:
    """What is wrong with a stamp whose ``nanosec`` is 1e9 or more, as a clause."""
    return f"header.stamp.nanosec is {nanosec}, but a second has {SECOND_NS}"


def ahead_problem(ahead_ns: int, limit_ns: int, clock: str) -> str:
    """What is wrong with a stamp that is later than its receipt, as a clause.

    Args:
        ahead_ns: How much later.
        limit_ns: How much later it may be.
        clock: What it is compared with.
    """
    return (
        f"the header stamp is {ahead_ns / 1e9:.3f} s ahead of {clock} (limit "
        f"{limit_ns / 1e9:g} s): nothing is measured after it was received"
    )


def stamp_ns(message: Any, topic: str = "message") -> int:
    """Return a message's header stamp in nanoseconds; ``topic`` is named in the error.

    One whose ``nanosec`` is no part of a second is no time; see `stamps_of`.

    Raises:
        ContractError: If the message has no header.
    """
    try:
        return stamp_of(message.header.stamp)
    except AttributeError as cause:
        raise ContractError(
            f"{topic}: no header to take the time from (the message has: "
            f"{', '.join(field_names(message))}); set 'stamp: receive' for it in the contract"
        ) from cause


def set_time(time: Any, nanoseconds: int) -> None:
    """Write a time or duration in nanoseconds into a message's ``sec`` and ``nanosec``."""
    time.sec, time.nanosec = divmod(nanoseconds, SECOND_NS)
