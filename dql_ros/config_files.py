"""Finds the configuration files that come with the package, wherever it is installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dql_core.errors import ConfigError

_CHECKOUT = Path(__file__).parents[1]


def installed_config(name: str) -> Path:
    """Return the path of a file such as ``contracts/scara.yaml``.

    It is looked for in the checkout, then in the workspaces that are sourced
    (``AMENT_PREFIX_PATH``), then in the Python environment.

    Raises:
        ConfigError: If it is in none of them.
    """
    found = find_config(name)
    if found is None:
        searched = ", ".join(map(str, _places()))
        raise ConfigError(f"config/{name}: not found under {searched}; install dql_ros again")
    return found


def find_config(name: str) -> Path | None:
    """Return the path of such a file; ``None`` if it is nowhere."""
    paths = (place / "config" / name for place in _places())
    return next((path for path in paths if path.is_file()), None)


def _places() -> list[Path]:
    prefixes = [*filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(":")), sys.prefix]
    return [_CHECKOUT, *(Path(prefix) / "share/dql_ros" for prefix in prefixes)]
