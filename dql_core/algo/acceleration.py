"""How the functions of an update are run: one by one, compiled, or captured as a CUDA graph."""

from __future__ import annotations

import logging
import os
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from dql_core.algo.capture import CapturedUpdate
from dql_core.algo.compilation import CompiledUpdate
from dql_core.config import RunConfig

Function = TypeVar("Function", bound=Callable[..., Any])

# Compiling takes about as long as this many updates gain from it.
WORTH_COMPILING = 20_000

_logger = logging.getLogger(__name__)


class Acceleration:
    """Wraps the parts of an update; what they compute stays the same.

    Attributes:
        compiles: Whether functions are compiled.
        captures: Whether whole updates are captured.
    """

    def __init__(self, run: RunConfig, device: torch.device) -> None:
        """Decide what is possible; says in one line why a wanted compilation is not."""
        self.captures = device.type == "cuda" and run.execution != "eager"
        self.compiles = device.type == "cpu" and _wants_compilation(run)
        if self.compiles and (reason := compiler_missing()):
            self.compiles = False
            if run.execution == "compiled":
                _logger.warning("updates are not compiled and take longer: %s", reason)
        self._device = device.type
        self._reduced = run.precision == "bfloat16"

    def precision(self) -> torch.autocast:
        """Return the context in which matrix products have the run's precision."""
        return torch.autocast(self._device, torch.bfloat16, enabled=self._reduced)

    def function(self, function: Function) -> Function:
        """Return ``function``, compiled if so decided."""
        return CompiledUpdate(function) if self.compiles else function  # type: ignore[return-value]

    def update(self, update: Function) -> Function:
        """Return ``update``, a function of a batch and noise, compiled or captured."""
        return CapturedUpdate(update) if self.captures else self.function(update)  # type: ignore[return-value]


def compiler_missing() -> str | None:
    """Return what torch's compiler lacks on this machine, or None if nothing."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return f"no C++ compiler '{compiler}' (on Debian and Ubuntu: apt install g++)"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "Python's headers are missing (on Debian and Ubuntu: apt install python3-dev)"
    return None


def _wants_compilation(run: RunConfig) -> bool:
    return run.execution == "compiled" or (
        run.execution == "auto" and run.steps >= WORTH_COMPILING
    )
