"""Slices as a contract writes them, ``start:stop:step``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

# More is a mistake in writing, and would only fill the memory.
MAX_ENTRIES = 100_000
_SLICE = re.compile(r"\s*(\d{0,9})\s*:\s*(\d{1,9})\s*(?::\s*(\d{1,9})\s*)?")


def expand_slice(text: str) -> tuple[int, ...]:
    """Return the positions that ``text`` selects, as Python's ``range`` does.

    Args:
        text: ``start:stop`` or ``start:stop:step``; the start is 0 if left out.

    Raises:
        ValueError: If it is no slice, or selects nothing or too much.
    """
    return tuple(_positions(text))


def require_few(document: Any) -> None:
    """Refuse a contract whose slices together select too much, before any is expanded.

    Args:
        document: The contract, not yet validated.

    Raises:
        ValueError: If they do.
    """
    total = 0
    for text in _slices(document):
        with suppress(ValueError):  # told where it is
            total += len(_positions(text))
    if total > MAX_ENTRIES:
        raise ValueError(f"the slices select {total} elements together, over {MAX_ENTRIES}")


def _positions(text: str) -> range:
    match = _SLICE.fullmatch(text)
    if match is None or len(text) > 60 or (match[3] is not None and int(match[3]) == 0):
        raise ValueError(
            f"'slice' is '{text}': write start:stop or start:stop:step, of whole numbers from 0 "
            f"up; the stop is needed, since messages differ in length"
        )
    positions = range(int(match[1] or 0), int(match[2]), int(match[3] or 1))
    if not 0 < len(positions) <= MAX_ENTRIES:
        raise ValueError(
            f"'slice' is '{text}': selects {len(positions)} elements, not 1 to {MAX_ENTRIES}"
        )
    return positions


def _slices(section: Any) -> Iterator[str]:
    if isinstance(section, dict):
        if isinstance(section.get("slice"), str):
            yield section["slice"]
        section = list(section.values())
    if isinstance(section, list):
        for each in section:
            yield from _slices(each)
