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
    prefixes = [*filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(":")), sys.prefix]
    shares = [Path(prefix) / "share/dql_ros" for prefix in prefixes]
    for folder in (_CHECKOUT, *shares):
        path = folder / "config" / name
        if path.is_file():
            return path
    searched = ", ".join(str(folder) for folder in (_CHECKOUT, *shares))
    raise ConfigError(f"config/{name}: not found under {searched}; install dql_ros again")
