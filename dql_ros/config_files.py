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
    found = _find(name)
    if found is None:
        searched = ", ".join(map(str, _places()))
        raise ConfigError(f"config/{name}: not found under {searched}; install dql_ros again")
    return found


def contract_path(given: Path) -> Path:
    """Return ``given``, or the contract of this package that a bare name like scara.yaml means.

    A file of that name in the working directory goes first.
    """
    if given.is_file() or len(given.parts) != 1:
        return given
    return _find(f"contracts/{given}") or given


def _find(name: str) -> Path | None:
    paths = (place / "config" / name for place in _places())
    return next((path for path in paths if path.is_file()), None)


def _places() -> list[Path]:
    prefixes = [*filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(":")), sys.prefix]
    return [_CHECKOUT, *(Path(prefix) / "share/dql_ros" for prefix in prefixes)]
