"""Who gets what the core logs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

CORE = "dql_core"


@contextmanager
def log_lines(handler: logging.Handler) -> Iterator[None]:
    """Let ``handler``, and no other, have what the core logs, from INFO on."""
    logger = logging.getLogger(CORE)
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
