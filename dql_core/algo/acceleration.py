"""How the functions of an update are run: one by one, compiled, or captured as a CUDA graph."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import sysconfig
from collections.abc import Callable
from contextlib import suppress
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
        if self.compiles and (reason := compiler_missing() or compiled_code_unsafe()):
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


def compiled_code_unsafe() -> str | None:
    """Return why torch must not look for compiled code where it does, or None if it may.

    It runs what it finds in a folder of temporary files whose name is known beforehand: it must be
    this user's own, made by nobody else.
    """
    # Torch's compiler takes a second to import.
    from torch._inductor.runtime import runtime_utils  # noqa: PLC0415

    folder = Path(runtime_utils.default_cache_dir())  # type: ignore[attr-defined]
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    is_own = found.st_uid == os.getuid() and not found.st_mode & stat.S_IWOTH
    if is_own and stat.S_ISDIR(found.st_mode):
        return None
    return (
        f"others may write to {folder}, where torch looks for compiled code: remove it, or let "
        f"TMPDIR name a folder of your own"
    )


def _wants_compilation(run: RunConfig) -> bool:
    return run.execution == "compiled" or (
        run.execution == "auto" and run.steps >= WORTH_COMPILING
    )
