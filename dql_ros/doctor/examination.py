"""All checks of a machine, in the order in which they build on each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from dql_ros.doctor.finding import Finding
from dql_ros.doctor.gpu import check_gpu
from dql_ros.doctor.libraries import check_libraries, check_python
from dql_ros.doctor.processor import check_governor, check_load, check_priority
from dql_ros.doctor.ros import check_ros
from dql_ros.doctor.timing import check_timing
from dql_ros.doctor.variables import check_variables


def _single(check: Callable[[], Finding]) -> Callable[[], Iterator[Finding]]:
    return lambda: iter((check(),))


# The load first, before the checks themselves add to it.
CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _single(check_load),
    _single(check_python),
    check_libraries,
    _single(check_gpu),
    lambda: check_variables(os.environ),
    check_ros,
    _single(check_governor),
    _single(check_priority),
    _single(check_timing),
)


def examine() -> Iterator[Finding]:
    """Yield the findings of all checks, each as soon as it is there."""
    for check in CHECKS:
        yield from check()
