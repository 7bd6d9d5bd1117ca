"""Where a verb puts its results unless it is told where."""

from __future__ import annotations

import time
from pathlib import Path


def new_folder(name: str) -> Path:
    """Return ``runs/NAME/TIME``, with the local time of this second."""
    return Path("runs") / name / time.strftime("%Y%m%d-%H%M%S")
