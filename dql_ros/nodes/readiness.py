"""Waiting until a node may act: for what is missing, and for a message to arrive."""

from __future__ import annotations

import time
from collections.abc import Callable

from dql_core.errors import DqlError
from dql_ros.nodes.start import END_REQUESTED

_POLL_PERIOD_S = 0.005
_ARRIVAL_POLL_PERIOD_S = 0.0001
_LOG_PERIOD_S = 2.0


class NotReadyError(DqlError):
    """A node was to become active, but does not hear all of its robot."""


def await_readiness(
    poll: Callable[[], None],
    missing: Callable[[], str],
    timeout_s: float,
    log: Callable[[str], None],
) -> None:
    """Return once nothing is missing.

    Args:
        poll: Takes in what has arrived.
        missing: Says what is missing, as a clause; empty if nothing is.
        timeout_s: How long to wait.
        log: Called every now and then with what is waited for.

    Raises:
        NotReadyError: If something is still missing after that time, or the process is to end.
    """
    begun_s = logged_s = time.monotonic()
    while True:
        poll()
        reason = missing()
        if not reason:
            return
        now_s = time.monotonic()
        if now_s - begun_s >= timeout_s:
            raise NotReadyError(f"gave up after {timeout_s:g} s: {reason}")
        if now_s - logged_s >= _LOG_PERIOD_S:
            logged_s = now_s
            log(f"waiting: {reason}")
        time.sleep(_POLL_PERIOD_S)
        if END_REQUESTED.is_set:
            raise NotReadyError(f"ended while waiting: {reason}")


def await_arrival(
    poll: Callable[[], None], newest: Callable[[], object], timeout_s: float
) -> None:
    """Return once ``poll`` has changed what ``newest`` says, or after ``timeout_s``."""
    poll()
    before, give_up_s = newest(), time.monotonic() + timeout_s
    while newest() == before and time.monotonic() < give_up_s:
        time.sleep(_ARRIVAL_POLL_PERIOD_S)
        poll()
