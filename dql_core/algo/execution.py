"""How an update is run: operation by operation, compiled, or captured as one CUDA graph.

Compiled or captured is a whole update: losses, gradients, optimizers and averages.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import platform
import shutil
import stat
import sysconfig
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from dql_core.algo.ranks import Ranks, own_device
from dql_core.config import RunConfig

Function = TypeVar("Function", bound=Callable[..., Any])
# Compiling takes about as long as this many updates gain from it.
WORTH_COMPILING = 20_000
_logger = logging.getLogger(__name__)
Result = TypeVar("Result")
# Optimisers and libraries allocate in their first steps, which a graph must not record.
WARM_UP_CALLS = 3


class Execution:
    """Wraps the parts of an update; what they compute stays the same.

    Where a wanted compilation is not possible, a warning says why.

    Attributes:
        compiles: Whether functions are compiled.
        captures: Whether whole updates are captured.
        ranks: The processes that share each batch.
    """

    def __init__(self, run: RunConfig, device: torch.device) -> None:
        self.ranks = Ranks.current()
        alone = self.ranks.size == 1  # what is exchanged within an update can be in no graph
        if run.execution == "compiled" and not alone:
            _logger.warning(
                "updates of several processes are neither compiled nor captured and take longer"
            )
        self.captures = alone and device.type == "cuda" and run.execution != "eager"
        is_long = run.execution == "auto" and run.steps >= WORTH_COMPILING
        wanted = run.execution == "compiled" or is_long
        self.compiles = alone and device.type == "cpu" and wanted
        if self.compiles and (reason := compiler_missing() or _compiled_code_unsafe()):
            self.compiles = False
            if run.execution == "compiled":
                _logger.warning("updates are not compiled and take longer: %s", reason)
        self._device = device.type
        self._reduced = run.precision == "bfloat16"
        if self._reduced and device.type == "cpu" and not multiplies_bfloat16():
            _logger.warning(
                "run.precision: this processor has no instructions for bfloat16: updates take "
                "longer than with float32 (about three times as long where that was measured)"
            )

    def precision(self) -> torch.autocast:
        """Return the context in which matrix products have the run's precision."""
        return torch.autocast(self._device, torch.bfloat16, enabled=self._reduced)

    def function(self, function: Function) -> Function:
        """Return ``function``, compiled if so decided."""
        return CompiledUpdate(function) if self.compiles else function  # type: ignore[return-value]

    def update(self, update: Function) -> Function:
        """Return ``update``, a function of a batch and noise, compiled or captured."""
        return CapturedUpdate(update) if self.captures else self.function(update)  # type: ignore[return-value]


def resolve_device(device: str) -> str:
    """Return ``cuda`` or ``cpu`` for ``auto``, anything else unchanged.

    Where torchrun started several processes, each has a GPU of its own.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return own_device(device)


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16; True where that is not known."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return True
    # Torch has no public name for them; AVX512_BF16 and AMX are what its products use.
    known = [
        getattr(torch.cpu, name, None)
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    ]
    return any(supported is None or supported() for supported in known)


def compiler_missing() -> str | None:
    """Return what torch's compiler lacks on this machine, or None if nothing."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return f"no C++ compiler '{compiler}' (on Debian and Ubuntu: apt install g++)"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "Python's headers are missing (on Debian and Ubuntu: apt install python3-dev)"
    return None


def _compiled_code_unsafe() -> str | None:
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


class CapturedUpdate(Generic[Result]):
    """A function of dataclasses of tensors that always works on the same memory.

    Its first calls run it operation by operation; then it is captured and only replayed. Without
    ``capture`` every call runs it so, on the same fixed memory: that path is the same on any
    device.

    Args:
        update: Takes dataclasses of tensors, returns one; reads and writes nothing on the host,
            and keeps what it changes in place.
        capture: Whether to capture.
    """

    def __init__(self, update: Callable[..., Result], *, capture: bool = True) -> None:
        self._update = update
        self._capture = capture
        self._inputs: tuple[Any, ...] = ()
        self._result: Result | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._calls = 0

    def __call__(self, *inputs: Any) -> Result:
        """Run or replay the update.

        Args:
            inputs: Of the same shapes in every call.

        Returns:
            The result in memory of its own, which the next call leaves alone.
        """
        if not self._inputs:
            self._inputs = tuple(_map_tensors(torch.clone, each) for each in inputs)
        for fixed, new in zip(self._inputs, inputs, strict=True):
            for name, tensor in vars(fixed).items():
                tensor.copy_(getattr(new, name), non_blocking=True)
        self._calls += 1
        if self._graph is not None:
            self._graph.replay()
        elif self._capture and self._calls > WARM_UP_CALLS:
            self._record()
        elif self._capture:
            self._result = self._on_side_stream()
        else:
            self._result = self._update(*self._inputs)
        result: Result = _map_tensors(torch.clone, self._result)
        return result

    def _record(self) -> None:
        """Capture the update, which does not run it, then run it once."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._result = self._update(*self._inputs)
        self._graph = graph
        graph.replay()

    def _on_side_stream(self) -> Result:
        """Run the update where capturing allows it to have run before."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self._update(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return result


def _map_tensors(function: Callable[[Tensor], Tensor], values: Any) -> Any:
    fields = {
        name: function(tensor) for name, tensor in vars(values).items() if tensor is not None
    }
    return dataclasses.replace(values, **fields)


class CompiledUpdate:
    """A function that torch compiles at its first call, for the shapes of that call.

    Torch looks up at every call whether what it compiled still holds. Nothing but the values of
    the tensors changes between two updates, so after the first call only the shapes are compared.
    """

    def __init__(self, update: Callable[..., Any]) -> None:
        self._update = update
        self._shapes: list[torch.Size] | None = None

    @cached_property
    def _compiled(self) -> Callable[..., Any]:
        """The compiled update; made when first used, as this imports for more than a second."""
        # With a wrapper in C++ the few hundred kernels of an update do not wait for Python.
        return torch.compile(
            self._update, fullgraph=True, dynamic=False, options={"cpp_wrapper": True}
        )

    def __call__(self, *inputs: Any) -> Any:
        """Run the update; ``inputs`` are dataclasses of tensors."""
        shapes = [value.shape for each in inputs for value in vars(each).values()]
        if shapes == self._shapes:
            with torch.compiler.set_stance(skip_guard_eval_unsafe=True):
                return self._compiled(*inputs)
        # Lets gradients be taken inside the compiled function.
        with torch._dynamo.config.patch(trace_autograd_ops=True):
            result = self._compiled(*inputs)
        self._shapes = shapes
        return result
