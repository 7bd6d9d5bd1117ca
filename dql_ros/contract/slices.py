"""Slices as a contract writes them, ``start:stop:step``."""

from __future__ import annotations

import re

# More is a mistake in writing, and would only fill the memory.
MAX_ENTRIES = 100_000
_SLICE = re.compile(r"\s*(\d*)\s*:\s*(\d+)\s*(?::\s*(\d+)\s*)?")


def expand_slice(text: str) -> tuple[int, ...]:
    """Return the positions that ``text`` selects, as Python's ``range`` does.

    Args:
        text: ``start:stop`` or ``start:stop:step``; the start is 0 if left out.

    Raises:
        ValueError: If it is no slice, or selects nothing or too much.
    """
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
    return tuple(positions)
